/* Publishing, reading, and waking the other side. */
#include "store_state.h"

#include "clock.h"
#include "log.h"

enum {
    FRESH_MAP_MS = 1500, /* a map with slots without owner is fetched again every second */
    REDIRECT_INTERVAL_MS = 10000
};

/* --- waking --- */

void store_state_wake_workers(struct store *store)
{
    for (struct store_worker *worker = store->workers; worker; worker = worker->next)
        uv_async_send(&worker->wake);
}

void store_state_wake_control(struct store *store)
{
    uv_async_send(store->control_wake);
}

/* --- map, settings, mark --- */

struct slot_map *store_state_ref_map(struct store *store)
{
    pthread_mutex_lock(&store->lock);
    struct slot_map *map = store->map ? slot_map_ref(store->map) : NULL;
    pthread_mutex_unlock(&store->lock);
    return map;
}

struct settings *store_state_settings(struct store *store)
{
    pthread_mutex_lock(&store->lock);
    struct settings *settings = settings_ref(store->settings);
    pthread_mutex_unlock(&store->lock);
    return settings;
}

bool store_state_read_mark(struct store *store, struct store_mark *ret)
{
    pthread_mutex_lock(&store->lock);
    *ret = store->mark;
    pthread_mutex_unlock(&store->lock);
    return ret->digits[0] != '\0';
}

bool store_state_publish_map(struct store *store, struct slot_map *map)
{
    atomic_store(&store->map_fetched_ms, clock_boot_ms());
    atomic_store(&store->unreachable, false);
    /* Only the control thread publishes, so the map cannot change between look and swap. */
    struct slot_map *old = store_state_ref_map(store);
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
    /* Calls for a slot without owner may wait for this map, which says that there is none. */
    if (changed || !complete)
        store_state_wake_workers(store);
    pthread_mutex_unlock(&store->lock);
    slot_map_unref(&old);
    return changed;
}

/* Wrong credentials and kinds of servers do not recover by waiting: the outcome names them. */
enum err store_state_no_owner_err(struct store *store)
{
    enum err err = atomic_load(&store->unreachable) ? atomic_load(&store->map_err) : ERR_OK;
    return err == ERR_STORE_DENIED || err == ERR_STORE_UNFIT ? err : ERR_STORE_UNAVAILABLE;
}

void store_state_publish_unreachable(struct store *store, enum err err)
{
    atomic_store(&store->map_err, err);
    atomic_store(&store->unreachable, true);
    pthread_mutex_lock(&store->lock);
    store_state_wake_workers(store);
    pthread_mutex_unlock(&store->lock);
}

bool store_state_lacks_owner(struct store *store, const struct slot_map *map)
{
    pthread_mutex_lock(&store->lock);
    bool latest = store->map == map;
    pthread_mutex_unlock(&store->lock);
    int64_t age_ms = clock_boot_ms() - atomic_load(&store->map_fetched_ms);
    bool fresh = map && age_ms <= FRESH_MAP_MS;
    return latest && (fresh || atomic_load(&store->unreachable));
}

void store_state_add_worker(struct store *store, struct store_worker *worker)
{
    pthread_mutex_lock(&store->lock);
    worker->next = store->workers;
    store->workers = worker;
    pthread_mutex_unlock(&store->lock);
}

void store_state_remove_worker(struct store *store, struct store_worker *worker)
{
    pthread_mutex_lock(&store->lock);
    struct store_worker **at = &store->workers;
    while (*at != worker)
        at = &(*at)->next;
    *at = worker->next;
    pthread_mutex_unlock(&store->lock);
}

void store_state_want_refresh(struct store *store)
{
    /* Read first: under a storm of MOVED the line stays shared by all caches. */
    if (atomic_load_explicit(&store->refresh_wanted, memory_order_relaxed))
        return;
    if (!atomic_exchange(&store->refresh_wanted, true))
        store_state_wake_control(store);
}

void store_state_note_refused_redirect(struct store *store, const struct endpoint *from,
                                       const struct endpoint *target)
{
    int64_t now_ms = clock_monotonic_ms();
    int64_t told_ms = atomic_load(&store->redirect_logged_ms);
    if ((told_ms && now_ms - told_ms < REDIRECT_INTERVAL_MS) ||
        !atomic_compare_exchange_strong(&store->redirect_logged_ms, &told_ms, now_ms))
        return;
    log_warning("store_redirect_refused",
                "host=%s port=%u target_host=%s target_port=%u why=\"no member of the cluster\"",
                from->host, from->port, target->host, target->port);
}

static void set_flag(_Atomic bool *flag, bool value)
{
    if (atomic_load_explicit(flag, memory_order_relaxed) != value)
        atomic_store_explicit(flag, value, memory_order_relaxed);
}

void store_state_note_reached(struct store *store)
{
    set_flag(&store->reached, true);
}

void store_state_note_call(struct store *store, bool answered)
{
    set_flag(&store->serving, answered);
    set_flag(&store->calls_finished, true);
}
