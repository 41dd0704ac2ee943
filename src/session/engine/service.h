/* The domain's state for the process and for each worker. */
#pragma once

#include <stdatomic.h>

#include "epoch_floor.h"
#include "ids.h"
#include "session.h"

#define CROWDED_ROWS 4096

struct refresher;
struct lookup;
struct due;
struct quotas;
struct ratelimit;
struct signatures;

struct session_service {
    struct store *store;
    struct cache *cache;
    struct tenants *tenants;
    struct journal *journal;
    struct epoch_floor *epoch_floor;
    struct refresher *refresher;
    /* The verdict of Redis on this node's keys (key_watch.c), and the keys it is about, bits by
     * id. */
    _Atomic enum session_keys keys_state;
    _Atomic uint64_t keys_ids;
    _Atomic unsigned record_format; /* the latest that all nodes on this Redis read (record.h) */
    uint8_t recognition_key[CRYPTO_TABLE_KEY]; /* of cache_value_recognise() */
    struct quotas *quotas;
    struct ratelimit *offers;      /* step-up challenges begun, by user */
    struct signatures *signatures; /* signed identities, by what they state */
    /* When each slot last moved to another server, clock_boot_ms(). A tracking connection proves
     * only the slots that it had. */
    _Atomic int64_t moved_ms[SLOT_COUNT];
    /* Tags of tenants whose index has outgrown its root, each at the index that its tag gives. 0:
     * none is known (index.h). */
    _Atomic uint64_t crowded[CROWDED_ROWS];
};

/* Lookups in flight, by session, so requests for one session share a read. */
#define LOOKUP_ROWS 256

/* Slots of tenants' keys, by tag, to avoid hashing per request; and until when a read without an
 * answer counts as silence. */
#define TENANT_ROWS 1024
struct tenant_slot {
    uint8_t tag[TENANT_TAG];
    uint16_t slot;           /* plus 1; 0: empty */
    uint32_t silent_lease;   /* of the read without an answer (tenants.h) */
    int64_t silent_until_ms; /* clock_monotonic_ms() */
};

struct session_worker {
    struct session_service *service;
    struct store_link *link;
    struct journal_lane *lane; /* its end of the journal */
    uv_async_t wake;           /* the journal has decided on tickets */
    uv_timer_t patience;       /* for waiters of tenant reads, see tenant.c */
    uv_idle_t turning;         /* keeps the loop turning while there are turns, see turns.c */
    struct turn *turns, **turns_end;
    uv_timer_t due_timer; /* for these, see due.h; the earliest first */
    struct due *first_due, *last_due;
    bool closing;
    unsigned open_handles;
    struct user_update *changes; /* in flight, see user_update.h */
    struct lookup *lookups[LOOKUP_ROWS];
    struct lookup *idle_lookups;
    struct tenants_view *tenants;
    struct tenant_slot tenant_slots[TENANT_ROWS];
    struct tenant_read *tenant_reads[TENANT_ROWS]; /* in flight, by tag, see tenant.c */
    size_t tenant_read_count;
    bool restores_tenant; /* a restore is in flight, see tenant_update.h */
};

/* The owner as the journal and the cache take it. */
static inline const uint8_t *owner_bytes(const struct user_tag *owner)
{
    _Static_assert(sizeof(struct user_tag) == OWNER_TAG, "both tags, one after the other");
    return (const uint8_t *)owner;
}
