/* What is decided about a request before its handler runs, and how it waits for its answer. */
#include "dispatch.h"

#include <assert.h>
#include <endian.h>
#include <inttypes.h>
#include <string.h>

#include "answer.h"
#include "callers.h"
#include "clock.h"
#include "cors.h"
#include "ledger.h"
#include "match.h"
#include "metrics.h"
#include "rates.h"

static int64_t loop_now(const struct request *request)
{
    return (int64_t)uv_now(&request->worker->loop);
}

static void enter_phase(struct request *request, enum client_phase phase)
{
    client_enter(request->private->client, phase, request->conf, loop_now(request));
}

void *dispatch_line(void *user, const char *target, struct MHD_Connection *connection)
{
    struct request *request = request_take(user);
    request->begun_ns = clock_monotonic_ns();
    request->connection = connection;
    request->private->client =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    /* libmicrohttpd is about to cut the query to pieces: it is kept as it came. */
    const char *query = target == NULL ? NULL : strchr(target, '?');
    if (query != NULL)
        request->query = arena_copy(&request->arena, text_of(query + 1));
    enter_phase(request, CLIENT_HEADERS);
    return request;
}

static enum MHD_Result take_header(void *user, enum MHD_ValueKind kind, const char *name,
                                   size_t name_length, const char *value, size_t value_length)
{
    (void)kind;
    struct headers *headers = user;
    const struct text named = {name, name_length}, valued = {value, value_length};
    return guard_place(headers, named, valued) && guard_header(headers, named, valued) ? MHD_YES
                                                                                       : MHD_NO;
}

/* libmicrohttpd has taken the Cookie header to pieces in a copy of its own, which nobody reads. */
static enum MHD_Result wipe_cookie(void *user, enum MHD_ValueKind kind, const char *name,
                                   size_t name_length, const char *value, size_t value_length)
{
    (void)user, (void)kind, (void)name, (void)name_length;
    guard_wipe((struct text){value, value_length});
    return MHD_YES;
}

/* A fault is kept in the headers. The method is the first thing in the head. */
static void take_headers(struct request *request, const char *method)
{
    struct headers *headers = &request->private->headers;
    size_t length =
        MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE)
            ->header_size;
    MHD_get_connection_values_n(request->connection, MHD_HEADER_KIND, take_header, headers);
    (void)guard_end(headers, (struct text){method, length});
    if (headers->values[HEADER_COOKIE].data)
        MHD_get_connection_values_n(request->connection, MHD_COOKIE_KIND, wipe_cookie, NULL);
}

/* In absolute form the target says what host it is for, whatever Host says (RFC 9112, section
 * 3.2.2). A host with bytes that may not stand there leaves the target as it is, to be refused. */
static void take_target(struct request *request, const char *target)
{
    struct text authority, path = match_path(text_of(target), &authority);
    struct text *host = &request->private->headers.values[HEADER_HOST];
    if (!guard_target(authority))
        path = text_of(target);
    else if (authority.data != NULL && host->data != NULL)
        *host = arena_copy(&request->arena, authority);
    request->path = arena_copy(&request->arena, path);
}

/* 32 hexadecimal digits: random for this worker, then counted. Unique, and no secret. */
static struct text make_request_id(struct request *request)
{
    struct worker *worker = request->worker;
    uint64_t parts[2] = {worker->id_prefix, htobe64(++worker->id_count)};
    char *id = arena_alloc(&request->arena, 2 * sizeof(parts) + 1);
    text_to_hex(id, parts, sizeof(parts));
    id[2 * sizeof(parts)] = '\0';
    return (struct text){id, 2 * sizeof(parts)};
}

static void identify(struct request *request)
{
    const struct headers *headers = &request->private->headers;
    struct text presented = headers->values[HEADER_REQUEST_ID];
    request->id = guard_request_id(presented) ? arena_copy(&request->arena, presented)
                                              : make_request_id(request);
    if (headers->values[HEADER_TRACEPARENT].data != NULL) {
        guard_traceparent(headers->values[HEADER_TRACEPARENT], &request->audit.trace_id,
                          &request->audit.span_id);
    }
}

static enum err refuse(struct request *request, enum err err, const char *detail)
{
    request->private->refusal_detail = text_of(detail);
    return err;
}

static enum err check_form(struct request *request, const char *version)
{
    struct request_private *private = request->private;
    bool http_1_1 = strcmp(version, MHD_HTTP_VERSION_1_1) == 0;
    bool framed = guard_framing(&private->headers, http_1_1, &private->framing);
    if (framed && guard_target(request->path) && guard_target(request->query))
        return ERR_OK;
    /* Where this request ends and whether there is another one behind it is anybody's guess. */
    private->close = true;
    metrics_add(METRIC_REQUESTS_MALFORMED, 1);
    return refuse(request, ERR_BAD_REQUEST,
                  framed ? "The request target has bytes that may not stand there"
                         : private->headers.fault);
}

static struct text join_methods(struct request *request, const struct match *match)
{
    struct text joined = text_of(match->allowed[0]);
    for (size_t i = 1; i < match->allowed_count; i++) {
        joined = arena_format(&request->arena, "%.*s, %s", (int)joined.length, joined.data,
                              match->allowed[i]);
    }
    return joined;
}

static bool decode_parameters(struct request *request, const struct match *match)
{
    for (size_t i = 0; i < 2; i++) {
        struct text segment = match->segments[i];
        if (segment.data == NULL)
            continue;
        struct text decoded =
            match_decode(arena_alloc(&request->arena, segment.length), segment, false);
        if (decoded.data == NULL || !text_is_clean_utf8(decoded))
            return false;
        request->parameters[i] = decoded;
    }
    return true;
}

/* Every path of the main listener takes preflights; their row stands under the target "*". */
static bool find_preflight(struct request *request)
{
    struct match match;
    if (request->worker->plane != PLANE_MAIN || !cors_is_preflight(request) ||
        match_route(PLANE_MAIN, request->method, TEXT("*"), &match) != MATCH_FOUND)
        return false;
    request->route = match.route;
    return true;
}

static enum err find_route(struct request *request)
{
    struct match match;
    switch (match_route(request->worker->plane, request->method, request->path, &match)) {
    case MATCH_NO_PATH:
        return ERR_NOT_FOUND;
    case MATCH_OTHER_METHOD:
        request->private->allowed = join_methods(request, &match);
        return find_preflight(request) ? ERR_OK : ERR_METHOD_NOT_ALLOWED;
    case MATCH_FOUND:
        break;
    }
    request->route = match.route;
    if (!decode_parameters(request, &match))
        return refuse(request, ERR_BAD_REQUEST, "A segment of the path is not clean UTF-8");
    return ERR_OK;
}

/* What is said of a parameter that is not among the allowed names, which stand in the table with
 * blanks between them. */
static struct text list_parameters(struct request *request, const char *allowed)
{
    if (allowed[0] == '\0')
        return TEXT("is not known here; this call takes none");
    struct text words = TEXT("is not known here; known are: ");
    for (const char *at = allowed; *at != '\0';) {
        int length = (int)strcspn(at, " ");
        words = arena_format(&request->arena, "%s%s%.*s", words.data, at == allowed ? "" : ", ",
                             length, at);
        at += length + (int)strspn(at + length, " ");
    }
    return words;
}

/* A typing error in a query may not pass silently: without its tenant a call would mean another. */
static enum err check_query(struct request *request)
{
    const char *allowed = request->route->query;
    struct text odd = {0}, fault = {0};
    switch (allowed == NULL ? QUERY_GOOD : match_query(request->query, allowed, &odd)) {
    case QUERY_GOOD:
        return ERR_OK;
    case QUERY_UNKNOWN:
        fault = list_parameters(request, allowed);
        break;
    case QUERY_NO_VALUE:
        fault = TEXT("has no value");
        break;
    case QUERY_TWICE:
        fault = TEXT("came twice");
        break;
    }
    struct text detail = arena_format(&request->arena, "Query parameter \"%.*s\" %s",
                                      odd.length > 64 ? 64 : (int)odd.length, odd.data, fault.data);
    return refuse(request, ERR_QUERY_INVALID, detail.data);
}

static int64_t body_limit(const struct request *request)
{
    int64_t limit = request->route == NULL ? -1 : request->route->body_limit;
    return limit < 0 ? request->conf->server_body_limit : limit;
}

static enum err refuse_size(struct request *request)
{
    struct text detail = arena_format(
        &request->arena, "The body may have at most %" PRId64 " bytes", body_limit(request));
    return refuse(request, ERR_TOO_LARGE, detail.data);
}

static bool has_body(const struct request *request)
{
    return request->private->framing.chunked || request->private->framing.length > 0;
}

static enum err check_body(struct request *request)
{
    if (has_body(request) && request->route->body_limit == 0)
        return refuse(request, ERR_BODY_INVALID, "This call takes no body");
    return request->private->framing.length > body_limit(request) ? refuse_size(request) : ERR_OK;
}

static enum err check_audit(const struct request *request)
{
    bool on_record = request->worker->producer == NULL ||
                     !audit_event_durable(request->route->event) ||
                     audit_healthy(request->worker->server->services.audit);
    return on_record ? ERR_OK : ERR_AUDIT_UNAVAILABLE;
}

/* Everything that can be decided before the body is read. */
static enum err decide(struct request *request, const char *version)
{
    enum err err = check_form(request, version);
    if (err == ERR_OK)
        err = find_route(request);
    if (err == ERR_OK)
        err = check_query(request);
    if (err == ERR_OK)
        err = callers_establish(request, &request->private->refusal_detail);
    if (err == ERR_OK)
        err = rates_admit_caller(request, &request->private->refusal_detail);
    if (err == ERR_OK)
        err = check_audit(request);
    return err == ERR_OK ? check_body(request) : err;
}

static void begin(struct request *request, const char *target, const char *method,
                  const char *version)
{
    struct request_private *private = request->private;
    request->method = arena_copy(&request->arena, text_of(method));
    request->caller.peer = arena_copy(&request->arena, private->client->peer);
    request->wall_ms = clock_wall_ms();
    request->deadline_ms = request->begun_ns / 1000000 + request->conf->redis_timeout;
    take_headers(request, method);
    take_target(request, target);
    identify(request);
    cors_note(request);
    private->refusal = decide(request, version);
    if (request->caller.kind == CALLER_USER && private->refusal == ERR_OK)
        session_expect(request->worker->sessions, request->caller.token);

    /* A small body is swallowed before it is refused, so that the connection can go on; what is
     * too large or not to be trusted is answered at once, which closes the connection. */
    int64_t most = request->conf->server_body_limit;
    if (private->refusal != ERR_OK && (private->close || private->framing.length > most)) {
        private->close = true;
        request_fail(request, private->refusal, private->refusal_detail, (struct text){0});
        return;
    }
    private->stage = STAGE_BODY;
    if (has_body(request))
        enter_phase(request, CLIENT_BODY);
}

static void take_body(struct request *request, const char *data, size_t length)
{
    struct request_private *private = request->private;
    if (private->refusal != ERR_OK)
        return;
    if ((int64_t)(private->received.length + length) > body_limit(request)) {
        /* Only chunks can come here. There is no way to answer in the middle of them. */
        private->refusal = refuse_size(request);
        private->close = true;
        return;
    }
    buffer_add(&private->received, data, length);
}

static void run(struct request *request)
{
    struct request_private *private = request->private;
    private->stage = STAGE_RUNNING;
    enter_phase(request, CLIENT_BUSY);
    if (private->refusal != ERR_OK) {
        request_fail(request, private->refusal, private->refusal_detail, (struct text){0});
        return;
    }
    if (has_body(request)) {
        request->body = buffer_text(&private->received);
        request->deadline_ms = clock_monotonic_ms() + request->conf->redis_timeout;
    }
    request->route->handle(request);
}

static void suspend(struct request *request)
{
    request->private->waiting = WAITING_SUSPENDED;
    MHD_suspend_connection(request->connection);
}

/* Queues the answer if there is one; else the request lingers, and sleeps if that takes too long.
 */
static enum MHD_Result answer_or_wait(struct request *request)
{
    struct request_private *private = request->private;
    struct worker *worker = request->worker;
    if (private->ready) {
        worker->stirred = true;
        return answer_queue(request);
    }
    if (private->waiting == WAITING_NOT && worker->lingering >= MOST_LINGERING) {
        suspend(request);
    } else if (private->waiting == WAITING_NOT) {
        private->waiting = WAITING_LINGERS;
        private->waiting_since_ms = loop_now(request);
        worker->lingering++;
    } else if (private->waiting == WAITING_LINGERS &&
               loop_now(request) - private->waiting_since_ms >= LINGER_MS) {
        worker->lingering--;
        suspend(request);
    }
    return MHD_YES;
}

/* A refusal before the body: libmicrohttpd would go on to the body if the connection lingered. */
static enum MHD_Result answer_or_sleep(struct request *request)
{
    if (request->private->ready)
        return answer_queue(request);
    if (request->private->waiting == WAITING_NOT)
        suspend(request);
    return MHD_YES;
}

enum MHD_Result dispatch_call(void *user, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_size, void **context)
{
    (void)user;
    (void)connection;
    struct request *request = *context;
    struct request_private *private = request->private;
    switch (private->stage) {
    case STAGE_LINE:
        if (!private->answered)
            begin(request, url, method, version);
        return private->answered ? answer_or_sleep(request) : MHD_YES;
    case STAGE_BODY:
        if (*upload_size > 0) {
            take_body(request, upload, *upload_size);
            guard_wipe((struct text){upload, *upload_size});
            *upload_size = 0;
            request->worker->stirred = true;
            return MHD_YES;
        }
        run(request);
        return answer_or_wait(request);
    case STAGE_RUNNING:
        return answer_or_wait(request);
    case STAGE_QUEUED:
        *upload_size = 0;
        return MHD_YES;
    }
    return MHD_NO;
}

/* The client left while its request was being worked on. What was begun is brought to its end and
 * put on record. */
static void go_on_without_client(struct request *request)
{
    struct request_private *private = request->private;
    assert(private->waiting == WAITING_LINGERS);
    private->waiting = WAITING_CLIENT_GONE;
    private->client = NULL;
    request->connection = NULL;
    request->worker->lingering--;
    request->worker->without_client++;
}

void dispatch_completed(void *user, struct MHD_Connection *connection, void **context,
                        enum MHD_RequestTerminationCode code)
{
    (void)user;
    (void)code;
    struct request *request = *context;
    *context = NULL;
    if (request == NULL)
        return;
    /* The client's next request, if it is there already, is read in another round. */
    request->worker->stirred = true;
    enter_phase(request, CLIENT_IDLE);
    if (request->private->waiting != WAITING_NOT) {
        go_on_without_client(request);
        return;
    }
    if (!request->private->answered) {
        const union MHD_ConnectionInfo *status =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_HTTP_STATUS);
        if (request->id.data == NULL)
            request->id = make_request_id(request);
        ledger_record_unanswered(request, status == NULL ? 0 : status->http_status);
    }
    request_end(request);
}
