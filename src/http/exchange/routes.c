/* The rows of tbl/routes.h, in their order. */
#include "routes.h"

enum { SCOPE_NONE = 0 };

const struct route routes[] = {
#define DOOR(door_, errors_, plane_, method_, path_, handler_, query_, access_, scope_, body_, \
             rate_, ends_, user_needs_, own_key_needs_, event_)                                \
    {.plane = PLANE_##plane_,                                                                  \
     .method = (method_),                                                                      \
     .path = (path_),                                                                          \
     .query = (query_),                                                                        \
     .access = ACCESS_##access_,                                                               \
     .errors = ERRORS_##errors_,                                                               \
     .scope = SCOPE_##scope_,                                                                  \
     .body_limit = (body_),                                                                    \
     .rate = RATED_##rate_,                                                                    \
     .ends = ENDS_##ends_,                                                                     \
     .user_needs = PERMISSION_##user_needs_,                                                   \
     .own_key_needs = PERMISSION_##own_key_needs_,                                             \
     .event = AUDIT_##event_},
#define ROUTE(plane, method, path, handler, query, access, scope, body, rate, ends, user_needs, \
              own_key_needs, event)                                                             \
    DOOR(api, PROBLEM, plane, method, path, handler, query, access, scope, body, rate, ends,    \
         user_needs, own_key_needs, event)
#include "tbl/routes.h"
};

const size_t route_count = sizeof(routes) / sizeof(routes[0]);
