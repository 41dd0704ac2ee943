/* Each call goes to the owner of its slot by the link's map; replies that are errors send it
 * elsewhere, make it wait, or end it. */
#include "routing.h"

#include "clock.h"
#include "jitter.h"
#include "metrics.h"
#include "node.h"
#include "replica_read.h"

enum { TRIES_MAX = 16, PAUSE_FIRST_MS = 10, PAUSE_MOST_MS = 100, ERROR_PAUSE_MS = 1000 };

static void park(struct store_link *link, struct store_call *call, int64_t again_ms)
{
    call->state->again_ms = again_ms;
    call_list_add(&link->parked, call);
    if (again_ms)
        timing_schedule(&link->timing, again_ms);
}

/* The breaker, not the connection, says how often a node that failed is tried: the pause of the
 * connection would only hold up the probe. */
void routing_send(struct store_link *link, struct node *node, struct store_call *call)
{
    if (!call_may_pass(call, node->breaker)) {
        call_end_soon(link, call, ERR_STORE_UNAVAILABLE);
        return;
    }
    struct connection *connection = node_connection(node, call);
    bool probing = breaker_state(&node->breaker->breaker) == BREAKER_HALF_OPEN;
    if (probing && connection->down_err != ERR_STORE_DENIED)
        connection_end_pause(connection);
    connection_enqueue(connection, call);
}

void routing_route(struct store_link *link, struct store_call *call)
{
    unsigned owner = link->map ? link->map->owner[call->state->slot] : SLOT_NONE;
    if (owner != SLOT_NONE) {
        if (!replica_read_send(link, call, owner))
            routing_send(link, link->map_nodes[owner], call);
        return;
    }
    store_state_want_refresh(link->store);
    if (store_state_lacks_owner(link->store, link->map))
        call_end_soon(link, call, store_state_no_owner_err(link->store));
    else
        park(link, call, 0);
}

void routing_fall_back(struct store_link *link, struct store_call *call)
{
    call_leave(call);
    metrics_add(METRIC_STORE_RETRIES, 1);
    routing_route(link, call);
}

/* Counts one more try; false, with the call ended, if there have been too many. */
static bool may_try(struct store_link *link, struct store_call *call)
{
    call->state->tries++;
    if (call->state->direct || call->state->tries > TRIES_MAX) {
        call_end_soon(link, call, ERR_STORE_UNAVAILABLE);
        return false;
    }
    return true;
}

/* Errors that pass are repeated until the deadline; pauses keep that from becoming a storm. */
static void pause_call(struct store_link *link, struct store_call *call,
                       const struct connection *connection)
{
    bool hopeless = breaker_state(&connection->breaker->breaker) == BREAKER_OPEN;
    if (call->state->direct || hopeless) {
        call_end_soon(link, call, ERR_STORE_UNAVAILABLE);
        return;
    }
    int64_t pause_ms = PAUSE_FIRST_MS;
    for (unsigned i = 0; i < call->state->pauses && pause_ms < PAUSE_MOST_MS; i++)
        pause_ms *= 2;
    call->state->pauses++;
    metrics_add(METRIC_STORE_RETRIES, 1);
    park(link, call, clock_monotonic_ms() + jitter_pause(&link->seed, pause_ms));
}

/* Only servers that the cluster's map or the configuration names: any other would get our
 * credentials on the word of one server. */
static bool may_follow(const struct store_link *link, const struct endpoint *target)
{
    if (link->map && slot_map_knows(link->map, target))
        return true;
    for (size_t i = 0; i < link->settings->seed_count; i++)
        if (endpoint_equal(&link->settings->seeds[i], target))
            return true;
    return false;
}

/* Keeps the server's words for the log and /readyz. Under a storm of errors one a second is enough.
 * Direct calls matter only while there is no map. */
static void note_error(struct store_link *link, const struct store_call *call,
                       const struct connection *from, const struct store_reply *reply)
{
    char words[PROBLEM_WHY_MAX];
    int64_t now_ms = clock_monotonic_ms();
    if (call->state->direct && link->map)
        return;
    if (link->error_noted_ms && now_ms - link->error_noted_ms < ERROR_PAUSE_MS)
        return;
    link->error_noted_ms = now_ms;
    reply_words(reply, words, sizeof(words));
    server_problems_log(&link->settings->errors, from->endpoint, words);
}

/* A fresh map may know the target, or another owner. */
static void wait_for_map(struct store_link *link, struct store_call *call,
                         const struct connection *from, const struct endpoint *target)
{
    metrics_add(METRIC_STORE_REDIRECTS_REFUSED, 1);
    store_state_note_refused_redirect(link->store, from->endpoint, target);
    store_state_want_refresh(link->store);
    pause_call(link, call, from);
}

static void follow_redirect(struct store_link *link, struct store_call *call,
                            const struct connection *from, const struct store_reply *reply,
                            bool asking)
{
    struct endpoint target;
    if (link->settings->mode != REDIS_CLUSTER) {
        note_error(link, call, from, reply);
        call_end_soon(link, call, ERR_STORE_UNFIT);
        return;
    }
    if (!endpoint_parse_redirect(reply_redirect_address(reply), from->endpoint->host, &target)) {
        note_error(link, call, from, reply);
        call_end_soon(link, call, ERR_STORE_PROTOCOL);
        return;
    }
    /* A server that sends calls to itself does not know the owner's host: the next map may. */
    if (!asking && endpoint_equal(&target, from->endpoint)) {
        pause_call(link, call, from);
        return;
    }
    if (!may_follow(link, &target)) {
        wait_for_map(link, call, from, &target);
        return;
    }
    if (!may_try(link, call))
        return;
    metrics_add(METRIC_STORE_REDIRECTS, 1);
    call->state->asking = asking;
    routing_send(link, node_get(link, &target), call);
}

/* Once: a server that then still lacks the script is broken. */
static void send_source(struct store_link *link, struct store_call *call,
                        struct connection *connection)
{
    if (!call->script || call->state->by_source) {
        call_end_soon(link, call, ERR_STORE_PROTOCOL);
        return;
    }
    call_use_source(call);
    metrics_add(METRIC_STORE_RETRIES, 1);
    connection_enqueue(connection, call);
}

/* The reply is an error: the call goes elsewhere, waits, or ends. */
static void take_error(struct store_link *link, struct store_call *call,
                       struct connection *connection, const struct store_reply *reply)
{
    enum reply_outcome outcome = reply_outcome(reply);
    switch (outcome) {
    case OUTCOME_MOVED:
    case OUTCOME_ASK:
        if (outcome == OUTCOME_MOVED)
            store_state_want_refresh(link->store);
        follow_redirect(link, call, connection, reply, outcome == OUTCOME_ASK);
        return;
    case OUTCOME_STALE:
        store_state_want_refresh(link->store);
        pause_call(link, call, connection);
        return;
    case OUTCOME_AGAIN:
        pause_call(link, call, connection);
        return;
    case OUTCOME_NOSCRIPT:
        send_source(link, call, connection);
        return;
    case OUTCOME_DENIED:
        if (!(call->flags & STORE_DISPENSABLE)) {
            connection->pipeline.refused = true;
            note_error(link, call, connection, reply);
        }
        call_end_soon(link, call, ERR_STORE_DENIED);
        return;
    case OUTCOME_REFUSED:
        note_error(link, call, connection, reply);
        call_end_soon(link, call, ERR_STORE_REFUSED);
        return;
    case OUTCOME_ANSWER:
    case OUTCOME_UNFIT:
    case OUTCOME_UNEXPECTED:
        break;
    }
    note_error(link, call, connection, reply);
    bool unfit = outcome == OUTCOME_UNFIT || atomic_load(&link->store->unfit);
    call_end_soon(link, call, unfit ? ERR_STORE_UNFIT : ERR_STORE_PROTOCOL);
}

/* The call lost its connection, which owed the reply. `sent`: the server may have seen it. */
static void reroute(struct store_link *link, struct store_call *call, bool sent)
{
    if (call->state->replica_until_ms) {
        routing_fall_back(link, call);
        return;
    }
    call_leave(call);
    call->state->asking = false;
    call->state->asking_owed = false;
    if (sent && !(call->flags & STORE_REPEATABLE)) {
        call_end_soon(link, call, ERR_STORE_UNAVAILABLE);
        return;
    }
    if (may_try(link, call)) {
        metrics_add(METRIC_STORE_RETRIES, 1);
        routing_route(link, call);
    }
}

static bool route_reply(struct connection *connection, struct store_call *call,
                        const struct store_reply *reply)
{
    struct store_link *link = connection->link;
    enum reply_outcome outcome = reply_outcome(reply);
    bool asked = call->state->asking;
    if (call->flags & STORE_REPEATABLE && call_slept_over(call)) {
        reroute(link, call, true);
        return false;
    }
    /* The source goes to the same node, on the same pass. */
    if (outcome != OUTCOME_NOSCRIPT)
        call_note_reply(link, call, reply);
    /* The source follows ASKING again; every other way forgets it. */
    call->state->asking = asked && outcome == OUTCOME_NOSCRIPT;
    if (outcome == OUTCOME_ANSWER)
        return true;
    if (connection->kind == GREETING_REPLICA) {
        connection->pipeline.refused = outcome == OUTCOME_DENIED;
        routing_fall_back(link, call);
    } else if (call->state->direct && (outcome == OUTCOME_MOVED || outcome == OUTCOME_STALE)) {
        store_state_want_refresh(link->store);
        call_end_soon(link, call, ERR_STORE_REFUSED);
    } else {
        take_error(link, call, connection, reply);
    }
    return false;
}

static void reroute_lost(struct connection *connection, struct store_call *call, bool sent)
{
    reroute(connection->link, call, sent);
}

static void reroute_refused(struct connection *connection, struct store_call *call, enum err err)
{
    if (connection->kind == GREETING_REPLICA)
        routing_fall_back(connection->link, call);
    else
        call_end_soon(connection->link, call, err);
}

const struct connection_owner routing_owner = {
    .call_reply = route_reply,
    .call_lost = reroute_lost,
    .call_refused = reroute_refused,
};
