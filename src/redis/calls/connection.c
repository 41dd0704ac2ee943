/* The states of a connection, and its handling of the events of transport and pipeline. */
#include "connection.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "container_of.h"
#include "jitter.h"
#include "log.h"
#include "metrics.h"
#include "redis/protocol/tls.h"

enum { FIRST_PAUSE_MS = 10 };

static bool has_calls(const struct connection *connection)
{
    return connection->owner->call_reply != NULL;
}

bool connection_is_idle(const struct connection *connection)
{
    return !connection->queue.first && pipeline_is_idle(&connection->pipeline);
}

/* --- calls in --- */

/* Wrong credentials do not recover within a call's time, nor does a node that failed often. */
static bool may_wait(const struct connection *connection, const struct store_call *call)
{
    return connection->kind != GREETING_REPLICA && !call->state->direct &&
           connection->down_err != ERR_STORE_DENIED && connection->due_ms < call->deadline_ms &&
           breaker_state(&connection->breaker->breaker) != BREAKER_OPEN;
}

static void keep_or_refuse(struct connection *connection, struct store_call *call)
{
    if (may_wait(connection, call))
        call_list_add(&connection->queue, call);
    else
        connection->owner->call_refused(connection, call, connection->down_err);
}

void connection_enqueue(struct connection *connection, struct store_call *call)
{
    assert(call->state->breaker == connection->breaker);
    if (connection->state == CONNECTION_PAUSING) {
        keep_or_refuse(connection, call);
        return;
    }
    call_list_add(&connection->queue, call);
    connection->link->dirty = true;
}

/* At once: the next map may take long. */
static void refuse_queue(struct connection *connection)
{
    struct store_call *next;
    for (struct store_call *call = connection->queue.first; call; call = next) {
        next = call->next;
        if (call->state->any_server)
            continue;
        call_list_remove(call);
        connection->owner->call_refused(connection, call, ERR_STORE_UNAVAILABLE);
    }
}

void connection_flush(struct connection *connection)
{
    if (connection->foreign && connection->state == CONNECTION_UP)
        refuse_queue(connection);
    if (!connection->queue.first)
        return;
    if (connection->state == CONNECTION_IDLE)
        connection_open(connection);
    else if (connection->state == CONNECTION_UP)
        pipeline_send_queue(&connection->pipeline, &connection->queue);
}

void connection_send(struct connection *connection, const struct text *arguments, size_t count)
{
    pipeline_send(&connection->pipeline, arguments, count);
}

void connection_read(struct connection *connection)
{
    pipeline_read(&connection->pipeline);
}

/* --- which server is there --- */

static struct node_id named_here(const struct connection *connection)
{
    const struct store_link *link = connection->link;
    struct store_mark mark;
    if (link->settings->mode == REDIS_CLUSTER && link->map)
        return slot_map_id(link->map, connection->endpoint);
    if (link->settings->mode != REDIS_CLUSTER && store_state_read_mark(link->store, &mark))
        return node_id_read(text_of(mark.digits));
    return (struct node_id){{0}};
}

void connection_check_server(struct connection *connection)
{
    const struct store_link *link = connection->link;
    const struct node_id *told = &connection->greeting.id;
    struct server_problems *foreign = &link->settings->foreign;
    struct node_id named = named_here(connection);
    connection->foreign = node_id_differs(&named, told);
    if (connection->foreign)
        server_problems_log(foreign, connection->endpoint,
                            link->settings->mode == REDIS_CLUSTER
                                ? "is another node of Redis Cluster than the slot map names here"
                                : "has the mark of another installation in it");
    else if (node_id_known(&named) && node_id_known(told))
        server_problems_over(foreign, connection->endpoint);
}

/* --- breaking --- */

static void close_transport(struct connection *connection)
{
    if (connection->state == CONNECTION_UP)
        metrics_gauge_add(METRIC_STORE_LINKS, -1);
    if (connection->pipeline.heard)
        connection->pause_ms = 0;
    connection->pipeline.heard = false;
    transport_close(&connection->transport);
}

static void begin_pause(struct connection *connection)
{
    struct store_link *link = connection->link;
    int64_t most_ms = link->settings->reconnect_max_ms;
    int64_t next_ms = connection->pause_ms ? connection->pause_ms * 2 : FIRST_PAUSE_MS;
    bool denied = connection->down_err == ERR_STORE_DENIED;
    connection->pause_ms = next_ms < most_ms && !denied ? next_ms : most_ms;
    connection->state = CONNECTION_PAUSING;
    connection->due_ms = clock_monotonic_ms() + jitter_pause(&link->seed, connection->pause_ms);
    timing_schedule(&link->timing, connection->due_ms);
}

static void keep_or_refuse_queue(struct connection *connection)
{
    struct call_list queued = connection->queue;
    connection->queue = (struct call_list){0};
    struct store_call *next;
    for (struct store_call *call = queued.first; call; call = next) {
        next = call->next;
        call->state->list = NULL;
        keep_or_refuse(connection, call);
    }
}

static void lose_calls(struct connection *connection, const struct call_list *owed)
{
    uint64_t written = pipeline_written(&connection->pipeline);
    struct store_call *next;
    for (struct store_call *call = owed->first; call; call = next) {
        next = call->next;
        call->state->list = NULL;
        connection->owner->call_lost(connection, call, call->state->stream_end <= written);
    }
}

/* One failure for the breaker, however many calls were in flight: a connection that is cut once
 * says less about its server than many calls that fail. A connection that owed nothing says
 * nothing. */
static void note_break(struct connection *connection, enum err err)
{
    const struct pipeline *pipeline = &connection->pipeline;
    bool owed =
        connection->state != CONNECTION_UP || pipeline->awaiting.first || pipeline->wait_owed;
    if (owed && err != ERR_STORE_DENIED)
        breakers_witness(connection->breaker, clock_monotonic_ms(), false);
}

/* True if the map may have changed. A seed that is no member says nothing of it: every search asks
 * the seeds, and one that hangs would begin the next. */
static bool concerns_map(const struct connection *connection)
{
    const struct store_link *link = connection->link;
    return link->settings->mode != REDIS_CLUSTER || !link->map ||
           slot_map_knows(link->map, connection->endpoint);
}

void connection_break(struct connection *connection, enum err err, const char *why)
{
    struct store_link *link = connection->link;
    assert(connection->state != CONNECTION_PAUSING);
    log_debug("store_connection_lost", "host=%s port=%u durable=%d why=\"%s\"",
              connection->endpoint->host, connection->endpoint->port, connection->durable, why);
    note_break(connection, err);
    server_problems_note(&link->settings->problems, connection->endpoint, why);
    close_transport(connection);
    connection->down_err = err;
    connection->foreign = false;
    begin_pause(connection);
    struct call_list owed = pipeline_stop(&connection->pipeline);
    keep_or_refuse_queue(connection);
    lose_calls(connection, &owed);
    if (concerns_map(connection))
        store_state_want_refresh(link->store);
    if (connection->owner->down)
        connection->owner->down(connection, why);
}

/* Other protocols and wrong certificates do not repair themselves. */
static const char *lasting_problem(const struct connection *connection, int failure)
{
    const struct tls_link *tls = connection->transport.tls;
    if (connection->transport.state == TRANSPORT_HANDSHAKING ||
        (connection->state == CONNECTION_GREETING && tls && failure == EPROTO))
        return tls_why(tls);
    if (connection->state == CONNECTION_GREETING && !tls)
        return "closes connections before it answers; it may speak TLS alone, or be full "
               "(maxclients)";
    return NULL;
}

/* Breaks it because the socket failed: `failure` is errno, 0 if the peer closed. */
static void break_for_socket(struct connection *connection, int failure)
{
    const struct tls_link *tls = connection->transport.tls;
    const char *problem = lasting_problem(connection, failure);
    if (problem)
        server_problems_log(&connection->link->settings->problems, connection->endpoint, problem);
    bool by_tls = tls && failure == EPROTO;
    bool denied = by_tls && tls_is_denied(tls);
    const char *reason = failure == 0 ? "closed-by-peer" : strerror(failure);
    /* TLS takes its reason with it when it is closed. */
    char why[PROBLEM_WHY_MAX];
    snprintf(why, sizeof(why), "%s", by_tls ? tls_why(tls) : reason);
    connection_break(connection, denied ? ERR_STORE_DENIED : ERR_STORE_UNAVAILABLE, why);
}

void connection_end_pause(struct connection *connection)
{
    connection->pause_ms = 0;
    if (connection->state == CONNECTION_PAUSING) {
        connection->state = CONNECTION_IDLE;
        connection->link->dirty = true;
    }
}

void connection_shut(struct connection *connection)
{
    close_transport(connection);
    connection->pipeline.wait_owed = false;
    connection->state = CONNECTION_IDLE;
}

/* --- coming up --- */

static void come_up(struct connection *connection)
{
    assert(connection->state == CONNECTION_GREETING);
    connection_check_server(connection);
    if (connection->foreign && !has_calls(connection)) {
        connection_break(connection, ERR_STORE_UNAVAILABLE, "another-node");
        return;
    }
    if (connection->foreign)
        store_state_want_refresh(connection->link->store);
    connection->state = CONNECTION_UP;
    connection->down_err = ERR_STORE_UNAVAILABLE;
    connection->link->dirty = true;
    metrics_gauge_add(METRIC_STORE_LINKS, 1);
    server_problems_over(&connection->link->settings->problems, connection->endpoint);
    if (connection->kind != GREETING_SENTINEL)
        store_state_note_reached(connection->link->store);
    log_debug("store_connected", "host=%s port=%u durable=%d", connection->endpoint->host,
              connection->endpoint->port, connection->durable);
    if (connection->owner->up)
        connection->owner->up(connection);
}

static void take_greeting_reply(struct connection *connection, const struct store_reply *reply)
{
    char why[PROBLEM_WHY_MAX];
    enum err err = ERR_OK;
    switch (greeting_take_reply(&connection->greeting, &connection->transport, reply, &err, why)) {
    case GREETING_GOES_ON:
        break;
    case GREETING_DONE:
        come_up(connection);
        break;
    case GREETING_REFUSED:
        server_problems_log(&connection->link->settings->problems, connection->endpoint, why);
        connection_break(connection, err, why);
        break;
    }
}

/* --- events of the transport --- */

static struct connection *connection_of(struct transport *transport)
{
    return container_of(transport, struct connection, transport);
}

static void on_opened(struct transport *transport)
{
    struct connection *connection = connection_of(transport);
    int failure;
    connection->state = CONNECTION_GREETING;
    if (greeting_send(&connection->greeting, transport, connection->kind, &failure))
        return;
    if (failure)
        break_for_socket(connection, failure);
    else
        connection_break(connection, ERR_STORE_UNAVAILABLE, "greeting-not-sent");
}

static void on_readable(struct transport *transport)
{
    pipeline_read(&connection_of(transport)->pipeline);
}

static void on_writable(struct transport *transport)
{
    pipeline_write(&connection_of(transport)->pipeline);
}

static void on_transport_failed(struct transport *transport, int failure, const char *why)
{
    if (why)
        connection_break(connection_of(transport), ERR_STORE_UNAVAILABLE, why);
    else
        break_for_socket(connection_of(transport), failure);
}

static const struct transport_events transport_events = {
    .opened = on_opened,
    .readable = on_readable,
    .writable = on_writable,
    .failed = on_transport_failed,
};

/* --- events of the pipeline --- */

static struct connection *connection_with(struct pipeline *pipeline)
{
    return container_of(pipeline, struct connection, pipeline);
}

static bool on_call_reply(struct pipeline *pipeline, struct store_call *call,
                          const struct store_reply *reply)
{
    struct connection *connection = connection_with(pipeline);
    return connection->owner->call_reply(connection, call, reply);
}

static void on_other_reply(struct pipeline *pipeline, const struct store_reply *reply)
{
    struct connection *connection = connection_with(pipeline);
    if (connection->state == CONNECTION_GREETING) {
        take_greeting_reply(connection, reply);
        return;
    }
    if (has_calls(connection)) {
        connection_break(connection, ERR_STORE_UNAVAILABLE, "unasked-reply");
        return;
    }
    pipeline->heard = true;
    connection->owner->reply(connection, reply);
}

static void on_pipeline_failed(struct pipeline *pipeline, int failure)
{
    break_for_socket(connection_with(pipeline), failure);
}

static void on_pipeline_broken(struct pipeline *pipeline, enum err err, const char *why)
{
    connection_break(connection_with(pipeline), err, why);
}

static const struct pipeline_events pipeline_events = {
    .call_reply = on_call_reply,
    .reply = on_other_reply,
    .failed = on_pipeline_failed,
    .broken = on_pipeline_broken,
};

/* --- life --- */

void connection_init(struct connection *connection, struct store_link *link,
                     const struct endpoint *endpoint, struct store_breaker *breaker,
                     const struct connection_owner *owner, bool durable)
{
    *connection = (struct connection){
        .link = link,
        .endpoint = endpoint,
        .owner = owner,
        .breaker = breaker,
        .durable = durable,
        .down_err = ERR_STORE_UNAVAILABLE,
    };
    transport_init(&connection->transport, link, endpoint, &transport_events);
    pipeline_init(&connection->pipeline, &connection->transport, durable, &pipeline_events);
}

void connection_free(struct connection *connection)
{
    assert(connection_is_idle(connection));
    connection_shut(connection);
    pipeline_free(&connection->pipeline);
}

void connection_open(struct connection *connection)
{
    struct store_link *link = connection->link;
    if (connection->state != CONNECTION_IDLE)
        return;
    connection->state = CONNECTION_OPENING;
    connection->due_ms = clock_monotonic_ms() + link->settings->connect_timeout_ms;
    timing_schedule(&link->timing, connection->due_ms);
    pipeline_reset(&connection->pipeline);
    transport_open(&connection->transport);
}

int64_t connection_tick(struct connection *connection, int64_t now_ms)
{
    switch (connection->state) {
    case CONNECTION_IDLE:
        return INT64_MAX;
    case CONNECTION_UP:
        if (!connection->pipeline.wait_owed)
            return INT64_MAX;
        if (now_ms < connection->pipeline.wait_due_ms)
            return connection->pipeline.wait_due_ms;
        connection_break(connection, ERR_STORE_UNAVAILABLE, "wait-overdue");
        break;
    case CONNECTION_OPENING:
    case CONNECTION_GREETING:
        if (now_ms < connection->due_ms)
            break;
        if (connection->transport.state == TRANSPORT_HANDSHAKING)
            server_problems_log(&connection->link->settings->problems, connection->endpoint,
                                "does not answer the handshake of TLS; it may not speak it");
        connection_break(connection, ERR_STORE_UNAVAILABLE, "connect-timeout");
        break;
    case CONNECTION_PAUSING:
        if (now_ms >= connection->due_ms) {
            connection->state = CONNECTION_IDLE;
            connection->link->dirty = true;
            return INT64_MAX;
        }
        break;
    }
    return connection->due_ms;
}
