/* Choosing replicas, and giving them up. */
#include "replica_read.h"

#include <stdlib.h>

#include "clock.h"
#include "jitter.h"
#include "metrics.h"
#include "redis/calls/timing.h"

/* --- choosing --- */

static bool is_replica_read(const struct settings *settings, const struct endpoint *endpoint)
{
    struct ip_address address;
    if (!ip_parse(text_of(endpoint->host), &address))
        return false;
    for (size_t i = 0; i < settings->replica_count; i++)
        if (ip_network_contains(&settings->near[i], &address))
            return true;
    return false;
}

/* One of them at random, so that not all of us ask the same. */
static struct node *choose(struct store_link *link, size_t master)
{
    const struct slot_map *map = link->map;
    const struct endpoint *chosen = NULL;
    uint64_t found = 0;
    for (size_t i = map->master_count; i < map->node_count; i++) {
        if (map->master_of[i] != master || !is_replica_read(link->settings, &map->nodes[i]))
            continue;
        found++;
        if (jitter_next(&link->seed) % found == 0)
            chosen = &map->nodes[i];
    }
    return chosen ? link_replica_node(link, chosen) : NULL;
}

void replica_read_choose(struct store_link *link)
{
    free(link->replica_nodes);
    link->replica_nodes = NULL;
    for (struct node *node = link->nodes; node; node = node->next)
        if (node->data.near)
            node->in_map = false;
    timing_sweep_later(link);
    if (!link->map || link->settings->replica_count == 0)
        return;
    link->replica_nodes = xcalloc(link->map->master_count, sizeof(struct node *));
    for (size_t i = 0; i < link->map->master_count; i++) {
        link->replica_nodes[i] = choose(link, i);
        if (link->replica_nodes[i])
            link->replica_nodes[i]->in_map = true;
    }
}

/* --- sending --- */

static bool may_answer(const struct node *node, int64_t now_ms)
{
    const struct breaker *breaker = &node->breaker->breaker;
    bool open = breaker_state(breaker) == BREAKER_OPEN && now_ms < breaker->open_until_ms;
    return !open && node->data.state != CONNECTION_PAUSING;
}

bool replica_read_send(struct store_link *link, struct store_call *call, size_t master)
{
    struct store_call_state *state = call->state;
    struct node *node = link->replica_nodes ? link->replica_nodes[master] : NULL;
    if (!node || !(call->flags & STORE_REPLICA_READ) || state->was_replica_read)
        return false;
    int64_t now_ms = clock_monotonic_ms();
    if (!may_answer(node, now_ms) || !call_may_pass(call, node->breaker))
        return false;
    state->was_replica_read = true;
    state->replica_until_ms = store_patience_ms(now_ms, call->deadline_ms);
    if (state->replica_until_ms < link->first_deadline_ms) {
        link->first_deadline_ms = state->replica_until_ms;
        timing_schedule(link, state->replica_until_ms);
    }
    connection_enqueue(&node->data, call);
    return true;
}

void replica_read_fall_back(struct store_link *link, struct store_call *call)
{
    call_forgo(call);
    metrics_add(METRIC_STORE_RETRIES, 1);
    call_route(link, call);
}

/* --- time --- */

static void fall_back_late(struct connection *connection, int64_t now_ms)
{
    struct store_call *next;
    for (struct store_call *call = connection->queue.first; call; call = next) {
        next = call->next;
        if (call->state->replica_until_ms > now_ms)
            continue;
        call_list_remove(call);
        replica_read_fall_back(connection->link, call);
    }
}

int64_t replica_read_expire(struct connection *connection, int64_t now_ms)
{
    int64_t next_ms = INT64_MAX;
    bool late = false;
    const struct store_call *first[] = {connection->queue.first, connection->awaiting.first};
    for (size_t i = 0; i < 2; i++) {
        for (const struct store_call *call = first[i]; call; call = call->next) {
            bool waits = call->state->replica_until_ms > now_ms;
            int64_t due_ms = waits ? call->state->replica_until_ms : call->deadline_ms;
            next_ms = due_ms < next_ms ? due_ms : next_ms;
            late = late || (!waits && i == 1);
        }
    }
    fall_back_late(connection, now_ms);
    /* What it owes must never be taken for another's answer: all its calls go on to the master. */
    if (late)
        connection_break(connection, ERR_STORE_UNAVAILABLE, "no-answer");
    return next_ms;
}
