/* One tracking connection for each master of the map; slots follow the map and the claims of the
 * nodes. */
#include "tracker.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "container_of.h"
#include "log.h"
#include "tracking_connection.h"

/* --- map --- */

static struct tracking_connection *find_tracking(struct tracker *tracker,
                                                 const struct endpoint *endpoint)
{
    const struct endpoint *found = endpoint_table_find(&tracker->index, endpoint);
    return found ? container_of(found, struct tracking_connection, endpoint) : NULL;
}

static struct tracking_connection *open_tracking(struct tracker *tracker,
                                                 const struct endpoint *endpoint)
{
    struct tracking_connection *known = find_tracking(tracker, endpoint);
    if (known)
        return known;
    struct tracking_connection *tracking = xcalloc(1, sizeof(*tracking));
    tracking->tracker = tracker;
    tracking->endpoint = *endpoint;
    tracking_connection_init(tracking);
    endpoint_table_add(&tracker->index, &tracking->endpoint);
    tracking->next = tracker->first;
    tracker->first = tracking;
    return tracking;
}

static void close_tracking(struct tracking_connection *tracking)
{
    struct tracker *tracker = tracking->tracker;
    tracking_connection_fini(tracking);
    endpoint_table_remove(&tracker->index, &tracking->endpoint);
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++)
        if (tracker->owner[slot] == tracking)
            tracker->owner[slot] = NULL;
    free(tracking);
}

static void close_unwanted(struct tracker *tracker)
{
    struct tracking_connection **at = &tracker->first;
    while (*at) {
        struct tracking_connection *tracking = *at;
        if (tracking->wanted) {
            at = &tracking->next;
            continue;
        }
        *at = tracking->next;
        close_tracking(tracking);
    }
}

/* Takes slots from their old owners and gives them to the new ones, without generation. True if
 * some moved. */
static bool move_slots(struct tracker *tracker, struct tracking_connection *const *of_node,
                       uint8_t moved[SLOT_BYTES])
{
    bool some = false;
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
        unsigned node = tracker->map->owner[slot];
        struct tracking_connection *owner = node == SLOT_NONE ? NULL : of_node[node];
        if (owner == tracker->owner[slot])
            continue;
        tracker->owner[slot] = owner;
        generations_assign(tracking_epochs_table(tracker), slot, 0);
        if (!owner)
            continue;
        slot_claims_set(moved, slot, true);
        slot_claims_set(owner->claims, slot, true);
        some = true;
    }
    return some;
}

static void follow(struct tracker *tracker)
{
    const struct slot_map *map = tracker->map;
    struct tracking_connection **of_node =
        xcalloc(map->master_count, sizeof(struct tracking_connection *));
    uint8_t moved[SLOT_BYTES] = {0};
    for (struct tracking_connection *tracking = tracker->first; tracking; tracking = tracking->next)
        tracking->wanted = false;
    for (size_t i = 0; i < map->master_count; i++) {
        of_node[i] = open_tracking(tracker, &map->nodes[i]);
        of_node[i]->wanted = true;
    }
    bool some = move_slots(tracker, of_node, moved);
    free(of_node);
    close_unwanted(tracker);
    if (some)
        tracking_epochs_report_doubted(tracker->store, moved, true);
    for (struct tracking_connection *tracking = tracker->first; tracking; tracking = tracking->next)
        if (tracking->step == TRACKING_LIVE)
            tracking_epochs_begin_moved(tracking);
    timing_schedule(&tracker->link->timing, clock_monotonic_ms());
}

/* Without a listener no slot may count as tracked. */
static void close_all(struct tracker *tracker)
{
    for (struct tracking_connection *tracking = tracker->first; tracking; tracking = tracking->next)
        tracking->wanted = false;
    close_unwanted(tracker);
    slot_map_unref(&tracker->map);
}

void tracker_follow(struct tracker *tracker)
{
    if (!atomic_load(&tracker->store->has_listener)) {
        close_all(tracker);
        return;
    }
    struct slot_map *map = store_state_ref_map(tracker->store);
    if (!map || map == tracker->map) {
        slot_map_unref(&map);
        return;
    }
    slot_map_unref(&tracker->map);
    tracker->map = map;
    follow(tracker);
}

void tracker_set_fit(struct tracker *tracker, const struct endpoint *endpoint, bool fit)
{
    struct tracking_connection *tracking = find_tracking(tracker, endpoint);
    if (!tracking || tracking->unfit == !fit)
        return;
    tracking->unfit = !fit;
    log_info(fit ? "store_node_fit" : "store_node_unfit", "host=%s port=%u", endpoint->host,
             endpoint->port);
    if (tracking->step != TRACKING_LIVE)
        return;
    if (fit)
        tracking_epochs_doubt_all(tracking, true);
    tracking_epochs_renew_generation(tracking);
}

/* Begins or ends the generation of one slot. True if it is the node's again, after it was not. */
static bool follow_claim(struct tracking_connection *tracking, unsigned slot, bool claimed)
{
    bool before = slot_claims_has(tracking->claims, slot);
    slot_claims_set(tracking->claims, slot, claimed);
    if (before == claimed || tracking->tracker->owner[slot] != tracking)
        return false;
    if (!claimed) {
        generations_assign(tracking_epochs_table(tracking->tracker), slot, 0);
        store_state_want_refresh(tracking->tracker->store);
    }
    return claimed;
}

static void follow_claims(struct tracking_connection *tracking, const uint8_t claims[SLOT_BYTES])
{
    uint8_t regained[SLOT_BYTES] = {0};
    bool some = false;
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
        if (follow_claim(tracking, slot, slot_claims_has(claims, slot))) {
            slot_claims_set(regained, slot, true);
            some = true;
        }
    }
    if (some)
        tracking_epochs_report_doubted(tracking->tracker->store, regained, false);
    if (tracking->step == TRACKING_LIVE)
        tracking_epochs_begin_moved(tracking);
}

void tracker_claim(struct tracker *tracker, const struct endpoint *endpoint,
                   const uint8_t claims[SLOT_BYTES])
{
    struct tracking_connection *tracking = find_tracking(tracker, endpoint);
    if (tracking && memcmp(tracking->claims, claims, SLOT_BYTES) != 0)
        follow_claims(tracking, claims);
}

/* --- life --- */

static int64_t tick_tracker(void *user, int64_t now_ms)
{
    struct tracker *tracker = user;
    int64_t next_ms = INT64_MAX;
    for (struct tracking_connection *tracking = tracker->first; tracking;
         tracking = tracking->next) {
        int64_t due_ms = tracking_connection_tick(tracking, now_ms);
        next_ms = due_ms < next_ms ? due_ms : next_ms;
    }
    return next_ms;
}

struct tracker *tracker_open(struct store_link *link)
{
    struct tracker *tracker = xcalloc(1, sizeof(*tracker));
    tracker->store = link->store;
    tracker->link = link;
    link->tick = tick_tracker;
    link->tick_user = tracker;
    return tracker;
}

void tracker_close(struct tracker **tracker)
{
    struct tracker *gone = *tracker;
    *tracker = NULL;
    gone->link->tick = NULL;
    close_all(gone);
    endpoint_table_free(&gone->index);
    free(gone);
}
