/* Guards of reads, and what a tracking connection proves. */
#include "freshness.h"

#include <assert.h>

#include "clock.h"
#include "metrics.h"

/* --- one read --- */

/* The lease comes first, so neither lease nor generation misses a later change. */
static struct read_guard guard_begin(struct session_worker *worker, uint32_t lease, unsigned slot)
{
    assert(slot < SLOT_COUNT);
    return (struct read_guard){
        .lease = lease,
        .generation = store_link_generation(worker->link, slot),
        .sent_ms = clock_boot_ms(),
    };
}

struct read_guard freshness_begin(struct session_worker *worker, const struct user_tag *owner,
                                  unsigned slot)
{
    const struct session_service *service = worker->service;
    struct read_guard guard =
        guard_begin(worker, cache_lease(service->cache, owner_bytes(owner)), slot);
    guard.floor_ms = epoch_floor_of(service->epoch_floor, owner, clock_common_ms());
    return guard;
}

struct read_guard freshness_begin_tenant(struct session_worker *worker,
                                         const uint8_t tag[TENANT_TAG], unsigned slot)
{
    return guard_begin(worker, tenants_lease(worker->service->tenants, tag), slot);
}

enum err freshness_check(struct session_service *service, const struct read_guard *guard,
                         const struct user_tag *owner, int64_t version, int64_t epoch)
{
    int64_t now_ms = clock_common_ms();
    bool older =
        version < guard->known_version && epoch_floor_remembers(guard->known_version, now_ms);
    assert(guard->sent_ms > 0);
    if (version == 0)
        return ERR_OK;
    if (older || epoch < guard->floor_ms) {
        metrics_add(METRIC_STORE_BEHIND, 1);
        return ERR_STORE_BEHIND;
    }
    freshness_note(service, owner, epoch);
    return ERR_OK;
}

bool freshness_is_overtaken(const struct session_service *service, const struct read_guard *guard,
                            const struct user_tag *owner)
{
    return guard->lease != cache_lease(service->cache, owner_bytes(owner));
}

/* --- a user --- */

void freshness_note(struct session_service *service, const struct user_tag *owner, int64_t epoch)
{
    epoch_floor_raise(service->epoch_floor, owner, epoch, clock_common_ms());
}

bool freshness_is_last(const struct session_service *service, const struct user_tag *owner,
                       int64_t version)
{
    return epoch_floor_of(service->epoch_floor, owner, clock_common_ms()) <= version;
}

/* --- a tracked slot --- */

bool freshness_holds(const struct session_service *service, uint32_t generation, unsigned slot,
                     int64_t now_ms)
{
    return generation != 0 && generation == store_generation(service->store, slot) &&
           now_ms - store_proof_ms(service->store, generation) < STORE_PROOF_MAX_MS;
}

int64_t freshness_verified_ms(const struct session_service *service, uint32_t generation,
                              int64_t verified_ms, unsigned slot)
{
    if (generation == 0)
        return verified_ms;
    int64_t proof_ms = store_proof_ms(service->store, generation);
    int64_t moved_ms = atomic_load_explicit(&service->moved_ms[slot], memory_order_relaxed);
    /* The tracking connection may go on for other slots than this one. */
    if (moved_ms > verified_ms && moved_ms < proof_ms)
        proof_ms = moved_ms;
    return proof_ms > verified_ms ? proof_ms : verified_ms;
}
