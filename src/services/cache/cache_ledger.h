/* The bounds of the cache, its sum, and the shares of its tenants.
 *
 * An entry is charged before it is linked in and released after it was removed. All functions take
 * the ledger's lock themselves and are called without the lock of a shard. */
#pragma once

#include <pthread.h>

#include "cache.h"
#include "hash.h"

#define CACHE_SHARDS 64
/* A tenant's charge for an entry's positions in the tables of its shard. */
#define CACHE_PLACES   (2 * sizeof(void *))
#define CACHE_NO_ENTRY UINT32_MAX

struct cache_tenant {
    struct hash_tagged by_tag;
    uint32_t turn;                /* the shard to evict from next; ledger's lock */
    size_t entries, bytes;        /* ledger's lock; without entries it is freed */
    size_t quota;                 /* its own, 0: none; ledger's lock */
    uint32_t hands[CACHE_SHARDS]; /* the clock's hand among its entries in a shard; shard's lock */
};

struct cache_ledger {
    pthread_mutex_t lock;
    struct hash_table tenants;
    size_t bound, quota;   /* quota: that of tenants without their own; 0: none */
    size_t entries, bytes; /* of entries and their tenants */
    /* Bytes of the shards' tables. Briefly below 0 if one thread books a shrinking before another
     * books the growth. */
    int64_t tables;
    uint32_t turn;
};

/* The shard to evict an entry from, and its tenant; NULL: any. */
struct cache_debt {
    struct cache_tenant *tenant;
    uint32_t shard;
};

void cache_ledger_init(struct cache_ledger *ledger, const struct hash_seed *seed);
/* Every entry must have been released. */
void cache_ledger_fini(struct cache_ledger *ledger);
void cache_ledger_set_bounds(struct cache_ledger *ledger, size_t bound, size_t quota);
/* Charges the tenant with an entry; the tenant stays until the release. `quota` (may be NULL) is
 * its own from now on. NULL if an entry of this size can never fit. */
struct cache_tenant *cache_ledger_charge(struct cache_ledger *ledger, const uint8_t tag[TENANT_TAG],
                                         size_t bytes, const size_t *quota);
void cache_ledger_release(struct cache_ledger *ledger, struct cache_tenant *tenant, size_t bytes);
/* Books the growth (or shrinking) of a shard's tables. */
void cache_ledger_book(struct cache_ledger *ledger, int64_t bytes);
/* True if the tenant (may be NULL), or else the whole cache, is over its bound. *ret names the
 * shards in turn. */
bool cache_ledger_owes(struct cache_ledger *ledger, struct cache_tenant *tenant,
                       struct cache_debt *ret);
void cache_ledger_usage(struct cache_ledger *ledger, struct cache_usage *ret);
