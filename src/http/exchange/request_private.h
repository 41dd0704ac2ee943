/* The part of a request that handlers do not see, its states, and the pool of requests. */
#pragma once

#include "etag.h"
#include "guard.h"
#include "http/server/client.h"
#include "ratelimit.h"
#include "request.h"
#include "request_config.h"

/* The state of a request: the holder that it waits for, and the event that ends the state. Only
 * request_set_state() changes it. */
enum request_state {
    REQUEST_POOLED,    /* the pool, or soon (request_collect()): until it is used */
    REQUEST_HEADERS,   /* libmicrohttpd reads its headers: the access handler's first call */
    REQUEST_BODY,      /* libmicrohttpd reads its body: the call that says that it is complete */
    REQUEST_CALLED,    /* the dispatcher, in a call of the access handler: the end of that call */
    REQUEST_POLLED,    /* an operation or the audit file, and libmicrohttpd asks in each of its
                           rounds: the answer, POLLED_MS, the client's leaving */
    REQUEST_SUSPENDED, /* the same, and libmicrohttpd has put the connection aside: the answer */
    REQUEST_ALONE,     /* the same, and its client has left: the last awaited callback */
    REQUEST_READY,     /* libmicrohttpd, which gets the answer with its next call */
    REQUEST_QUEUED,    /* libmicrohttpd sends the answer: it is sent, or the client left */
    REQUEST_STATES
};

struct answer_header {
    const char *name;
    const char *value;
};

enum { MOST_ANSWER_HEADERS = 16 };

/* A limit that the request was counted against (throttle.h). */
enum rate_kind {
    RATE_TENANT,
    RATE_USERS,
    RATE_USER,
    RATE_LOGINS,
    RATE_KEYS,
    RATE_TOKENS,
    RATE_ENDS,
    RATE_AUTHZ
};
struct counted {
    enum rate_kind kind;
    int64_t window_s; /* in which verdict.limit calls are accepted, evenly */
    struct rate_verdict verdict;
};

enum { MOST_COUNTED = 3 };

struct request_private {
    struct request *request; /* that this is the private part of */
    struct request *next;    /* in the pool, among the ended, or waiting for the audit queue */
    enum request_state state;
    struct client *client;
    struct request_config *config;
    struct headers headers;
    struct framing framing;
    size_t body_room; /* bytes into which parts of the body can be read (header_room.h) */
    size_t room;      /* bytes that are certain for the headers of the answer (header_room.h) */

    /* A refusal, answered once the body has been read and dropped. */
    enum err refusal;
    struct text refusal_detail;
    struct text allowed; /* 405, preflight: the methods of the path */

    const char *known_origin; /* of the calling page, if browser.origins has it, else NULL */

    struct counted counted[MOST_COUNTED];
    size_t counted_count;
    bool tenant_counted;

    struct etag_list if_match, if_none_match; /* read by api_check_conditions() */

    struct buffer received;        /* the body of the request */
    struct buffer answer;          /* the body of the answer */
    struct text document;          /* if present, that body instead: a text of static storage */
    struct MHD_Response *response; /* once libmicrohttpd has it too */
    struct answer_header extra[MOST_ANSWER_HEADERS];
    size_t extra_count;
    const char *content_type;
    unsigned status;
    bool no_store;
    bool close;    /* the connection ends with this answer */
    bool sent_raw; /* the answer was sent without libmicrohttpd (raw_response.h) */

    unsigned awaited; /* callbacks that will come: the operation's, the audit line's */
    int64_t polled_since_ms;
    finish_fn *finish, *fail; /* of the operation, by its outcome */
    struct commit_ticket ticket;
    int64_t audit_deadline_ms;
};

/* Takes a request out of the worker's pool; all its fields are fresh, the memory it kept aside. */
struct request *request_take(struct worker *worker);
/* True if a request may go from one state to the other. */
bool request_may_become(enum request_state from, enum request_state to);
/* Changes the state, and with it the phase and deadline of the connection and the worker's count of
 * requests by state. Asserts that the step is allowed. */
void request_set_state(struct request *request, enum request_state state);
/* True if it has an answer, on its way or not. */
bool request_is_answered(const struct request *request);
/* The body that is sent: `document` if it is present, else `answer`. */
struct text request_answer_body(const struct request *request);
/* Announces a callback for the request, which keeps its memory until request_awaited(). */
void request_await(struct request *request);
/* The announced callback has come. */
void request_awaited(struct request *request);
/* libmicrohttpd is done with a request. If no callback is awaited it is wiped and returned to the
 * pool, else it goes on alone. */
void request_leave(struct request *request);
/* Returns the requests that have ended to the pool. */
void request_collect(struct worker *worker);
/* Frees requests that were not needed since its last call; call it now and then. */
void request_pool_shrink(struct worker *worker);
/* Frees the pool. */
void request_pool_free(struct worker *worker);
