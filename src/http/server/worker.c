/* The thread: its loop with libmicrohttpd in it, its connections, its drain. */
#include "worker.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "http/exchange/access_log.h"
#include "http/exchange/dispatch.h"
#include "http/exchange/header_room.h"
#include "http/exchange/response.h"
#include "https.h"
#include "lobby.h"
#include "memory.h"
#include "metrics.h"

enum {
    SCAN_MS = 250,      /* granularity of deadlines */
    DRAIN_SCAN_MS = 20, /* the same while draining */
    NEWCOMER_MS = 1000, /* for the first request of a connection that came just before the drain */
    DRAIN_EXTRA_MS = 3000, /* beyond the drain's end, for cut requests to be given up */
    ROUNDS = 8             /* of libmicrohttpd in one turn, before sockets are polled again */
};

/* Far above every limit of ours: at its own limit libmicrohttpd would drop connections silently. */
static const unsigned daemon_connection_limit = 4000000;

static void on_poll_timer(uv_timer_t *timer)
{
    struct worker *worker = timer->data;
    worker->daemon_due = worker->daemon_due || worker->in_state[REQUEST_POLLED] > 0;
}

static void keep_turning(uv_idle_t *idle)
{
    (void)idle; /* while it is active the loop does not wait */
}

static bool engine_has_work(const struct mhd_engine *engine)
{
    MHD_UNSIGNED_LONG_LONG timeout;
    return engine->connections > 0 && MHD_get_timeout(engine->daemon, &timeout) == MHD_YES &&
           timeout == 0;
}

/* True if another round would find something to do. While requests are polled libmicrohttpd always
 * says so; then only progress in this round counts, and the poll timer covers what that rule may
 * miss. */
static bool has_work_left(struct worker *worker)
{
    if (worker->daemon_due)
        return true;
    if (worker->in_state[REQUEST_POLLED] > 0)
        return worker->progressed;
    return engine_has_work(&worker->plain) || engine_has_work(&worker->tls);
}

static void run_engines(struct worker *worker)
{
    if (worker->plain.connections > 0)
        MHD_run(worker->plain.daemon);
    if (worker->tls.connections > 0) {
        MHD_run(worker->tls.daemon);
        lobby_settle(worker);
    }
}

/* Lets libmicrohttpd work until it has nothing left: a resumed request takes two rounds, one to
 * build the answer's headers, one to send. */
static void run_daemon(struct worker *worker)
{
    for (int round = 0; round < ROUNDS; round++) {
        worker->daemon_due = false;
        worker->progressed = false;
        run_engines(worker);
        if (!has_work_left(worker)) {
            uv_idle_stop(&worker->again);
            if (worker->in_state[REQUEST_POLLED] > 0 &&
                !uv_is_active((uv_handle_t *)&worker->poll_timer))
                uv_timer_start(&worker->poll_timer, on_poll_timer, POLL_TICK_MS, 0);
            return;
        }
    }
    worker->daemon_due = true;
    uv_idle_start(&worker->again, keep_turning);
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct worker *worker = prepare->data;
    atomic_store_explicit(&worker->heartbeat_ms, (int64_t)uv_now(&worker->loop),
                          memory_order_relaxed);
    if (worker->daemon_due)
        run_daemon(worker);
    if (worker->sessions != NULL)
        session_worker_flush(worker->sessions);
    if (worker->lane != NULL)
        audit_flush(worker->lane);
    request_collect(worker);
}

static void on_daemon_readable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct worker *worker = poll->data;
    worker->daemon_due = true; /* on_prepare() follows, and handles all causes in one run */
}

/* --- connections --- */

static void link_client(struct worker *worker, struct client *client)
{
    client->previous = NULL;
    client->next = worker->clients;
    if (worker->clients != NULL)
        worker->clients->previous = client;
    worker->clients = client;
    metrics_gauge_add(METRIC_CONNECTIONS, 1);
}

static void unlink_client(struct worker *worker, struct client *client)
{
    assert(client->previous != NULL || worker->clients == client);
    if (client->previous != NULL)
        client->previous->next = client->next;
    else
        worker->clients = client->next;
    if (client->next != NULL)
        client->next->previous = client->previous;
    metrics_gauge_add(METRIC_CONNECTIONS, -1);
}

static void release_client(struct worker *worker, struct client *client)
{
    if (client->counted)
        connection_limits_give_back(worker->server->limits,
                                    client->local ? NULL : &client->address);
    atomic_fetch_sub(&worker->connection_count, 1);
    https_unref(&client->https);
    client_destroy(&client);
}

void worker_lose(struct worker *worker, struct client *client)
{
    unlink_client(worker, client);
    release_client(worker, client);
}

static struct mhd_engine *engine_of(struct worker *worker, const struct client *client)
{
    return client->tls ? &worker->tls : &worker->plain;
}

static void begin_handshake(struct worker *worker, struct client *client)
{
    https_begin(worker->https, client->connection, client);
    client->next_shaking = worker->shaking;
    worker->shaking = client;
}

static void on_connection(void *user, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct worker *worker = user;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        struct client *client = worker->arriving;
        assert(client != NULL && client->phase == CLIENT_IDLE);
        worker->arriving = NULL;
        client->connection = mhd;
        engine_of(worker, client)->connections++;
        *context = client;
        if (client->tls)
            begin_handshake(worker, client);
        return;
    }
    struct client *client = *context;
    *context = NULL;
    engine_of(worker, client)->connections--;
    lobby_forget(worker, client);
    worker_lose(worker, client);
}

void worker_serve(struct worker *worker, struct client *client)
{
    assert(worker->arriving == NULL);
    worker->arriving = client;
    worker->daemon_due = true; /* its first bytes are there */
    if (MHD_add_connection(engine_of(worker, client)->daemon, client->fd,
                           (const struct sockaddr *)&client->socket_address,
                           client->socket_length) != MHD_YES &&
        worker->arriving != NULL) {
        /* libmicrohttpd has closed the socket without announcing the connection. */
        worker->arriving = NULL;
        worker_lose(worker, client);
    }
}

static void receive_client(struct worker *worker, struct client *client)
{
    client_enter(client, CLIENT_IDLE, worker->config->conf, (int64_t)uv_now(&worker->loop));
    link_client(worker, client);
    lobby_receive(worker, client);
}

/* --- draining --- */

/* Its first request may be on its way. With a socket that outlives this process the client was
 * never refused, so its connection must not be closed yet. */
static bool is_newcomer(const struct worker *worker, const struct client *client)
{
    return !client->asked && (int64_t)uv_now(&worker->loop) - client->phase_began_ms < NEWCOMER_MS;
}

/* Shuts down reading only: a request that has just arrived is still served. */
static void hang_up_idle(struct worker *worker)
{
    for (struct client *at = worker->clients; at != NULL; at = at->next)
        if (at->phase == CLIENT_IDLE && !is_newcomer(worker, at))
            shutdown(at->fd, SHUT_RD);
}

static void begin_drain(struct worker *worker)
{
    assert(!worker->draining);
    uv_update_time(&worker->loop);
    worker->draining = true;
    worker->drain_deadline_ms = (int64_t)uv_now(&worker->loop) + worker->server->drain_timeout_ms;
    hang_up_idle(worker);
    uv_timer_start(&worker->scan, worker->scan.timer_cb, DRAIN_SCAN_MS, DRAIN_SCAN_MS);
}

static void drain_step(struct worker *worker)
{
    int64_t late_ms = (int64_t)uv_now(&worker->loop) - worker->drain_deadline_ms;
    assert(worker->draining);
    if (worker->clients == NULL && worker->in_state[REQUEST_ALONE] == 0) {
        uv_stop(&worker->loop);
    } else if (late_ms >= DRAIN_EXTRA_MS + worker->config->conf->redis_timeout) {
        log_error("drain_abandoned", "worker=%u", worker->number);
        worker->abandoned = true;
        uv_stop(&worker->loop);
    } else {
        hang_up_idle(worker);
        /* libmicrohttpd may have missed that a client has left; a deadline would come late. */
        for (struct client *at = worker->clients; at != NULL; at = at->next)
            if (late_ms >= 0 || client_is_over(at))
                client_cut(at);
    }
}

/* --- another CA of client certificates --- */

/* As in a drain: a request that has just arrived is still served, one in progress is finished. */
static void retire_clients(struct worker *worker, int64_t now_ms)
{
    bool found = false;
    for (struct client *at = worker->clients; at != NULL; at = at->next) {
        if (!https_is_replaced(at->https, worker->https))
            continue;
        found = true;
        if (now_ms >= worker->retire_deadline_ms)
            client_cut(at);
        else if (at->phase == CLIENT_IDLE && !is_newcomer(worker, at))
            shutdown(at->fd, SHUT_RD);
    }
    worker->retiring = found;
}

/* --- timers and wake-ups --- */

static void on_scan(uv_timer_t *timer)
{
    struct worker *worker = timer->data;
    int64_t now_ms = (int64_t)uv_now(&worker->loop);
    /* After a pause of this thread the replies of Redis are in its sockets: they are processed
     * first. */
    bool was_stalled = now_ms - worker->scanned_ms > 2 * SCAN_MS;
    worker->scanned_ms = now_ms;
    for (struct client *at = worker->clients, *next; at != NULL; at = next) {
        next = at->next; /* an answer may end the connection */
        if (client_check(at, worker->config->conf, now_ms))
            metrics_add(METRIC_CONNECTIONS_CUT, 1);
        else if (!was_stalled && client_is_overdue(at, now_ms))
            response_give_up(at->request);
    }
    request_pool_shrink(worker);
    if (worker->retiring)
        retire_clients(worker, now_ms);
    if (worker->plane == PLANE_OPS)
        https_watch(&worker->expiry, worker->https);
    if (worker->draining)
        drain_step(worker);
}

static void on_audit_retry(uv_timer_t *timer)
{
    access_log_retry(timer->data);
}

static void renew_https(struct worker *worker)
{
    struct https *before = worker->https;
    worker->https = https_current();
    if (https_is_replaced(before, worker->https)) {
        worker->retiring = true;
        worker->retire_deadline_ms =
            (int64_t)uv_now(&worker->loop) + worker->config->conf->server_drain_timeout * SECOND_MS;
    }
    https_unref(&before);
}

static void renew_config(struct worker *worker, struct keyring *keyring)
{
    struct request_config *old = worker->config;
    struct keyring *held = keyring != NULL ? keyring : keyring_ref(old->context.keyring);
    worker->config = request_config_create(conf_current(), held, worker->sessions);
    request_config_unref(&old);
    renew_https(worker);
}

static void take_inbox(struct worker *worker)
{
    pthread_mutex_lock(&worker->inbox_lock);
    struct client *arrived = worker->inbox;
    struct keyring *keyring = worker->inbox_keyring;
    worker->inbox = NULL;
    worker->inbox_keyring = NULL;
    pthread_mutex_unlock(&worker->inbox_lock);

    if (atomic_exchange(&worker->inbox_reload, false) || keyring != NULL)
        renew_config(worker, keyring);
    while (arrived != NULL) {
        struct client *next = arrived->next;
        receive_client(worker, arrived);
        arrived = next;
    }
}

static void on_worker_wake(uv_async_t *wake)
{
    struct worker *worker = wake->data;
    if (worker->lane != NULL)
        audit_collect(worker->lane);
    take_inbox(worker);
    if (!worker->draining && atomic_load(&worker->inbox_drain))
        begin_drain(worker);
}

static void wake_from_audit(void *user)
{
    struct worker *worker = user;
    uv_async_send(&worker->wake);
}

/* --- start --- */

__attribute__((format(printf, 2, 0))) static void log_daemon(void *user, const char *format,
                                                             va_list arguments)
{
    char line[256];
    char quoted[256];
    vsnprintf(line, sizeof(line), format, arguments);
    unsigned status;
    if (sscanf(line, "Error processing request (HTTP response code is %u", &status) == 1)
        dispatch_refuse(user, status);
    line[strcspn(line, "\n")] = '\0';
    log_debug("libmicrohttpd", "message=\"%s\"", log_quote(quoted, sizeof(quoted), text_of(line)));
}

/* %00 in a path would cut it in the library's own decoding; router_route() decodes for itself. */
static size_t leave_escaped(void *user, struct MHD_Connection *client, char *string)
{
    (void)user;
    (void)client;
    return strlen(string);
}

static bool start_engine(struct worker *worker, struct mhd_engine *engine, unsigned tls,
                         struct MHD_OptionItem *more)
{
    const unsigned flags = tls | MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET |
                           MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    /* The logger comes first, so that complaints about other options reach it. The guard checks
     * what strictness 1 adds (Host, blanks in the target), with one clean answer instead of two or
     * none. */
    engine->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, dispatch_call, worker, MHD_OPTION_EXTERNAL_LOGGER, log_daemon, worker,
        MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_STRICT_FOR_CLIENT, 0,
        MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped, NULL, MHD_OPTION_URI_LOG_CALLBACK,
        dispatch_line, worker, MHD_OPTION_NOTIFY_COMPLETED, dispatch_completed, worker,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, worker, MHD_OPTION_CONNECTION_TIMEOUT, 0u,
        MHD_OPTION_CONNECTION_LIMIT, daemon_connection_limit, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        worker->pool_size, MHD_OPTION_ARRAY, more, MHD_OPTION_END);
    if (engine->daemon == NULL)
        return false;
    uv_poll_init(&worker->loop, &engine->poll,
                 MHD_get_daemon_info(engine->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd);
    engine->poll.data = worker;
    uv_poll_start(&engine->poll, UV_READABLE, on_daemon_readable);
    return true;
}

static bool start_engines(struct worker *worker)
{
    static struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
    worker->https = https_current();
    return start_engine(worker, &worker->plain, 0, none) &&
           (worker->https == NULL || worker->plane == PLANE_OPS ||
            start_engine(worker, &worker->tls, MHD_USE_TLS, https_options()));
}

static void stop_engine(struct mhd_engine *engine)
{
    if (engine->daemon == NULL)
        return;
    uv_poll_stop(&engine->poll);
    uv_close((uv_handle_t *)&engine->poll, NULL);
}

static void init_handles(struct worker *worker)
{
    uv_async_init(&worker->loop, &worker->wake, on_worker_wake);
    uv_prepare_init(&worker->loop, &worker->prepare);
    uv_idle_init(&worker->loop, &worker->again);
    uv_timer_init(&worker->loop, &worker->scan);
    uv_timer_init(&worker->loop, &worker->audit_retry);
    uv_timer_init(&worker->loop, &worker->poll_timer);
    worker->wake.data = worker->prepare.data = worker->again.data = worker;
    worker->scan.data = worker->audit_retry.data = worker->poll_timer.data = worker;

    uv_prepare_start(&worker->prepare, on_prepare);
    uv_timer_start(&worker->scan, on_scan, SCAN_MS, SCAN_MS);
    worker->audit_retry.timer_cb = on_audit_retry; /* access_log.c starts it */
}

/* --- the thread --- */

static void open_services(struct worker *worker)
{
    const struct http_services *services = &worker->server->services;
    if (worker->plane == PLANE_MAIN) {
        worker->sessions = session_worker_open(services->sessions, &worker->loop);
        worker->lane = audit_lane_create(services->audit, wake_from_audit, worker);
    }
    worker->config =
        request_config_create(conf_current(), keyring_ref(services->keyring), worker->sessions);
}

static void close_handle(uv_handle_t *handle, void *user)
{
    (void)user;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void close_services(struct worker *worker)
{
    if (worker->lane != NULL)
        audit_lane_destroy(&worker->lane);
    if (worker->sessions != NULL)
        session_worker_close(&worker->sessions);
    stop_engine(&worker->plain);
    stop_engine(&worker->tls);
    lobby_close(worker);
    uv_prepare_stop(&worker->prepare);
    uv_run(&worker->loop, UV_RUN_NOWAIT);
    uv_walk(&worker->loop, close_handle, NULL);
    uv_run(&worker->loop, UV_RUN_DEFAULT);
    MHD_stop_daemon(worker->plain.daemon);
    if (worker->tls.daemon != NULL)
        MHD_stop_daemon(worker->tls.daemon);
    https_unref(&worker->https);
    request_collect(worker);
    request_config_unref(&worker->config);
    request_pool_free(worker);
    buffer_free(&worker->line);
    uv_loop_close(&worker->loop);
}

static void *work(void *user)
{
    struct worker *worker = user;
    char name[16];
    snprintf(name, sizeof(name), worker->plane == PLANE_OPS ? "ops" : "worker-%u",
             worker->number % 1000);
    pthread_setname_np(pthread_self(), name);
    metrics_attach();
    open_services(worker);
    uv_run(&worker->loop, UV_RUN_DEFAULT);
    if (!worker->abandoned)
        close_services(worker);
    return NULL;
}

bool worker_start(struct worker *worker, struct http_server *server, enum plane plane,
                  unsigned number, struct buffer *error)
{
    worker->server = server;
    worker->plane = plane;
    worker->number = number;
    crypto_random(&worker->id_prefix, sizeof(worker->id_prefix));
    pthread_mutex_init(&worker->inbox_lock, NULL);
    if (uv_loop_init(&worker->loop) != 0) {
        buffer_addf(error, "cannot make an event loop: %s\n", strerror(errno));
        return false;
    }
    struct conf *conf = conf_current();
    worker->pool_size = header_room_pool_size((size_t)conf->server_head_memory);
    conf_unref(&conf);
    if (!start_engines(worker) || !lobby_open(worker)) {
        buffer_addf(error, "cannot start libmicrohttpd: %s\n", strerror(errno));
        return false;
    }
    init_handles(worker);
    atomic_store(&worker->heartbeat_ms, clock_monotonic_ms());
    if (pthread_create(&worker->thread, NULL, work, worker) != 0) {
        buffer_addf(error, "cannot start a worker: %s\n", strerror(errno));
        return false;
    }
    return true;
}

/* --- from other threads --- */

void worker_give(struct worker *worker, struct client *client)
{
    atomic_fetch_add(&worker->connection_count, 1);
    pthread_mutex_lock(&worker->inbox_lock);
    client->next = worker->inbox;
    worker->inbox = client;
    pthread_mutex_unlock(&worker->inbox_lock);
    uv_async_send(&worker->wake);
}

void worker_reload(struct worker *worker)
{
    atomic_store(&worker->inbox_reload, true);
    uv_async_send(&worker->wake);
}

void worker_rekey(struct worker *worker, struct keyring *keyring)
{
    struct keyring *mine = keyring_ref(keyring);
    pthread_mutex_lock(&worker->inbox_lock);
    struct keyring *unread = worker->inbox_keyring;
    worker->inbox_keyring = mine;
    pthread_mutex_unlock(&worker->inbox_lock);
    if (unread != NULL)
        keyring_unref(&unread);
    uv_async_send(&worker->wake);
}

void worker_drain(struct worker *worker)
{
    atomic_store(&worker->inbox_drain, true);
    uv_async_send(&worker->wake);
}

void worker_join(struct worker *worker)
{
    pthread_join(worker->thread, NULL);
    pthread_mutex_destroy(&worker->inbox_lock);
}
