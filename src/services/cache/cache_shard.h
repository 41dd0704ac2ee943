/* One part of the cache, with a lock of its own: entries by owner, and the clocks.
 *
 * Every function but init takes the shard's lock for itself. Nothing is allocated or freed for an
 * entry under the lock: entries are made before, and what is removed is handed out in a list. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "cache_ledger.h"

/* Entries of one owner; one more evicts the oldest, so that chains stay short. */
#define CACHE_OWNER_ENTRIES 1024

/* One entry. It is in three structures: the chain of its owner (node), the positions of the shard
 * (index), which the shard's clock goes through, and the ring of its tenant (before, after; also
 * positions), which the tenant's clock goes through. */
struct cache_item {
    struct hash_node node;
    struct cache_tenant *tenant;
    int64_t verified_ms;
    uint8_t user[OWNER_TAG - TENANT_TAG];
    uint8_t session[SESSION_ID];
    uint32_t generation;
    uint32_t index, before, after;
    uint16_t length;
    bool final;
    bool used; /* since a clock's hand was here */
    char value[];
};

struct cache_shard {
    _Alignas(64) pthread_mutex_t lock;
    struct hash_table table;
    struct hash_array positions; /* every item once, without gaps */
    uint32_t hand;               /* next position of the clock */
    uint32_t number;             /* of this shard */
};

/* Items that an operation removed, for cache.c to release, wipe and free; and the growth of the
 * shard's tables. */
struct cache_removed {
    struct cache_item *first;
    int64_t growth;
};

/* The condition for storing an entry. */
struct cache_condition {
    const _Atomic uint32_t *counter;
    uint32_t lease;
    bool replace; /* a present entry of this session */
};

struct cache_item *cache_item_create(const struct cache_key *key, const struct cache_entry *entry);
/* Its memory in bytes, the allocator's share included. */
size_t cache_item_bytes(struct cache_item *item);
void cache_item_free(struct cache_item *item);

void cache_shard_init(struct cache_shard *shard, const struct hash_seed *seed, uint32_t number);
void cache_shard_fini(struct cache_shard *shard);

bool cache_shard_get(struct cache_shard *shard, const struct cache_key *key, uint64_t hash,
                     struct arena *arena, struct cache_entry *ret);
void cache_shard_prefetch(struct cache_shard *shard, uint64_t hash, enum cache_prefetch what);
void cache_shard_patch(struct cache_shard *shard, const struct cache_key *key, uint64_t hash,
                       size_t offset, const void *bytes, size_t length);
void cache_shard_patch_if(struct cache_shard *shard, const struct cache_key *key, uint64_t hash,
                          const void *expected, const void *bytes, size_t length);
/* Links in the item, whose tenant is set. False leaves it with the caller. */
bool cache_shard_put(struct cache_shard *shard, struct cache_item *item,
                     const struct cache_key *key, uint64_t hash,
                     const struct cache_condition *condition, struct cache_removed *removed);
/* Removes the owner's entries that are not final. */
void cache_shard_forget(struct cache_shard *shard, const uint8_t owner[OWNER_TAG], uint64_t hash,
                        struct cache_removed *removed);
/* Removes the next entry by the clock, of this tenant or (NULL) of all. False if there is none. */
bool cache_shard_evict(struct cache_shard *shard, struct cache_tenant *tenant,
                       struct cache_removed *removed);

/* Copies of some entries. */
enum { CACHE_STEP = 32, CACHE_STEP_BYTES = 65536 };
struct cache_step {
    size_t count;
    struct cache_key keys[CACHE_STEP];
    struct cache_entry entries[CACHE_STEP]; /* their values point into `values` */
    size_t used;
    char values[CACHE_STEP_BYTES];
};
/* Copies some entries below position *at (UINT32_MAX: the end) and moves *at down; false if none
 * was left. Going down, it meets an entry that moves into a gap twice rather than never. */
bool cache_shard_copy(struct cache_shard *shard, uint32_t *at, struct cache_step *step);
