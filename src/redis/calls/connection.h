/* One connection to one server: opening, greeting, up, breaking, coming back.
 *
 * A connection lives as long as its owner wants; sockets come and go. A late or surplus reply ends
 * the socket, so no reply is ever matched to another's command.
 *
 * IDLE      no socket; the next flush with calls opens one
 * OPENING   the transport opens, until due_ms
 * GREETING  AUTH, PING and the question who the server is were sent, until due_ms
 * UP        calls flow
 * PAUSING   broke; the next attempt is at due_ms */
#pragma once

#include "greeting.h"
#include "pipeline.h"

struct connection;

enum connection_state {
    CONNECTION_IDLE,
    CONNECTION_OPENING,
    CONNECTION_GREETING,
    CONNECTION_UP,
    CONNECTION_PAUSING
};

/* Events for the owner. An owner uses calls (the first group) or commands of its own (the second);
 * the unused group is NULL. */
struct connection_owner {
    /* The reply to a call, which is in no list. True if it is the answer, which the connection
     * passes on; false: the owner has dealt with the call. */
    bool (*call_reply)(struct connection *connection, struct store_call *call,
                       const struct store_reply *reply);
    /* The connection broke while it owed the reply. `sent`: the server may have seen the command.
     * The call is in no list. */
    void (*call_lost)(struct connection *connection, struct store_call *call, bool sent);
    /* The connection will not send the call, which is in no list; `err` is why. */
    void (*call_refused)(struct connection *connection, struct store_call *call, enum err err);

    void (*up)(struct connection *connection);
    /* A reply after those to the greeting. */
    void (*reply)(struct connection *connection, const struct store_reply *reply);
    /* It broke and pauses; `why` as for connection_break(). */
    void (*down)(struct connection *connection, const char *why);
};

struct connection {
    struct store_link *link;
    const struct endpoint *endpoint; /* the owner's */
    const struct connection_owner *owner;
    struct store_breaker *breaker; /* the owner's */
    enum greeting_kind kind;
    bool durable; /* see pipeline.h */
    bool foreign; /* the server is another one than the map or the mark names here */

    enum connection_state state;
    enum err down_err; /* outcome of calls that cannot wait for the next attempt */
    int64_t due_ms;
    int64_t pause_ms; /* the latest; 0: none since a reply came */

    struct call_list queue; /* see call.h */
    struct transport transport;
    struct greeting greeting;
    struct pipeline pipeline;
};

void connection_init(struct connection *connection, struct store_link *link,
                     const struct endpoint *endpoint, struct store_breaker *breaker,
                     const struct connection_owner *owner, bool durable);
/* Frees what it owns; it must be idle or have been broken, without calls. */
void connection_free(struct connection *connection);
/* True if no call is in any of its lists and no answer is owed. */
bool connection_is_idle(const struct connection *connection);

/* Queues a call (in no list) for the next flush; refuses it if the connection will not come back in
 * time. */
void connection_enqueue(struct connection *connection, struct store_call *call);
/* Writes one command of an owner without calls. May break it. */
void connection_send(struct connection *connection, const struct text *arguments, size_t count);
/* Reads what has arrived. May break it. */
void connection_read(struct connection *connection);
/* Compares the id that the server reported with the one that the link's map names here, or without
 * a cluster with the mark of the store. To be called after either has changed. Calls to a foreign
 * server end with STORE_UNAVAILABLE, except for link_ask(). */
void connection_check_server(struct connection *connection);
/* Opens the socket if the connection is idle. */
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
