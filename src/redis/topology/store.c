/* The process' side of the store: start, reload, stop, health, listening. */
#include "redis/state/store_state.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "control.h"

enum {
    ERROR_RECENT_MS = 5000,   /* an error that lasts is met again within that */
    FOREIGN_RECENT_MS = 10000 /* longer than between two searches */
};

/* --- life --- */

struct store *store_start(const struct conf *conf, const struct store_keys *keys,
                          struct buffer *error)
{
    assert(keys->tracked_count > 0 && keys->tracked_count <= STORE_TRACKED_MAX);
    struct settings *settings = settings_from_conf(conf, error);
    if (!settings)
        return NULL;
    struct store *store = xcalloc(1, sizeof(*store));
    pthread_mutex_init(&store->lock, NULL);
    pthread_mutex_init(&store->listener_lock, NULL);
    store->settings = settings;
    store->keys = keys;
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
    store_state_wake_workers(store);
    pthread_mutex_unlock(&store->lock);
    settings_unref(&old);
    store_state_want_refresh(store);
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
    pthread_mutex_destroy(&gone->listener_lock);
    free(gone);
}

void store_set_mark(struct store *store, const struct store_mark *mark)
{
    pthread_mutex_lock(&store->lock);
    bool changed = strcmp(store->mark.digits, mark->digits) != 0;
    store->mark = *mark;
    pthread_mutex_unlock(&store->lock);
    if (changed)
        store_state_want_refresh(store);
}

void store_health(const struct store *store, struct store_health *ret)
{
    /* The mutex alone is written through the const. */
    struct slot_map *map = store_state_ref_map((struct store *)store);
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
    SCOPED(settings_unref) struct settings *settings = store_state_settings((struct store *)store);
    server_problems_describe(&settings->problems, INT64_MAX, ret->problems, sizeof(ret->problems));
    server_problems_describe(&settings->errors, ERROR_RECENT_MS, ret->error, sizeof(ret->error));
    server_problems_describe(&settings->faults, INT64_MAX, ret->fault, sizeof(ret->fault));
    server_problems_describe(&settings->foreign, 2 * settings->map_refresh_ms + FOREIGN_RECENT_MS,
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
    SCOPED(slot_map_unref) struct slot_map *map = store_state_ref_map(written);
    size_t count = map ? map->master_count : 0;
    if (count > most)
        count = most;
    for (size_t i = 0; i < count; i++)
        describe_node(written, &map->nodes[i], &ret[i]);
    return count;
}

/* --- tracking --- */

void store_listen(struct store *store, const struct store_listener *listener)
{
    pthread_mutex_lock(&store->listener_lock);
    store->listener = listener ? *listener : (struct store_listener){0};
    atomic_store(&store->has_listener, listener != NULL);
    pthread_mutex_unlock(&store->listener_lock);
    store_state_wake_control(store);
}

uint32_t store_generation(const struct store *store, unsigned slot)
{
    return generations_of(&store->generations, slot);
}

int64_t store_proof_ms(const struct store *store, uint32_t generation)
{
    return generations_proof(&store->generations, generation);
}
