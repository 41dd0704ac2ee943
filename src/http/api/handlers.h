/* The handlers that the rows of tbl/routes.h name. */
#pragma once

struct operation;
struct request;

/* The outcome of a request. Handlers return one of the last two: who forgets to answer does not
 * compile, or fails the dispatcher's assert. Checks that handlers make return one of the first two,
 * so `if (check() || another_check()) return ANSWERED;` goes on where nothing stands against it. */
enum handled {
    GO_ON,    /* nobody has answered yet */
    ANSWERED, /* response_answer() or response_fail() was called */
    PENDING   /* an operation was begun, whose end answers, or has answered */
};

#define ROUTE(plane, method, path, handler, query, access, scope, body, rate, ends, user_needs, \
              own_key_needs, event)                                                             \
    enum handled api_##handler(struct request *request);
#include "tbl/routes.h"

/* Endings that calls of several files share (finish_fn): a login, failed or not, ... */
enum handled api_finish_login(struct request *request, struct operation *operation);
/* ... and a struct end_sessions that began with a token: if its session is over, so is the cookie
 * that it came in. */
enum handled api_finish_own_ended(struct request *request, struct operation *operation);
