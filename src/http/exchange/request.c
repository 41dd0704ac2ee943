/* The states of requests, their pool, and the little that handlers ask of one. */
#include "request_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "http/server/worker.h"
#include "router.h"

/* A request and its private part, one piece of memory that the worker takes from its pool and
 * returns. */
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
    [REQUEST_POOLED] = TO(HEADERS),
    [REQUEST_HEADERS] = TO(BODY) | TO(CALLED) | TO(POOLED),
    [REQUEST_BODY] = TO(CALLED) | TO(POOLED),
    [REQUEST_CALLED] = TO(POLLED) | TO(SUSPENDED) | TO(READY),
    [REQUEST_POLLED] = TO(SUSPENDED) | TO(ALONE) | TO(READY),
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

/* The phase of the client in each state. */
static const enum client_phase phases[REQUEST_STATES] = {
    [REQUEST_POOLED] = CLIENT_IDLE,    [REQUEST_HEADERS] = CLIENT_HEADERS,
    [REQUEST_BODY] = CLIENT_BODY,      [REQUEST_CALLED] = CLIENT_BUSY,
    [REQUEST_POLLED] = CLIENT_BUSY,    [REQUEST_SUSPENDED] = CLIENT_BUSY,
    [REQUEST_ALONE] = CLIENT_IDLE,     [REQUEST_READY] = CLIENT_BUSY,
    [REQUEST_QUEUED] = CLIENT_WRITING,
};

/* Between two requests a client has none. */
static void update_client(struct request *request, enum request_state state)
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
    update_client(request, state);
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
    request->private->config = request_config_ref(worker->config);
    request->conf = request->private->config->conf;
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

/* libmicrohttpd has copied the headers, and frees its copy unwiped: a cookie is wiped here. */
static void free_response(struct request_private *private)
{
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

static void return_to_pool(struct request *request)
{
    struct worker *worker = request->worker;
    assert(request->private->state == REQUEST_POOLED && request->private->client == NULL);
    free_response(request->private);
    clear_body(&request->private->received);
    clear_body(&request->private->answer);
    arena_reset(&request->arena);
    request_config_unref(&request->private->config);
    enter_pool(worker, request);
}

/* Returned at once if possible: the next request then gets memory that is still in the processor's
 * cache. */
void request_leave(struct request *request)
{
    if (request->private->awaited > 0) {
        request_set_state(request, REQUEST_ALONE);
        request->connection = NULL;
        return;
    }
    request_set_state(request, REQUEST_POOLED);
    return_to_pool(request);
}

void request_await(struct request *request)
{
    request->private->awaited++;
}

/* The caller still uses the request, so it is not wiped here. */
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
        return_to_pool(request);
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

struct text request_answer_body(const struct request *request)
{
    const struct request_private *private = request->private;
    return private->document.data ? private->document : buffer_text(&private->answer);
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

bool request_caller_is_bound(const struct caller *caller)
{
    return caller->kind == CALLER_SERVICE && strcmp(caller->key->tenant, "*") != 0;
}
