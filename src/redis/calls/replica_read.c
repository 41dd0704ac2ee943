/* Choosing replicas, and sending to them. */
#include "replica_read.h"

#include <stdlib.h>

#include "clock.h"
#include "jitter.h"
#include "metrics.h"
#include "node.h"

/* --- choosing --- */

static bool is_in_replica_zone(const struct settings *settings, const struct endpoint *endpoint)
{
    struct ip_address address;
    if (!ip_parse(text_of(endpoint->host), &address))
        return false;
    for (size_t i = 0; i < settings->replica_network_count; i++)
        if (ip_network_contains(&settings->replica_networks[i], &address))
            return true;
    return false;
}

/* One of them at random, so that the load spreads. */
static struct node *choose_replica(struct store_link *link, size_t master)
{
    const struct slot_map *map = link->map;
    const struct endpoint *chosen = NULL;
    uint64_t found = 0;
    for (size_t i = map->master_count; i < map->node_count; i++) {
        if (map->master_of[i] != master || !is_in_replica_zone(link->settings, &map->nodes[i]))
            continue;
        found++;
        if (jitter_next(&link->seed) % found == 0)
            chosen = &map->nodes[i];
    }
    return chosen ? node_get_replica(link, chosen) : NULL;
}

void replica_read_choose(struct store_link *link)
{
    free(link->replica_nodes);
    link->replica_nodes = NULL;
    for (struct node *node = link->nodes; node; node = node->next)
        if (node->data.kind == GREETING_REPLICA)
            node->in_map = false;
    node_sweep_later(link);
    if (!link->map || link->settings->replica_network_count == 0)
        return;
    link->replica_nodes = xcalloc(link->map->master_count, sizeof(struct node *));
    for (size_t i = 0; i < link->map->master_count; i++) {
        link->replica_nodes[i] = choose_replica(link, i);
        if (link->replica_nodes[i])
            link->replica_nodes[i]->in_map = true;
    }
}

/* --- sending --- */

static bool replica_may_answer(const struct node *node, int64_t now_ms)
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
    if (!replica_may_answer(node, now_ms) || !call_may_pass(call, node->breaker))
        return false;
    state->was_replica_read = true;
    state->replica_until_ms = store_patience_ms(now_ms, call->deadline_ms);
    if (state->replica_until_ms < link->first_deadline_ms) {
        link->first_deadline_ms = state->replica_until_ms;
        timing_schedule(&link->timing, state->replica_until_ms);
    }
    connection_enqueue(&node->data, call);
    return true;
}
