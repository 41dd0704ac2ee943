/* The life of a connection: calls in, breaking, pausing. How it comes up is in transport.c, what
 * travels over it in pipeline.c. */
#include "connection.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "jitter.h"
#include "link.h"
#include "log.h"
#include "redis/topology/replica_read.h"
#include "pipeline.h"
#include "tls.h"
#include "redis/topology/server_problems.h"
#include "transport.h"

enum { FIRST_PAUSE_MS = 10 };

void connection_init(struct connection *connection, struct store_link *link,
                     const struct endpoint *endpoint, bool durable)
{
    *connection = (struct connection){.link = link, .endpoint = endpoint, .durable = durable};
    connection->down_err = ERR_STORE_UNAVAILABLE;
}

void connection_free(struct connection *connection)
{
    assert(connection_is_idle(connection));
    connection_shut(connection);
    reply_reader_close(&connection->reader);
    buffer_free(&connection->output);
}

bool connection_is_idle(const struct connection *connection)
{
    return !connection->queue.first && !connection->awaiting.first && !connection->held.first &&
           !connection->wait_owed;
}

void connection_open(struct connection *connection)
{
    if (connection->state == CONNECTION_IDLE)
        transport_open(connection);
}

/* --- calls in --- */

/* Wrong credentials do not get better within a call's time, nor does a node that failed often. */
static void fail_or_keep(struct connection *connection, struct store_call *call)
{
    if (connection->near)
        replica_read_fall_back(connection->link, call);
    else if (call->state->direct || connection->down_err == ERR_STORE_DENIED ||
             connection->due_ms >= call->deadline_ms ||
             breaker_state(&connection->breaker->breaker) == BREAKER_OPEN)
        call_end_soon(connection->link, call, connection->down_err);
    else
        call_list_add(&connection->queue, call);
}

void connection_enqueue(struct connection *connection, struct store_call *call)
{
    assert(call->state->breaker == connection->breaker);
    if (connection->state == CONNECTION_PAUSING) {
        fail_or_keep(connection, call);
        return;
    }
    call_list_add(&connection->queue, call);
    connection->link->dirty = true;
}

/* At once: the next map may be long in coming. */
static void turn_away(struct connection *connection)
{
    struct store_call *next;
    for (struct store_call *call = connection->queue.first; call; call = next) {
        next = call->next;
        if (call->state->anybody)
            continue;
        call_list_remove(call);
        if (connection->near)
            replica_read_fall_back(connection->link, call);
        else
            call_end_soon(connection->link, call, ERR_STORE_UNAVAILABLE);
    }
}

void connection_flush(struct connection *connection)
{
    if (connection->strange && connection->state == CONNECTION_UP)
        turn_away(connection);
    if (!connection->queue.first)
        return;
    if (connection->state == CONNECTION_IDLE)
        transport_open(connection);
    else if (connection->state == CONNECTION_UP)
        pipeline_send_queue(connection);
}

/* --- who is there --- */

static struct node_id named_here(const struct connection *connection)
{
    const struct store_link *link = connection->link;
    struct store_mark mark;
    if (link->settings->mode == REDIS_CLUSTER && link->map)
        return slot_map_id(link->map, connection->endpoint);
    if (link->settings->mode != REDIS_CLUSTER && store_read_mark(link->store, &mark))
        return node_id_read(text_of(mark.digits));
    return (struct node_id){{0}};
}

void connection_judge(struct connection *connection)
{
    const struct store_link *link = connection->link;
    struct server_problems *strangers = &link->settings->strangers;
    struct node_id named = named_here(connection);
    connection->strange = node_id_differs(&named, &connection->id);
    if (connection->strange)
        server_problems_tell(strangers, connection->endpoint,
                             link->settings->mode == REDIS_CLUSTER
                                 ? "is another node of Redis Cluster than the slot map names here"
                                 : "has the mark of another installation in it");
    else if (node_id_known(&named) && node_id_known(&connection->id))
        server_problems_over(strangers, connection->endpoint);
}

/* --- breaking --- */

static void begin_pause(struct connection *connection)
{
    struct store_link *link = connection->link;
    int64_t most_ms = link->settings->reconnect_max_ms;
    int64_t next_ms = connection->pause_ms ? connection->pause_ms * 2 : FIRST_PAUSE_MS;
    bool denied = connection->down_err == ERR_STORE_DENIED;
    connection->pause_ms = next_ms < most_ms && !denied ? next_ms : most_ms;
    connection->state = CONNECTION_PAUSING;
    connection->due_ms = clock_monotonic_ms() + jitter_pause(&link->seed, connection->pause_ms);
    timing_schedule(link, connection->due_ms);
}

/* The replies are in: what is missing is only whether a replica has the writes. */
static void end_held(struct connection *connection)
{
    struct store_call *call;
    while ((call = call_list_take(&connection->held)))
        call_end_soon(connection->link, call, ERR_OK);
}

static void keep_or_fail_queue(struct connection *connection)
{
    struct call_list queued = connection->queue;
    connection->queue = (struct call_list){0};
    struct store_call *next;
    for (struct store_call *call = queued.first; call; call = next) {
        next = call->next;
        call->state->list = NULL;
        fail_or_keep(connection, call);
    }
}

/* One failure for the breaker, however many calls were under way: a connection that is cut once
 * says less about its server than many calls that fail. One that owed nothing says nothing. */
static void note_break(struct connection *connection, enum err err)
{
    bool owed =
        connection->state != CONNECTION_UP || connection->awaiting.first || connection->wait_owed;
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
    transport_close(connection);
    connection->down_err = err;
    connection->wait_owed = false;
    connection->refused = false;
    connection->strange = false;
    begin_pause(connection);
    uint64_t written = pipeline_written(connection);
    struct call_list owed = connection->awaiting;
    connection->awaiting = (struct call_list){0};
    end_held(connection);
    keep_or_fail_queue(connection);
    struct store_call *next;
    for (struct store_call *call = owed.first; call; call = next) {
        next = call->next;
        call->state->list = NULL;
        call_lose(link, call, call->state->stream_end <= written);
    }
    if (concerns_map(connection))
        store_want_refresh(link->store);
    if (connection->subscriber)
        connection->subscriber->down(connection, why);
}

/* Servers that do not speak as we do, and certificates, do not repair themselves. */
static const char *lasting_trouble(const struct connection *connection, int failure)
{
    if (connection->state == CONNECTION_HANDSHAKING ||
        (connection->state == CONNECTION_GREETING && connection->tls && failure == EPROTO))
        return tls_why(connection->tls);
    if (connection->state == CONNECTION_GREETING && !connection->tls)
        return "closes connections before it answers; it may speak TLS alone, or be full "
               "(maxclients)";
    return NULL;
}

void connection_fail(struct connection *connection, int failure)
{
    const char *problems = lasting_trouble(connection, failure);
    if (problems)
        server_problems_tell(&connection->link->settings->problems, connection->endpoint, problems);
    bool by_tls = connection->tls && failure == EPROTO;
    bool denied = by_tls && tls_is_denied(connection->tls);
    const char *reason = failure == 0 ? "closed-by-peer" : strerror(failure);
    /* TLS takes its reason with it when it is closed. */
    char why[PROBLEM_WHY_MAX];
    snprintf(why, sizeof(why), "%s", by_tls ? tls_why(connection->tls) : reason);
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
    transport_close(connection);
    connection->wait_owed = false;
    connection->state = CONNECTION_IDLE;
}

int64_t connection_tick(struct connection *connection, int64_t now_ms)
{
    switch (connection->state) {
    case CONNECTION_IDLE:
        return INT64_MAX;
    case CONNECTION_UP:
        if (!connection->wait_owed)
            return INT64_MAX;
        if (now_ms >= connection->due_ms)
            connection_break(connection, ERR_STORE_UNAVAILABLE, "wait-overdue");
        break;
    case CONNECTION_HANDSHAKING:
        if (now_ms >= connection->due_ms)
            server_problems_tell(&connection->link->settings->problems, connection->endpoint,
                                 "does not answer the handshake of TLS; it may not speak it");
        /* fall through */
    case CONNECTION_RESOLVING:
    case CONNECTION_CONNECTING:
    case CONNECTION_GREETING:
        if (now_ms >= connection->due_ms)
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
