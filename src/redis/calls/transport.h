/* The bytes' way to one server: a name is looked up, TCP connects, TLS shakes hands; then bytes
 * flow until the owner closes it or it fails.
 *
 * CLOSED       no socket
 * RESOLVING    a name is looked up off the loop
 * CONNECTING   the handshake of TCP is in progress
 * HANDSHAKING  that of TLS is
 * OPEN         bytes flow */
#pragma once

#include <sys/types.h>

#include "link_state.h"

struct tls_link;
struct transport;

enum transport_state {
    TRANSPORT_CLOSED,
    TRANSPORT_RESOLVING,
    TRANSPORT_CONNECTING,
    TRANSPORT_HANDSHAKING,
    TRANSPORT_OPEN
};

/* Events for its owner, a connection. Each may close the transport. */
struct transport_events {
    void (*opened)(struct transport *transport);
    void (*readable)(struct transport *transport);
    void (*writable)(struct transport *transport);
    /* It has failed; the owner closes it. The reason is `why`, or if that is NULL the errno
     * `failure`, EPROTO for TLS. */
    void (*failed)(struct transport *transport, int failure, const char *why);
};

struct transport {
    struct store_link *link;
    const struct endpoint *endpoint;
    const struct transport_events *events;
    enum transport_state state;
    struct transport_socket *socket; /* NULL: none */
    struct tls_link *tls;            /* over the socket; NULL: plain */
    struct transport_lookup *lookup;
    bool watches_writable; /* the socket */
    unsigned attempts;     /* to go round the addresses of a name */
};

void transport_init(struct transport *transport, struct store_link *link,
                    const struct endpoint *endpoint, const struct transport_events *events);
/* Begins to open a closed transport; `opened` or `failed` may be called from inside. */
void transport_open(struct transport *transport);
/* Closes the socket, and gives up looking for an address. */
void transport_close(struct transport *transport);
static inline bool transport_has_socket(const struct transport *transport)
{
    return transport->socket != NULL;
}

/* As send(2) and read(2), through TLS if there is TLS. */
ssize_t transport_write(struct transport *transport, const void *data, size_t length);
ssize_t transport_read(struct transport *transport, void *out, size_t size);
/* Waits for room to write besides replies if there is output, or TLS has to write to read on. */
void transport_watch(struct transport *transport, bool has_output);
/* True if TLS holds bytes that would never make the socket readable. */
bool transport_has_pending(const struct transport *transport);
/* True if TLS has to read before it can write on. */
bool transport_write_wants_read(const struct transport *transport);
