/* The process' side of the store: start, reload, stop, health, and what is shared. */
#include "store_state.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "control.h"
#include "redis/calls/link.h"
#include "log.h"

/* A map with holes is fetched anew every second. */
enum {
    FRESH_MAP_MS = 1500,
    ERROR_RECENT_MS = 5000 /* an error that lasts is met again within that */,
    STRAY_INTERVAL_MS = 10000,
    FOREIGN_RECENT_MS = 10000 /* longer than between two searches */
};

static void wake_links(struct store *store);

/* --- life --- */

struct store *store_start(const struct conf *conf, struct buffer *error)
{
    struct settings *settings = settings_from_conf(conf, error);
    if (!settings)
        return NULL;
    struct store *store = xcalloc(1, sizeof(*store));
    pthread_mutex_init(&store->lock, NULL);
    pthread_mutex_init(&store->watcher_lock, NULL);
    store->settings = settings;
    atomic_init(&store->serving, true);
    atomic_init(&store->map_fetched_ms, INT64_MIN / 2);
    control_start(store);
    return store;
}

bool store_reload(struct store *store, const struct conf *conf, struct buffer *error)
{
    struct settings *settings = settings_from_conf(conf, error);
    if (!settings)
        return false;
    pthread_mutex_lock(&store->lock);
    struct settings *old = store->settings;
    /* The mode needs a restart: links were built for one map or the other. */
    settings->mode = old->mode;
    store->settings = settings;
    wake_links(store);
    pthread_mutex_unlock(&store->lock);
    settings_unref(&old);
    store_want_refresh(store);
    return true;
}

void store_stop(struct store **store)
{
    struct store *gone = *store;
    *store = NULL;
    if (!gone)
        return;
    control_stop(&gone->control);
    assert(gone->breakers.count == 0);
    endpoint_table_free(&gone->breakers);
    slot_map_unref(&gone->map);
    settings_unref(&gone->settings);
    pthread_mutex_destroy(&gone->lock);
    pthread_mutex_destroy(&gone->watcher_lock);
    free(gone);
}

void store_set_mark(struct store *store, const struct store_mark *mark)
{
    pthread_mutex_lock(&store->lock);
    bool changed = strcmp(store->mark.digits, mark->digits) != 0;
    store->mark = *mark;
    pthread_mutex_unlock(&store->lock);
    if (changed)
        store_want_refresh(store);
}

void store_health(const struct store *store, struct store_health *ret)
{
    /* The mutex alone is written through the const. */
    struct slot_map *map = store_ref_map((struct store *)store);
    int64_t fetched_ms = atomic_load(&store->map_fetched_ms);
    *ret = (struct store_health){
        .map_known = map != NULL,
        .masters = map ? (unsigned)map->master_count : 0,
        .slots_covered = map ? map->covered : 0,
        .map_age_ms = map ? clock_boot_ms() - fetched_ms : 0,
        .serving = map && atomic_load(&store->serving),
        .time_asked = atomic_load(&store->time_asked),
        .was_whole = atomic_load(&store->was_whole) && atomic_load(&store->reached),
    };
    slot_map_unref(&map);
    SCOPED(settings_unref) struct settings *settings = store_settings((struct store *)store);
    server_problems_describe(&settings->problems, INT64_MAX, ret->problems, sizeof(ret->problems));
    server_problems_describe(&settings->errors, ERROR_RECENT_MS, ret->error, sizeof(ret->error));
    server_problems_describe(&settings->faults, INT64_MAX, ret->fault, sizeof(ret->fault));
    server_problems_describe(&settings->strangers, 2 * settings->map_refresh_ms + FOREIGN_RECENT_MS,
                             ret->foreign, sizeof(ret->foreign));
}

static void describe_node(struct store *store, const struct endpoint *endpoint,
                          struct store_node_health *ret)
{
    *ret = (struct store_node_health){.port = endpoint->port};
    breakers_look(store, endpoint, ret);
    snprintf(ret->host, sizeof(ret->host), "%s", endpoint->host);
}

size_t store_nodes(const struct store *store, struct store_node_health *ret, size_t most)
{
    struct store *written = (struct store *)store;
    SCOPED(slot_map_unref) struct slot_map *map = store_ref_map(written);
    size_t count = map ? map->master_count : 0;
    if (count > most)
        count = most;
    for (size_t i = 0; i < count; i++)
        describe_node(written, &map->nodes[i], &ret[i]);
    return count;
}

/* --- watching --- */

void store_listen(struct store *store, const struct store_listener *watcher)
{
    pthread_mutex_lock(&store->watcher_lock);
    store->watcher = watcher ? *watcher : (struct store_listener){0};
    atomic_store(&store->has_watcher, watcher != NULL);
    pthread_mutex_unlock(&store->watcher_lock);
    control_wake(store->control);
}

uint32_t store_generation(const struct store *store, unsigned slot)
{
    return generations_of(&store->generations, slot);
}

int64_t store_proof_ms(const struct store *store, uint32_t generation)
{
    return generations_proof(&store->generations, generation);
}

/* --- shared --- */

struct slot_map *store_ref_map(struct store *store)
{
    pthread_mutex_lock(&store->lock);
    struct slot_map *map = store->map ? slot_map_ref(store->map) : NULL;
    pthread_mutex_unlock(&store->lock);
    return map;
}

struct settings *store_settings(struct store *store)
{
    pthread_mutex_lock(&store->lock);
    struct settings *settings = settings_ref(store->settings);
    pthread_mutex_unlock(&store->lock);
    return settings;
}

bool store_read_mark(struct store *store, struct store_mark *ret)
{
    pthread_mutex_lock(&store->lock);
    *ret = store->mark;
    pthread_mutex_unlock(&store->lock);
    return ret->digits[0] != '\0';
}

static void wake_links(struct store *store)
{
    for (struct store_link *link = store->links; link; link = link->next_link)
        uv_async_send(&link->wake);
}

bool store_publish_map(struct store *store, struct slot_map *map)
{
    atomic_store(&store->map_fetched_ms, clock_boot_ms());
    atomic_store(&store->unreachable, false);
    /* Only the control thread publishes, so the map cannot change between look and swap. */
    struct slot_map *old = store_ref_map(store);
    bool changed = !old || !slot_map_equal(old, map);
    slot_map_unref(&old);
    bool complete = map->covered == SLOT_COUNT;
    if (complete)
        atomic_store(&store->was_whole, true);
    pthread_mutex_lock(&store->lock);
    old = changed ? store->map : map;
    if (changed)
        store->map = map;
    atomic_store(&store->published, store->map);
    /* Who waits for the owner of a hole may have waited for this word that there is none. */
    if (changed || !complete)
        wake_links(store);
    pthread_mutex_unlock(&store->lock);
    slot_map_unref(&old);
    return changed;
}

/* Credentials and kinds of servers do not get better by waiting: then the caller is told which. */
enum err store_hole_err(struct store *store)
{
    enum err err = atomic_load(&store->unreachable) ? atomic_load(&store->map_err) : ERR_OK;
    return err == ERR_STORE_DENIED || err == ERR_STORE_UNFIT ? err : ERR_STORE_UNAVAILABLE;
}

void store_publish_unreachable(struct store *store, enum err err)
{
    atomic_store(&store->map_err, err);
    atomic_store(&store->unreachable, true);
    pthread_mutex_lock(&store->lock);
    wake_links(store);
    pthread_mutex_unlock(&store->lock);
}

bool store_hole_is_real(struct store *store, const struct slot_map *map)
{
    pthread_mutex_lock(&store->lock);
    bool latest = store->map == map;
    pthread_mutex_unlock(&store->lock);
    int64_t age_ms = clock_boot_ms() - atomic_load(&store->map_fetched_ms);
    bool fresh = map && age_ms <= FRESH_MAP_MS;
    return latest && (fresh || atomic_load(&store->unreachable));
}

void store_add_link(struct store *store, struct store_link *link)
{
    pthread_mutex_lock(&store->lock);
    link->next_link = store->links;
    store->links = link;
    pthread_mutex_unlock(&store->lock);
}

void store_remove_link(struct store *store, struct store_link *link)
{
    pthread_mutex_lock(&store->lock);
    struct store_link **at = &store->links;
    while (*at != link)
        at = &(*at)->next_link;
    *at = link->next_link;
    pthread_mutex_unlock(&store->lock);
}

void store_want_refresh(struct store *store)
{
    /* Read first: under a storm of MOVED the line stays shared by all caches. */
    if (atomic_load_explicit(&store->refresh_wanted, memory_order_relaxed))
        return;
    if (!atomic_exchange(&store->refresh_wanted, true))
        control_wake(store->control);
}

void store_note_stray(struct store *store, const struct endpoint *from,
                      const struct endpoint *target)
{
    int64_t now_ms = clock_monotonic_ms();
    int64_t told_ms = atomic_load(&store->stray_told_ms);
    if ((told_ms && now_ms - told_ms < STRAY_INTERVAL_MS) ||
        !atomic_compare_exchange_strong(&store->stray_told_ms, &told_ms, now_ms))
        return;
    log_warning("store_redirect_refused",
                "host=%s port=%u target_host=%s target_port=%u why=\"no member of the cluster\"",
                from->host, from->port, target->host, target->port);
}

static void note(_Atomic bool *flag, bool value)
{
    if (atomic_load_explicit(flag, memory_order_relaxed) != value)
        atomic_store_explicit(flag, value, memory_order_relaxed);
}

void store_note_reached(struct store *store)
{
    note(&store->reached, true);
}

void store_note_call(struct store *store, bool answered)
{
    note(&store->serving, answered);
    note(&store->calls_finished, true);
}
