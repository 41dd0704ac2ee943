/* What the domain keeps for the process and for each thread. */
#pragma once

#include <stdatomic.h>

#include "epoch_floor.h"
#include "session.h"

#define SLOTS        16384
#define CROWDED_ROWS 4096

struct refresher;
struct lookup;
struct quotas;
struct ratelimit;

struct session_service {
    struct store *store;
    struct cache *cache;
    struct tenants *tenants;
    struct journal *journal;
    struct epoch_floor *epoch_floor;
    struct refresher *refresher;
    /* What Redis says of the keys of this node (key_watch.c), and of which, bits by id. */
    _Atomic enum session_keys keys_state;
    _Atomic uint64_t keys_ids;
    struct quotas *quotas;
    struct ratelimit *offers; /* challenges that were begun for living sessions, by user */
    /* When each slot last got another server, clock_boot_ms(): what a watch proves, it proves
     * of the slots that it had then. */
    _Atomic int64_t moved_ms[SLOTS];
    /* Tags of tenants whose index has outgrown its root, each at the place that its tag gives; 0:
     * none is known (index.h). */
    _Atomic uint64_t crowded[CROWDED_ROWS];
};

/* Lookups under way, by session, so that many requests for one share a read. */
#define LOOKUP_ROWS 256

/* Slots of tenants' keys, by tag, so that they are not hashed for each request; and until when it
 * counts that Redis was asked for the tenant in vain. */
#define TENANT_ROWS 1024
struct tenant_slot {
    uint8_t tag[TENANT_TAG];
    uint16_t slot;           /* counted from 1; 0: none is kept here */
    uint32_t silent_lease;   /* of the read that was in vain (tenants.h) */
    int64_t silent_until_ms; /* clock_monotonic_ms() */
};

struct session_worker {
    struct session_service *service;
    struct store_link *link;
    struct journal_lane *lane; /* its end of the journal */
    uv_async_t wake;           /* the journal has decided on tickets */
    uv_timer_t patience;       /* with reads of tenants, see tenant.c */
    bool closing;
    struct user_update *changes; /* under way, see user_update.h */
    struct lookup *lookups[LOOKUP_ROWS];
    struct lookup *idle_lookups;
    struct tenants_view *tenants;
    struct tenant_slot tenant_slots[TENANT_ROWS];
    struct tenant_read *tenant_reads[TENANT_ROWS]; /* under way, by tag, see tenant.c */
    size_t tenant_read_count;
    bool restores_tenant; /* one is under way, see tenant_update.h */
};

/* For the journal's counterpart of struct user_tag. */
static inline const uint8_t *owner_bytes(const struct user_tag *owner)
{
    _Static_assert(sizeof(struct user_tag) == CACHE_OWNER && CACHE_OWNER == JOURNAL_OWNER,
                   "tags are 14 bytes everywhere");
    return (const uint8_t *)owner;
}
