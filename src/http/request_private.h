/* The part of a request that handlers do not see, and the pool that requests come from. */
#pragma once

#include "client.h"
#include "guard.h"
#include "ratelimit.h"
#include "request.h"
#include "snapshot.h"

enum stage {
    STAGE_LINE,    /* the request line was read */
    STAGE_BODY,    /* headers are decided on; the body comes in */
    STAGE_RUNNING, /* the handler was called */
    STAGE_QUEUED   /* libmicrohttpd has the answer */
};

/* How a request waits for its answer. Suspending a connection and resuming it costs three system
 * calls, so it lingers first: libmicrohttpd then calls again in each of its rounds. Only what takes
 * long is suspended. The client of a lingering request may leave; the request then goes on without
 * it. */
enum waiting { WAITING_NOT, WAITING_LINGERS, WAITING_SUSPENDED, WAITING_CLIENT_GONE };

struct answer_header {
    const char *name;
    const char *value;
};

enum { MOST_ANSWER_HEADERS = 8 };

/* A limit that the request was counted against (rates.h). */
enum rate_kind { RATE_TENANT, RATE_USERS, RATE_USER, RATE_LOGINS, RATE_KEYS, RATE_TOKENS };
struct counted {
    enum rate_kind kind;
    int64_t window_s; /* in which as many as verdict.limit are taken, evenly */
    struct rate_verdict verdict;
};

enum { MOST_COUNTED = 3 };

struct request_private {
    struct request *request; /* whose private part this is */
    struct request *next;    /* in the pool, among the ended, or waiting for the audit queue */
    struct client *client;
    struct snapshot *snapshot;
    struct headers headers;
    struct framing framing;
    enum stage stage;

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
    bool close; /* the connection ends with this answer */

    bool answered; /* request_answer or request_fail was called */
    bool ready;    /* and the answer may leave */
    bool held;     /* whoever answers still looks at the request */
    enum waiting waiting;
    int64_t waiting_since_ms;

    struct audit_ticket ticket;
    int64_t audit_deadline_ms;
};

/* A request from the worker's pool, all fields fresh but for the memory it kept. */
struct request *request_take(struct worker *worker);
/* Ends a request: it is wiped and given back to the pool, at the end of the loop's turn if it is
 * held. */
void request_end(struct request *request);
/* Gives those back that have ended. */
void request_collect(struct worker *worker);
/* Frees the pool. */
void request_pool_free(struct request *pool);
/* Answers with a body of another type than JSON. */
void request_answer_as(struct request *request, unsigned status, const char *content_type);
