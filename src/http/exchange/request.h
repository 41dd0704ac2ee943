/* A request from its first byte to its completed answer, as handlers see it.
 *
 * Life: created when the request line is read (URI log callback), guarded and routed when the
 * headers are complete, authenticated, its body collected, then handed to the route's handler,
 * once. The handler answers, or begins an operation whose end answers. The audit line is
 * made when the answer is, in one place; for durable events the answer waits for it. All texts lie
 * in the request's own memory: if the client leaves meanwhile, the operation comes to its end and
 * is put on record without it. The memory stays until the loop's turn in which the request ended is
 * over. */
#pragma once

#include <microhttpd.h>

#include "audit.h"
#include "conf.h"
#include "err.h"
#include "json.h"
#include "memory.h"
#include "session.h"
#include "http/api/handlers.h"
#include "routes.h"

enum caller_kind { CALLER_NOBODY, CALLER_SERVICE, CALLER_USER };

/* Who calls, established by the dispatcher before the handler runs, as the route's row demands. */
struct caller {
    enum caller_kind kind;
    const struct service_key *key; /* CALLER_SERVICE */
    struct text operator_name;     /* X-Operator, checked; services only */
    struct text
        token;      /* presented sa_ token: Authorization of a user, X-Session-Token of a service */
    bool by_cookie; /* the token came in the session cookie */
    bool wrong_key; /* what was presented as a service key is none */
    struct text address; /* the user's own address as far as the connection tells (trusted proxies
                            unwrapped) */
    struct text peer;    /* the connection's address; "unix" for a Unix socket */
    struct text user_agent;
};

struct request {
    struct worker *worker;
    struct MHD_Connection *connection;
    const struct route *route; /* NULL until routed */
    struct text method;
    struct text path;          /* raw, without the query */
    struct text query;         /* raw, behind '?' */
    struct text parameters[2]; /* {…} segments of the route, percent-decoded and checked UTF-8 */
    struct text body;          /* complete when the handler runs */
    struct conf *conf;         /* a reference, held for the life of the request */
    struct arena arena;
    struct caller caller;
    int64_t wall_ms; /* when the headers were complete */
    int64_t begun_ns;
    int64_t deadline_ms; /* for store calls: redis_timeout after the start, or after the body */
    struct text id;      /* X-Request-Id, echoed or made */
    struct audit_record
        audit;       /* handlers fill what they know; the rest is filled by the dispatcher */
    void *operation; /* the handler's operation, in the arena */

    /* The rest belongs to request.c. */
    struct request_private *private;
};

/* A service with a key of one tenant. */
bool request_caller_is_bound(const struct caller *caller);

/* Answers an operation that came to its end; its facts are in the audit record. */
typedef enum handled finish_fn(struct request *request, struct operation *operation);
/* Sets what operations have from their caller: context, arena, conf, times, actor, demand. When it
 * is done `finish` answers, or response_fail_operation() if it failed. `operation` is the first
 * member of an object that the handler allocated in the arena. The handler then begins it and
 * returns PENDING. */
void request_begin(struct request *request, struct operation *operation, finish_fn *finish);
/* The same, but `finish` answers failures, too. */
void request_begin_any(struct request *request, struct operation *operation, finish_fn *finish);

/* Where the handler writes the answer's body: a buffer of the request, initially empty. */
struct buffer *request_body(struct request *request);
/* Adds a header to the answer; name is a literal, value is copied. Values with control bytes are
 * refused by assert. */
void request_header(struct request *request, const char *name, struct text value);
/* These answer, once a request, and return ANSWERED for their caller to return. With what is in
 * request_body(), as application/json; tokens in the answer: pass no_store. */
MUST_CHECK enum handled response_answer(struct request *request, unsigned status, bool no_store);
/* With 200 and `body`, as response_answer() does with no_store, and its tag; a GET whose
 * If-None-Match has this tag with 304 and the tag alone. request_condition() was asked before. */
MUST_CHECK enum handled response_answer_tagged(struct request *request, struct text body,
                                               const char etag[ETAG_LENGTH]);
/* With problem+json: type, title, status, detail, code, request_id. Adds WWW-Authenticate for 401,
 * Retry-After where the row has one. `detail` may be absent. */
MUST_CHECK enum handled response_fail(struct request *request, enum err err, struct text detail);
/* The same with `members` behind these, JSON members without braces. */
MUST_CHECK enum handled response_fail_with(struct request *request, enum err err,
                                           struct text detail, struct text members);
/* response_fail() for an operation's outcome; adds `reason`, `ended_at`, `actor` members if known.
 */
MUST_CHECK enum handled response_fail_operation(struct request *request,
                                                struct operation *operation);

/* Value of a query parameter, percent-decoded in the arena; absent if it is not there. */
struct text request_query(struct request *request, const char *name);

/* --- checks: GO_ON, or ANSWERED with the refusal that is named here --- */

/* Reads the body by rows (json_read): 400. Demands application/json if there is a body. */
MUST_CHECK enum handled request_read_body(struct request *request, const struct json_field *fields,
                                          size_t count, void *target);
/* Demands this Content-Type, in UTF-8 and uncompressed: 415, to a PATCH with Accept-Patch. */
MUST_CHECK enum handled request_demand_type(struct request *request, const char *type);
/* The media type of merge patches (RFC 7396), the one that PATCH takes here. */
#define MERGE_PATCH "application/merge-patch+json"
/* If-Match, for etag_holds(), or absent; if it or If-None-Match is none of the kind: 400. */
MUST_CHECK enum handled request_condition(struct request *request, struct text *ret);
/* The tenant a service call is about: the key's own, or for "*" keys the named one. Foreign: 403;
 * malformed or, for a "*" key, absent: 400; over its rate: 429. */
MUST_CHECK enum handled request_tenant(struct request *request, struct text named,
                                       struct text *ret);
