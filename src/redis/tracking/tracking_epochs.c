/* Reports changes and doubts to the listener, and keeps the generations of a connection's slots. */
#include "tracking_connection.h"

#include <assert.h>

/* --- reporting --- */

void tracking_epochs_report_changed(struct store *store, struct text key)
{
    pthread_mutex_lock(&store->listener_lock);
    if (store->listener.changed)
        store->listener.changed(store->listener.user, key);
    pthread_mutex_unlock(&store->listener_lock);
}

void tracking_epochs_report_doubted(struct store *store, const uint8_t slots[SLOT_BYTES],
                                    bool owner_changed)
{
    pthread_mutex_lock(&store->listener_lock);
    if (store->listener.doubted)
        store->listener.doubted(store->listener.user, slots, owner_changed);
    pthread_mutex_unlock(&store->listener_lock);
}

void tracking_epochs_doubt_all(struct tracking_connection *tracking, bool owner_changed)
{
    uint8_t slots[SLOT_BYTES] = {0};
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++)
        if (tracking->tracker->owner[slot] == tracking)
            slot_claims_set(slots, slot, true);
    tracking_epochs_report_doubted(tracking->tracker->store, slots, owner_changed);
}

/* --- generations --- */

struct generations *tracking_epochs_table(struct tracker *tracker)
{
    return &tracker->store->generations;
}

static bool serves(const struct tracking_connection *tracking, unsigned slot)
{
    return tracking->tracker->owner[slot] == tracking && slot_claims_has(tracking->claims, slot);
}

static void assign_all(struct tracking_connection *tracking, uint32_t number)
{
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++)
        if (serves(tracking, slot))
            generations_assign(tracking_epochs_table(tracking->tracker), slot, number);
}

static void drop_generations(struct tracking_connection *tracking)
{
    for (size_t i = 0; i < tracking->generation_count; i++)
        generations_end(tracking_epochs_table(tracking->tracker), tracking->generations[i]);
    tracking->generation_count = 0;
}

/* 0, for slots that are not tracked, if the node is unfit, or in the unlikely case that there are
 * too many. */
static uint32_t begin_generation(struct tracking_connection *tracking)
{
    if (tracking->unfit)
        return 0;
    assert(tracking->generation_count < TRACKING_GENERATIONS_MAX);
    uint32_t number =
        generations_begin(tracking_epochs_table(tracking->tracker), tracking->proof_ms);
    if (number)
        tracking->generations[tracking->generation_count++] = number;
    return number;
}

void tracking_epochs_renew_generation(struct tracking_connection *tracking)
{
    drop_generations(tracking);
    assign_all(tracking, begin_generation(tracking));
}

void tracking_epochs_end_generations(struct tracking_connection *tracking)
{
    assign_all(tracking, 0);
    drop_generations(tracking);
}

void tracking_epochs_prove_generations(struct tracking_connection *tracking)
{
    for (size_t i = 0; i < tracking->generation_count; i++)
        generations_prove(tracking_epochs_table(tracking->tracker), tracking->generations[i],
                          tracking->proof_ms);
}

/* Ends the generations that no slot has any more. */
static void end_empty(struct tracking_connection *tracking)
{
    size_t kept = 0;
    for (size_t i = 0; i < tracking->generation_count; i++) {
        uint32_t number = tracking->generations[i];
        bool used = false;
        for (unsigned slot = 0; slot < SLOT_COUNT && !used; slot++)
            used = generations_of(tracking_epochs_table(tracking->tracker), slot) == number;
        if (used)
            tracking->generations[kept++] = number;
        else
            generations_end(tracking_epochs_table(tracking->tracker), number);
    }
    tracking->generation_count = kept;
}

void tracking_epochs_begin_moved(struct tracking_connection *tracking)
{
    struct tracker *tracker = tracking->tracker;
    end_empty(tracking);
    if (tracking->generation_count == TRACKING_GENERATIONS_MAX) {
        tracking_epochs_renew_generation(tracking);
        return;
    }
    uint32_t number = 0;
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
        if (!serves(tracking, slot) || generations_of(tracking_epochs_table(tracker), slot) != 0)
            continue;
        if (number == 0 && (number = begin_generation(tracking)) == 0)
            return;
        generations_assign(tracking_epochs_table(tracker), slot, number);
    }
}
