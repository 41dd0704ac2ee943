/* The pool of requests, and what handlers ask of a request but for its answer. */
#include "request_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "response.h"
#include "clock.h"
#include "etag.h"
#include "log.h"
#include "router.h"
#include "metrics.h"
#include "http/access/throttle.h"
#include "http/server/worker.h"

/* A request and its private part, one piece of memory that goes back and forth between the worker
 * and its pool. */
struct pooled_request {
    struct request request;
    struct request_private private;
};

/* Larger bodies are rare; their memory is not kept. */
enum { KEPT_BYTES = 65536 };

/* Requests that a worker keeps whatever happens, and the most that it frees at once. */
enum { KEPT_REQUESTS = 64, MOST_FREED = 512 };

static struct request *make_request(void)
{
    struct pooled_request *pooled = xcalloc(1, sizeof(*pooled));
    return &pooled->request;
}

/* --- states --- */

#define TO(state) (1u << REQUEST_##state)
static const unsigned successors[REQUEST_STATES] = {
    [REQUEST_POOLED] = TO(HEAD),
    [REQUEST_HEAD] = TO(BODY) | TO(CALLED) | TO(POOLED),
    [REQUEST_BODY] = TO(CALLED) | TO(POOLED),
    [REQUEST_CALLED] = TO(LINGERS) | TO(SUSPENDED) | TO(READY),
    [REQUEST_LINGERS] = TO(SUSPENDED) | TO(ALONE) | TO(READY),
    [REQUEST_SUSPENDED] = TO(READY),
    [REQUEST_ALONE] = TO(POOLED),
    [REQUEST_READY] = TO(QUEUED) | TO(ALONE) | TO(POOLED),
    [REQUEST_QUEUED] = TO(ALONE) | TO(POOLED),
};
#undef TO

bool request_may_become(enum request_state from, enum request_state to)
{
    return (successors[from] & 1u << to) != 0;
}

/* What a state means to the connection. */
static const enum client_phase phases[REQUEST_STATES] = {
    [REQUEST_POOLED] = CLIENT_IDLE,    [REQUEST_HEAD] = CLIENT_HEADERS,
    [REQUEST_BODY] = CLIENT_BODY,      [REQUEST_CALLED] = CLIENT_BUSY,
    [REQUEST_LINGERS] = CLIENT_BUSY,   [REQUEST_SUSPENDED] = CLIENT_BUSY,
    [REQUEST_ALONE] = CLIENT_IDLE,     [REQUEST_READY] = CLIENT_BUSY,
    [REQUEST_QUEUED] = CLIENT_WRITING,
};

/* The connection is no request's between two of them. */
static void tell_client(struct request *request, enum request_state state)
{
    struct client *client = request->private->client;
    bool over = state == REQUEST_POOLED || state == REQUEST_ALONE;
    if (client == NULL)
        return;
    client->request = over ? NULL : request;
    if (client->phase != phases[state])
        client_enter(client, phases[state], request->conf, (int64_t)uv_now(&request->worker->loop));
    if (over)
        request->private->client = NULL;
}

void request_set_state(struct request *request, enum request_state state)
{
    struct request_private *private = request->private;
    assert(request_may_become(private->state, state));
    assert(state != REQUEST_POOLED || private->awaited == 0);
    assert(state != REQUEST_ALONE || private->awaited > 0);
    request->worker->in_state[private->state]--;
    request->worker->in_state[state]++;
    private->state = state;
    tell_client(request, state);
}

bool request_is_answered(const struct request *request)
{
    return request->audit.status != 0;
}

/* --- the pool --- */

static void enter_pool(struct worker *worker, struct request *request)
{
    request->private->next = worker->pool;
    worker->pool = request;
    worker->in_pool++;
}

static void leave_pool(struct worker *worker)
{
    worker->pool = worker->pool->private->next;
    assert(worker->in_pool > 0);
    if (--worker->in_pool < worker->in_pool_least)
        worker->in_pool_least = worker->in_pool;
}

struct request *request_take(struct worker *worker)
{
    struct request *request = worker->pool;
    if (request == NULL)
        request = make_request();
    else
        leave_pool(worker);
    struct pooled_request *pooled = (struct pooled_request *)request;
    assert(pooled->private.state == REQUEST_POOLED);
    struct arena arena = request->arena;
    struct buffer received = pooled->private.received;
    struct buffer answer = pooled->private.answer;
    memset(pooled, 0, sizeof(*pooled));

    request->arena = arena;
    request->private = &pooled->private;
    request->private->request = request;
    request->private->received = received;
    request->private->answer = answer;
    request->private->headers.arena = &request->arena;
    request->private->snapshot = request_config_ref(worker->snapshot);
    request->conf = request->private->snapshot->conf;
    request->worker = worker;
    return request;
}

/* Bodies carry tokens. */
static void clear_body(struct buffer *body)
{
    if (body->length > 0) {
        crypto_wipe(body->data, body->length);
        body->length = 0;
    }
    if (body->capacity > KEPT_BYTES)
        buffer_free(body);
}

static void give_back(struct request *request)
{
    struct worker *worker = request->worker;
    assert(request->private->state == REQUEST_POOLED && request->private->client == NULL);
    response_forget(request);
    clear_body(&request->private->received);
    clear_body(&request->private->answer);
    arena_reset(&request->arena);
    request_config_unref(&request->private->snapshot);
    enter_pool(worker, request);
}

/* Given back at once if that can be: the next request then finds memory that is still in the
 * processor's cache. */
void request_leave(struct request *request)
{
    if (request->private->awaited > 0) {
        request_set_state(request, REQUEST_ALONE);
        request->connection = NULL;
        return;
    }
    request_set_state(request, REQUEST_POOLED);
    give_back(request);
}

void request_await(struct request *request)
{
    request->private->awaited++;
}

/* Whoever calls back still looks at the request. */
void request_awaited(struct request *request)
{
    struct request_private *private = request->private;
    assert(private->awaited > 0 && private->state != REQUEST_POOLED);
    if (--private->awaited > 0 || private->state != REQUEST_ALONE)
        return;
    request_set_state(request, REQUEST_POOLED);
    private->next = request->worker->ended;
    request->worker->ended = request;
}

void request_collect(struct worker *worker)
{
    while (worker->ended != NULL) {
        struct request *request = worker->ended;
        worker->ended = request->private->next;
        give_back(request);
    }
}

static void free_one(struct worker *worker)
{
    struct request *request = worker->pool;
    leave_pool(worker);
    buffer_free(&request->private->received);
    buffer_free(&request->private->answer);
    arena_free(&request->arena);
    free(request);
}

void request_pool_shrink(struct worker *worker)
{
    unsigned surplus =
        worker->in_pool_least > KEPT_REQUESTS ? worker->in_pool_least - KEPT_REQUESTS : 0;
    for (unsigned i = 0; i < surplus && i < MOST_FREED; i++)
        free_one(worker);
    worker->in_pool_least = worker->in_pool;
}

void request_pool_free(struct worker *worker)
{
    while (worker->pool != NULL)
        free_one(worker);
}

/* Who acts, for tombstones and the audit line. */
static struct text actor_of(const struct caller *caller)
{
    if (caller->operator_name.data != NULL)
        return caller->operator_name;
    return caller->key != NULL ? text_of(caller->key->name) : TEXT("self");
}

/* A user is where the connection comes from, and what he does not show he does not have; of a
 * service only the user's device may be told in a header, the rest in its body. */
static struct client_claims claims_of(const struct request *request)
{
    struct client_claims claims = {
        .fingerprint = request->private->headers.values[HEADER_FINGERPRINT],
    };
    if (request->caller.kind == CALLER_SERVICE)
        return claims;
    claims.ip = request->caller.address;
    if (!claims.fingerprint.data)
        claims.fingerprint = TEXT("");
    return claims;
}

static enum permission permission_of(const struct request *request)
{
    if (request->caller.kind == CALLER_USER)
        return request->route->user_needs;
    return request_caller_is_bound(&request->caller) ? request->route->own_key_needs
                                                     : PERMISSION_NONE;
}

/* Copies an operation's facts into the audit record. */
static void note(struct request *request, const struct operation *operation)
{
    struct audit_record *record = &request->audit;
    record->tenant = operation->facts.tenant;
    record->user_id = operation->facts.user_id;
    record->session_id = operation->facts.session_id;
    record->device_id = operation->facts.device_id;
    record->device_type = operation->facts.device_type;
    record->ended = operation->out.ended;
    record->ended_count = operation->out.ended_count;
    record->durability = operation_durability_name(operation->out.durability);
    record->binding = operation->facts.binding;
    record->repeated = operation->out.repeated;
    if (operation->out.ended_count > 0)
        record->actor = operation->actor;
    if (operation->out.reason.data != NULL)
        record->reason = operation->out.reason;
}

static void operation_is_done(struct operation *operation)
{
    struct request *request = operation->owner;
    assert(request->operation == operation && request->private->awaited > 0);
    if (request_is_answered(request)) {
        log_warning("request_late", "request_id=%.*s route=\"%s %s\" outcome=%s",
                    (int)request->id.length, request->id.data, request->route->method,
                    request->route->path, operation->out.err ? err_code(operation->out.err) : "ok");
    } else {
        note(request, operation);
        const struct request_private *private = request->private;
        finish_fn *finish = operation->out.err == ERR_OK ? private->finish : private->fail;
        enum handled handled = finish(request, operation);
        assert(handled == ANSWERED);
    }
    request_awaited(request);
}

void request_give_up(struct request *request)
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

void request_begin_any(struct request *request, struct operation *operation, finish_fn *finish)
{
    assert(request->operation == NULL && !request_is_answered(request));
    request_await(request);
    request->private->finish = request->private->fail = finish;
    operation->context = &request->private->snapshot->context;
    operation->arena = &request->arena;
    operation->conf = request->conf;
    /* A body may take long to come: tokens are judged at the time of the work, not of the head. */
    operation->now_ms = clock_common_ms();
    operation->deadline_ms = request->deadline_ms;
    operation->done = operation_is_done;
    operation->owner = request;
    operation->actor = actor_of(&request->caller);
    operation->permission = permission_of(request);
    operation->claims = claims_of(request);
    request->operation = operation;
}

void request_begin(struct request *request, struct operation *operation, finish_fn *finish)
{
    request_begin_any(request, operation, finish);
    request->private->fail = response_fail_operation;
}

struct buffer *request_body(struct request *request)
{
    return &request->private->answer;
}

void request_header(struct request *request, const char *name, struct text value)
{
    struct request_private *private = request->private;
    assert(private->extra_count < MOST_ANSWER_HEADERS);
    for (size_t i = 0; i < value.length; i++)
        assert((unsigned char)value.data[i] >= 0x20 && value.data[i] != 0x7f);
    private->extra[private->extra_count++] =
        (struct answer_header){name, arena_copy(&request->arena, value).data};
}

struct text request_query(struct request *request, const char *name)
{
    size_t name_length = strlen(name);
    struct text rest = request->query;
    while (rest.length > 0) {
        const char *end = memchr(rest.data, '&', rest.length);
        size_t length = end == NULL ? rest.length : (size_t)(end - rest.data);
        if (length > name_length && rest.data[name_length] == '=' &&
            memcmp(rest.data, name, name_length) == 0) {
            struct text value = {rest.data + name_length + 1, length - name_length - 1};
            return router_decode(arena_alloc(&request->arena, value.length + 1), value, true);
        }
        size_t step = end == NULL ? length : length + 1;
        rest = (struct text){rest.data + step, rest.length - step};
    }
    return (struct text){0};
}

static enum handled refuse_type(struct request *request, const char *header, const char *wanted,
                                struct text told)
{
    enum { MOST_SHOWN = 64 };
    struct text session_json = text_cut(told, MOST_SHOWN);
    return response_fail(request, ERR_MEDIA_TYPE,
                         arena_format(&request->arena, "%s must be %s, not \"%.*s\"", header,
                                      wanted, (int)session_json.length, session_json.data));
}

enum handled request_demand_type(struct request *request, const char *type)
{
    const struct text *values = request->private->headers.values;
    struct text coding = values[HEADER_CONTENT_ENCODING];
    if (coding.data && !text_equal(coding, TEXT("identity")))
        return refuse_type(request, "Content-Encoding", "absent or identity", coding);
    if (guard_media_type(values[HEADER_CONTENT_TYPE], type))
        return GO_ON;
    return refuse_type(request, "Content-Type",
                       arena_format(&request->arena, "%s in UTF-8", type).data,
                       values[HEADER_CONTENT_TYPE]);
}

static enum handled check_tags(struct request *request, const char *name, struct text tags)
{
    if (!tags.data || etag_is_condition(tags))
        return GO_ON;
    return response_fail(
        request, ERR_HEADER_INVALID,
        arena_format(&request->arena, "%s must be * or entity tags in their quotes", name));
}

enum handled request_condition(struct request *request, struct text *ret)
{
    const struct text *values = request->private->headers.values;
    *ret = values[HEADER_IF_MATCH];
    if (check_tags(request, "If-Match", values[HEADER_IF_MATCH]))
        return ANSWERED;
    return check_tags(request, "If-None-Match", values[HEADER_IF_NONE_MATCH]);
}

enum handled request_read_body(struct request *request, const struct json_field *fields,
                               size_t count, void *target)
{
    struct text detail = {0};
    if (request->body.length > 0 && request_demand_type(request, "application/json"))
        return ANSWERED;
    if (!json_read(request->body, fields, count, target, &request->arena, &detail))
        return response_fail(request, ERR_BODY_INVALID, detail);
    return GO_ON;
}

bool request_caller_is_bound(const struct caller *caller)
{
    return caller->kind == CALLER_SERVICE && strcmp(caller->key->tenant, "*") != 0;
}

static enum handled choose_tenant(struct request *request, struct text named, struct text *ret)
{
    struct text own = text_of(request->caller.key->tenant);
    bool bound = request_caller_is_bound(&request->caller);
    if (named.data == NULL && !bound)
        return response_fail(request, ERR_QUERY_INVALID,
                             TEXT("\"tenant\" is missing: a key for all tenants says whose user is "
                                  "meant, with ?tenant="));
    if (named.data != NULL && !conf_is_name(named)) {
        bool in_query = request_query(request, "tenant").data != NULL;
        return response_fail(request, in_query ? ERR_QUERY_INVALID : ERR_BODY_INVALID,
                             TEXT("\"tenant\" must match [a-z0-9][a-z0-9._-]{0,62}"));
    }
    if (named.data != NULL && bound && !text_equal(own, named))
        return response_fail(request, ERR_TENANT_FORBIDDEN, (struct text){0});
    *ret = named.data == NULL ? own : named;
    return throttle_admit_tenant(request, *ret);
}

enum handled request_tenant(struct request *request, struct text named, struct text *ret)
{
    *ret = (struct text){0};
    return request->caller.kind == CALLER_SERVICE ? choose_tenant(request, named, ret) : GO_ON;
}
