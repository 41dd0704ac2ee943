/* A shard: chains, positions, rings and clocks.
 *
 * The positions are an array without gaps. The last item moves to the position of a removed one. A
 * new item takes the position just behind the hand, whose occupant moves to the end. So in a full
 * cache, where each new item replaces one, the hand reaches the new item last of all. */
#include "cache_shard.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "crypto.h"
#include "memory.h"
#include "metrics.h"

/* The size of a typical entry. */
enum { PREFETCHED_BYTES = 384 };

static_assert(offsetof(struct cache_item, value) == 60, "an entry of 300 bytes fits in 368");
static_assert(CACHE_VALUE_MAX <= UINT16_MAX && CACHE_VALUE_MAX <= CACHE_STEP_BYTES, "lengths");

/* --- items --- */

struct cache_item *cache_item_create(const struct cache_key *key, const struct cache_entry *entry)
{
    assert(entry->value.length <= CACHE_VALUE_MAX);
    size_t size = offsetof(struct cache_item, value) + entry->value.length;
    struct cache_item *item = xmalloc(size < sizeof(*item) ? sizeof(*item) : size);
    *item = (struct cache_item){.verified_ms = entry->verified_ms,
                                .generation = entry->generation,
                                .length = (uint16_t)entry->value.length,
                                .final = entry->final};
    memcpy(item->user, key->owner + TENANT_TAG, sizeof(item->user));
    memcpy(item->session, key->session, sizeof(item->session));
    if (entry->value.length > 0)
        memcpy(item->value, entry->value.data, entry->value.length);
    return item;
}

size_t cache_item_bytes(struct cache_item *item)
{
    return memory_taken(item);
}

void cache_item_free(struct cache_item *item)
{
    crypto_wipe(item->value, item->length);
    free(item);
}

static bool is_owned_by(const struct cache_item *item, const uint8_t *owner)
{
    return memcmp(item->user, owner + TENANT_TAG, sizeof(item->user)) == 0 &&
           memcmp(item->tenant->by_tag.tag, owner, TENANT_TAG) == 0;
}

static struct cache_entry entry_of(const struct cache_item *item, struct text value)
{
    return (struct cache_entry){.value = value,
                                .generation = item->generation,
                                .verified_ms = item->verified_ms,
                                .final = item->final};
}

/* --- positions and rings --- */

static struct cache_item *item_at(const struct cache_shard *shard, uint32_t index)
{
    return *hash_array_at(&shard->positions, index);
}

static uint32_t *hand_of(const struct cache_shard *shard, struct cache_tenant *tenant)
{
    return &tenant->hands[shard->number];
}

/* Moves an item to a free position and updates its neighbours in the ring. */
static void move(struct cache_shard *shard, struct cache_item *item, uint32_t to)
{
    uint32_t from = item->index;
    uint32_t *hand = hand_of(shard, item->tenant);
    assert(from != to && to < shard->positions.count);
    if (item->after == from) {
        item->before = item->after = to;
    } else {
        item_at(shard, item->before)->after = to;
        item_at(shard, item->after)->before = to;
    }
    if (*hand == from)
        *hand = to;
    item->index = to;
    *hash_array_at(&shard->positions, to) = item;
}

static void take_position(struct cache_shard *shard, struct cache_item *item)
{
    item->index = shard->positions.count;
    hash_array_push(&shard->positions, item);
    if (shard->hand > 0 && shard->hand <= item->index) {
        struct cache_item *behind = item_at(shard, shard->hand - 1);
        uint32_t end = item->index;
        item->index = behind->index;
        move(shard, behind, end);
        *hash_array_at(&shard->positions, item->index) = item;
    }
}

static void leave_position(struct cache_shard *shard, const struct cache_item *item)
{
    assert(shard->positions.count > 0 && item->index < shard->positions.count);
    struct cache_item *last = item_at(shard, shard->positions.count - 1);
    if (last != item)
        move(shard, last, item->index);
    hash_array_pop(&shard->positions);
}

/* Joins just behind the hand: the clock comes to it last. */
static void join_ring(struct cache_shard *shard, struct cache_item *item)
{
    uint32_t *hand = hand_of(shard, item->tenant);
    if (*hand == CACHE_NO_ENTRY) {
        *hand = item->before = item->after = item->index;
        return;
    }
    struct cache_item *next = item_at(shard, *hand);
    assert(next->tenant == item->tenant);
    item->before = next->before;
    item->after = next->index;
    item_at(shard, item->before)->after = item->index;
    next->before = item->index;
}

static void leave_ring(struct cache_shard *shard, const struct cache_item *item)
{
    uint32_t *hand = hand_of(shard, item->tenant);
    if (item->after == item->index) {
        *hand = CACHE_NO_ENTRY;
        return;
    }
    assert(item_at(shard, item->before)->after == item->index);
    assert(item_at(shard, item->after)->before == item->index);
    item_at(shard, item->before)->after = item->after;
    item_at(shard, item->after)->before = item->before;
    if (*hand == item->index)
        *hand = item->after;
}

/* --- chains --- */

static uint64_t hash_of_item(const struct hash_seed *seed, const struct hash_node *node)
{
    const struct cache_item *item = (const struct cache_item *)node;
    return hash_of_owner(seed, item->tenant->by_tag.tag, item->user);
}

static struct cache_item *find_item(const struct cache_shard *shard, const struct cache_key *key,
                                    uint64_t hash)
{
    struct hash_node **link = hash_table_chain(&shard->table, hash);
    for (struct hash_node *node = link ? *link : NULL; node; node = node->next) {
        struct cache_item *item = (struct cache_item *)node;
        if (memcmp(item->session, key->session, SESSION_ID) == 0 && is_owned_by(item, key->owner))
            return item;
    }
    return NULL;
}

/* Removes an item that left the table from the other structures. */
static void unlink_item(struct cache_shard *shard, struct cache_item *item,
                        struct cache_removed *removed)
{
    assert(item_at(shard, item->index) == item);
    leave_ring(shard, item);
    leave_position(shard, item);
    item->node.next = removed->first ? &removed->first->node : NULL;
    removed->first = item;
}

/* Removes the item at the link from all structures; the caller shrinks the table once for it. */
static void detach(struct cache_shard *shard, struct hash_node **link,
                   struct cache_removed *removed)
{
    struct cache_item *item = (struct cache_item *)*link;
    *link = item->node.next;
    unlink_item(shard, item, removed);
}

static void take_out(struct cache_shard *shard, struct hash_node **link,
                     struct cache_removed *removed)
{
    detach(shard, link, removed);
    hash_table_shrink(&shard->table);
}

/* --- locking --- */

static size_t shard_tables_bytes(const struct cache_shard *shard)
{
    return shard->table.chains.bytes + shard->positions.bytes;
}

static size_t lock_to_change(struct cache_shard *shard)
{
    pthread_mutex_lock(&shard->lock);
    return shard_tables_bytes(shard);
}

static void unlock_changed(struct cache_shard *shard, size_t before, struct cache_removed *removed)
{
    removed->growth += (int64_t)shard_tables_bytes(shard) - (int64_t)before;
    pthread_mutex_unlock(&shard->lock);
}

void cache_shard_init(struct cache_shard *shard, const struct hash_seed *seed, uint32_t number)
{
    pthread_mutex_init(&shard->lock, NULL);
    shard->table = (struct hash_table){.seed = seed, .hash = hash_of_item};
    shard->number = number;
}

void cache_shard_fini(struct cache_shard *shard)
{
    assert(shard->positions.count == 0 && shard_tables_bytes(shard) == 0);
    pthread_mutex_destroy(&shard->lock);
}

/* --- operations --- */

bool cache_shard_get(struct cache_shard *shard, const struct cache_key *key, uint64_t hash,
                     struct arena *arena, struct cache_entry *ret)
{
    pthread_mutex_lock(&shard->lock);
    struct cache_item *item = find_item(shard, key, hash);
    if (item) {
        item->used = true;
        *ret = entry_of(item, arena_copy(arena, (struct text){item->value, item->length}));
    }
    pthread_mutex_unlock(&shard->lock);
    return item != NULL;
}

/* The lock protects the table, which may grow. The entry may be freed before the prefetch, which
 * never faults. */
void cache_shard_prefetch(struct cache_shard *shard, uint64_t hash, enum cache_prefetch what)
{
    pthread_mutex_lock(&shard->lock);
    struct hash_node **link = hash_table_chain(&shard->table, hash);
    const char *entry = link && what == PREFETCH_ENTRY ? (const char *)*link : NULL;
    pthread_mutex_unlock(&shard->lock);
    if (what == PREFETCH_CHAIN)
        __builtin_prefetch(link);
    for (size_t offset = 0; entry && offset < PREFETCHED_BYTES; offset += CACHE_LINE)
        __builtin_prefetch(entry + offset);
}

void cache_shard_patch(struct cache_shard *shard, const struct cache_key *key, uint64_t hash,
                       size_t offset, const void *bytes, size_t length)
{
    pthread_mutex_lock(&shard->lock);
    struct cache_item *item = find_item(shard, key, hash);
    if (item && !item->final && offset <= item->length && length <= item->length - offset &&
        length > 0)
        memcpy(item->value + offset, bytes, length);
    pthread_mutex_unlock(&shard->lock);
}

void cache_shard_patch_if(struct cache_shard *shard, const struct cache_key *key, uint64_t hash,
                          const void *expected, const void *bytes, size_t length)
{
    pthread_mutex_lock(&shard->lock);
    struct cache_item *item = find_item(shard, key, hash);
    if (item && !item->final && length <= item->length &&
        memcmp(item->value, expected, length) == 0)
        memcpy(item->value, bytes, length);
    pthread_mutex_unlock(&shard->lock);
}

/* Makes room for the session among its owner's entries. False if the present entry must stay. */
static bool prepare_chain(struct cache_shard *shard, const struct cache_item *item,
                          const struct cache_key *key, uint64_t hash, bool replace,
                          struct cache_removed *removed)
{
    size_t others = 0;
    struct hash_node **oldest = NULL;
    struct hash_node **link = hash_table_chain(&shard->table, hash);
    for (; link && *link; link = &(*link)->next) {
        const struct cache_item *at = (struct cache_item *)*link;
        if (!is_owned_by(at, key->owner))
            continue;
        if (memcmp(at->session, key->session, SESSION_ID) == 0) {
            if (!replace || (at->final && !item->final))
                return false;
            take_out(shard, link, removed);
            return true;
        }
        others++;
        oldest = link;
    }
    assert(others <= CACHE_OWNER_ENTRIES);
    if (others >= CACHE_OWNER_ENTRIES) {
        take_out(shard, oldest, removed);
        metrics_add(METRIC_CACHE_EVICTIONS, 1);
    }
    return true;
}

/* No value that was read before its owner was forgotten is left in the cache. cache_forget() raises
 * the counter first and then enters this lock; here the counter is compared inside the lock. One of
 * the two is in the lock first. If that is cache_forget(), its raise happened before the compare,
 * which sees it and refuses. If it is this function, cache_forget() finds and removes the entry.
 * The lock orders the two, so that the load itself needs no order. */
bool cache_shard_put(struct cache_shard *shard, struct cache_item *item,
                     const struct cache_key *key, uint64_t hash,
                     const struct cache_condition *condition, struct cache_removed *removed)
{
    size_t before = lock_to_change(shard);
    bool stored =
        atomic_load_explicit(condition->counter, memory_order_relaxed) == condition->lease &&
        prepare_chain(shard, item, key, hash, condition->replace, removed);
    if (stored) {
        take_position(shard, item);
        join_ring(shard, item);
        hash_table_add(&shard->table, &item->node, hash);
    }
    unlock_changed(shard, before, removed);
    return stored;
}

void cache_shard_forget(struct cache_shard *shard, const uint8_t owner[OWNER_TAG], uint64_t hash,
                        struct cache_removed *removed)
{
    size_t before = lock_to_change(shard);
    size_t count = 0;
    struct hash_node **link = hash_table_chain(&shard->table, hash);
    while (link && *link) {
        const struct cache_item *item = (struct cache_item *)*link;
        if (!item->final && is_owned_by(item, owner)) {
            detach(shard, link, removed);
            count++;
        } else {
            link = &(*link)->next;
        }
    }
    while (count-- > 0)
        hash_table_shrink(&shard->table);
    unlock_changed(shard, before, removed);
}

/* --- clocks --- */

static struct cache_item *victim_of_all(struct cache_shard *shard)
{
    struct cache_item *item = NULL;
    for (int chances = 0; shard->positions.count > 0 && chances <= HASH_SECOND_CHANCES; chances++) {
        if (shard->hand >= shard->positions.count)
            shard->hand = 0;
        item = item_at(shard, shard->hand++);
        if (!item->used)
            break;
        item->used = false;
    }
    return item;
}

static struct cache_item *victim_of_tenant(struct cache_shard *shard, struct cache_tenant *tenant)
{
    struct cache_item *item = NULL;
    uint32_t *hand = hand_of(shard, tenant);
    for (int chances = 0; *hand != CACHE_NO_ENTRY && chances <= HASH_SECOND_CHANCES; chances++) {
        item = item_at(shard, *hand);
        *hand = item->after;
        assert(item->tenant == tenant);
        if (!item->used)
            break;
        item->used = false;
    }
    return item;
}

bool cache_shard_evict(struct cache_shard *shard, struct cache_tenant *tenant,
                       struct cache_removed *removed)
{
    size_t before = lock_to_change(shard);
    struct cache_item *victim = tenant ? victim_of_tenant(shard, tenant) : victim_of_all(shard);
    if (victim) {
        uint64_t hash = hash_of_item(shard->table.seed, &victim->node);
        hash_table_remove(&shard->table, &victim->node, hash);
        unlink_item(shard, victim, removed);
    }
    unlock_changed(shard, before, removed);
    return victim != NULL;
}

/* --- copies --- */

static bool add_copy(struct cache_step *step, const struct cache_item *item)
{
    assert(step->used <= CACHE_STEP_BYTES);
    if (step->count == CACHE_STEP || item->length > CACHE_STEP_BYTES - step->used)
        return false;
    struct cache_key *key = &step->keys[step->count];
    struct text value = {step->values + step->used, item->length};
    memcpy(key->owner, item->tenant->by_tag.tag, TENANT_TAG);
    memcpy(key->owner + TENANT_TAG, item->user, sizeof(item->user));
    memcpy(key->session, item->session, SESSION_ID);
    memcpy(step->values + step->used, item->value, item->length);
    step->entries[step->count] = entry_of(item, value);
    step->used += item->length;
    step->count++;
    return true;
}

bool cache_shard_copy(struct cache_shard *shard, uint32_t *at, struct cache_step *step)
{
    step->count = 0;
    step->used = 0;
    pthread_mutex_lock(&shard->lock);
    if (*at > shard->positions.count)
        *at = shard->positions.count;
    while (*at > 0 && add_copy(step, item_at(shard, *at - 1)))
        --*at;
    pthread_mutex_unlock(&shard->lock);
    return step->count > 0;
}
