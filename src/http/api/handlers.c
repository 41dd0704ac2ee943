/* The handlers, in the order of the rows. */
#include "handlers.h"

#include "http.h"

const struct http_handlers http_handlers = {.of = {
#define DOOR(door, errors, plane, method, path, handler, query, access, scope, body, rate, ends, \
             user_needs, own_key_needs, event)                                                   \
    door##_##handler,
#define ROUTE(plane, method, path, handler, query, access, scope, body, rate, ends, user_needs, \
              own_key_needs, event)                                                             \
    DOOR(api, PROBLEM, plane, method, path, handler, query, access, scope, body, rate, ends,    \
         user_needs, own_key_needs, event)
#include "tbl/routes.h"
                                            }};
