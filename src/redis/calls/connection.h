/* One socket to one node: connecting, greeting, writing, reading, breaking, coming back.
 *
 * A connection lives as long as its node, sockets come and go. Replies come in the order of
 * commands; one that is late, or one too many, ends the socket, so that no reply is ever taken for
 * another's.
 *
 * IDLE           no socket; the next flush with calls opens one
 * RESOLVING      a name is looked up off the loop, until due_ms
 * CONNECTING     the handshake of TCP is under way, until due_ms
 * HANDSHAKING    that of TLS is, until due_ms
 * GREETING       AUTH, PING and who the server is were sent, until due_ms
 * UP             calls flow; while an answer to WAIT is owed, until due_ms
 * PAUSING        broke; the next attempt is at due_ms */
#pragma once

#include "call.h"
#include "redis/topology/endpoint.h"
#include "redis/topology/node_id.h"

struct connection;

enum connection_state {
    CONNECTION_IDLE,
    CONNECTION_RESOLVING,
    CONNECTION_CONNECTING,
    CONNECTION_HANDSHAKING,
    CONNECTION_GREETING,
    CONNECTION_UP,
    CONNECTION_PAUSING
};

struct connection_socket;
struct connection_lookup;
struct tls_link;

/* Who has a connection of its own, without calls: gets what is not the greeting. */
struct connection_subscriber {
    void (*up)(struct connection *connection);
    void (*reply)(struct connection *connection, const struct store_reply *reply);
    /* It broke and pauses; `why` as for connection_break(). */
    void (*down)(struct connection *connection, const char *why);
};

struct connection {
    struct store_link *link;
    const struct endpoint *endpoint;                /* the node's */
    struct store_breaker *breaker;                  /* the node's */
    const struct connection_subscriber *subscriber; /* NULL: a connection for calls */
    bool durable;                                   /* one batch at a time, with WAIT behind it */
    bool near;     /* says READONLY, for calls that a replica may answer */
    bool sentinel; /* has credentials of its own */
    bool asks_id;  /* the last answer to the greeting tells who the server is */
    bool strange;  /* it is another one than the map names here */
    struct node_id id;

    bool wait_owed;
    bool refused;           /* NOAUTH came: break as soon as nothing is owed */
    bool watching_writable; /* the socket */
    enum connection_state state;
    enum err down_err; /* what calls get that cannot wait for the next attempt */
    unsigned greetings_owed;
    unsigned attempts; /* to go round the addresses of a name */
    int64_t due_ms;
    int64_t pause_ms;     /* of the next break; 0 after a reply came */
    int64_t ask_until_ms; /* a WAIT ran out: those before then do not wait as long */

    struct connection_socket *socket;
    struct tls_link *tls; /* over the socket; NULL: plain */
    struct connection_lookup *lookup;

    struct call_list queue, awaiting, held;
    struct buffer output; /* what the socket has not taken yet begins at output_taken */
    size_t output_taken;
    uint64_t stream_end; /* bytes given to this socket, those in output included */
    struct reply_reader reader;
};

void connection_init(struct connection *connection, struct store_link *link,
                     const struct endpoint *endpoint, bool durable);
/* Frees what it owns; it must be idle or have been broken, without calls. */
void connection_free(struct connection *connection);
/* True if no call is in any of its lists and no answer is owed. */
bool connection_is_idle(const struct connection *connection);

/* Takes a call (in no list) to be written at the next flush; ends it soon if the connection will
 * not come back in time. */
void connection_enqueue(struct connection *connection, struct store_call *call);
/* Compares who the server is, by its own word, with whom the link's map names here, or without a
 * cluster with the mark of the store: after one of both is new. Calls to another one end with
 * STORE_UNAVAILABLE, except for link_ask(). */
void connection_judge(struct connection *connection);
/* Opens the socket if the connection is idle, for a subscriber. */
void connection_open(struct connection *connection);
/* Opens the socket if there is need, writes the queue. */
void connection_flush(struct connection *connection);
/* Acts on what is due; returns when to come back, INT64_MAX for never. */
int64_t connection_tick(struct connection *connection, int64_t now_ms);
/* Closes the socket, deals with its calls, pauses. `err` is why. */
void connection_break(struct connection *connection, enum err err, const char *why);
/* After new credentials: the next attempt is at once. */
void connection_end_pause(struct connection *connection);
/* Closes the socket without a pause, keeps nothing; for connections without calls. */
void connection_shut(struct connection *connection);

/* Breaks it because the socket failed: `failure` is errno, 0 if the peer closed. What kept it from
 * coming up and is for people to repair is logged. */
void connection_fail(struct connection *connection, int failure);
