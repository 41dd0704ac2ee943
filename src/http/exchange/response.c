/* Bodies of problems, headers, and the ways an answer leaves: at once, or after a wait. */
#include "response.h"

#include <assert.h>
#include <stdio.h>

#include "raw_response.h"
#include "http/access/cors.h"
#include "dispatch.h"
#include "access_log.h"
#include "response_objects.h"
#include "http/access/throttle.h"
#include "http/server/worker.h"

#define REALM "Bearer realm=\"sessiond\""

/* RFC 6750, section 3: what stands in WWW-Authenticate; NULL for answers without it. */
static const char *challenge_of(enum err err)
{
    if (err == ERR_KEY_MISSING)
        return REALM;
    if (err == ERR_SCOPE_MISSING)
        return REALM ", error=\"insufficient_scope\"";
    if (err == ERR_STEP_UP_REQUIRED) /* RFC 9470, section 3 */
        return REALM ", error=\"insufficient_user_authentication\", "
                     "error_description=\"A second verification is required\"";
    return err_status(err) == MHD_HTTP_UNAUTHORIZED ? REALM ", error=\"invalid_token\"" : NULL;
}

static void write_problem(struct request *request, enum err err, struct text detail,
                          struct text members)
{
    struct buffer *out = &request->private->answer;
    struct json_writer writer = {.out = out};
    json_open_object(&writer);
    buffer_add_literal(out, "\"type\":\"/problems/");
    buffer_add_text(out, text_of(err_code(err)));
    buffer_add_char(out, '"');
    writer.comma = true;
    json_member_string(&writer, "title", text_of(err_title(err)));
    json_member_int(&writer, "status", err_status(err));
    json_member_string(&writer, "detail", detail.data == NULL ? text_of(err_title(err)) : detail);
    json_member_string(&writer, "code", text_of(err_code(err)));
    json_member_string(&writer, "request_id", request->id);
    json_raw(&writer, members);
    json_close_object(&writer);
}

/* Retry-After; 0: none. */
static unsigned retry_after_s(const struct request *request, enum err err)
{
    const struct operation *operation = request->operation;
    if (err == ERR_RATE_LIMITED)
        return throttle_retry_after_s(request);
    if (operation != NULL && operation->out.err == err && operation->out.retry_after_s > 0)
        return (unsigned)operation->out.retry_after_s;
    return err_retry_after(err);
}

void response_problem(struct request *request, enum err err, struct text detail,
                      struct text members)
{
    struct request_private *private = request->private;
    assert(err > ERR_OK && err < ERR_COUNT && request->id.data != NULL);
    if (private->answer.length > 0)
        crypto_wipe(private->answer.data, private->answer.length);
    private->answer.length = 0;
    private->extra_count = 0;
    private->status = err_status(err);
    private->content_type = "application/problem+json";
    private->no_store = true;
    write_problem(request, err, detail, members);

    const char *challenge = challenge_of(err);
    if (challenge != NULL)
        request_header(request, "WWW-Authenticate", text_of(challenge));
    unsigned seconds = retry_after_s(request, err);
    if (seconds > 0)
        request_header(request, "Retry-After", arena_format(&request->arena, "%u", seconds));
    if (err == ERR_METHOD_NOT_ALLOWED)
        request_header(request, "Allow", private->allowed);
    /* RFC 5789, section 2.2. */
    if (err == ERR_MEDIA_TYPE && text_equal(request->method, TEXT("PATCH")))
        request_header(request, "Accept-Patch", TEXT(MERGE_PATCH));
}

void response_release(struct request *request)
{
    enum request_state state = request->private->state;
    assert(request_is_answered(request));
    if (state != REQUEST_ALONE)
        request_set_state(request, REQUEST_READY);
    if (state == REQUEST_LINGERS || state == REQUEST_SUSPENDED)
        request->worker->daemon_due = true;
    if (state == REQUEST_LINGERS)
        response_queue(request); /* libmicrohttpd may find the client gone, and leave it */
    else if (state == REQUEST_SUSPENDED)
        MHD_resume_connection(request->connection);
    request_awaited(request);
}

static void add_headers(struct MHD_Response *response, const struct request *request)
{
    const struct request_private *private = request->private;
    if (private->content_type != NULL)
        MHD_add_response_header(response, "Content-Type", private->content_type);
    MHD_add_response_header(response, "X-Request-Id", request->id.data);
    if (private->no_store)
        MHD_add_response_header(response, "Cache-Control", "no-store");
    for (size_t i = 0; i < private->extra_count; i++)
        MHD_add_response_header(response, private->extra[i].name, private->extra[i].value);
    throttle_add_headers(response, request);
    cors_add_headers(response, request);
    if (private->close || request->worker->draining)
        MHD_add_response_header(response, "Connection", "close");
}

/* The body stays in the request, which lives until the answer is through. */
static bool make_response(struct request *request)
{
    assert(request->private->response == NULL && request->private->status != 0);
    struct request_private *private = request->private;
    private->response = MHD_create_response_from_buffer(
        private->answer.length, private->answer.data, MHD_RESPMEM_PERSISTENT);
    if (private->response == NULL)
        return false;
    add_headers(private->response, request);
    return true;
}

void response_past_library(struct request *request, enum err err, struct text detail)
{
    assert(request->private->state == REQUEST_HEAD);
    request->private->close = true;
    response_problem(request, err, detail, (struct text){0});
    if (make_response(request))
        (void)raw_response_send(request);
}

enum MHD_Result response_queue(struct request *request)
{
    struct request_private *private = request->private;
    if (!make_response(request))
        return MHD_NO;
    request_set_state(request, REQUEST_QUEUED);
    if (raw_response_head_size(request) > private->room)
        return raw_response_send(request);
    return MHD_queue_response(request->connection, private->status, private->response);
}

/* libmicrohttpd has copied the headers, and frees its copy as it is: not so a cookie. */
void response_forget(struct request *request)
{
    struct request_private *private = request->private;
    if (private->response == NULL)
        return;
    if (private->extra_count > 0) {
        const char *cookie = MHD_get_response_header(private->response, "Set-Cookie");
        if (cookie != NULL)
            guard_wipe(text_of(cookie));
    }
    MHD_destroy_response(private->response);
    private->response = NULL;
}

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

/* Of a 304 libmicrohttpd sends no body, but the length that it would have, which is what may stand
 * there (RFC 9110 section 8.6). */
enum handled response_answer_tagged(struct request *request, struct text body,
                                    const char etag[ETAG_LENGTH])
{
    struct text tags = request->private->headers.values[HEADER_IF_NONE_MATCH];
    assert(request_body(request)->length == 0);
    bool known = text_equal(text_of(request->route->method), TEXT("GET")) && /* HEAD, too */
                 etag_is_known(tags, etag);
    request_header(request, "ETag", (struct text){etag, ETAG_LENGTH});
    buffer_add_text(request_body(request), body);
    return known ? answer_now(request, MHD_HTTP_NOT_MODIFIED, NULL, true)
                 : response_answer(request, MHD_HTTP_OK, true);
}

enum handled response_answer_as(struct request *request, unsigned status, const char *content_type)
{
    return answer_now(request, status, content_type, false);
}

enum handled response_fail_with(struct request *request, enum err err, struct text detail,
                                struct text members)
{
    response_problem(request, err, detail, members);
    if (request->audit.reason.data == NULL)
        request->audit.reason = text_of(err_code(err));
    request->audit.failed = true;
    return answer_now(request, request->private->status, request->private->content_type, true);
}

enum handled response_fail(struct request *request, enum err err, struct text detail)
{
    return response_fail_with(request, err, detail, (struct text){0});
}

static struct text detail_of(const struct request *request, const struct operation *operation)
{
    if (operation->out.err == ERR_PRECONDITION_FAILED && operation->out.detail.data == NULL &&
        etag_has_weak(request->private->headers.values[HEADER_IF_MATCH]))
        return TEXT(
            "A weak entity tag (W/\"...\") in If-Match never holds: send the tag without W/");
    return operation->out.detail;
}

enum handled response_fail_operation(struct request *request, struct operation *operation)
{
    assert(operation->out.err != ERR_OK && request->operation == operation);
    SCOPED(buffer_free) struct buffer members = {0};
    struct json_writer writer = {.out = &members};
    if (operation->out.forged && throttle_note_forged_token(request, request->audit.source_ip))
        return ANSWERED;
    if (operation->out.reason.data != NULL)
        json_member_string(&writer, "reason", operation->out.reason);
    if (operation->out.ended_at_s != 0)
        json_member_int(&writer, "ended_at", operation->out.ended_at_s);
    if (operation->out.ended_actor.data != NULL)
        json_member_string(&writer, "actor", operation->out.ended_actor);
    api_write_challenge(&writer, request, operation);
    return response_fail_with(request, operation->out.err, detail_of(request, operation),
                              buffer_text(&members));
}
