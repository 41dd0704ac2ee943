/* The types of the route table: one row a call (tbl/routes.h). The dispatcher applies every column
 * once; the handlers are a table of their own, so that nothing here links to them. */
#pragma once

#include "audit.h"
#include "conf.h"
#include "http/server/listeners.h"
#include "session.h"

struct request;

enum access {
    ACCESS_PUBLIC, /* no credentials */
    ACCESS_TOKEN,  /* an access token: the user's own, or a service's X-Session-Token with the scope
                    */
    ACCESS_REFRESH, /* the refresh token in the body; credentials in the headers, if any, must be a
                       valid service key with the scope */
    ACCESS_SERVICE, /* a service key with the scope */
    ACCESS_SERVICE_TOKEN, /* the same, with the user's access token in X-Session-Token */
    ACCESS_CLIENT,        /* a service key with the scope, or as an OAuth client authenticates
                             (oauth_clients.h); credentials in the form are the handler's to check */
    ACCESS_HOLDER, /* the token in the form; credentials as for ACCESS_CLIENT, if any, must be a
                      valid service key with the scope */
    ACCESS_GATEWAY /* a user's token or cookie that a gateway hands on, or none: the handler judges
                      it by the gateway's settings. A repeated header is for it to judge, too */
};

/* The format of a call's errors. */
enum error_format {
    ERRORS_PROBLEM, /* problem+json (RFC 9457) */
    ERRORS_OAUTH    /* "error" and "error_description" (RFC 6749, section 5.2) */
};

/* The rate that a call counts against (throttle.h). */
enum rate_class {
    RATED_TENANT,    /* the tenant's, with the user's part of it */
    RATED_OPERATORS, /* the tenant's if its own key calls: the operator who changes its policy,
                        perhaps its rate, is not the tenant */
    RATED_ENDING, /* that of one session's tokens: an attacker must not be able to block the end of
                     a stolen session by flooding the tenant */
    RATED_AUTHZ,  /* the tenant's rate for gateways, counted by the handler */
    RATED_NOBODY  /* no caller is known */
};

/* The sessions that a call ends. */
enum ends {
    ENDS_NOTHING,
    ENDS_FOUND, /* those that its audit line names; in an outage also those that no node can name */
    ENDS_ALL    /* those that no node knows of, too */
};

struct route {
    const char *method;
    const char *path;
    const char *query;
    int64_t body_limit;
    enum plane plane;
    enum access access;
    enum error_format errors;
    unsigned scope; /* SCOPE_… bit */
    enum rate_class rate;
    enum ends ends;
    enum permission user_needs, own_key_needs;
    enum audit_event event;
};

extern const struct route routes[];
extern const size_t route_count;
enum { MOST_ROUTES = 64 }; /* with one for requests that no row is for */

/* The outcome of a step of a request. Handlers return one of the last two: a handler that forgets
 * to answer does not compile, or fails the dispatcher's assert. Checks return one of the first two,
 * so that `if (check() || another_check()) return ANSWERED;` goes on if both pass. */
enum handled {
    GO_ON,    /* no answer yet */
    ANSWERED, /* response_answer() or response_fail() was called */
    PENDING   /* an operation was begun; its end answers, or has answered */
};

typedef enum handled handler_fn(struct request *request);

/* The handlers of all rows, by the row's index. */
struct http_handlers {
    handler_fn *of[MOST_ROUTES];
};
