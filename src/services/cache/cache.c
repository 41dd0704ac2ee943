/* The cache as its callers see it: chooses shards and leases, and makes room.
 *
 * Locks: a shard's and the ledger's, never both at once. An entry is first charged to the ledger;
 * then others are evicted while any bound is exceeded; then it is linked in. So the bound always
 * holds, but for the growth of a shard's tables by the last entry. */
#include "cache.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "cache_private.h"
#include "cache_shard.h"
#include "metrics.h"

#define LEASE_COUNTERS 65536

struct cache {
    struct cache_shard shards[CACHE_SHARDS];
    struct cache_ledger ledger;
    struct hash_seed seed;
    atomic_bool off; /* nothing is stored, nothing is found */
    _Atomic uint32_t lease_counters[LEASE_COUNTERS];
};

/* --- creation and end --- */

struct cache *cache_create(const struct conf *conf)
{
    void *memory = NULL;
    if (posix_memalign(&memory, _Alignof(struct cache), sizeof(struct cache)) != 0)
        abort();
    struct cache *cache = memory;
    memset(cache, 0, sizeof(*cache));
    crypto_random(&cache->seed, sizeof(cache->seed));
    cache_ledger_init(&cache->ledger, &cache->seed);
    for (uint32_t i = 0; i < CACHE_SHARDS; i++)
        cache_shard_init(&cache->shards[i], &cache->seed, i);
    cache_resize(cache, conf);
    return cache;
}

void cache_resize(struct cache *cache, const struct conf *conf)
{
    cache_ledger_set_bounds(&cache->ledger, (size_t)conf->cache_bytes,
                            (size_t)conf->cache_tenant_bytes);
    atomic_store_explicit(&cache->off, conf->cache_bytes == 0, memory_order_relaxed);
}

/* The owner's shard; *hash is for the shard, too. */
static struct cache_shard *shard_of(struct cache *cache, const uint8_t *owner, uint64_t *hash)
{
    *hash = hash_of_owner(&cache->seed, owner, owner + TENANT_TAG);
    return &cache->shards[*hash >> 58];
}

static size_t lease_counter(uint64_t hash)
{
    return (hash >> 32) % LEASE_COUNTERS;
}

static void release_item(struct cache *cache, struct cache_item *item)
{
    cache_ledger_release(&cache->ledger, item->tenant, cache_item_bytes(item));
    cache_item_free(item);
}

/* Books the growth of tables; releases and frees the removed items. */
static void book_removed(struct cache *cache, struct cache_removed *removed)
{
    if (removed->growth != 0)
        cache_ledger_book(&cache->ledger, removed->growth);
    while (removed->first) {
        struct cache_item *item = removed->first;
        removed->first = (struct cache_item *)item->node.next;
        release_item(cache, item);
    }
}

void cache_destroy(struct cache **given)
{
    struct cache *cache = *given;
    *given = NULL;
    for (size_t i = 0; i < CACHE_SHARDS; i++) {
        struct cache_removed removed = {0};
        while (cache_shard_evict(&cache->shards[i], NULL, &removed))
            continue;
        book_removed(cache, &removed);
        cache_shard_fini(&cache->shards[i]);
    }
    cache_ledger_fini(&cache->ledger);
    free(cache);
}

/* --- room --- */

/* Evicts one entry, from the caller's own shard (may be NULL) if possible; returns its bytes. */
static size_t evict_one(struct cache *cache, struct cache_shard *own, const struct cache_debt *debt)
{
    struct cache_removed removed = {0};
    if (!(own && cache_shard_evict(own, debt->tenant, &removed)) &&
        !cache_shard_evict(&cache->shards[debt->shard], debt->tenant, &removed))
        return 0;
    size_t bytes = cache_item_bytes(removed.first);
    book_removed(cache, &removed);
    metrics_add(METRIC_CACHE_EVICTIONS, 1);
    return bytes;
}

/* Evicts entries until no bound is exceeded, or until twice `need` is free: after lowered bounds
 * the surplus is large, and no single call should pay for it all. False if there is nothing to
 * evict. */
static bool evict_owed(struct cache *cache, struct cache_shard *own, struct cache_tenant *tenant,
                       size_t need)
{
    size_t freed = 0;
    unsigned in_vain = 0;
    struct cache_debt debt;
    while (freed < 2 * need && cache_ledger_owes(&cache->ledger, tenant, &debt)) {
        size_t given = evict_one(cache, own, &debt);
        in_vain = given > 0 ? 0 : in_vain + 1;
        if (in_vain > CACHE_SHARDS)
            return false;
        freed += given;
    }
    return true;
}

/* --- storing --- */

uint32_t cache_lease(const struct cache *cache, const uint8_t owner[OWNER_TAG])
{
    uint64_t hash = hash_of_owner(&cache->seed, owner, owner + TENANT_TAG);
    return atomic_load_explicit(&cache->lease_counters[lease_counter(hash)], memory_order_acquire);
}

/* Links in a charged item. */
static bool link_in(struct cache *cache, struct cache_shard *shard, struct cache_item *item,
                    const struct cache_key *key, uint64_t hash, uint32_t lease, bool replace)
{
    struct cache_condition condition = {&cache->lease_counters[lease_counter(hash)], lease,
                                        replace};
    struct cache_removed removed = {0};
    size_t need = cache_item_bytes(item);
    /* Compared again under the lock; here it saves a vain eviction. */
    bool stored = atomic_load(condition.counter) == lease &&
                  evict_owed(cache, shard, item->tenant, need) &&
                  cache_shard_put(shard, item, key, hash, &condition, &removed);
    int64_t growth = removed.growth;
    book_removed(cache, &removed);
    if (growth > 0)
        evict_owed(cache, NULL, NULL, (size_t)growth);
    return stored;
}

static bool store_item(struct cache *cache, const struct cache_key *key,
                       const struct cache_entry *entry, uint32_t lease, bool replace)
{
    if (entry->value.length > CACHE_VALUE_MAX)
        return false;
    uint64_t hash;
    struct cache_shard *shard = shard_of(cache, key->owner, &hash);
    struct cache_item *item = cache_item_create(key, entry);
    size_t bytes = cache_item_bytes(item);
    /* Entries of a file carry no quota. */
    item->tenant =
        cache_ledger_charge(&cache->ledger, key->owner, bytes, replace ? &entry->quota : NULL);
    if (!item->tenant) {
        evict_owed(cache, shard, NULL, bytes);
        cache_item_free(item);
        return false;
    }
    if (link_in(cache, shard, item, key, hash, lease, replace))
        return true;
    release_item(cache, item);
    return false;
}

static bool store_and_count(struct cache *cache, const struct cache_key *key,
                            const struct cache_entry *entry, uint32_t lease, bool replace)
{
    bool stored = store_item(cache, key, entry, lease, replace);
    metrics_add(stored ? METRIC_CACHE_STORES : METRIC_CACHE_STORES_REFUSED, 1);
    return stored;
}

bool cache_put(struct cache *cache, const struct cache_key *key, const struct cache_entry *entry,
               uint32_t lease)
{
    return store_and_count(cache, key, entry, lease, true);
}

bool cache_put_absent(struct cache *cache, const struct cache_key *key,
                      const struct cache_entry *entry, uint32_t lease)
{
    return store_and_count(cache, key, entry, lease, false);
}

/* --- the rest --- */

bool cache_get(struct cache *cache, const struct cache_key *key, struct arena *arena,
               struct cache_entry *ret)
{
    uint64_t hash;
    struct cache_shard *shard = shard_of(cache, key->owner, &hash);
    return !atomic_load_explicit(&cache->off, memory_order_relaxed) &&
           cache_shard_get(shard, key, hash, arena, ret);
}

void cache_prefetch(struct cache *cache, const uint8_t owner[OWNER_TAG], enum cache_prefetch what)
{
    uint64_t hash;
    struct cache_shard *shard = shard_of(cache, owner, &hash);
    if (!atomic_load_explicit(&cache->off, memory_order_relaxed))
        cache_shard_prefetch(shard, hash, what);
}

void cache_patch(struct cache *cache, const struct cache_key *key, size_t offset, const void *bytes,
                 size_t length)
{
    uint64_t hash;
    struct cache_shard *shard = shard_of(cache, key->owner, &hash);
    cache_shard_patch(shard, key, hash, offset, bytes, length);
}

void cache_patch_if(struct cache *cache, const struct cache_key *key, const void *expected,
                    const void *bytes, size_t length)
{
    uint64_t hash;
    struct cache_shard *shard = shard_of(cache, key->owner, &hash);
    cache_shard_patch_if(shard, key, hash, expected, bytes, length);
}

void cache_forget(struct cache *cache, const uint8_t owner[OWNER_TAG],
                  void (*gone)(void *user, const struct cache_key *key), void *user)
{
    uint64_t hash;
    struct cache_shard *shard = shard_of(cache, owner, &hash);
    struct cache_removed removed = {0};
    /* Before the lock is taken: see cache_shard_put(). */
    atomic_fetch_add_explicit(&cache->lease_counters[lease_counter(hash)], 1, memory_order_acq_rel);
    cache_shard_forget(shard, owner, hash, &removed);
    struct cache_key key;
    memcpy(key.owner, owner, OWNER_TAG);
    for (struct cache_item *item = removed.first; gone && item;
         item = (struct cache_item *)item->node.next) {
        memcpy(key.session, item->session, SESSION_ID);
        gone(user, &key);
    }
    book_removed(cache, &removed);
}

void cache_usage(struct cache *cache, struct cache_usage *ret)
{
    cache_ledger_usage(&cache->ledger, ret);
}

void cache_each(struct cache *cache,
                void (*visit)(void *user, const struct cache_key *key,
                              const struct cache_entry *entry),
                void *user)
{
    struct cache_step *step = xmalloc(sizeof(*step));
    for (size_t i = 0; i < CACHE_SHARDS; i++) {
        uint32_t at = UINT32_MAX;
        while (cache_shard_copy(&cache->shards[i], &at, step)) {
            for (size_t j = 0; j < step->count; j++)
                visit(user, &step->keys[j], &step->entries[j]);
            crypto_wipe(step->values, step->used);
        }
    }
    free(step);
}
