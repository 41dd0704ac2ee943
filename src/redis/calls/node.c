/* Nodes come with the map, a redirection or a question, and go when they are idle and not in the
 * map. */
#include "node.h"

#include <assert.h>
#include <stdlib.h>

#include "clock.h"
#include "container_of.h"

enum { SWEEP_MS = 1000 };

static struct node *find_node(const struct store_link *link, const struct endpoint *endpoint,
                              bool is_replica)
{
    const struct endpoint *found =
        endpoint_table_find(is_replica ? &link->replica_index : &link->index, endpoint);
    return found ? container_of(found, struct node, endpoint) : NULL;
}

static struct node *find_or_make_node(struct store_link *link, const struct endpoint *endpoint,
                                      bool is_replica)
{
    struct node *found = find_node(link, endpoint, is_replica);
    if (found)
        return found;
    struct node *node = xcalloc(1, sizeof(*node));
    node->endpoint = *endpoint;
    node->breaker = breakers_take(link->store, endpoint, link->settings->reconnect_max_ms);
    connection_init(&node->data, link, &node->endpoint, node->breaker, link->call_owner, false);
    connection_init(&node->durable, link, &node->endpoint, node->breaker, link->call_owner, true);
    if (is_replica)
        node->data.kind = GREETING_REPLICA;
    endpoint_table_add(is_replica ? &link->replica_index : &link->index, &node->endpoint);
    node->next = link->nodes;
    link->nodes = node;
    node_sweep_later(link);
    return node;
}

struct node *node_get(struct store_link *link, const struct endpoint *endpoint)
{
    return find_or_make_node(link, endpoint, false);
}

struct node *node_get_sentinel(struct store_link *link, const struct endpoint *endpoint)
{
    struct node *node = find_or_make_node(link, endpoint, false);
    node->data.kind = GREETING_SENTINEL;
    return node;
}

struct node *node_get_replica(struct store_link *link, const struct endpoint *endpoint)
{
    return find_or_make_node(link, endpoint, true);
}

bool node_is_up(const struct store_link *link, const struct endpoint *endpoint)
{
    const struct node *node = find_node(link, endpoint, false);
    return node && node->data.state == CONNECTION_UP;
}

struct connection *node_connection(struct node *node, const struct store_call *call)
{
    bool waits = node->data.link->settings->wait_timeout_ms > 0;
    return (call->flags & STORE_DURABLE) && waits ? &node->durable : &node->data;
}

/* --- forgetting --- */

void node_sweep_later(struct store_link *link)
{
    if (link->sweep_ms == INT64_MAX) {
        link->sweep_ms = clock_monotonic_ms() + SWEEP_MS;
        timing_schedule(&link->timing, link->sweep_ms);
    }
}

static void free_node(struct store_link *link, struct node *node)
{
    assert(!node->in_map || link->closing);
    endpoint_table_remove(node->data.kind == GREETING_REPLICA ? &link->replica_index : &link->index,
                          &node->endpoint);
    connection_free(&node->data);
    connection_free(&node->durable);
    breakers_give(link->store, &node->breaker);
    free(node);
}

/* A sentinel that answers will be asked again. */
static bool is_superfluous(const struct node *node)
{
    bool kept =
        node->in_map || (node->data.kind == GREETING_SENTINEL && node->data.state == CONNECTION_UP);
    return !kept && connection_is_idle(&node->data) && connection_is_idle(&node->durable);
}

void node_sweep(struct store_link *link, int64_t now_ms)
{
    if (now_ms < link->sweep_ms)
        return;
    link->sweep_ms = INT64_MAX;
    struct node **at = &link->nodes;
    while (*at) {
        struct node *node = *at;
        if (is_superfluous(node)) {
            *at = node->next;
            free_node(link, node);
            continue;
        }
        if (!node->in_map)
            node_sweep_later(link);
        at = &node->next;
    }
}

void node_free_all(struct store_link *link)
{
    while (link->nodes) {
        struct node *node = link->nodes;
        link->nodes = node->next;
        connection_shut(&node->data);
        connection_shut(&node->durable);
        free_node(link, node);
    }
}
