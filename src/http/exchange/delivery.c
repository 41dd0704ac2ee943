/* The headers of an answer, and the ways it leaves: at once, or after a wait. */
#include "delivery.h"

#include <assert.h>

#include "http/access/cors.h"
#include "http/access/throttle.h"
#include "http/server/worker.h"
#include "problem.h"
#include "raw_response.h"

/* libmicrohttpd refuses an empty value; blanks around values do not count (RFC 9110, section
 * 5.6.3). */
static void put_header(struct MHD_Response *response, const struct answer_header *header)
{
    const char *value = header->value[0] != '\0' ? header->value : " ";
    enum MHD_Result added = MHD_add_response_header(response, header->name, value);
    assert(added == MHD_YES);
    (void)added;
}

static void add_answer_headers(struct MHD_Response *response, const struct request *request)
{
    const struct request_private *private = request->private;
    if (private->content_type != NULL)
        MHD_add_response_header(response, "Content-Type", private->content_type);
    MHD_add_response_header(response, "X-Request-Id", request->id.data);
    if (private->no_store)
        MHD_add_response_header(response, "Cache-Control", "no-store");
    for (size_t i = 0; i < private->extra_count; i++)
        put_header(response, &private->extra[i]);
    throttle_add_headers(response, request);
    cors_add_headers(response, request);
    if (private->close || request->worker->draining ||
        https_is_replaced(private->client->https, request->worker->https))
        MHD_add_response_header(response, "Connection", "close");
}

/* The body stays in the request, which exists until the answer is sent, or for ever. */
static bool make_response(struct request *request)
{
    assert(request->private->response == NULL && request->private->status != 0);
    struct request_private *private = request->private;
    struct text body = request_answer_body(request);
    private->response =
        MHD_create_response_from_buffer(body.length, (char *)body.data, MHD_RESPMEM_PERSISTENT);
    if (private->response == NULL)
        return false;
    add_answer_headers(private->response, request);
    return true;
}

enum MHD_Result delivery_queue(struct request *request)
{
    struct request_private *private = request->private;
    if (!make_response(request))
        return MHD_NO;
    request_set_state(request, REQUEST_QUEUED);
    if (raw_response_headers_size(request) > private->room)
        return raw_response_send(request);
    return MHD_queue_response(request->connection, private->status, private->response);
}

void delivery_refuse(struct request *request, enum err err, struct text detail)
{
    assert(request->private->state == REQUEST_HEADERS);
    request->private->close = true;
    problem_write(request, err, detail, (struct text){0});
    if (make_response(request))
        (void)raw_response_send(request);
}

void delivery_release(struct request *request)
{
    enum request_state state = request->private->state;
    assert(request_is_answered(request));
    if (state != REQUEST_ALONE)
        request_set_state(request, REQUEST_READY);
    if (state == REQUEST_POLLED || state == REQUEST_SUSPENDED)
        request->worker->daemon_due = true;
    if (state == REQUEST_POLLED)
        delivery_queue(request); /* libmicrohttpd may find the client gone, and leave it */
    else if (state == REQUEST_SUSPENDED)
        MHD_resume_connection(request->connection);
    request_awaited(request);
}
