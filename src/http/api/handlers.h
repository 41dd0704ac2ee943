/* The handlers that the rows of tbl/routes.h name. */
#pragma once

#include "http/exchange/routes.h"

#define DOOR(door, errors, plane, method, path, handler, query, access, scope, body, rate, ends, \
             user_needs, own_key_needs, event)                                                   \
    handler_fn door##_##handler;
#define ROUTE(plane, method, path, handler, query, access, scope, body, rate, ends, user_needs, \
              own_key_needs, event)                                                             \
    DOOR(api, PROBLEM, plane, method, path, handler, query, access, scope, body, rate, ends,    \
         user_needs, own_key_needs, event)
#include "tbl/routes.h"

/* Endings that calls of several files share (finish_fn): of a login, failed or not, ... */
enum handled api_finish_login(struct request *request, struct operation *operation);
/* ... and of a struct end_sessions that began with a token: if its session is over, the cookie that
 * the token came in is deleted. */
enum handled api_finish_own_ended(struct request *request, struct operation *operation);
