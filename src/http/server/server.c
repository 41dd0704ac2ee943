/* Starts and stops the threads of the HTTP layer. */
#include "server.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "acceptor.h"
#include "clock.h"
#include "http/access/throttle.h"
#include "http/exchange/router.h"
#include "memory.h"
#include "metrics.h"
#include "worker.h"

enum { OPS_DRAIN_MS = 1000 };

/* The rows of the route table, and one more for requests without a row. */
void http_prepare(void)
{
    static const char *methods[MOST_ROUTES];
    static const char *paths[MOST_ROUTES];
    assert(route_count < MOST_ROUTES);
    for (size_t i = 0; i < route_count; i++) {
        methods[i] = routes[i].method;
        paths[i] = routes[i].path;
    }
    methods[route_count] = paths[route_count] = "-";
    metrics_define_routes(methods, paths, route_count + 1);
}

static unsigned count_workers(const struct conf *conf)
{
    if (conf->server_workers > 0)
        return (unsigned)conf->server_workers;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    return processors > 0 ? (unsigned)processors : 1;
}

static bool start_workers(struct http_server *server, unsigned count, struct buffer *error)
{
    server->workers = xcalloc(count, sizeof(*server->workers));
    for (unsigned i = 0; i < count; i++) {
        if (!worker_start(&server->workers[i], server, PLANE_MAIN, i, error))
            return false;
        server->worker_count++;
    }
    struct worker *ops = xcalloc(1, sizeof(*ops));
    if (!worker_start(ops, server, PLANE_OPS, count, error)) {
        free(ops);
        return false;
    }
    server->ops_worker = ops;
    return true;
}

static void apply_limits(struct http_server *server, const struct conf *conf)
{
    connection_limits_set(server->limits, conf->server_max_connections,
                          conf->server_max_connections_per_address);
}

static bool start_threads(struct http_server *server, const struct conf *conf, struct buffer *error)
{
    struct https *https = NULL;
    if (!https_load(conf, &https, error))
        return false;
    https_publish(https);
    if (!start_workers(server, count_workers(conf), error))
        return false;
    server->acceptor = acceptor_start(server, conf, error);
    return server->acceptor != NULL;
}

struct http_server *http_server_start(const struct conf *conf, const struct http_services *services,
                                      const struct http_handlers *handlers, struct buffer *error)
{
    router_prepare();
    struct http_server *server = xcalloc(1, sizeof(*server));
    server->services = *services;
    server->handlers = handlers;
    server->limits = connection_limits_create();
    server->throttle = throttle_create();
    server->drain_timeout_ms = 0;
    apply_limits(server, conf);

    /* Signals are main's: the threads inherit a mask that keeps them away. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = start_threads(server, conf, error);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!started) {
        http_server_stop(&server);
        return NULL;
    }
    return server;
}

void http_server_reload(struct http_server *server)
{
    struct conf *conf = conf_current();
    apply_limits(server, conf);
    conf_unref(&conf);
    for (unsigned i = 0; i < server->worker_count; i++)
        worker_reload(&server->workers[i]);
    worker_reload(server->ops_worker);
}

void http_server_rekey(struct http_server *server, struct keyring *keyring)
{
    for (unsigned i = 0; i < server->worker_count; i++)
        worker_rekey(&server->workers[i], keyring);
}

static bool is_worker_alive(const struct worker *worker, int64_t since_ms)
{
    return atomic_load_explicit(&worker->heartbeat_ms, memory_order_relaxed) >= since_ms;
}

bool http_server_alive(const struct http_server *server, int64_t milliseconds)
{
    int64_t since_ms = clock_monotonic_ms() - milliseconds;
    for (unsigned i = 0; i < server->worker_count; i++)
        if (!is_worker_alive(&server->workers[i], since_ms))
            return false;
    return is_worker_alive(server->ops_worker, since_ms);
}

static bool stop_workers(struct worker *workers, unsigned count)
{
    bool abandoned = false;
    for (unsigned i = 0; i < count; i++)
        worker_drain(&workers[i]);
    for (unsigned i = 0; i < count; i++) {
        worker_join(&workers[i]);
        abandoned = abandoned || workers[i].abandoned;
    }
    return !abandoned;
}

void http_server_announce_stop(struct http_server *server)
{
    atomic_store(&server->draining, true);
}

bool http_server_stop(struct http_server **server_pointer)
{
    struct http_server *server = *server_pointer;
    *server_pointer = NULL;
    if (server == NULL)
        return true;
    struct conf *conf = conf_current();
    server->drain_timeout_ms = conf->server_drain_timeout * 1000;
    conf_unref(&conf);
    http_server_announce_stop(server);
    if (server->acceptor != NULL)
        acceptor_stop_main(server->acceptor);
    bool clean = stop_workers(server->workers, server->worker_count);

    /* Until here /readyz still answered that this node stops. */
    server->drain_timeout_ms = OPS_DRAIN_MS;
    acceptor_stop(&server->acceptor);
    if (server->ops_worker != NULL)
        clean = stop_workers(server->ops_worker, 1) && clean;
    if (!clean)
        return false; /* a stuck worker may still use this memory */
    free(server->ops_worker);
    free(server->workers);
    connection_limits_destroy(&server->limits);
    throttle_destroy(&server->throttle);
    https_publish(NULL);
    free(server);
    return true;
}
