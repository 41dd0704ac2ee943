/* The part of a request that handlers do not see, and the pool that requests come from. */
#pragma once

#include "http/server/client.h"
#include "guard.h"
#include "ratelimit.h"
#include "request.h"
#include "request_config.h"

/* Where a request stands: who holds it, and what ends that. Only request_set_state() changes it. */
enum request_state {
    REQUEST_POOLED,    /* the pool, or soon (request_collect()): until it is taken */
    REQUEST_HEAD,      /* libmicrohttpd reads its head: the access handler's first call */
    REQUEST_BODY,      /* libmicrohttpd reads its body: the call that says there is no more */
    REQUEST_CALLED,    /* the dispatcher, in a call of the access handler: the end of that call */
    REQUEST_LINGERS,   /* an operation or the audit file, and libmicrohttpd asks in each of its
                          rounds:   the answer, LINGER_MS, the client's leaving */
    REQUEST_SUSPENDED, /* the same, and libmicrohttpd has put the connection aside: the answer */
    REQUEST_ALONE,     /* the same, and nobody waits for it any more: the last of what is awaited */
    REQUEST_READY,     /* libmicrohttpd, which gets the answer with its next call */
    REQUEST_QUEUED,    /* libmicrohttpd sends the answer: it is sent, or the client left */
    REQUEST_STATES
};

struct answer_header {
    const char *name;
    const char *value;
};

enum { MOST_ANSWER_HEADERS = 8 };

/* A limit that the request was counted against (throttle.h). */
enum rate_kind {
    RATE_TENANT,
    RATE_USERS,
    RATE_USER,
    RATE_LOGINS,
    RATE_KEYS,
    RATE_TOKENS,
    RATE_ENDS
};
struct counted {
    enum rate_kind kind;
    int64_t window_s; /* in which as many as verdict.limit are taken, evenly */
    struct rate_verdict verdict;
};

enum { MOST_COUNTED = 3 };

struct request_private {
    struct request *request; /* whose private part this is */
    struct request *next;    /* in the pool, among the ended, or waiting for the audit queue */
    enum request_state state;
    struct client *client;
    struct request_config *snapshot;
    struct headers headers;
    struct framing framing;
    size_t body_room; /* bytes into which parts of the body can be read (header_room.h) */
    size_t room;      /* bytes that the head of the answer has for certain (header_room.h) */

    /* A refusal that is answered once the body has been swallowed. */
    enum err refusal;
    struct text refusal_detail;
    struct text allowed; /* 405, preflight: the methods that the path takes */

    const char *known_origin; /* of the page that calls, if browser.origins has it, else NULL */

    struct counted counted[MOST_COUNTED];
    size_t counted_count;
    bool tenant_counted;

    struct buffer received;        /* the body of the request */
    struct buffer answer;          /* the body of the answer */
    struct MHD_Response *response; /* once libmicrohttpd has it too */
    struct answer_header extra[MOST_ANSWER_HEADERS];
    size_t extra_count;
    const char *content_type;
    unsigned status;
    bool no_store;
    bool close;   /* the connection ends with this answer */
    bool by_hand; /* the answer was sent past libmicrohttpd (raw_response.h) */

    unsigned awaited; /* callbacks that will come: the operation's, the audit line's */
    int64_t lingers_since_ms;
    finish_fn *finish, *fail; /* of the operation, by its outcome */
    struct commit_ticket ticket;
    int64_t audit_deadline_ms;
};

/* A request from the worker's pool, all fields fresh but for the memory it kept. */
struct request *request_take(struct worker *worker);
/* May a request go from one state to another? */
bool request_may_become(enum request_state from, enum request_state to);
/* Changes the state, and with it what depends on it: the phase and deadline of the connection, and
 * how many requests of the worker are in which state. The step must be one that may be. */
void request_set_state(struct request *request, enum request_state state);
/* Has it an answer, on its way or not? */
bool request_is_answered(const struct request *request);
/* A callback will come for the request, and so its memory stays; and the callback has come. */
void request_await(struct request *request);
void request_awaited(struct request *request);
/* The client has waited for too long: a request that has no answer gets 500, and goes on record so.
 * What its operation comes to in the end is logged. */
void request_give_up(struct request *request);
/* libmicrohttpd is done with a request. If nothing is awaited it is wiped and given back to the
 * pool, else it goes on alone. */
void request_leave(struct request *request);
/* Gives those back that have ended. */
void request_collect(struct worker *worker);
/* Frees requests that were not needed since it was last called; call it now and then. */
void request_pool_shrink(struct worker *worker);
/* Frees the pool. */
void request_pool_free(struct worker *worker);
/* Answers with a body of another type than JSON, or without one. */
MUST_CHECK enum handled response_answer_as(struct request *request, unsigned status,
                                           const char *content_type);
