/* The route table's types: one row a call (tbl/routes.h); the dispatcher applies all of it once. */
#pragma once

#include "audit.h"
#include "conf.h"
#include "http/api/handlers.h"
#include "session.h"

struct request;

enum access {
    ACCESS_PUBLIC, /* no credentials */
    ACCESS_TOKEN,  /* an access token: the user's own, or a service's X-Session-Token with the scope
                    */
    ACCESS_REFRESH, /* the refresh token in the body; credentials in the headers, if any, must be a
                       valid service key with the scope */
    ACCESS_SERVICE  /* a service key with the scope */
};

/* Which listener serves the route. Calls of the main one are on record (audit.h). */
enum plane { PLANE_MAIN, PLANE_OPS };

/* Whose rate a call counts against (throttle.h). */
enum rate_class {
    RATED_TENANT,    /* the tenant's, the user's part of it included */
    RATED_OPERATORS, /* the tenant's if its own key calls: who changes the tenant's policy, its rate
                        perhaps, is not the tenant */
    RATED_ENDING, /* that of one session's tokens: what was taken over must be ended, however busy
                     whoever took it keeps the tenant */
    RATED_NOBODY  /* no caller is known */
};

/* Which sessions a call ends. */
enum ends {
    ENDS_NOTHING,
    ENDS_FOUND, /* those that its audit line names; in an outage those that nobody could name */
    ENDS_ALL    /* those that no node knows of, too */
};

struct route {
    const char *method;
    const char *path;
    enum handled (*handle)(struct request *request);
    const char *query;
    int64_t body_limit;
    enum plane plane;
    enum access access;
    unsigned scope; /* SCOPE_… bit */
    enum rate_class rate;
    enum ends ends;
    enum permission user_needs, own_key_needs;
    enum audit_event event;
};

extern const struct route routes[];
extern const size_t route_count;
enum { MOST_ROUTES = 64 }; /* with one for what has no row */
