/* A request from its first byte to its completed answer, as handlers see it.
 *
 * Lifetime: libmicrohttpd's URI log callback creates it when the request line is read. It is
 * guarded and routed when its headers are complete, authenticated, its body is collected, and the
 * route's handler is called, once. The handler answers, or begins an operation whose end answers.
 * The audit line is made with the answer, in one place; for durable events the answer waits for it.
 * All texts lie in the request's own memory: if the client leaves, the operation still comes to its
 * end and is put on record. The memory is reused after the turn of the loop in which the request
 * ended. */
#pragma once

#include <microhttpd.h>

#include "audit.h"
#include "conf.h"
#include "err.h"
#include "json.h"
#include "memory.h"
#include "routes.h"
#include "session.h"

enum caller_kind { CALLER_NOBODY, CALLER_SERVICE, CALLER_USER };

/* The caller, as the dispatcher established it before the handler runs. */
struct caller {
    enum caller_kind kind;
    const struct service_key *key; /* CALLER_SERVICE */
    struct text operator_name;     /* X-Operator, checked; services only */
    struct text
        token;      /* presented sa_ token: Authorization of a user, X-Session-Token of a service */
    bool by_cookie; /* the token came in the session cookie */
    bool wrong_key; /* the service key that was presented does not exist */
    struct text address; /* the user's own address as far as the connection tells (trusted proxies
                            unwrapped) */
    struct text peer;    /* the connection's address; "unix" for a Unix socket */
    struct text user_agent;
};

/* Largest values that callers send, in bytes. */
#define FINGERPRINT_MAX 256
#define USER_AGENT_MAX  512
/* Bytes of a method that audit lines have. */
#define METHOD_MAX 32
/* The media type of merge patches (RFC 7396), the only one that PATCH takes here. */
#define MERGE_PATCH "application/merge-patch+json"

struct request {
    struct worker *worker;
    struct MHD_Connection *connection;
    const struct route *route; /* NULL until routed */
    struct text method;
    struct text path;  /* raw, without the query */
    struct text query; /* raw, after '?' */
    /* {…} segments of the route, percent-decoded and checked UTF-8. For gateways: the settings and
     * the path below, as they came. */
    struct text parameters[2];
    struct text body;  /* complete when the handler runs */
    struct conf *conf; /* a reference, held for the request's lifetime */
    struct arena arena;
    struct caller caller;
    int64_t wall_ms; /* when the headers were complete */
    int64_t begun_ns;
    int64_t deadline_ms; /* for store calls: redis_timeout after the start, or after the body */
    struct text id;      /* X-Request-Id, echoed or made */
    struct audit_record audit; /* handlers fill in their facts; the dispatcher fills in the rest */
    void *operation;           /* the handler's operation, in the arena */

    /* The rest belongs to src/http/exchange. */
    struct request_private *private;
};

/* True for a service with a key of one tenant. */
bool request_caller_is_bound(const struct caller *caller);

/* Answers an operation that came to its end; its facts are in the audit record. */
typedef enum handled finish_fn(struct request *request, struct operation *operation);

/* The answer's body, which the handler writes: a buffer of the request, initially empty. */
struct buffer *request_body(struct request *request);
/* Adds a header to the answer; name is a literal, value is copied. Asserts that the value has no
 * control bytes. */
void request_header(struct request *request, const char *name, struct text value);
/* Value of a query parameter, percent-decoded in the arena; absent if it is not there. */
struct text request_query(struct request *request, const char *name);
