/* Deadlines are not kept in order: the link knows a bound below which none lies. At the bound all
 * calls are examined once, late ones ended, and the bound is set again. With calls that take a
 * millisecond and have half a second, that is twice a second. */
#include "deadlines.h"

#include "clock.h"
#include "node.h"
#include "routing.h"

enum { TICK_MS = 5 /* deadlines that pass closer together are looked at together */ };

/* --- deadlines --- */

struct expiry {
    struct store_link *link;
    int64_t now_ms;
    int64_t first_deadline_ms; /* of the calls that stay */
};

/* Moves the late calls of a list to the ending ones. True if there was one. `failed`: the node is
 * late. */
static bool expire_list(struct expiry *expiry, struct call_list *list, enum err err, bool failed)
{
    bool late = false;
    struct store_call *next;
    for (struct store_call *call = list->first; call; call = next) {
        next = call->next;
        if (call->deadline_ms > expiry->now_ms) {
            if (call->deadline_ms < expiry->first_deadline_ms)
                expiry->first_deadline_ms = call->deadline_ms;
            continue;
        }
        late = true;
        call_list_remove(call);
        if (failed)
            call_note(call, false);
        call_end_soon(expiry->link, call, err);
    }
    return late;
}

static void fall_back_late(struct connection *connection, int64_t now_ms)
{
    struct store_call *next;
    for (struct store_call *call = connection->queue.first; call; call = next) {
        next = call->next;
        if (call->state->replica_until_ms > now_ms)
            continue;
        call_list_remove(call);
        routing_fall_back(connection->link, call);
    }
}

/* Moves calls from a replica that keeps them too long to the master. Returns the earliest time at
 * which this, or the deadline of a call, is next; INT64_MAX without calls. */
static int64_t expire_at_replica(struct connection *connection, int64_t now_ms)
{
    int64_t next_ms = INT64_MAX;
    bool late = false;
    const struct store_call *first[] = {connection->queue.first,
                                        connection->pipeline.awaiting.first};
    for (size_t i = 0; i < 2; i++) {
        for (const struct store_call *call = first[i]; call; call = call->next) {
            bool waits = call->state->replica_until_ms > now_ms;
            int64_t due_ms = waits ? call->state->replica_until_ms : call->deadline_ms;
            next_ms = due_ms < next_ms ? due_ms : next_ms;
            late = late || (!waits && i == 1);
        }
    }
    fall_back_late(connection, now_ms);
    /* Its late answers must never be matched to other calls: all its calls go on to the master. */
    if (late)
        connection_break(connection, ERR_STORE_UNAVAILABLE, "no-answer");
    return next_ms;
}

/* A connection that owes a late answer is closed, so that no other call gets that answer. One that
 * owes only the answer to WAIT goes on: the call's own reply is in. */
static void expire_connection(struct expiry *expiry, struct connection *connection)
{
    if (connection->kind == GREETING_REPLICA) {
        int64_t next_ms = expire_at_replica(connection, expiry->now_ms);
        if (next_ms < expiry->first_deadline_ms)
            expiry->first_deadline_ms = next_ms;
        return;
    }
    bool up = connection->state == CONNECTION_UP;
    /* A durable call may have only waited for its turn, after a WAIT that no replica answers. */
    expire_list(expiry, &connection->queue, up ? ERR_STORE_TIMEOUT : connection->down_err,
                !(up && connection->durable));
    expire_list(expiry, &connection->pipeline.held, ERR_OK, false);
    if (expire_list(expiry, &connection->pipeline.awaiting, ERR_STORE_TIMEOUT, true))
        connection_break(connection, ERR_STORE_UNAVAILABLE, "no-answer");
}

static void expire_calls(struct store_link *link, int64_t now_ms)
{
    struct expiry expiry = {link, now_ms, INT64_MAX};
    expire_list(&expiry, &link->parked, ERR_STORE_UNAVAILABLE, false);
    for (struct node *node = link->nodes; node; node = node->next) {
        expire_connection(&expiry, &node->data);
        expire_connection(&expiry, &node->durable);
    }
    link->first_deadline_ms = expiry.first_deadline_ms;
}

/* --- pauses, nodes, ends --- */

/* Sends parked calls whose pause is over; returns when the next one is. */
static int64_t end_pauses(struct store_link *link, int64_t now_ms)
{
    int64_t next_ms = INT64_MAX;
    struct call_list parked = link->parked;
    link->parked = (struct call_list){0};
    struct store_call *next;
    for (struct store_call *call = parked.first; call; call = next) {
        next = call->next;
        call->state->list = NULL;
        int64_t again_ms = call->state->again_ms;
        if (again_ms && again_ms <= now_ms) {
            routing_route(link, call);
            continue;
        }
        call_list_add(&link->parked, call);
        if (again_ms && again_ms < next_ms)
            next_ms = again_ms;
    }
    return next_ms;
}

static int64_t tick_connections(struct store_link *link, int64_t now_ms)
{
    int64_t next_ms = INT64_MAX;
    for (struct node *node = link->nodes; node; node = node->next) {
        int64_t data_ms = connection_tick(&node->data, now_ms);
        int64_t durable_ms = connection_tick(&node->durable, now_ms);
        next_ms = data_ms < next_ms ? data_ms : next_ms;
        next_ms = durable_ms < next_ms ? durable_ms : next_ms;
    }
    return next_ms;
}

static void end_calls(struct store_link *link)
{
    struct call_list ending = link->ending;
    link->ending = (struct call_list){0};
    struct store_call *next;
    for (struct store_call *call = ending.first; call; call = next) {
        next = call->next;
        call->state->list = NULL;
        call_end(link, call, call->state->err, call->state->reply);
    }
}

void deadlines_tick(struct store_link *link, int64_t now_ms)
{
    struct timing *timing = &link->timing;
    if (now_ms >= link->first_deadline_ms)
        expire_calls(link, now_ms);
    int64_t pause_ms = end_pauses(link, now_ms);
    int64_t connection_ms = tick_connections(link, now_ms);
    if (link->tick)
        timing_schedule(timing, link->tick(link->tick_user, now_ms));
    node_sweep(link, now_ms);
    if (link->first_deadline_ms != INT64_MAX) {
        int64_t tick_ms = now_ms + TICK_MS;
        timing_schedule(timing,
                        link->first_deadline_ms > tick_ms ? link->first_deadline_ms : tick_ms);
    }
    timing_schedule(timing, pause_ms);
    timing_schedule(timing, connection_ms);
    timing_schedule(timing, link->sweep_ms);
    end_calls(link);
}
