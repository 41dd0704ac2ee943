/* A worker's end of the store: opening, sending, flushing, closing, and following the map. What
 * time does to calls is in timing.c. */
#include "link.h"

#include <assert.h>
#include <stdlib.h>

#include "clock.h"
#include "container_of.h"
#include "crypto.h"
#include "redis/topology/replica_read.h"
#include "timing.h"

enum { FLUSH_ROUNDS = 4 };

/* --- nodes --- */

static struct node *find_node(const struct store_link *link, const struct endpoint *endpoint,
                              bool near)
{
    const struct endpoint *found =
        endpoint_table_find(near ? &link->replica_index : &link->index, endpoint);
    return found ? container_of(found, struct node, endpoint) : NULL;
}

static struct node *find_or_make_node(struct store_link *link, const struct endpoint *endpoint,
                                      bool near)
{
    struct node *found = find_node(link, endpoint, near);
    if (found)
        return found;
    struct node *node = xcalloc(1, sizeof(*node));
    node->endpoint = *endpoint;
    connection_init(&node->data, link, &node->endpoint, false);
    connection_init(&node->durable, link, &node->endpoint, true);
    node->breaker = breakers_take(link->store, endpoint, link->settings->reconnect_max_ms);
    node->data.breaker = node->breaker;
    node->durable.breaker = node->breaker;
    node->data.near = near;
    endpoint_table_add(near ? &link->replica_index : &link->index, &node->endpoint);
    node->next = link->nodes;
    link->nodes = node;
    timing_sweep_later(link);
    return node;
}

struct node *link_node(struct store_link *link, const struct endpoint *endpoint)
{
    return find_or_make_node(link, endpoint, false);
}

struct node *link_sentinel_node(struct store_link *link, const struct endpoint *endpoint)
{
    struct node *node = find_or_make_node(link, endpoint, false);
    node->data.sentinel = true;
    return node;
}

struct node *link_replica_node(struct store_link *link, const struct endpoint *endpoint)
{
    return find_or_make_node(link, endpoint, true);
}

bool link_is_up(const struct store_link *link, const struct endpoint *endpoint)
{
    const struct node *node = find_node(link, endpoint, false);
    return node && node->data.state == CONNECTION_UP;
}

void link_free_node(struct store_link *link, struct node *node)
{
    assert(!node->in_map || link->closing);
    endpoint_table_remove(node->data.near ? &link->replica_index : &link->index, &node->endpoint);
    connection_free(&node->data);
    connection_free(&node->durable);
    breakers_give(link->store, &node->breaker);
    free(node);
}

struct connection *link_connection(struct store_link *link, struct node *node,
                                   const struct store_call *call)
{
    bool durable = (call->flags & STORE_DURABLE) && link->settings->wait_timeout_ms > 0;
    return durable ? &node->durable : &node->data;
}

/* --- map and settings --- */

static void take_calls(struct call_list *from, struct call_list *to)
{
    struct store_call *call;
    while ((call = call_list_take(from)))
        call_list_add(to, call);
}

/* Calls that nobody has seen yet go where the new map sends them. */
static void take_unsent(struct connection *connection, struct call_list *to)
{
    struct store_call *next;
    for (struct store_call *call = connection->queue.first; call; call = next) {
        next = call->next;
        if (!call->state->direct && !call->state->asking) {
            call_list_remove(call);
            call_forgo(call);
            call_list_add(to, call);
        }
    }
}

static void route_again(struct store_link *link)
{
    struct call_list unsent = {0};
    take_calls(&link->parked, &unsent);
    for (struct node *node = link->nodes; node; node = node->next) {
        take_unsent(&node->data, &unsent);
        take_unsent(&node->durable, &unsent);
    }
    struct store_call *call;
    while ((call = call_list_take(&unsent)))
        call_route(link, call);
}

/* Nothing came of the refresh that calls waited for. */
static void route_parked(struct store_link *link)
{
    struct call_list parked = {0};
    struct store_call *next;
    for (struct store_call *call = link->parked.first; call; call = next) {
        next = call->next;
        if (call->state->again_ms == 0) {
            call_list_remove(call);
            call_list_add(&parked, call);
        }
    }
    struct store_call *call;
    while ((call = call_list_take(&parked)))
        call_route(link, call);
}

/* Who answered at an address is asked again if the new map names another one there. */
static void judge_again(struct connection *connection)
{
    bool before = connection->strange;
    if (connection->state != CONNECTION_UP)
        return;
    connection_judge(connection);
    if (connection->strange && !before)
        connection_break(connection, ERR_STORE_UNAVAILABLE, "another-node");
}

static void follow_map(struct store_link *link)
{
    const struct slot_map *map = link->map;
    for (struct node *node = link->nodes; node; node = node->next)
        node->in_map = false;
    link->map_nodes = xrealloc(link->map_nodes, map->master_count * sizeof(struct node *));
    for (size_t i = 0; i < map->master_count; i++) {
        link->map_nodes[i] = link_node(link, &map->nodes[i]);
        link->map_nodes[i]->in_map = true;
    }
    replica_read_choose(link);
    for (struct node *node = link->nodes; node; node = node->next) {
        judge_again(&node->data);
        judge_again(&node->durable);
    }
    timing_sweep_later(link);
    route_again(link);
}

static void take_map(struct store_link *link)
{
    struct slot_map *map = store_ref_map(link->store);
    if (map && map != link->map) {
        slot_map_unref(&link->map);
        link->map = map;
        follow_map(link);
        return;
    }
    slot_map_unref(&map);
    route_parked(link);
}

static void take_settings(struct store_link *link)
{
    struct settings *settings = store_settings(link->store);
    if (settings != link->settings) {
        for (struct node *node = link->nodes; node; node = node->next) {
            connection_end_pause(&node->data);
            connection_end_pause(&node->durable);
        }
    }
    bool changed = settings != link->settings;
    settings_unref(&link->settings);
    link->settings = settings;
    if (changed)
        replica_read_choose(link);
}

static void on_wake(uv_async_t *wake)
{
    struct store_link *link = wake->data;
    take_settings(link);
    take_map(link);
}

/* --- open and close --- */

struct store_link *store_link_open(struct store *store, uv_loop_t *loop)
{
    struct store_link *link = xcalloc(1, sizeof(*link));
    link->store = store;
    link->loop = loop;
    link->wake.data = link;
    uv_async_init(loop, &link->wake, on_wake);
    uv_timer_init(loop, &link->timer);
    link->handles = 2;
    link->first_deadline_ms = INT64_MAX;
    link->timer_due_ms = INT64_MAX;
    link->sweep_ms = INT64_MAX;
    link->timer.data = link;
    link->input = xmalloc(LINK_INPUT_BYTES);
    crypto_random(&link->seed, sizeof(link->seed));
    link->seed |= 1;
    link->settings = store_settings(store);
    store_add_link(store, link);
    take_map(link);
    return link;
}

static void free_states(struct store_link *link)
{
    while (link->free_states) {
        struct store_call_state *state = link->free_states;
        link->free_states = state->next_free;
        buffer_free(&state->bytes);
        free(state);
    }
}

void link_handle_closed(struct store_link *link)
{
    assert(link->handles > 0);
    link->handles--;
    if (link->handles > 0 || !link->closing)
        return;
    free_states(link);
    endpoint_table_free(&link->index);
    endpoint_table_free(&link->replica_index);
    slot_map_unref(&link->map);
    settings_unref(&link->settings);
    free(link->map_nodes);
    free(link->replica_nodes);
    free(link->input);
    free(link);
}

static void handle_closed(uv_handle_t *handle)
{
    link_handle_closed(handle->data);
}

/* Everybody's calls, over and over, since a `done` may send another. */
static void end_all(struct store_link *link)
{
    for (struct node *node = link->nodes; node; node = node->next) {
        struct call_list *lists[] = {
            &node->data.queue,    &node->data.awaiting,    &node->data.held,
            &node->durable.queue, &node->durable.awaiting, &node->durable.held,
        };
        for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
            take_calls(lists[i], &link->ending);
    }
    take_calls(&link->parked, &link->ending);
    struct store_call *call;
    while ((call = call_list_take(&link->ending)))
        call_end(link, call, ERR_SHUTTING_DOWN, NULL);
}

void store_link_close(struct store_link **link)
{
    struct store_link *gone = *link;
    *link = NULL;
    if (!gone)
        return;
    gone->closing = true;
    store_remove_link(gone->store, gone);
    end_all(gone);
    assert(gone->pending == 0);
    while (gone->nodes) {
        struct node *node = gone->nodes;
        gone->nodes = node->next;
        connection_shut(&node->data);
        connection_shut(&node->durable);
        link_free_node(gone, node);
    }
    uv_close((uv_handle_t *)&gone->timer, handle_closed);
    uv_close((uv_handle_t *)&gone->wake, handle_closed);
}

/* --- calls --- */

void store_send(struct store_link *link, struct store_call *call)
{
    call_begin(link, call);
    if (link->closing) {
        call_list_add(&link->ending, call);
        return;
    }
    call_route(link, call);
}

struct store_call link_question(const struct text *arguments, size_t count, int64_t patience_ms,
                                store_done_fn *done)
{
    return (struct store_call){.arguments = arguments,
                               .argument_count = count,
                               .deadline_ms = clock_monotonic_ms() + patience_ms,
                               .done = done};
}

void link_send_direct(struct store_link *link, struct store_call *call,
                      const struct endpoint *endpoint)
{
    call_begin(link, call);
    call->state->direct = true;
    call_send(link, link_node(link, endpoint), call);
}

void link_ask(struct store_link *link, struct store_call *call, const struct endpoint *endpoint)
{
    call_begin(link, call);
    call->state->direct = true;
    call->state->anybody = true;
    call_send(link, link_node(link, endpoint), call);
}

void store_flush(struct store_link *link)
{
    for (int round = 0; link->dirty && round < FLUSH_ROUNDS; round++) {
        link->dirty = false;
        for (struct node *node = link->nodes; node; node = node->next) {
            connection_flush(&node->data);
            connection_flush(&node->durable);
        }
    }
    if (link->dirty)
        timing_schedule(link, 0);
}

uint32_t store_link_generation(const struct store_link *link, unsigned slot)
{
    uint32_t generation = store_generation(link->store, slot);
    return link->map == atomic_load(&link->store->published) ? generation : 0;
}

size_t store_link_pending(const struct store_link *link)
{
    return link->pending;
}
