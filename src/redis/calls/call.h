/* One call in flight: its bytes, its list, the breaker of its node, and its end.
 *
 * A call is always in exactly one list:
 *   link->parked         waits for a map, or for its pause after a passing error
 *   connection->queue    to be written; no server has seen it, so it may go anywhere
 *   pipeline->awaiting   written; the connection owes the reply
 *   pipeline->held       durable, reply in; the connection owes the answer to WAIT
 *   link->ending         over; `done` is called by the timer */
#pragma once

#include "redis/protocol/reply.h"
#include "redis/state/endpoint.h"

struct store_breaker;

struct call_list {
    struct store_call *first, *last;
};

struct store_call_state {
    struct call_list *list;
    struct store_call_state *next_free;
    struct buffer bytes;   /* the command, kept for sending it again */
    size_t arguments_at;   /* script calls: where the source or its name ends within bytes */
    size_t argument_total; /* script calls: elements of the command */
    const struct store_reply *reply; /* held or ending: the answer */
    enum err err;                    /* ending: the outcome */
    int64_t started_ns;
    struct store_breaker *breaker; /* of the node it is with, until its outcome is noted */
    bool passed;                   /* the breaker let it through; false: it was not asked */
    int64_t passed_ns;
    int64_t slept_ms;         /* clock_slept_ms() then */
    int64_t again_ms;         /* parked: when to try again; 0: when a map comes */
    uint64_t stream_end;      /* awaiting: position in the connection's output after it */
    int64_t replica_until_ms; /* at a replica: when it goes on to the master; else 0 */
    bool was_replica_read;    /* never again to a replica */
    unsigned slot;
    unsigned tries;   /* redirections and lost connections so far */
    unsigned pauses;  /* passing errors so far */
    bool direct;      /* for this node only: never redirected or tried again */
    bool any_server;  /* also for another server than the map names */
    bool asking;      /* goes out after ASKING */
    bool asking_owed; /* the reply to ASKING comes first */
    bool by_source;   /* EVAL instead of EVALSHA */
};

void call_list_add(struct call_list *list, struct store_call *call);
void call_list_remove(struct store_call *call);
/* The first of the list, removed from it; NULL if there is none. */
struct store_call *call_list_take(struct call_list *list);

/* Accepts a new call and encodes its command. The call is in no list yet. */
void call_begin(struct store_link *link, struct store_call *call);
/* Replaces the EVALSHA of a script call by EVAL with the source. Once. */
void call_use_source(struct store_call *call);
/* True if the node's breaker lets the call pass; the outcome must be noted then. */
bool call_may_pass(struct store_call *call, struct store_breaker *breaker);
/* Reports success or failure to the breaker. Later notes of the call have no effect. */
void call_note(struct store_call *call, bool success);
/* The same by the reply and the time that it took. */
void call_note_reply(struct store_link *link, struct store_call *call,
                     const struct store_reply *reply);
/* True if this host slept since the call was sent: others may have written after its reply. */
bool call_slept_over(const struct store_call *call);
/* The call leaves its node without an outcome for the breaker. */
void call_leave(struct store_call *call);
/* Ends the call now, where `done` may be called. The reply may be NULL. */
void call_end(struct store_link *link, struct store_call *call, enum err err,
              const struct store_reply *reply);
/* True if the outcome shows that the store was reached. */
bool call_got_through(enum err err);
/* Ends the call from the timer, in the next turn of the loop. */
void call_end_soon(struct store_link *link, struct store_call *call, enum err err);
