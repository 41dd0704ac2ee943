/* The ledger has one short lock, taken twice for each entry that comes or goes, never for a hit. */
#include "cache_ledger.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "metrics.h"

void cache_ledger_init(struct cache_ledger *ledger, const struct hash_seed *seed)
{
    pthread_mutex_init(&ledger->lock, NULL);
    ledger->tenants = hash_tagged_table(seed);
}

void cache_ledger_fini(struct cache_ledger *ledger)
{
    assert(ledger->entries == 0 && ledger->tenants.chains.count == 0);
    assert(ledger->bytes == 0 && ledger->tables == 0);
    pthread_mutex_destroy(&ledger->lock);
}

void cache_ledger_set_bounds(struct cache_ledger *ledger, size_t bound, size_t quota)
{
    pthread_mutex_lock(&ledger->lock);
    ledger->bound = bound;
    ledger->quota = quota;
    pthread_mutex_unlock(&ledger->lock);
}

/* --- under the lock --- */

static size_t ledger_bytes(const struct cache_ledger *ledger)
{
    int64_t bytes = (int64_t)(ledger->bytes + ledger->tenants.chains.bytes) + ledger->tables;
    return bytes > 0 ? (size_t)bytes : 0;
}

static struct cache_tenant *add_tenant(struct cache_ledger *ledger, const uint8_t *tag,
                                       uint64_t hash)
{
    struct cache_tenant *tenant = xcalloc(1, sizeof(*tenant));
    memcpy(tenant->by_tag.tag, tag, TENANT_TAG);
    for (size_t i = 0; i < CACHE_SHARDS; i++)
        tenant->hands[i] = CACHE_NO_ENTRY;
    tenant->bytes = memory_taken(tenant);
    ledger->bytes += tenant->bytes;
    hash_table_add(&ledger->tenants, &tenant->by_tag.node, hash);
    return tenant;
}

static void remove_tenant(struct cache_ledger *ledger, struct cache_tenant *tenant)
{
    uint64_t hash = hash_of_tenant(ledger->tenants.seed, tenant->by_tag.tag);
    assert(tenant->bytes == memory_taken(tenant));
    ledger->bytes -= tenant->bytes;
    hash_table_remove(&ledger->tenants, &tenant->by_tag.node, hash);
    free(tenant);
}

/* Ends a change that began with ledger_bytes(), and moves the gauges by it. */
static void unlock_and_count(struct cache_ledger *ledger, size_t before, int64_t entries)
{
    int64_t change = (int64_t)ledger_bytes(ledger) - (int64_t)before;
    pthread_mutex_unlock(&ledger->lock);
    metrics_gauge_add(METRIC_CACHE_BYTES, change);
    if (entries != 0)
        metrics_gauge_add(METRIC_CACHE_ENTRIES, entries);
}

/* --- the books --- */

/* A tenant's quota: its own or the common one; SIZE_MAX without any. */
static size_t quota_of(const struct cache_ledger *ledger, size_t own)
{
    size_t quota = own > 0 ? own : ledger->quota;
    return quota > 0 ? quota : SIZE_MAX;
}

/* True if an entry of this size fits an empty cache. */
static bool can_have_room(const struct cache_ledger *ledger, size_t own_quota, size_t bytes)
{
    size_t least = bytes + CACHE_PLACES + sizeof(struct cache_tenant);
    return least <= ledger->bound && least <= quota_of(ledger, own_quota);
}

struct cache_tenant *cache_ledger_charge(struct cache_ledger *ledger, const uint8_t tag[TENANT_TAG],
                                         size_t bytes, const size_t *quota)
{
    uint64_t hash = hash_of_tenant(ledger->tenants.seed, tag);
    pthread_mutex_lock(&ledger->lock);
    struct cache_tenant *tenant =
        (struct cache_tenant *)hash_tagged_find(&ledger->tenants, tag, hash);
    size_t own_quota = quota ? *quota : tenant ? tenant->quota : 0;
    if (tenant)
        tenant->quota = own_quota;
    if (!can_have_room(ledger, own_quota, bytes)) {
        pthread_mutex_unlock(&ledger->lock);
        return NULL;
    }
    size_t before = ledger_bytes(ledger);
    if (!tenant) {
        tenant = add_tenant(ledger, tag, hash);
        tenant->quota = own_quota;
    }
    tenant->entries++;
    tenant->bytes += bytes + CACHE_PLACES;
    ledger->entries++;
    ledger->bytes += bytes;
    unlock_and_count(ledger, before, 1);
    return tenant;
}

void cache_ledger_release(struct cache_ledger *ledger, struct cache_tenant *tenant, size_t bytes)
{
    pthread_mutex_lock(&ledger->lock);
    size_t before = ledger_bytes(ledger);
    assert(tenant->entries > 0 && ledger->entries > 0);
    assert(tenant->bytes >= bytes + CACHE_PLACES && ledger->bytes >= bytes);
    tenant->bytes -= bytes + CACHE_PLACES;
    ledger->bytes -= bytes;
    ledger->entries--;
    if (--tenant->entries == 0)
        remove_tenant(ledger, tenant);
    unlock_and_count(ledger, before, -1);
}

void cache_ledger_book(struct cache_ledger *ledger, int64_t bytes)
{
    pthread_mutex_lock(&ledger->lock);
    size_t before = ledger_bytes(ledger);
    ledger->tables += bytes;
    unlock_and_count(ledger, before, 0);
}

bool cache_ledger_owes(struct cache_ledger *ledger, struct cache_tenant *tenant,
                       struct cache_debt *ret)
{
    bool owes = true;
    pthread_mutex_lock(&ledger->lock);
    if (tenant && tenant->bytes > quota_of(ledger, tenant->quota))
        *ret = (struct cache_debt){tenant, tenant->turn++ % CACHE_SHARDS};
    else if (ledger_bytes(ledger) > ledger->bound)
        *ret = (struct cache_debt){NULL, ledger->turn++ % CACHE_SHARDS};
    else
        owes = false;
    pthread_mutex_unlock(&ledger->lock);
    return owes;
}

void cache_ledger_usage(struct cache_ledger *ledger, struct cache_usage *ret)
{
    pthread_mutex_lock(&ledger->lock);
    *ret =
        (struct cache_usage){ledger->entries, ledger_bytes(ledger), ledger->tenants.chains.count};
    pthread_mutex_unlock(&ledger->lock);
}
