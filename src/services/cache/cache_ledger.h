/* Who has how much of the cache: the bounds, the sum, and the tenants with their shares.
 *
 * An entry is charged before it is linked in and released after it was taken out. All functions
 * take the ledger's lock for themselves, and are called without the lock of a shard. */
#pragma once

#include <pthread.h>

#include "cache.h"
#include "hash.h"

#define CACHE_SHARDS 64
/* What a tenant is charged for an entry's places in the tables of its shard. */
#define CACHE_PLACES   (2 * sizeof(void *))
#define CACHE_NO_ENTRY UINT32_MAX

struct cache_tenant {
    struct hash_tagged by_tag;
    uint32_t turn;                /* the shard whose turn it is to give up one; ledger's lock */
    size_t entries, bytes;        /* ledger's lock; without entries it is freed */
    size_t quota;                 /* its own, 0: none; ledger's lock */
    uint32_t hands[CACHE_SHARDS]; /* the clock's hand among its entries in a shard; shard's lock */
};

struct cache_ledger {
    pthread_mutex_t lock;
    struct hash_table tenants;
    size_t bound, quota;   /* quota of everybody; 0: none */
    size_t entries, bytes; /* of entries and their tenants */
    /* What the shards' tables have: below 0 for a moment if one shrinks and that is booked before
     * the growth, by another thread. */
    int64_t tables;
    uint32_t turn;
};

/* Which shard is to give up an entry, and whose: tenant NULL means anybody's. */
struct cache_debt {
    struct cache_tenant *tenant;
    uint32_t shard;
};

void cache_ledger_init(struct cache_ledger *ledger, const struct hash_seed *seed);
/* Every entry must have been released. */
void cache_ledger_fini(struct cache_ledger *ledger);
void cache_ledger_set_bounds(struct cache_ledger *ledger, size_t bound, size_t quota);
/* Charges the tenant with an entry; it stays at least until the release. `quota` (may be NULL) is
 * the tenant's own from now on. NULL if so much will never have room. */
struct cache_tenant *cache_ledger_charge(struct cache_ledger *ledger,
                                         const uint8_t tag[CACHE_TENANT], size_t bytes,
                                         const size_t *quota);
void cache_ledger_release(struct cache_ledger *ledger, struct cache_tenant *tenant, size_t bytes);
/* Books what the tables of a shard grew (or shrank) by. */
void cache_ledger_book(struct cache_ledger *ledger, int64_t bytes);
/* True if somebody has too much: the tenant (may be NULL) before everybody. A shard is named anew
 * each time, in turn. */
bool cache_ledger_owes(struct cache_ledger *ledger, struct cache_tenant *tenant,
                       struct cache_debt *ret);
void cache_ledger_usage(struct cache_ledger *ledger, struct cache_usage *ret);
