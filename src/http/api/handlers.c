/* The handlers, in the order of the rows. */
#include "handlers.h"

#include "http.h"

const struct http_handlers http_handlers = {.of = {
#define ROUTE(plane, method, path, handler, query, access, scope, body, rate, ends, user_needs, \
              own_key_needs, event)                                                             \
    api_##handler,
#include "tbl/routes.h"
                                            }};
