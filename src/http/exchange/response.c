/* How an answer is completed: written, put on record, and then released. */
#include "response.h"

#include <assert.h>

#include "access_log.h"
#include "etag.h"
#include "log.h"
#include "metrics.h"
#include "problem.h"

/* Another version of the daemon has other documents: they are asked for again within minutes. */
#define DOCUMENT_CACHING "public, max-age=300"

static enum handled answer_now(struct request *request, unsigned status, const char *content_type,
                               bool no_store)
{
    struct request_private *private = request->private;
    assert(!request_is_answered(request) && status != 0);
    request_await(request);
    private->status = status;
    private->content_type = content_type;
    private->no_store = no_store;
    access_log_record(request);
    return ANSWERED;
}

enum handled response_answer(struct request *request, unsigned status, bool no_store)
{
    return answer_now(request, status, "application/json", no_store);
}

/* libmicrohttpd sends a 304 without the body but with its length, as RFC 9110 section 8.6 allows.
 */
enum handled response_answer_tagged(struct request *request, struct text body,
                                    const char etag[ETAG_LENGTH])
{
    assert(request_body(request)->length == 0);
    bool known = text_equal(text_of(request->route->method), TEXT("GET")) && /* HEAD, too */
                 etag_is_known(&request->private->if_none_match, etag);
    request_header(request, "ETag", (struct text){etag, ETAG_LENGTH});
    buffer_add_text(request_body(request), body);
    return known ? answer_now(request, MHD_HTTP_NOT_MODIFIED, NULL, true)
                 : response_answer(request, MHD_HTTP_OK, true);
}

enum handled response_answer_document(struct request *request, struct text document,
                                      const char etag[ETAG_LENGTH])
{
    struct request_private *private = request->private;
    bool known = etag_is_known(&private->if_none_match, etag);
    assert(private->document.data == NULL);
    request_header(request, "ETag", (struct text){etag, ETAG_LENGTH});
    request_header(request, "Cache-Control", TEXT(DOCUMENT_CACHING));
    private->document = document;
    return known ? answer_now(request, MHD_HTTP_NOT_MODIFIED, NULL, false)
                 : response_answer(request, MHD_HTTP_OK, false);
}

enum handled response_answer_as(struct request *request, unsigned status, const char *content_type)
{
    return answer_now(request, status, content_type, false);
}

enum handled response_fail_with(struct request *request, enum err err, struct text detail,
                                struct text members)
{
    problem_write(request, err, detail, members);
    if (request->audit.reason.data == NULL)
        request->audit.reason = text_of(err_code(err));
    request->audit.failed = true;
    return answer_now(request, request->private->status, request->private->content_type, true);
}

enum handled response_fail(struct request *request, enum err err, struct text detail)
{
    return response_fail_with(request, err, detail, (struct text){0});
}

void response_give_up(struct request *request)
{
    const struct operation *operation = request->operation;
    if (request_is_answered(request))
        return; /* its audit line is awaited */
    assert(operation != NULL);
    request->audit.tenant = operation->facts.tenant;
    request->audit.user_id = operation->facts.user_id;
    request->audit.session_id = operation->facts.session_id;
    metrics_add(METRIC_REQUESTS_OVERDUE, 1);
    log_error("request_overdue", "request_id=%.*s route=\"%s %s\"", (int)request->id.length,
              request->id.data, request->route->method, request->route->path);
    enum handled handled = response_fail(request, ERR_INTERNAL, (struct text){0});
    assert(handled == ANSWERED);
}
