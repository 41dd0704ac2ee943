/* Checks a request before its handler runs, and lets it wait for its answer. */
#include "dispatch.h"

#include <assert.h>
#include <endian.h>
#include <inttypes.h>
#include <string.h>

#include "access_log.h"
#include "clock.h"
#include "delivery.h"
#include "header_room.h"
#include "http/access/callers.h"
#include "http/access/cors.h"
#include "http/access/throttle.h"
#include "metrics.h"
#include "response.h"
#include "router.h"

static int64_t loop_now(const struct request *request)
{
    return (int64_t)uv_now(&request->worker->loop);
}

/* Keeps the query as it came, and hides it from libmicrohttpd. The library would keep a record of
 * each parameter; without room for one it answers, but then goes on as if nothing had happened, and
 * waits for the rest of the headers. */
static struct text cut_query(struct request *request, const char *target)
{
    const char *mark = target == NULL ? NULL : strchr(target, '?');
    if (mark == NULL)
        return (struct text){0};
    struct text query = arena_copy(&request->arena, text_of(mark + 1));
    if (query.length > 0)
        *(char *)(mark + 1) = '\0';
    return query;
}

void *dispatch_line(void *user, const char *target, struct MHD_Connection *connection)
{
    struct request *request = request_take(user);
    request->begun_ns = clock_monotonic_ns();
    request->connection = connection;
    request->private->client =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    assert(request->private->client->request == NULL);
    request->query = cut_query(request, target);
    header_room_mark(connection);
    request_set_state(request, REQUEST_HEADERS);
    return request;
}

/* The results of one pass over the headers. */
struct pass {
    struct headers *headers;
    struct header_room room;
};

static enum MHD_Result read_header(void *user, enum MHD_ValueKind kind, const char *name,
                                   size_t name_length, const char *value, size_t value_length)
{
    (void)kind;
    struct pass *pass = user;
    if (header_room_is_mark(name))
        return MHD_YES;
    const struct text named = {name, name_length}, valued = {value, value_length};
    header_room_note_line(&pass->room, name);
    bool good =
        guard_place(pass->headers, named, valued) && guard_header(pass->headers, named, valued);
    return good ? MHD_YES : MHD_NO;
}

/* A gateway hands on the headers of whoever calls it: its handler judges repeated ones. */
static bool is_for_gateways(const struct route *route)
{
    return route != NULL && route->access == ACCESS_GATEWAY;
}

/* A fault is kept in the headers. The method is the begin of the request line. */
static void read_headers(struct request *request, const char *method, const struct route *route)
{
    struct request_private *private = request->private;
    private->headers.lenient = is_for_gateways(route);
    struct pass pass = {.headers = &private->headers};
    const struct text head = {
        method,
        MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE)
            ->header_size};
    header_room_begin(&pass.room, request->connection, request->worker->pool_size);
    MHD_get_connection_values_n(request->connection, MHD_HEADER_KIND, read_header, &pass);
    bool whole = guard_end(&private->headers, head) && private->headers.fault == NULL;
    private->room = whole ? header_room_for_answer(&pass.room, head) : 0;
    private->body_room = header_room_for_body(&pass.room, head);
    private->client->taken += header_room_head_length(&pass.room, head);
}

/* Returns the host of a target in absolute form. A target whose host has forbidden bytes is left
 * unchanged, to be refused. */
static struct text read_target(struct request *request, const char *target)
{
    struct text authority, path = router_path(text_of(target), &authority);
    bool good = guard_target(authority);
    request->path = arena_copy(&request->arena, good ? path : text_of(target));
    return good ? arena_copy(&request->arena, authority) : (struct text){0};
}

/* The target's host replaces that of Host (RFC 9112, section 3.2.2). */
static void replace_host(struct request *request, struct text authority)
{
    struct text *host = &request->private->headers.values[HEADER_HOST];
    if (authority.data != NULL && host->data != NULL)
        *host = authority;
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

static void set_request_id(struct request *request)
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

static enum err refuse_later(struct request *request, enum err err, const char *detail)
{
    request->private->refusal_detail = text_of(detail);
    return err;
}

/* A gateway appends path and query of its own request, which may have any bytes; the handler checks
 * the settings. */
static enum err check_form(struct request *request, const char *version, const struct route *route)
{
    struct request_private *private = request->private;
    bool http_1_1 = strcmp(version, MHD_HTTP_VERSION_1_1) == 0;
    bool framed = guard_framing(&private->headers, http_1_1, &private->framing);
    bool handed_on = is_for_gateways(route);
    if (framed && (handed_on || (guard_target(request->path) && guard_target(request->query)))) {
        return handed_on || guard_segments(request->path)
                   ? ERR_OK
                   : refuse_later(
                         request, ERR_BAD_REQUEST,
                         "The path has a segment . or .. - a user's id that has slashes or dots "
                         "may be in the query: /v1/users/-/...?user_id=");
    }
    /* The end of this request, and whether another one follows, is unknown. */
    private->close = true;
    metrics_add(METRIC_REQUESTS_MALFORMED, 1);
    return refuse_later(request, ERR_BAD_REQUEST,
                        framed ? "The request target has bytes that may not stand there"
                               : private->headers.fault);
}

static struct text join_methods(struct request *request, const struct route_match *match)
{
    struct text joined = text_of(match->allowed[0]);
    for (size_t i = 1; i < match->allowed_count; i++) {
        joined = arena_format(&request->arena, "%.*s, %s", (int)joined.length, joined.data,
                              match->allowed[i]);
    }
    return joined;
}

static bool decode_parameters(struct request *request, const struct route_match *match)
{
    for (size_t i = 0; i < 2; i++) {
        struct text segment = match->segments[i];
        if (segment.data == NULL)
            continue;
        struct text decoded =
            router_decode(arena_alloc(&request->arena, segment.length), segment, false);
        if (decoded.data == NULL || !text_is_clean_utf8(decoded))
            return false;
        request->parameters[i] = decoded;
    }
    return true;
}

/* Every path of the main listener accepts preflights; their row has the path "*". */
static bool find_preflight(struct request *request)
{
    struct route_match match;
    if (request->worker->plane != PLANE_MAIN || !cors_is_preflight(request) ||
        router_route(PLANE_MAIN, request->method, TEXT("*"), &match) != MATCH_FOUND)
        return false;
    request->route = match.route;
    return true;
}

static bool announces_body(const struct request *request)
{
    return request->private->framing.chunked || request->private->framing.length > 0;
}

/* The handler reads the settings, whose separators must be seen before they are decoded. */
static enum err use_route_for_gateways(struct request *request, const struct route_match *match)
{
    request->parameters[0] = match->segments[0];
    request->parameters[1] = match->below;
    if (!announces_body(request))
        return ERR_OK;
    /* Gateways that announce one often do not send it. */
    request->private->close = true;
    return refuse_later(request, ERR_BODY_INVALID,
                        "This call takes no body; the gateway must not announce one");
}

static enum err use_route(struct request *request, enum route_match_result result,
                          const struct route_match *match)
{
    switch (result) {
    case MATCH_NO_PATH:
        return ERR_NOT_FOUND;
    case MATCH_OTHER_METHOD:
        request->private->allowed = join_methods(request, match);
        return find_preflight(request) ? ERR_OK : ERR_METHOD_NOT_ALLOWED;
    case MATCH_FOUND:
        break;
    }
    request->route = match->route;
    if (is_for_gateways(match->route))
        return use_route_for_gateways(request, match);
    if (!decode_parameters(request, match))
        return refuse_later(request, ERR_BAD_REQUEST, "A segment of the path is not clean UTF-8");
    return ERR_OK;
}

/* The refusal of an unknown parameter; the allowed names are blank-separated. */
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

/* A typing error in a query must not be ignored: without its tenant a call would mean another. */
static enum err check_query(struct request *request)
{
    assert(request->route != NULL);
    const char *allowed = request->route->query;
    struct text odd = {0}, fault = {0};
    switch (allowed == NULL ? QUERY_GOOD : router_query(request->query, allowed, &odd)) {
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
    return refuse_later(request, ERR_QUERY_INVALID, detail.data);
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
    return refuse_later(request, ERR_TOO_LARGE, detail.data);
}

/* Checks the size of a body, announced or received: chunks may hold no bytes. */
static enum err check_size(struct request *request, int64_t size)
{
    if (size <= body_limit(request))
        return ERR_OK;
    return body_limit(request) == 0
               ? refuse_later(request, ERR_BODY_INVALID, "This call takes no body")
               : refuse_size(request);
}

/* Without room to read a body the library would wait for it for ever. Chunks need more, for their
 * own lines and trailers. */
static enum err check_body_room(struct request *request)
{
    enum { FOR_LENGTH = 128, FOR_CHUNKS = 384 };
    struct request_private *private = request->private;
    size_t least = private->framing.chunked ? FOR_CHUNKS : FOR_LENGTH;
    if (!announces_body(request) || private->body_room >= least)
        return ERR_OK;
    private->close = true;
    return refuse_later(request, ERR_HEADERS_TOO_LARGE, "The headers leave no room to read a body");
}

static enum err check_audit_healthy(const struct request *request)
{
    bool on_record = request->worker->lane == NULL || !audit_event_durable(request->route->event) ||
                     audit_healthy(request->worker->server->services.audit);
    return on_record ? ERR_OK : ERR_AUDIT_UNAVAILABLE;
}

/* With a wrong key file this node would call every token forged, and could revoke none. Checked
 * before anything is counted: these are no guesses. */
static enum err check_keys_agree(struct request *request)
{
    const struct session_service *sessions = request->worker->server->services.sessions;
    if (request->route->access == ACCESS_PUBLIC ||
        session_keys(sessions, NULL) != SESSION_KEYS_FOREIGN)
        return ERR_OK;
    return refuse_later(
        request, ERR_KEYS_FOREIGN,
        "This node has another key file than the others; /readyz says which key differs");
}

/* All checks that can be made before the body is read. */
static enum err check_headers(struct request *request, const char *version,
                              enum route_match_result result, const struct route_match *match)
{
    enum err err = check_form(request, version, match->route);
    if (err == ERR_OK)
        err = check_body_room(request);
    if (err == ERR_OK) {
        callers_locate(request);
        err = use_route(request, result, match);
    }
    if (err == ERR_OK)
        err = check_query(request);
    if (err == ERR_OK)
        err = callers_establish(request, &request->private->refusal_detail);
    if (err == ERR_OK)
        err = check_keys_agree(request);
    if (err == ERR_OK)
        err = throttle_admit_caller(request, &request->private->refusal_detail);
    if (err == ERR_OK)
        err = check_audit_healthy(request);
    return err == ERR_OK ? check_size(request, request->private->framing.length) : err;
}

static void note_framing(struct request_private *private)
{
    const struct framing *framing = &private->framing;
    private->client->taken += (size_t)framing->length;
    /* Extensions and trailers may fill the pool. */
    private->room = framing->chunked ? 0 : private->room;
}

static enum handled refuse_now(struct request *request)
{
    assert(request->private->refusal != ERR_OK && request->operation == NULL);
    return response_fail(request, request->private->refusal, request->private->refusal_detail);
}

static enum handled begin_request(struct request *request, const char *target, const char *method,
                                  const char *version)
{
    struct request_private *private = request->private;
    assert(request->route == NULL && request->operation == NULL);
    request->method = arena_copy(&request->arena, text_of(method));
    request->caller.peer = arena_copy(&request->arena, private->client->peer);
    request->wall_ms = clock_wall_ms();
    request->deadline_ms = request->begun_ns / 1000000 + request->conf->redis_timeout;
    struct text authority = read_target(request, target);
    struct route_match match;
    enum route_match_result result =
        router_route(request->worker->plane, request->method, request->path, &match);
    read_headers(request, method, match.route);
    replace_host(request, authority);
    set_request_id(request);
    cors_note(request);
    private->refusal = check_headers(request, version, result, &match);
    note_framing(private);
    if (request->caller.kind == CALLER_USER && private->refusal == ERR_OK)
        session_expect(request->worker->sessions, request->caller.token);

    /* A small body is read and dropped before the refusal, so that the connection can go on. A body
     * that is too large or not trusted is refused at once, which closes the connection. */
    int64_t most = request->conf->server_body_limit;
    if (private->refusal != ERR_OK && (private->close || private->framing.length > most)) {
        private->close = true;
        request_set_state(request, REQUEST_CALLED);
        return refuse_now(request);
    }
    request_set_state(request, REQUEST_BODY);
    return GO_ON;
}

static void add_to_body(struct request *request, const char *data, size_t length)
{
    struct request_private *private = request->private;
    assert(request->body.data == NULL && length > 0);
    if (private->refusal != ERR_OK)
        return;
    /* Only chunks can exceed it here. libmicrohttpd accepts no answer in the middle of them. */
    private->refusal = check_size(request, (int64_t)(private->received.length + length));
    if (private->refusal == ERR_OK)
        buffer_add(&private->received, data, length);
}

static enum handled call_handler(struct request *request)
{
    size_t row = (size_t)(request->route - routes);
    assert(row < route_count);
    return request->worker->server->handlers->of[row](request);
}

/* Calls the handler, or answers with the refusal. */
static void run_request(struct request *request)
{
    struct request_private *private = request->private;
    request_set_state(request, REQUEST_CALLED);
    /* Servers disagree on the end of chunks, so no request after them is accepted. */
    private->close = private->close || private->framing.chunked;
    assert(private->refusal != ERR_OK || request->route != NULL);
    if (announces_body(request)) {
        request->body = buffer_text(&private->received);
        request->deadline_ms = clock_monotonic_ms() + request->conf->redis_timeout;
    }
    enum handled handled = private->refusal != ERR_OK ? refuse_now(request) : call_handler(request);
    assert(handled == ANSWERED ? request_is_answered(request)
                               : handled == PENDING && request->operation != NULL);
}

static void suspend(struct request *request)
{
    request_set_state(request, REQUEST_SUSPENDED);
    MHD_suspend_connection(request->connection);
}

/* Queues the answer if there is one; else the request is polled, and suspended if that takes too
 * long. */
static enum MHD_Result answer_or_wait(struct request *request)
{
    struct request_private *private = request->private;
    struct worker *worker = request->worker;
    if (private->state == REQUEST_READY) {
        worker->progressed = true;
        return delivery_queue(request);
    }
    if (private->state == REQUEST_CALLED && worker->in_state[REQUEST_POLLED] < MOST_POLLED) {
        request_set_state(request, REQUEST_POLLED);
        private->polled_since_ms = loop_now(request);
    } else if (private->state == REQUEST_CALLED ||
               loop_now(request) - private->polled_since_ms >= POLLED_MS) {
        suspend(request);
    }
    return MHD_YES;
}

/* A refusal before the body: libmicrohttpd would go on to the body if the request were polled. */
static enum MHD_Result answer_or_sleep(struct request *request)
{
    if (request->private->state == REQUEST_READY)
        return delivery_queue(request);
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
    switch (request->private->state) {
    case REQUEST_HEADERS:
        return begin_request(request, url, method, version) == GO_ON ? MHD_YES
                                                                     : answer_or_sleep(request);
    case REQUEST_BODY:
        if (*upload_size > 0) {
            add_to_body(request, upload, *upload_size);
            guard_wipe((struct text){upload, *upload_size});
            *upload_size = 0;
            request->worker->progressed = true;
            return MHD_YES;
        }
        run_request(request);
        return answer_or_wait(request);
    case REQUEST_POLLED:
    case REQUEST_READY:
        return answer_or_wait(request);
    case REQUEST_QUEUED:
        *upload_size = 0;
        return request->private->sent_raw ? MHD_NO : MHD_YES;
    default:
        assert(false); /* libmicrohttpd has no such request, or put it aside */
        return MHD_NO;
    }
}

static bool is_refused(const struct client *client)
{
    return client->request != NULL && client->request->private->state == REQUEST_HEADERS &&
           MHD_get_connection_info(client->request->connection,
                                   MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE) != NULL;
}

void dispatch_refuse(struct worker *worker, unsigned status)
{
    static const struct {
        unsigned status;
        enum err err;
        const char *detail;
    } kinds[] = {
        {MHD_HTTP_BAD_REQUEST, ERR_BAD_REQUEST, "Content-Length is not a number"},
        {MHD_HTTP_CONTENT_TOO_LARGE, ERR_TOO_LARGE, "Content-Length is too large"},
        {MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE, ERR_HEADERS_TOO_LARGE, NULL},
    };
    struct client *at = worker->clients;
    while (at != NULL && !is_refused(at))
        at = at->next;
    for (size_t i = 0; at != NULL && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (kinds[i].status != status)
            continue;
        at->request->id = make_request_id(at->request);
        delivery_refuse(at->request, kinds[i].err, text_of(kinds[i].detail));
        client_cut(at);
    }
}

/* If the client left meanwhile, the request's operation still comes to its end and is put on
 * record. */
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
    request->worker->progressed = true;
    enum request_state state = request->private->state;
    if (state == REQUEST_HEADERS || state == REQUEST_BODY) {
        const union MHD_ConnectionInfo *status =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_HTTP_STATUS);
        if (request->id.data == NULL)
            request->id = make_request_id(request);
        access_log_record_unanswered(request, status == NULL ? 0 : status->http_status);
    }
    request_leave(request);
}
