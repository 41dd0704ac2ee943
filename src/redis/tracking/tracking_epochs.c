/* What a watch speaks for: who is told of changes and doubts, and since when nothing has changed
 * unheard. */
#include "tracking_connection.h"

#include <assert.h>

/* --- telling --- */

void watch_tell_changed(struct store *store, struct text key)
{
    pthread_mutex_lock(&store->watcher_lock);
    if (store->watcher.changed)
        store->watcher.changed(store->watcher.user, key);
    pthread_mutex_unlock(&store->watcher_lock);
}

void watch_tell_doubted(struct store *store, const uint8_t slots[SLOT_BYTES], bool owner_changed)
{
    pthread_mutex_lock(&store->watcher_lock);
    if (store->watcher.doubted)
        store->watcher.doubted(store->watcher.user, slots, owner_changed);
    pthread_mutex_unlock(&store->watcher_lock);
}

void watch_doubt_all(struct watch *watch, bool owner_changed)
{
    uint8_t slots[SLOT_BYTES] = {0};
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++)
        if (watch->watches->owner[slot] == watch)
            claims_set(slots, slot, true);
    watch_tell_doubted(watch->watches->store, slots, owner_changed);
}

/* --- generations --- */

struct generations *watches_table(struct watches *watches)
{
    return &watches->store->generations;
}

static bool serves(const struct watch *watch, unsigned slot)
{
    return watch->watches->owner[slot] == watch && claims_has(watch->claims, slot);
}

static void assign_all(struct watch *watch, uint32_t number)
{
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++)
        if (serves(watch, slot))
            generations_assign(watches_table(watch->watches), slot, number);
}

static void drop_generations(struct watch *watch)
{
    for (size_t i = 0; i < watch->generation_count; i++)
        generations_end(watches_table(watch->watches), watch->generations[i]);
    watch->generation_count = 0;
}

/* 0, slots that are not watched, for an unfit node, or in the unlikely case that there are too
 * many.
 */
static uint32_t begin_generation(struct watch *watch)
{
    if (watch->unfit)
        return 0;
    assert(watch->generation_count < WATCH_GENERATIONS_MAX);
    uint32_t number = generations_begin(watches_table(watch->watches), watch->proof_ms);
    if (number)
        watch->generations[watch->generation_count++] = number;
    return number;
}

void watch_renew_generation(struct watch *watch)
{
    drop_generations(watch);
    assign_all(watch, begin_generation(watch));
}

void watch_end_generations(struct watch *watch)
{
    assign_all(watch, 0);
    drop_generations(watch);
}

void watch_prove_generations(struct watch *watch)
{
    for (size_t i = 0; i < watch->generation_count; i++)
        generations_prove(watches_table(watch->watches), watch->generations[i], watch->proof_ms);
}

/* Ends the generations that no slot has any more. */
static void end_empty(struct watch *watch)
{
    size_t kept = 0;
    for (size_t i = 0; i < watch->generation_count; i++) {
        uint32_t number = watch->generations[i];
        bool used = false;
        for (unsigned slot = 0; slot < SLOT_COUNT && !used; slot++)
            used = generations_of(watches_table(watch->watches), slot) == number;
        if (used)
            watch->generations[kept++] = number;
        else
            generations_end(watches_table(watch->watches), number);
    }
    watch->generation_count = kept;
}

void watch_begin_moved(struct watch *watch)
{
    struct watches *watches = watch->watches;
    end_empty(watch);
    if (watch->generation_count == WATCH_GENERATIONS_MAX) {
        watch_renew_generation(watch);
        return;
    }
    uint32_t number = 0;
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
        if (!serves(watch, slot) || generations_of(watches_table(watches), slot) != 0)
            continue;
        if (number == 0 && (number = begin_generation(watch)) == 0)
            return;
        generations_assign(watches_table(watches), slot, number);
    }
}
