/* From an endpoint to a socket that bytes flow through. */
#include "transport.h"

#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "metrics.h"
#include "redis/protocol/tls.h"

enum {
    KEEPALIVE_IDLE_S = 15,
    KEEPALIVE_INTERVAL_S = 5,
    KEEPALIVE_PROBES = 3,
    UNACKNOWLEDGED_MAX_MS = 5000 /* then the kernel gives the peer up */
};

/* Outlives its transport: libuv closes a handle one turn later. */
struct transport_socket {
    uv_poll_t poll;
    struct transport *transport; /* NULL: closing */
    struct store_link *link;
    int fd;
};

struct transport_lookup {
    uv_getaddrinfo_t request;
    struct transport *transport; /* NULL: the transport was closed */
    struct store_link *link;
};

void transport_init(struct transport *transport, struct store_link *link,
                    const struct endpoint *endpoint, const struct transport_events *events)
{
    *transport = (struct transport){.link = link, .endpoint = endpoint, .events = events};
}

/* --- sockets --- */

static void socket_closed(uv_handle_t *handle)
{
    struct transport_socket *gone = handle->data;
    link_state_release(gone->link);
    free(gone);
}

static void close_socket(struct transport *transport)
{
    struct transport_socket *gone = transport->socket;
    if (!gone)
        return;
    transport->socket = NULL;
    gone->transport = NULL;
    tls_close(&transport->tls);
    uv_poll_stop(&gone->poll);
    uv_close((uv_handle_t *)&gone->poll, socket_closed);
    close(gone->fd);
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
        /* Failures do no harm: the options only detect lost peers earlier. */
        (void)setsockopt(fd, options[i].level, options[i].name, &options[i].value,
                         sizeof(options[i].value));
    }
}

static void on_socket_event(uv_poll_t *poll, int status, int events);

static void transport_poll(struct transport *transport, int events)
{
    transport->watches_writable = (events & UV_WRITABLE) != 0;
    uv_poll_start(&transport->socket->poll, events, on_socket_event);
}

/* TLS may have to write before it can read, and read before it can write. */
void transport_watch(struct transport *transport, bool has_output)
{
    const struct tls_link *tls = transport->tls;
    bool writing = has_output && !(tls && tls_write_wants_read(tls));
    bool reading = tls && tls_read_wants_write(tls);
    bool writable = writing || reading;
    if (writable != transport->watches_writable)
        transport_poll(transport, writable ? UV_READABLE | UV_WRITABLE : UV_READABLE);
}

bool transport_has_pending(const struct transport *transport)
{
    return transport->tls && tls_has_pending(transport->tls);
}

bool transport_write_wants_read(const struct transport *transport)
{
    return transport->tls && tls_write_wants_read(transport->tls);
}

ssize_t transport_write(struct transport *transport, const void *data, size_t length)
{
    if (transport->tls)
        return tls_write(transport->tls, data, length);
    return send(transport->socket->fd, data, length, MSG_NOSIGNAL);
}

ssize_t transport_read(struct transport *transport, void *out, size_t size)
{
    if (transport->tls)
        return tls_read(transport->tls, out, size);
    return read(transport->socket->fd, out, size);
}

/* --- coming up --- */

static void go_open(struct transport *transport)
{
    transport->state = TRANSPORT_OPEN;
    transport_poll(transport, UV_READABLE);
    transport->events->opened(transport);
}

static void shake_hands(struct transport *transport)
{
    switch (tls_handshake(transport->tls)) {
    case TLS_WANTS_READ:
        transport_poll(transport, UV_READABLE);
        break;
    case TLS_WANTS_WRITE:
        transport_poll(transport, UV_WRITABLE);
        break;
    case TLS_DONE:
        go_open(transport);
        break;
    case TLS_FAILED:
        transport->events->failed(transport, EPROTO, NULL);
        break;
    }
}

static void finish_connect(struct transport *transport)
{
    int failure = 0;
    socklen_t length = sizeof(failure);
    if (getsockopt(transport->socket->fd, SOL_SOCKET, SO_ERROR, &failure, &length) != 0)
        failure = errno;
    if (failure) {
        transport->events->failed(transport, failure, NULL);
        return;
    }
    const struct tls_context *tls = transport->link->settings->tls;
    if (!tls) {
        go_open(transport);
        return;
    }
    transport->tls = tls_open(tls, transport->socket->fd, transport->endpoint->host);
    transport->state = TRANSPORT_HANDSHAKING;
    shake_hands(transport);
}

/* TLS may have to write before it can read on. */
static void exchange(struct transport *transport, int status, int events)
{
    bool read_waits = transport->tls && tls_read_wants_write(transport->tls);
    if (status < 0 || read_waits || (events & UV_READABLE))
        transport->events->readable(transport);
    /* libuv stops watching a socket with an error on it: what could be read has been. */
    if (transport->socket && status < 0)
        transport->events->failed(transport, 0, uv_strerror(status));
    if (transport->socket && (events & UV_WRITABLE))
        transport->events->writable(transport);
}

static void on_socket_event(uv_poll_t *poll, int status, int events)
{
    struct transport *transport = ((struct transport_socket *)poll->data)->transport;
    if (transport->state == TRANSPORT_CONNECTING)
        finish_connect(transport);
    else if (transport->state == TRANSPORT_HANDSHAKING)
        shake_hands(transport);
    else
        exchange(transport, status, events);
}

/* --- connecting --- */

static bool open_socket(struct transport *transport, const struct sockaddr *address,
                        socklen_t length)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    set_options(fd);
    struct transport_socket *opened = xcalloc(1, sizeof(*opened));
    if ((connect(fd, address, length) != 0 && errno != EINPROGRESS) ||
        uv_poll_init(transport->link->loop, &opened->poll, fd) != 0) {
        close(fd);
        free(opened);
        return false;
    }
    opened->poll.data = opened;
    opened->transport = transport;
    opened->link = transport->link;
    opened->fd = fd;
    link_state_hold(transport->link);
    transport->socket = opened;
    return true;
}

static void connect_to(struct transport *transport, const struct sockaddr *address,
                       socklen_t length)
{
    transport->state = TRANSPORT_CONNECTING;
    metrics_add(METRIC_STORE_CONNECTS, 1);
    if (!open_socket(transport, address, length)) {
        transport->events->failed(transport, errno, NULL);
        return;
    }
    transport_poll(transport, UV_WRITABLE);
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
    struct transport_lookup *lookup = request->data;
    struct transport *transport = lookup->transport;
    if (transport) {
        transport->lookup = NULL;
        const struct addrinfo *chosen =
            status == 0 ? choose_address(list, transport->attempts) : NULL;
        if (chosen)
            connect_to(transport, chosen->ai_addr, chosen->ai_addrlen);
        else
            transport->events->failed(transport, 0, "name-not-resolved");
    }
    uv_freeaddrinfo(list);
    link_state_release(lookup->link);
    free(lookup);
}

static void resolve(struct transport *transport)
{
    char port[8];
    snprintf(port, sizeof(port), "%u", transport->endpoint->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct transport_lookup *lookup = xcalloc(1, sizeof(*lookup));
    lookup->request.data = lookup;
    lookup->transport = transport;
    lookup->link = transport->link;
    if (uv_getaddrinfo(transport->link->loop, &lookup->request, on_resolved,
                       transport->endpoint->host, port, &hints) != 0) {
        free(lookup);
        transport->events->failed(transport, 0, "name-not-resolved");
        return;
    }
    transport->state = TRANSPORT_RESOLVING;
    transport->lookup = lookup;
    link_state_hold(transport->link);
}

void transport_open(struct transport *transport)
{
    assert(transport->state == TRANSPORT_CLOSED && !transport->socket && !transport->lookup);
    const struct endpoint *endpoint = transport->endpoint;
    transport->attempts++;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    if (uv_ip4_addr(endpoint->host, endpoint->port, &v4) == 0)
        connect_to(transport, (const struct sockaddr *)&v4, sizeof(v4));
    else if (uv_ip6_addr(endpoint->host, endpoint->port, &v6) == 0)
        connect_to(transport, (const struct sockaddr *)&v6, sizeof(v6));
    else
        resolve(transport);
}

static void forget_lookup(struct transport *transport)
{
    if (transport->lookup) {
        uv_cancel((uv_req_t *)&transport->lookup->request);
        transport->lookup->transport = NULL;
        transport->lookup = NULL;
    }
}

void transport_close(struct transport *transport)
{
    close_socket(transport);
    forget_lookup(transport);
    transport->state = TRANSPORT_CLOSED;
}
