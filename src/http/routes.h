/* The route table's types: one row a call; the dispatcher applies all of it once. */
#pragma once

#include "audit.h"
#include "conf.h"

struct request;

enum access {
    ACCESS_PUBLIC, /* no credentials */
    ACCESS_TOKEN,  /* an access token: the user's own, or a service's X-Session-Token with the scope
                    */
    ACCESS_REFRESH, /* the refresh token in the body; credentials in the headers, if any, must be a
                       valid service key with the scope */
    ACCESS_SERVICE  /* a service key with the scope */
};

/* Which listener serves the route. */
enum plane { PLANE_MAIN, PLANE_OPS };

struct route {
    enum plane plane;
    const char *method;
    const char *path; /* exact but for segments in braces, which match one non-empty segment */
    void (*handle)(struct request *request);
    const char *query; /* names that its query may have, blank-separated; NULL: any */
    enum access access;
    unsigned scope;     /* SCOPE_… bit a service needs */
    int64_t body_limit; /* 0: no body allowed; -1: server_body_limit */
    enum audit_event event;
    bool audited; /* false on the ops plane */
};

extern const struct route routes[];
extern const size_t route_count;
