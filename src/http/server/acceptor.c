/* Accepts connections, refuses those over the limits, and closes listeners on main's orders. */
#include "acceptor.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "listeners.h"
#include "log.h"
#include "memory.h"
#include "metrics.h"
#include "worker.h"

enum {
    BURST = 64,     /* connections accepted from one listener before the others get their turn */
    MOST_OPS = 256, /* connections of the ops plane, outside the limits of the other */
    PAUSE_MS = 100, /* when the process is out of descriptors and of the reserve */
    MOST_KEPT_BACK = 256, /* descriptors that clients do not get */
    LOOK_MS = 5000,       /* between two checks whether a storm is over */
    STORM = 1000          /* connections that closed since the last check */
};

enum order { ORDER_NONE, ORDER_STOP_MAIN, ORDER_STOP };

struct acceptor {
    struct http_server *server;
    struct listeners listeners;
    pthread_t thread;
    int wake;    /* eventfd: read the order */
    int reserve; /* a descriptor to close when there are none left */
    pthread_mutex_t lock;
    pthread_cond_t order_done_changed;
    enum order order, done;
    int most_descriptor;    /* the highest that a client may have */
    int64_t quiet_until_ms; /* no log line before this */
    struct buffer refusal;  /* the whole answer to a connection over the limit */
    int64_t look_ms;        /* of the next check whether a storm is over */
    unsigned connections;   /* the most since the last check */
};

static void prepare_refusal(struct buffer *refusal)
{
    SCOPED(buffer_free) struct buffer body = {0};
    buffer_addf(&body, "{\"type\":\"/problems/%s\",\"title\":\"%s\",\"status\":%u,\"code\":\"%s\"}",
                err_code(ERR_OVERLOADED), err_title(ERR_OVERLOADED), err_status(ERR_OVERLOADED),
                err_code(ERR_OVERLOADED));
    buffer_addf(refusal,
                "HTTP/1.1 %u Service Unavailable\r\nContent-Type: application/problem+json\r\n"
                "Retry-After: %u\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
                err_status(ERR_OVERLOADED), err_retry_after(ERR_OVERLOADED), body.length);
    buffer_add_text(refusal, buffer_text(&body));
}

/* Sends the refusal, as far as the socket accepts it without waiting. Over TLS nothing is said: a
 * handshake would cost more than what is refused. */
static void refuse_socket(struct acceptor *acceptor, int fd, bool tls)
{
    metrics_add(METRIC_CONNECTIONS_REFUSED, 1);
    if (!tls) {
        ssize_t sent =
            send(fd, acceptor->refusal.data, acceptor->refusal.length, MSG_DONTWAIT | MSG_NOSIGNAL);
        (void)sent;
    }
    shutdown(fd, SHUT_WR);
    /* Bytes that the client has sent must be read, or closing would reset the connection and drop
     * the answer. */
    char ignored[4096];
    ssize_t got = recv(fd, ignored, sizeof(ignored), MSG_DONTWAIT);
    (void)got;
    close(fd);
}

static struct worker *least_busy(struct http_server *server)
{
    struct worker *best = &server->workers[0];
    unsigned least = atomic_load(&best->connection_count);
    for (unsigned i = 1; i < server->worker_count; i++) {
        unsigned count = atomic_load(&server->workers[i].connection_count);
        if (count < least) {
            least = count;
            best = &server->workers[i];
        }
    }
    return best;
}

static unsigned count_connections(const struct http_server *server)
{
    unsigned count = 0;
    for (unsigned i = 0; i < server->worker_count; i++)
        count += atomic_load(&server->workers[i].connection_count);
    return count;
}

/* The C library keeps the memory of many closed connections, because small pieces in use lie
 * between. It is returned to the system here, where no request waits. */
static void trim_after_storm(struct acceptor *acceptor)
{
    unsigned count = count_connections(acceptor->server);
    if (count > acceptor->connections)
        acceptor->connections = count;
    int64_t now_ms = clock_monotonic_ms();
    if (now_ms < acceptor->look_ms)
        return;
    if (acceptor->connections >= count + STORM)
        malloc_trim(0);
    acceptor->look_ms = now_ms + LOOK_MS;
    acceptor->connections = count;
}

static bool take_connection_limit(struct acceptor *acceptor, struct client *client,
                                  enum plane plane)
{
    struct http_server *server = acceptor->server;
    if (plane == PLANE_OPS)
        return atomic_load(&server->ops_worker->connection_count) < MOST_OPS;
    client->counted =
        connection_limits_take(server->limits, client->local ? NULL : &client->address);
    return client->counted;
}

static bool may_log(struct acceptor *acceptor)
{
    int64_t now_ms = clock_monotonic_ms();
    if (now_ms < acceptor->quiet_until_ms)
        return false;
    acceptor->quiet_until_ms = now_ms + LOG_INTERVAL_MS;
    return true;
}

/* The kernel assigns the lowest descriptor first: a high one means that few are left. Those are for
 * Redis, the audit file and the journal, without which clients could not be served. */
static int most_descriptor_of_clients(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT32_MAX)
        return INT32_MAX;
    rlim_t kept_back = limit.rlim_cur / 4;
    return (int)(limit.rlim_cur - (kept_back < MOST_KEPT_BACK ? kept_back : MOST_KEPT_BACK));
}

static void admit_connection(struct acceptor *acceptor, const struct listener *listener, int fd,
                             const struct sockaddr_storage *address, socklen_t length)
{
    enum plane plane = listener->plane;
    struct client *client = client_create(fd, listener->tls, address, length);
    bool has_room = plane == PLANE_OPS || fd < acceptor->most_descriptor;
    if (!has_room && may_log(acceptor))
        log_error("accept_failed", "reason=\"few descriptors are left\"");
    if (!has_room || !take_connection_limit(acceptor, client, plane)) {
        refuse_socket(acceptor, fd, listener->tls);
        client_destroy(&client);
        return;
    }
    metrics_add(METRIC_CONNECTIONS_ACCEPTED, 1);
    struct http_server *server = acceptor->server;
    worker_give(plane == PLANE_OPS ? server->ops_worker : least_busy(server), client);
}

static int open_reserve(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* Without descriptors the backlog would keep the listener readable and the thread spinning: the
 * reserve is closed to accept one connection and refuse it. */
static void shed_with_reserve(struct acceptor *acceptor, const struct listener *listener)
{
    if (may_log(acceptor))
        log_error("accept_failed", "reason=\"%s\"", strerror(errno));
    if (acceptor->reserve < 0) {
        poll(NULL, 0, PAUSE_MS);
        acceptor->reserve = open_reserve();
        return;
    }
    close(acceptor->reserve);
    int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0)
        refuse_socket(acceptor, fd, listener->tls);
    acceptor->reserve = open_reserve();
}

static void accept_some(struct acceptor *acceptor, const struct listener *listener)
{
    for (int i = 0; i < BURST; i++) {
        struct sockaddr_storage address = {0};
        socklen_t length = sizeof(address);
        int fd = accept4(listener->fd, (struct sockaddr *)&address, &length,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            admit_connection(acceptor, listener, fd, &address, length);
        else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            shed_with_reserve(acceptor, listener);
        else if (errno != ECONNABORTED && errno != EINTR)
            return;
    }
}

/* Carries out main's order; false when the thread is to end. */
static bool carry_out_order(struct acceptor *acceptor)
{
    uint64_t count;
    ssize_t got = read(acceptor->wake, &count, sizeof(count));
    (void)got;
    pthread_mutex_lock(&acceptor->lock);
    enum order order = acceptor->order;
    pthread_mutex_unlock(&acceptor->lock);
    if (order >= ORDER_STOP_MAIN)
        listeners_close(&acceptor->listeners, PLANE_MAIN);
    if (order == ORDER_STOP)
        listeners_close(&acceptor->listeners, PLANE_OPS);
    pthread_mutex_lock(&acceptor->lock);
    acceptor->done = order;
    pthread_cond_broadcast(&acceptor->order_done_changed);
    pthread_mutex_unlock(&acceptor->lock);
    return order != ORDER_STOP;
}

static void *accept_loop(void *user)
{
    struct acceptor *acceptor = user;
    pthread_setname_np(pthread_self(), "acceptor");
    metrics_attach();
    for (;;) {
        struct pollfd polled[MOST_LISTENERS + 1] = {{.fd = acceptor->wake, .events = POLLIN}};
        size_t count = acceptor->listeners.count;
        for (size_t i = 0; i < count; i++) {
            polled[i + 1] =
                (struct pollfd){.fd = acceptor->listeners.items[i].fd, .events = POLLIN};
        }
        int ready = poll(polled, count + 1, LOOK_MS);
        trim_after_storm(acceptor);
        if (ready < 0)
            continue;
        for (size_t i = 0; i < count; i++)
            if (polled[i + 1].revents != 0)
                accept_some(acceptor, &acceptor->listeners.items[i]);
        if (polled[0].revents != 0 && !carry_out_order(acceptor))
            return NULL;
    }
}

static void acceptor_free(struct acceptor *acceptor)
{
    listeners_close(&acceptor->listeners, PLANE_MAIN);
    listeners_close(&acceptor->listeners, PLANE_OPS);
    close(acceptor->wake);
    close(acceptor->reserve);
    buffer_free(&acceptor->refusal);
    pthread_cond_destroy(&acceptor->order_done_changed);
    pthread_mutex_destroy(&acceptor->lock);
    free(acceptor);
}

struct acceptor *acceptor_start(struct http_server *server, const struct conf *conf,
                                struct buffer *error)
{
    struct listeners listeners;
    if (!listeners_open(&listeners, conf, error))
        return NULL;
    struct acceptor *acceptor = xcalloc(1, sizeof(*acceptor));
    acceptor->server = server;
    acceptor->most_descriptor = most_descriptor_of_clients();
    acceptor->listeners = listeners;
    acceptor->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    acceptor->reserve = open_reserve();
    pthread_mutex_init(&acceptor->lock, NULL);
    pthread_cond_init(&acceptor->order_done_changed, NULL);
    prepare_refusal(&acceptor->refusal);
    if (acceptor->wake < 0 || pthread_create(&acceptor->thread, NULL, accept_loop, acceptor) != 0) {
        buffer_addf(error, "cannot start the acceptor: %s\n", strerror(errno));
        acceptor_free(acceptor);
        return NULL;
    }
    return acceptor;
}

static void give_order(struct acceptor *acceptor, enum order order)
{
    pthread_mutex_lock(&acceptor->lock);
    acceptor->order = order;
    uint64_t one = 1;
    ssize_t written = write(acceptor->wake, &one, sizeof(one));
    (void)written;
    while (acceptor->done < order)
        pthread_cond_wait(&acceptor->order_done_changed, &acceptor->lock);
    pthread_mutex_unlock(&acceptor->lock);
}

void acceptor_stop_main(struct acceptor *acceptor)
{
    give_order(acceptor, ORDER_STOP_MAIN);
}

void acceptor_stop(struct acceptor **acceptor)
{
    if (*acceptor == NULL)
        return;
    give_order(*acceptor, ORDER_STOP);
    pthread_join((*acceptor)->thread, NULL);
    acceptor_free(*acceptor);
    *acceptor = NULL;
}
