/* From an endpoint to a connection that is up, and the bytes' way through it. */
#include "transport.h"

#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "command.h"
#include "link.h"
#include "log.h"
#include "metrics.h"
#include "pipeline.h"
#include "tls.h"
#include "redis/topology/server_problems.h"

enum {
    KEEPALIVE_IDLE_S = 15,
    KEEPALIVE_INTERVAL_S = 5,
    KEEPALIVE_PROBES = 3,
    UNACKNOWLEDGED_MAX_MS = 5000 /* then the kernel gives the peer up */
};

/* Outlives its connection's interest in it: libuv lets go of a handle one turn later. */
struct connection_socket {
    uv_poll_t poll;
    struct connection *connection; /* NULL: closing */
    struct store_link *link;
    int fd;
};

struct connection_lookup {
    uv_getaddrinfo_t request;
    struct connection *connection; /* NULL: nobody waits any more */
    struct store_link *link;
};

/* --- sockets --- */

static void socket_closed(uv_handle_t *handle)
{
    struct connection_socket *gone = handle->data;
    link_handle_closed(gone->link);
    free(gone);
}

static void close_socket(struct connection *connection)
{
    struct connection_socket *gone = connection->socket;
    if (!gone)
        return;
    connection->socket = NULL;
    gone->connection = NULL;
    tls_close(&connection->tls);
    uv_poll_stop(&gone->poll);
    uv_close((uv_handle_t *)&gone->poll, socket_closed);
    close(gone->fd);
    if (connection->state == CONNECTION_UP)
        metrics_gauge_add(METRIC_STORE_LINKS, -1);
}

static void set_options(int fd)
{
    const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, UNACKNOWLEDGED_MAX_MS},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S},
        {IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S},
        {IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES},
    };
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        /* None of them is needed for right answers, only for early ones. */
        (void)setsockopt(fd, options[i].level, options[i].name, &options[i].value,
                         sizeof(options[i].value));
    }
}

static void on_socket_event(uv_poll_t *poll, int status, int events);

static void tracking(struct connection *connection, int events)
{
    connection->watching_writable = (events & UV_WRITABLE) != 0;
    uv_poll_start(&connection->socket->poll, events, on_socket_event);
}

void transport_watch_writable(struct connection *connection, bool writable)
{
    if (writable != connection->watching_writable)
        tracking(connection, writable ? UV_READABLE | UV_WRITABLE : UV_READABLE);
}

ssize_t transport_write(struct connection *connection, const void *data, size_t length)
{
    if (connection->tls)
        return tls_write(connection->tls, data, length);
    return send(connection->socket->fd, data, length, MSG_NOSIGNAL);
}

ssize_t transport_read(struct connection *connection, void *out, size_t size)
{
    if (connection->tls)
        return tls_read(connection->tls, out, size);
    return read(connection->socket->fd, out, size);
}

/* --- coming up --- */

static void come_up(struct connection *connection)
{
    assert(connection->state == CONNECTION_GREETING && connection->greetings_owed == 0);
    connection_judge(connection);
    if (connection->strange && connection->subscriber) {
        connection_break(connection, ERR_STORE_UNAVAILABLE, "another-node");
        return;
    }
    if (connection->strange)
        store_want_refresh(connection->link->store);
    connection->state = CONNECTION_UP;
    connection->down_err = ERR_STORE_UNAVAILABLE;
    connection->link->dirty = true;
    metrics_gauge_add(METRIC_STORE_LINKS, 1);
    server_problems_over(&connection->link->settings->problems, connection->endpoint);
    if (!connection->sentinel)
        store_note_reached(connection->link->store);
    log_debug("store_connected", "host=%s port=%u durable=%d", connection->endpoint->host,
              connection->endpoint->port, connection->durable);
    if (connection->subscriber)
        connection->subscriber->up(connection);
}

/* Who is there? A node of a cluster has an id; without one the mark of the store tells. False if
 * there is nothing to ask for. */
static bool add_question(const struct connection *connection, struct buffer *out)
{
    const struct store_link *link = connection->link;
    struct store_mark mark;
    if (connection->sentinel)
        return false;
    if (link->settings->mode == REDIS_CLUSTER)
        command_append(out, (const struct text[]){TEXT("CLUSTER"), TEXT("MYID")}, 2);
    else if (store_read_mark(link->store, &mark))
        command_append(
            out, (const struct text[]){TEXT("HGET"), text_of(mark.key), text_of(mark.field)}, 3);
    return out->length > 0;
}

/* False if the connection broke. */
static bool send_greeting(struct connection *connection, const struct buffer *greeting)
{
    ssize_t written = transport_write(connection, greeting->data, greeting->length);
    if (written < 0 && errno != EAGAIN)
        connection_fail(connection, errno);
    else if (written != (ssize_t)greeting->length)
        connection_break(connection, ERR_STORE_UNAVAILABLE, "greeting-not-sent");
    return connection->socket != NULL;
}

/* A fresh socket's send buffer takes the few bytes whole, so that the password needs no buffer of
 * ours. PING because the kernel accepts connections for a process that hangs: no call is entrusted
 * to a node that has not shown that it answers. */
static void greet(struct connection *connection)
{
    const struct settings *settings = connection->link->settings;
    const struct buffer *greeting = &settings->greeting;
    connection->greetings_owed = settings->greetings;
    if (connection->near) {
        greeting = &settings->replica_greeting;
        connection->greetings_owed = settings->greetings + 1;
    } else if (connection->sentinel) {
        greeting = &settings->sentinel_greeting;
        connection->greetings_owed = settings->sentinel_greetings;
    }
    connection->state = CONNECTION_GREETING;
    connection->id = (struct node_id){{0}};
    SCOPED(buffer_free) struct buffer question = {0};
    connection->asks_id = add_question(connection, &question);
    connection->greetings_owed += connection->asks_id;
    if (send_greeting(connection, greeting) && connection->asks_id)
        send_greeting(connection, &question);
}

static void shake_hands(struct connection *connection)
{
    switch (tls_handshake(connection->tls)) {
    case TLS_WANTS_READ:
        tracking(connection, UV_READABLE);
        break;
    case TLS_WANTS_WRITE:
        tracking(connection, UV_WRITABLE);
        break;
    case TLS_DONE:
        tracking(connection, UV_READABLE);
        greet(connection);
        break;
    case TLS_FAILED:
        connection_fail(connection, EPROTO);
        break;
    }
}

static void finish_connect(struct connection *connection)
{
    int failure = 0;
    socklen_t length = sizeof(failure);
    if (getsockopt(connection->socket->fd, SOL_SOCKET, SO_ERROR, &failure, &length) != 0)
        failure = errno;
    if (failure) {
        connection_break(connection, ERR_STORE_UNAVAILABLE, strerror(failure));
        return;
    }
    const struct tls_context *tls = connection->link->settings->tls;
    if (!tls) {
        tracking(connection, UV_READABLE);
        greet(connection);
        return;
    }
    connection->tls = tls_open(tls, connection->socket->fd, connection->endpoint->host);
    connection->state = CONNECTION_HANDSHAKING;
    shake_hands(connection);
}

/* TLS may have to write before it can read on. */
static void exchange(struct connection *connection, int status, int events)
{
    bool read_waits = connection->tls && tls_read_wants_write(connection->tls);
    if (status < 0 || read_waits || (events & UV_READABLE))
        pipeline_read(connection);
    /* libuv stops watching a socket with an error on it: what could be read has been. */
    if (connection->socket && status < 0)
        connection_break(connection, ERR_STORE_UNAVAILABLE, uv_strerror(status));
    if (connection->socket && (events & UV_WRITABLE))
        pipeline_write(connection);
}

static void on_socket_event(uv_poll_t *poll, int status, int events)
{
    struct connection *connection = ((struct connection_socket *)poll->data)->connection;
    if (connection->state == CONNECTION_CONNECTING)
        finish_connect(connection);
    else if (connection->state == CONNECTION_HANDSHAKING)
        shake_hands(connection);
    else
        exchange(connection, status, events);
}

/* A server that does not know AUTH may quote the password: of its words only those are told that
 * are known to quote nothing. */
static bool quotes_nothing(const struct store_reply *reply)
{
    static const char *const openings[] = {
        "WRONGPASS ",
        "NOAUTH ",
        "NOPERM ",
        "DENIED ",
        "ERR AUTH <password> called without any",
        "ERR Client sent AUTH, but no password is set",
        "ERR invalid password",
    };
    struct text words = store_reply_text(reply);
    for (size_t i = 0; i < sizeof(openings) / sizeof(openings[0]); i++) {
        size_t length = strlen(openings[i]);
        if (words.length >= length && memcmp(words.data, openings[i], length) == 0)
            return true;
    }
    return false;
}

static void refuse_greeting(struct connection *connection, const struct store_reply *reply,
                            bool is_auth, enum err err)
{
    char why[PROBLEM_WHY_MAX];
    if (is_auth && !quotes_nothing(reply))
        snprintf(why, sizeof(why), "refuses AUTH");
    else
        reply_words(reply, why, sizeof(why));
    server_problems_tell(&connection->link->settings->problems, connection->endpoint, why);
    connection_break(connection, err, why);
}

/* Without an answer nobody can tell whether the server is another one: then it is not. */
static void take_id(struct connection *connection, const struct store_reply *reply)
{
    if (reply_outcome(reply) == OUTCOME_ANSWER)
        connection->id = node_id_read(store_reply_text(reply));
    else if (reply_outcome(reply) == OUTCOME_DENIED &&
             !atomic_exchange(&connection->link->store->id_denied_told, true))
        log_warning("store_id_not_told",
                    "host=%s port=%u hint=\"grant +cluster|myid: servers of another cluster would "
                    "not be noticed\"",
                    connection->endpoint->host, connection->endpoint->port);
}

/* PING may get an error from a node that serves reads, like MISCONF: only those that pass, and the
 * want of a password, keep the connection from coming up. */
void transport_greeted(struct connection *connection, const struct store_reply *reply)
{
    assert(connection->greetings_owed > 0);
    enum reply_outcome outcome = reply_outcome(reply);
    bool is_auth = connection->greetings_owed > 1U + connection->asks_id;
    connection->greetings_owed--;
    if (connection->asks_id && connection->greetings_owed == 0) {
        take_id(connection, reply);
        come_up(connection);
        return;
    }
    if (outcome == OUTCOME_AGAIN || outcome == OUTCOME_STALE)
        refuse_greeting(connection, reply, false, ERR_STORE_UNAVAILABLE);
    else if ((is_auth && outcome != OUTCOME_ANSWER) || reply_wants_password(reply))
        refuse_greeting(connection, reply, is_auth, ERR_STORE_DENIED);
    else if (connection->greetings_owed == 0)
        come_up(connection);
}

/* --- connecting --- */

static bool open_socket(struct connection *connection, const struct sockaddr *address,
                        socklen_t length)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    set_options(fd);
    struct connection_socket *opened = xcalloc(1, sizeof(*opened));
    if ((connect(fd, address, length) != 0 && errno != EINPROGRESS) ||
        uv_poll_init(connection->link->loop, &opened->poll, fd) != 0) {
        close(fd);
        free(opened);
        return false;
    }
    opened->poll.data = opened;
    opened->connection = connection;
    opened->link = connection->link;
    opened->fd = fd;
    connection->link->handles++;
    connection->socket = opened;
    return true;
}

static void connect_to(struct connection *connection, const struct sockaddr *address,
                       socklen_t length)
{
    connection->state = CONNECTION_CONNECTING;
    pipeline_reset(connection);
    metrics_add(METRIC_STORE_CONNECTS, 1);
    if (!open_socket(connection, address, length)) {
        connection_break(connection, ERR_STORE_UNAVAILABLE, strerror(errno));
        return;
    }
    tracking(connection, UV_WRITABLE);
}

/* Names may have several addresses: each attempt takes the next. */
static const struct addrinfo *choose_address(const struct addrinfo *list, unsigned attempt)
{
    unsigned count = 0;
    for (const struct addrinfo *info = list; info; info = info->ai_next)
        count++;
    const struct addrinfo *chosen = list;
    for (unsigned skip = count ? attempt % count : 0; skip > 0; skip--)
        chosen = chosen->ai_next;
    return chosen;
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *list)
{
    struct connection_lookup *lookup = request->data;
    struct connection *connection = lookup->connection;
    if (connection) {
        connection->lookup = NULL;
        const struct addrinfo *chosen =
            status == 0 ? choose_address(list, connection->attempts) : NULL;
        if (chosen)
            connect_to(connection, chosen->ai_addr, chosen->ai_addrlen);
        else
            connection_break(connection, ERR_STORE_UNAVAILABLE, "name-not-resolved");
    }
    uv_freeaddrinfo(list);
    link_handle_closed(lookup->link);
    free(lookup);
}

static void resolve(struct connection *connection)
{
    char port[8];
    snprintf(port, sizeof(port), "%u", connection->endpoint->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct connection_lookup *lookup = xcalloc(1, sizeof(*lookup));
    lookup->request.data = lookup;
    lookup->connection = connection;
    lookup->link = connection->link;
    if (uv_getaddrinfo(connection->link->loop, &lookup->request, on_resolved,
                       connection->endpoint->host, port, &hints) != 0) {
        free(lookup);
        connection_break(connection, ERR_STORE_UNAVAILABLE, "name-not-resolved");
        return;
    }
    connection->state = CONNECTION_RESOLVING;
    connection->lookup = lookup;
    connection->link->handles++;
}

void transport_open(struct connection *connection)
{
    assert(connection->state == CONNECTION_IDLE && !connection->socket && !connection->lookup);
    const struct endpoint *endpoint = connection->endpoint;
    connection->attempts++;
    connection->due_ms = clock_monotonic_ms() + connection->link->settings->connect_timeout_ms;
    timing_schedule(connection->link, connection->due_ms);
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    if (uv_ip4_addr(endpoint->host, endpoint->port, &v4) == 0)
        connect_to(connection, (const struct sockaddr *)&v4, sizeof(v4));
    else if (uv_ip6_addr(endpoint->host, endpoint->port, &v6) == 0)
        connect_to(connection, (const struct sockaddr *)&v6, sizeof(v6));
    else
        resolve(connection);
}

static void forget_lookup(struct connection *connection)
{
    if (connection->lookup) {
        uv_cancel((uv_req_t *)&connection->lookup->request);
        connection->lookup->connection = NULL;
        connection->lookup = NULL;
    }
}

void transport_close(struct connection *connection)
{
    close_socket(connection);
    forget_lookup(connection);
}
