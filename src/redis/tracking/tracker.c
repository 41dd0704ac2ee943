/* Who watches what: one watch for each master of the map; slots follow the map, and what the nodes
 * say of them. */
#include "tracker.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "container_of.h"
#include "log.h"
#include "tracking_connection.h"

/* --- map --- */

static struct watch *find_watch(struct watches *watches, const struct endpoint *endpoint)
{
    const struct endpoint *found = endpoint_table_find(&watches->index, endpoint);
    return found ? container_of(found, struct watch, endpoint) : NULL;
}

static struct watch *open_watch(struct watches *watches, const struct endpoint *endpoint)
{
    struct watch *known = find_watch(watches, endpoint);
    if (known)
        return known;
    struct watch *watch = xcalloc(1, sizeof(*watch));
    watch->watches = watches;
    watch->endpoint = *endpoint;
    watch_init(watch);
    endpoint_table_add(&watches->index, &watch->endpoint);
    watch->next = watches->first;
    watches->first = watch;
    return watch;
}

static void close_watch(struct watch *watch)
{
    struct watches *watches = watch->watches;
    watch_fini(watch);
    endpoint_table_remove(&watches->index, &watch->endpoint);
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++)
        if (watches->owner[slot] == watch)
            watches->owner[slot] = NULL;
    free(watch);
}

static void close_unwanted(struct watches *watches)
{
    struct watch **at = &watches->first;
    while (*at) {
        struct watch *watch = *at;
        if (watch->wanted) {
            at = &watch->next;
            continue;
        }
        *at = watch->next;
        close_watch(watch);
    }
}

/* Takes slots from their old owners and gives them to the new ones, without generation. True if
 * some moved. */
static bool move_slots(struct watches *watches, struct watch *const *of_node,
                       uint8_t moved[SLOT_BYTES])
{
    bool some = false;
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
        unsigned node = watches->map->owner[slot];
        struct watch *owner = node == SLOT_NONE ? NULL : of_node[node];
        if (owner == watches->owner[slot])
            continue;
        watches->owner[slot] = owner;
        generations_assign(watches_table(watches), slot, 0);
        if (!owner)
            continue;
        claims_set(moved, slot, true);
        claims_set(owner->claims, slot, true);
        some = true;
    }
    return some;
}

static void follow(struct watches *watches)
{
    const struct slot_map *map = watches->map;
    struct watch **of_node = xcalloc(map->master_count, sizeof(struct watch *));
    uint8_t moved[SLOT_BYTES] = {0};
    for (struct watch *watch = watches->first; watch; watch = watch->next)
        watch->wanted = false;
    for (size_t i = 0; i < map->master_count; i++) {
        of_node[i] = open_watch(watches, &map->nodes[i]);
        of_node[i]->wanted = true;
    }
    bool some = move_slots(watches, of_node, moved);
    free(of_node);
    close_unwanted(watches);
    if (some)
        watch_tell_doubted(watches->store, moved, true);
    for (struct watch *watch = watches->first; watch; watch = watch->next)
        if (watch->step == WATCH_LIVE)
            watch_begin_moved(watch);
    link_schedule(watches->link, clock_monotonic_ms());
}

/* Nobody is told any more: nothing may pass for watched. */
static void close_all(struct watches *watches)
{
    for (struct watch *watch = watches->first; watch; watch = watch->next)
        watch->wanted = false;
    close_unwanted(watches);
    slot_map_unref(&watches->map);
}

void watches_follow(struct watches *watches)
{
    if (!atomic_load(&watches->store->has_watcher)) {
        close_all(watches);
        return;
    }
    struct slot_map *map = shared_map(watches->store);
    if (!map || map == watches->map) {
        slot_map_unref(&map);
        return;
    }
    slot_map_unref(&watches->map);
    watches->map = map;
    follow(watches);
}

void watches_judge(struct watches *watches, const struct endpoint *endpoint, bool fit)
{
    struct watch *watch = find_watch(watches, endpoint);
    if (!watch || watch->unfit == !fit)
        return;
    watch->unfit = !fit;
    log_info(fit ? "store_node_fit" : "store_node_unfit", "host=%s port=%u", endpoint->host,
             endpoint->port);
    if (watch->step != WATCH_LIVE)
        return;
    if (fit)
        watch_doubt_all(watch, true);
    watch_renew_generation(watch);
}

/* Begins or ends the generation of one slot. True if it is the node's again, after it was not. */
static bool follow_claim(struct watch *watch, unsigned slot, bool claimed)
{
    bool before = claims_has(watch->claims, slot);
    claims_set(watch->claims, slot, claimed);
    if (before == claimed || watch->watches->owner[slot] != watch)
        return false;
    if (!claimed) {
        generations_assign(watches_table(watch->watches), slot, 0);
        shared_want_refresh(watch->watches->store);
    }
    return claimed;
}

static void follow_claims(struct watch *watch, const uint8_t claims[SLOT_BYTES])
{
    uint8_t regained[SLOT_BYTES] = {0};
    bool some = false;
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
        if (follow_claim(watch, slot, claims_has(claims, slot))) {
            claims_set(regained, slot, true);
            some = true;
        }
    }
    if (some)
        watch_tell_doubted(watch->watches->store, regained, false);
    if (watch->step == WATCH_LIVE)
        watch_begin_moved(watch);
}

void watches_claim(struct watches *watches, const struct endpoint *endpoint,
                   const uint8_t claims[SLOT_BYTES])
{
    struct watch *watch = find_watch(watches, endpoint);
    if (watch && memcmp(watch->claims, claims, SLOT_BYTES) != 0)
        follow_claims(watch, claims);
}

/* --- life --- */

static int64_t tick(void *user, int64_t now_ms)
{
    struct watches *watches = user;
    int64_t next_ms = INT64_MAX;
    for (struct watch *watch = watches->first; watch; watch = watch->next) {
        int64_t due_ms = watch_tick(watch, now_ms);
        next_ms = due_ms < next_ms ? due_ms : next_ms;
    }
    return next_ms;
}

struct watches *watches_open(struct store_link *link)
{
    struct watches *watches = xcalloc(1, sizeof(*watches));
    watches->store = link->store;
    watches->link = link;
    link->tick = tick;
    link->tick_user = watches;
    return watches;
}

void watches_close(struct watches **watches)
{
    struct watches *gone = *watches;
    *watches = NULL;
    gone->link->tick = NULL;
    close_all(gone);
    endpoint_table_free(&gone->index);
    free(gone);
}
