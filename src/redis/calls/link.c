/* A worker's end of the store: opening, sending, flushing, closing, and following the map. */
#include "link.h"

#include <assert.h>
#include <stdlib.h>

#include "clock.h"
#include "container_of.h"
#include "crypto.h"
#include "deadlines.h"
#include "node.h"
#include "replica_read.h"
#include "routing.h"

enum { FLUSH_ROUNDS = 4 };

/* --- map and settings --- */

static void take_calls(struct call_list *from, struct call_list *to)
{
    struct store_call *call;
    while ((call = call_list_take(from)))
        call_list_add(to, call);
}

/* Calls that no server has seen yet follow the new map. */
static void take_unsent(struct connection *connection, struct call_list *to)
{
    struct store_call *next;
    for (struct store_call *call = connection->queue.first; call; call = next) {
        next = call->next;
        if (!call->state->direct && !call->state->asking) {
            call_list_remove(call);
            call_leave(call);
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
        routing_route(link, call);
}

/* The refresh that calls waited for brought no new map. */
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
        routing_route(link, call);
}

/* The server at an address is checked again: the new map may name another one there. */
static void check_again(struct connection *connection)
{
    bool before = connection->foreign;
    if (connection->state != CONNECTION_UP)
        return;
    connection_check_server(connection);
    if (connection->foreign && !before)
        connection_break(connection, ERR_STORE_UNAVAILABLE, "another-node");
}

static void follow_map(struct store_link *link)
{
    const struct slot_map *map = link->map;
    for (struct node *node = link->nodes; node; node = node->next)
        node->in_map = false;
    link->map_nodes = xrealloc(link->map_nodes, map->master_count * sizeof(struct node *));
    for (size_t i = 0; i < map->master_count; i++) {
        link->map_nodes[i] = node_get(link, &map->nodes[i]);
        link->map_nodes[i]->in_map = true;
    }
    replica_read_choose(link);
    for (struct node *node = link->nodes; node; node = node->next) {
        check_again(&node->data);
        check_again(&node->durable);
    }
    node_sweep_later(link);
    route_again(link);
}

static void take_map(struct store_link *link)
{
    struct slot_map *map = store_state_ref_map(link->store);
    if (map && map != link->map) {
        slot_map_unref(&link->map);
        link->map = map;
        follow_map(link);
        return;
    }
    slot_map_unref(&map);
    route_parked(link);
}

static void take_new_settings(struct store_link *link)
{
    struct settings *settings = store_state_settings(link->store);
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

static void on_link_wake(uv_async_t *wake)
{
    struct store_link *link = wake->data;
    take_new_settings(link);
    take_map(link);
}

/* --- open and close --- */

static void on_due(struct timing *timing, int64_t now_ms)
{
    deadlines_tick(container_of(timing, struct store_link, timing), now_ms);
}

struct store_link *store_link_open(struct store *store, uv_loop_t *loop)
{
    struct store_link *link = xcalloc(1, sizeof(*link));
    link->store = store;
    link->loop = loop;
    link->worker.wake.data = link;
    uv_async_init(loop, &link->worker.wake, on_link_wake);
    timing_open(&link->timing, loop, on_due);
    link->timing.timer.data = link;
    link_state_hold(link);
    link_state_hold(link);
    link->call_owner = &routing_owner;
    link->first_deadline_ms = INT64_MAX;
    link->sweep_ms = INT64_MAX;
    link->input = xmalloc(LINK_INPUT_BYTES);
    crypto_random(&link->seed, sizeof(link->seed));
    link->seed |= 1;
    link->settings = store_state_settings(store);
    store_state_add_worker(store, &link->worker);
    take_map(link);
    return link;
}

static void on_link_handle_closed(uv_handle_t *handle)
{
    link_state_release(handle->data);
}

/* Repeats until no call is left, since a `done` may send another. */
static void end_all_calls(struct store_link *link)
{
    for (struct node *node = link->nodes; node; node = node->next) {
        struct call_list *lists[] = {
            &node->data.queue,    &node->data.pipeline.awaiting,    &node->data.pipeline.held,
            &node->durable.queue, &node->durable.pipeline.awaiting, &node->durable.pipeline.held,
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
    timing_close(&gone->timing, on_link_handle_closed);
    store_state_remove_worker(gone->store, &gone->worker);
    end_all_calls(gone);
    assert(gone->pending == 0);
    node_free_all(gone);
    uv_close((uv_handle_t *)&gone->worker.wake, on_link_handle_closed);
}

/* --- calls --- */

void store_send(struct store_link *link, struct store_call *call)
{
    call_begin(link, call);
    if (link->closing) {
        call_list_add(&link->ending, call);
        return;
    }
    routing_route(link, call);
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
    routing_send(link, node_get(link, endpoint), call);
}

void link_ask(struct store_link *link, struct store_call *call, const struct endpoint *endpoint)
{
    call_begin(link, call);
    call->state->direct = true;
    call->state->any_server = true;
    routing_send(link, node_get(link, endpoint), call);
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
        timing_schedule(&link->timing, 0);
}

uint32_t store_link_generation(const struct store_link *link, unsigned slot)
{
    uint32_t generation = generations_of(&link->store->generations, slot);
    return link->map == atomic_load(&link->store->published) ? generation : 0;
}

size_t store_link_pending(const struct store_link *link)
{
    return link->pending;
}
