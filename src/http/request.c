/* The pool of requests, and what handlers ask of a request but for its answer. */
#include "request_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "answer.h"
#include "clock.h"
#include "etag.h"
#include "match.h"
#include "rates.h"
#include "worker.h"

/* A request and its private part, one piece of memory that goes back and forth between the worker
 * and its pool. */
struct pooled_request {
    struct request request;
    struct request_private private;
};

/* Larger bodies are rare; their memory is not kept. */
enum { KEPT_BYTES = 65536 };

static struct request *make_request(void)
{
    struct pooled_request *pooled = xcalloc(1, sizeof(*pooled));
    return &pooled->request;
}

struct request *request_take(struct worker *worker)
{
    struct request *request = worker->pool;
    if (request == NULL)
        request = make_request();
    else
        worker->pool = request->private->next;
    struct pooled_request *pooled = (struct pooled_request *)request;
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
    request->private->snapshot = snapshot_ref(worker->snapshot);
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
    answer_forget(request);
    clear_body(&request->private->received);
    clear_body(&request->private->answer);
    arena_reset(&request->arena);
    snapshot_unref(&request->private->snapshot);
    request->private->next = worker->pool;
    worker->pool = request;
}

/* At once if that can be: the next request then finds memory that is still in the processor's
 * cache. */
void request_end(struct request *request)
{
    if (!request->private->held) {
        give_back(request);
        return;
    }
    request->private->next = request->worker->ended;
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

void request_pool_free(struct request *pool)
{
    while (pool != NULL) {
        struct request *next = pool->private->next;
        buffer_free(&pool->private->received);
        buffer_free(&pool->private->answer);
        arena_free(&pool->arena);
        free(pool);
        pool = next;
    }
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
static struct presented presented_by(const struct request *request)
{
    struct presented presented = {
        .fingerprint = request->private->headers.values[HEADER_FINGERPRINT],
    };
    if (request->caller.kind == CALLER_SERVICE)
        return presented;
    presented.ip = request->caller.address;
    if (!presented.fingerprint.data)
        presented.fingerprint = TEXT("");
    return presented;
}

void request_begin(struct request *request, struct operation *operation,
                   void (*done)(struct operation *operation))
{
    operation->context = &request->private->snapshot->context;
    operation->arena = &request->arena;
    operation->conf = request->conf;
    /* A body may take long to come: tokens are judged at the time of the work, not of the head. */
    const struct framing *framing = &request->private->framing;
    bool had_body = framing->chunked || framing->length > 0;
    operation->now_ms = had_body ? clock_wall_ms() : request->wall_ms;
    operation->deadline_ms = request->deadline_ms;
    operation->done = done;
    operation->owner = request;
    operation->actor = actor_of(&request->caller);
    operation->presented = presented_by(request);
    request->operation = operation;
}

struct request *request_of(const struct operation *operation)
{
    return operation->owner;
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

void request_note(struct request *request, const struct operation *operation)
{
    struct audit_record *record = &request->audit;
    record->tenant = operation->tenant;
    record->user_id = operation->user_id;
    record->session_id = operation->session_id;
    record->device_id = operation->device_id;
    record->device_type = operation->device_type;
    record->ended = operation->ended;
    record->ended_count = operation->ended_count;
    record->durability = durability_name(operation->durability);
    record->binding = operation->binding;
    if (operation->ended_count > 0)
        record->actor = operation->actor;
    if (operation->reason.data != NULL)
        record->reason = operation->reason;
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
            return match_decode(arena_alloc(&request->arena, value.length + 1), value, true);
        }
        size_t step = end == NULL ? length : length + 1;
        rest = (struct text){rest.data + step, rest.length - step};
    }
    return (struct text){0};
}

static bool refuse_type(struct request *request, const char *header, const char *wanted,
                        struct text told)
{
    enum { MOST_SHOWN = 64 };
    struct text shown = text_cut(told, MOST_SHOWN);
    request_fail(request, ERR_MEDIA_TYPE,
                 arena_format(&request->arena, "%s must be %s, not \"%.*s\"", header, wanted,
                              (int)shown.length, shown.data),
                 (struct text){0});
    return false;
}

bool request_is_of_type(struct request *request, const char *type)
{
    const struct text *values = request->private->headers.values;
    struct text coding = values[HEADER_CONTENT_ENCODING];
    if (coding.data && !text_equal(coding, TEXT("identity")))
        return refuse_type(request, "Content-Encoding", "absent or identity", coding);
    if (guard_media_type(values[HEADER_CONTENT_TYPE], type))
        return true;
    return refuse_type(request, "Content-Type",
                       arena_format(&request->arena, "%s in UTF-8", type).data,
                       values[HEADER_CONTENT_TYPE]);
}

static bool check_tags(struct request *request, const char *name, struct text tags)
{
    if (!tags.data || etag_is_condition(tags))
        return true;
    request_fail(request, ERR_HEADER_INVALID,
                 arena_format(&request->arena, "%s must be * or entity tags in their quotes", name),
                 (struct text){0});
    return false;
}

bool request_condition(struct request *request, struct text *ret)
{
    const struct text *values = request->private->headers.values;
    *ret = values[HEADER_IF_MATCH];
    return check_tags(request, "If-Match", values[HEADER_IF_MATCH]) &&
           check_tags(request, "If-None-Match", values[HEADER_IF_NONE_MATCH]);
}

bool request_read_body(struct request *request, const struct json_field *fields, size_t count,
                       void *target)
{
    struct text detail = {0};
    if (request->body.length > 0 && !request_is_of_type(request, "application/json"))
        return false;
    if (!json_read(request->body, fields, count, target, &request->arena, &detail)) {
        request_fail(request, ERR_BODY_INVALID, detail, (struct text){0});
        return false;
    }
    return true;
}

bool caller_is_bound(const struct caller *caller)
{
    return caller->kind == CALLER_SERVICE && strcmp(caller->key->tenant, "*") != 0;
}

static bool choose_tenant(struct request *request, struct text named, struct text *ret)
{
    struct text own = text_of(request->caller.key->tenant);
    bool bound = caller_is_bound(&request->caller);
    if (named.data == NULL) {
        *ret = bound ? own : TEXT("default");
        return true;
    }
    if (!conf_is_name(named)) {
        bool in_query = request_query(request, "tenant").data != NULL;
        request_fail(request, in_query ? ERR_QUERY_INVALID : ERR_BODY_INVALID,
                     TEXT("\"tenant\" must match [a-z0-9][a-z0-9._-]{0,62}"), (struct text){0});
        return false;
    }
    if (bound && !text_equal(own, named)) {
        request_fail(request, ERR_TENANT_FORBIDDEN, (struct text){0}, (struct text){0});
        return false;
    }
    *ret = named;
    return true;
}

bool request_tenant(struct request *request, struct text named, struct text *ret)
{
    if (request->caller.kind != CALLER_SERVICE) {
        *ret = (struct text){0};
        return true;
    }
    return choose_tenant(request, named, ret) && rates_admit_tenant(request, *ret);
}
