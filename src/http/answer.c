/* Bodies of problems, headers, and the ways an answer leaves: at once, or after a wait. */
#include "answer.h"

#include <assert.h>
#include <stdio.h>

#include "cors.h"
#include "dispatch.h"
#include "ledger.h"
#include "objects.h"
#include "rates.h"
#include "worker.h"

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
        return rates_retry_after_s(request);
    if (operation != NULL && operation->err == err && operation->retry_after_s > 0)
        return (unsigned)operation->retry_after_s;
    return err_retry_after(err);
}

void answer_problem(struct request *request, enum err err, struct text detail, struct text members)
{
    struct request_private *private = request->private;
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

void answer_release(struct request *request)
{
    struct request_private *private = request->private;
    struct worker *worker = request->worker;
    assert(private->answered && !private->ready);
    private->ready = true;
    enum waiting waiting = private->waiting;
    private->waiting = WAITING_NOT;
    switch (waiting) {
    case WAITING_NOT:
        return; /* libmicrohttpd is calling and takes the answer when its call returns */
    case WAITING_LINGERS:
        worker->lingering--;
        worker->daemon_due = true;
        private->held = true; /* libmicrohttpd may find the client gone, and end it in this call */
        answer_queue(request);
        private->held = false;
        return;
    case WAITING_SUSPENDED:
        worker->daemon_due = true;
        MHD_resume_connection(request->connection);
        return;
    case WAITING_CLIENT_GONE:
        worker->without_client--;
        private->held = true;
        request_end(request);
        return;
    }
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
    rates_add_headers(response, request);
    cors_add_headers(response, request);
    if (private->close || request->worker->draining)
        MHD_add_response_header(response, "Connection", "close");
}

enum MHD_Result answer_queue(struct request *request)
{
    struct request_private *private = request->private;
    assert(private->ready);
    /* The body stays in the request, which lives until the answer is through. */
    struct MHD_Response *response = MHD_create_response_from_buffer(
        private->answer.length, private->answer.data, MHD_RESPMEM_PERSISTENT);
    if (response == NULL)
        return MHD_NO;
    add_headers(response, request);
    private->stage = STAGE_QUEUED;
    client_enter(private->client, CLIENT_WRITING, request->conf,
                 (int64_t)uv_now(&request->worker->loop));
    private->response = response;
    return MHD_queue_response(request->connection, private->status, response);
}

/* libmicrohttpd has copied the headers, and frees its copy as it is: not so a cookie. */
void answer_forget(struct request *request)
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

static void answer_now(struct request *request, unsigned status, const char *content_type,
                       bool no_store)
{
    struct request_private *private = request->private;
    assert(!private->answered);
    private->answered = true;
    private->status = status;
    private->content_type = content_type;
    private->no_store = no_store;
    ledger_record(request);
}

void request_answer(struct request *request, unsigned status, bool no_store)
{
    answer_now(request, status, "application/json", no_store);
}

/* Of a 304 libmicrohttpd sends no body, but the length that it would have, which is what may stand
 * there (RFC 9110 section 8.6). */
void request_answer_tagged(struct request *request, struct text body, const char etag[ETAG_LENGTH])
{
    struct text tags = request->private->headers.values[HEADER_IF_NONE_MATCH];
    bool known = text_equal(text_of(request->route->method), TEXT("GET")) && /* HEAD, too */
                 etag_is_known(tags, etag);
    request_header(request, "ETag", (struct text){etag, ETAG_LENGTH});
    buffer_add_text(request_body(request), body);
    if (known)
        answer_now(request, MHD_HTTP_NOT_MODIFIED, NULL, true);
    else
        request_answer(request, MHD_HTTP_OK, true);
}

void request_answer_as(struct request *request, unsigned status, const char *content_type)
{
    answer_now(request, status, content_type, false);
}

void request_fail(struct request *request, enum err err, struct text detail, struct text members)
{
    answer_problem(request, err, detail, members);
    if (request->audit.reason.data == NULL)
        request->audit.reason = text_of(err_code(err));
    request->audit.failed = true;
    answer_now(request, request->private->status, request->private->content_type, true);
}

void request_fail_operation(struct request *request, const struct operation *operation)
{
    struct buffer members = {0};
    struct json_writer writer = {.out = &members};
    request_note(request, operation);
    if (operation->forged && !rates_note_forged_token(request, request->audit.source_ip))
        return;
    if (operation->reason.data != NULL)
        json_member_string(&writer, "reason", operation->reason);
    if (operation->ended_at_s != 0)
        json_member_int(&writer, "ended_at", operation->ended_at_s);
    if (operation->ended_actor.data != NULL)
        json_member_string(&writer, "actor", operation->ended_actor);
    write_challenge(&writer, request, operation);
    request_fail(request, operation->err, operation->detail, buffer_text(&members));
    buffer_free(&members);
}
