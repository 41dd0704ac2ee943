/* Answers preflights, the question of a browser before a call (the Fetch standard, section 3.2). */
#include <assert.h>

#include "handlers.h"
#include "http/exchange/request_private.h"
#include "http/exchange/response.h"

/* Headers that pages may send besides those that the Fetch standard always allows. */
#define PAGE_HEADERS                                                                             \
    "Authorization, Content-Type, If-Match, If-None-Match, X-Device-Fingerprint, X-Request-Id, " \
    "X-Requested-With, baggage, sentry-trace, traceparent, tracestate"
/* Seconds for which a browser need not ask again; Chromium keeps it for at most two hours. */
#define PREFLIGHT_AGE "600"

/* Headers that pages may send: those known here, and those that the operator adds. */
static struct text request_headers(struct request *request)
{
    const struct conf_list *more = &request->conf->browser_headers;
    struct text all = TEXT(PAGE_HEADERS);
    for (size_t i = 0; i < more->count; i++)
        all = arena_format(&request->arena, "%s, %s", all.data, more->items[i]);
    return all;
}

enum handled api_preflight(struct request *request)
{
    struct text methods = request->private->allowed;
    assert(request->caller.kind == CALLER_NOBODY);
    if (methods.data == NULL) /* "OPTIONS *" is a ping */
        return response_answer_as(request, MHD_HTTP_NO_CONTENT, NULL);
    if (request->private->known_origin == NULL)
        return response_fail(request, ERR_ORIGIN_FORBIDDEN, (struct text){0});
    request_header(request, "Access-Control-Allow-Methods", methods);
    request_header(request, "Access-Control-Allow-Headers", request_headers(request));
    request_header(request, "Access-Control-Max-Age", TEXT(PREFLIGHT_AGE));
    return response_answer_as(request, MHD_HTTP_NO_CONTENT, NULL);
}
