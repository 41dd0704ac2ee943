/* The process' side of the store: start, reload, stop, health, and what is shared. */
#include "shared.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "clock.h"
#include "control.h"
#include "link.h"

/* --- life --- */

struct store *store_start(const struct conf *conf, struct buffer *error)
{
    struct settings *settings = settings_from_conf(conf, error);
    if (!settings)
        return NULL;
    struct store *store = xcalloc(1, sizeof(*store));
    pthread_mutex_init(&store->lock, NULL);
    store->settings = settings;
    atomic_init(&store->serving, true);
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
    settings->standalone = old->standalone;
    store->settings = settings;
    for (struct store_link *link = store->links; link; link = link->next_link)
        uv_async_send(&link->wake);
    pthread_mutex_unlock(&store->lock);
    settings_unref(&old);
    shared_want_refresh(store);
    return true;
}

void store_stop(struct store **store)
{
    struct store *gone = *store;
    *store = NULL;
    if (!gone)
        return;
    control_stop(&gone->control);
    slot_map_unref(&gone->map);
    settings_unref(&gone->settings);
    pthread_mutex_destroy(&gone->lock);
    free(gone);
}

void store_health(const struct store *store, struct store_health *ret)
{
    /* The mutex alone is written through the const. */
    struct slot_map *map = shared_map((struct store *)store);
    int64_t fetched_ms = atomic_load(&store->map_fetched_ms);
    *ret = (struct store_health){
        .map_known = map != NULL,
        .masters = map ? (unsigned)map->master_count : 0,
        .slots_covered = map ? map->covered : 0,
        .map_age_ms = map ? clock_monotonic_ms() - fetched_ms : 0,
        .serving = map && atomic_load(&store->serving),
    };
    slot_map_unref(&map);
}

/* --- shared --- */

struct slot_map *shared_map(struct store *store)
{
    pthread_mutex_lock(&store->lock);
    struct slot_map *map = store->map ? slot_map_ref(store->map) : NULL;
    pthread_mutex_unlock(&store->lock);
    return map;
}

struct settings *shared_settings(struct store *store)
{
    pthread_mutex_lock(&store->lock);
    struct settings *settings = settings_ref(store->settings);
    pthread_mutex_unlock(&store->lock);
    return settings;
}

bool shared_publish_map(struct store *store, struct slot_map *map)
{
    atomic_store(&store->map_fetched_ms, clock_monotonic_ms());
    /* Only the control thread publishes, so the map cannot change between look and swap. */
    struct slot_map *old = shared_map(store);
    bool changed = !old || !slot_map_equal(old, map);
    slot_map_unref(&old);
    if (!changed) {
        slot_map_unref(&map);
        return false;
    }
    pthread_mutex_lock(&store->lock);
    old = store->map;
    store->map = map;
    for (struct store_link *link = store->links; link; link = link->next_link)
        uv_async_send(&link->wake);
    pthread_mutex_unlock(&store->lock);
    slot_map_unref(&old);
    return true;
}

void shared_add_link(struct store *store, struct store_link *link)
{
    pthread_mutex_lock(&store->lock);
    link->next_link = store->links;
    store->links = link;
    pthread_mutex_unlock(&store->lock);
}

void shared_remove_link(struct store *store, struct store_link *link)
{
    pthread_mutex_lock(&store->lock);
    struct store_link **at = &store->links;
    while (*at != link)
        at = &(*at)->next_link;
    *at = link->next_link;
    pthread_mutex_unlock(&store->lock);
}

void shared_want_refresh(struct store *store)
{
    /* Read first: under a storm of MOVED the line stays shared by all caches. */
    if (atomic_load_explicit(&store->refresh_wanted, memory_order_relaxed))
        return;
    if (!atomic_exchange(&store->refresh_wanted, true))
        control_wake(store->control);
}

static void note(_Atomic bool *flag, bool value)
{
    if (atomic_load_explicit(flag, memory_order_relaxed) != value)
        atomic_store_explicit(flag, value, memory_order_relaxed);
}

void shared_note_call(struct store *store, bool answered)
{
    note(&store->serving, answered);
    note(&store->calls_finished, true);
}
