/* The table of tenants: rows in shards, counters of changes, and the threads' views.
 *
 * A view is a small array of copies of rows, each with the counter of changes at the time of the
 * copy. Counters are an array by hash of the tenant: a change voids the views' copies of that
 * tenant, and of the few that share its counter. A counter is raised within the lock after the row
 * was changed, and read before the row is copied; so a copy older than a change has an older
 * counter.
 *
 * Rows that were not used since the clock's hand last came by are evicted first (CLOCK). A view
 * that answers from its copy notes a use in the row only now and then.
 *
 * Locks: a shard's, never two at once; no row is allocated or freed under it. */
#include "tenants.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "hash.h"
#include "metrics.h"
#include "tenants_private.h"

enum {
    SHARDS = 64,
    COUNTERS = 32768,
    SLOTS = 512, /* of a view */
    USES = 64,   /* uses that a view serves before it notes one in the row */
    STEP = 64    /* rows copied under one lock */
};

struct row {
    struct hash_tagged by_tag; /* used: since the clock's hand was here */
    struct tenant *tenant;
    int64_t verified_ms;
    uint32_t generation;
    uint32_t index; /* in the shard's rows_by_index */
};
static_assert(sizeof(struct row) == 40, "a tenant without a policy costs little");

struct shard {
    _Alignas(64) pthread_mutex_t lock;
    struct hash_table table;
    struct hash_array rows_by_index; /* every row once, without gaps */
    uint32_t hand;                   /* next index of the clock */
};

struct counter {
    _Atomic uint32_t forgotten; /* for leases */
    _Atomic uint32_t changed;   /* for views */
};

struct tenants {
    struct shard shards[SHARDS];
    struct hash_seed seed;
    size_t most_bytes;
    _Atomic int64_t rows, bytes; /* bytes: rows, their tenants, and the tables */
    _Atomic uint32_t turn;       /* the shard to evict from next */
    struct counter counters[COUNTERS];
};

struct slot {
    struct tenant *tenant; /* a reference; NULL: empty */
    int64_t verified_ms;
    uint32_t generation;
    uint32_t changed;
    uint8_t tag[TENANT_TAG];
    uint8_t uses;
};

struct tenants_view {
    struct tenants *tenants;
    struct slot slots[SLOTS];
};

/* A tenant's position in the structures, each by other bits of the hash. */
struct position {
    uint64_t hash;
    struct shard *shard;
    struct counter *counter;
};

static struct position locate_tenant(struct tenants *tenants, const uint8_t *tag)
{
    uint64_t hash = hash_of_tenant(&tenants->seed, tag);
    return (struct position){hash, &tenants->shards[hash >> 58],
                             &tenants->counters[(hash >> 32) % COUNTERS]};
}

static void book(struct tenants *tenants, int64_t rows, int64_t bytes)
{
    atomic_fetch_add_explicit(&tenants->rows, rows, memory_order_relaxed);
    atomic_fetch_add_explicit(&tenants->bytes, bytes, memory_order_relaxed);
    metrics_gauge_add(METRIC_TENANTS, rows);
    metrics_gauge_add(METRIC_TENANTS_BYTES, bytes);
}

/* --- creation and end --- */

struct tenants *tenants_create(size_t most_bytes)
{
    void *memory = NULL;
    if (posix_memalign(&memory, _Alignof(struct tenants), sizeof(struct tenants)) != 0)
        abort();
    struct tenants *tenants = memory;
    memset(tenants, 0, sizeof(*tenants));
    tenants->most_bytes = most_bytes;
    crypto_random(&tenants->seed, sizeof(tenants->seed));
    for (size_t i = 0; i < SHARDS; i++) {
        pthread_mutex_init(&tenants->shards[i].lock, NULL);
        tenants->shards[i].table = hash_tagged_table(&tenants->seed);
    }
    return tenants;
}

static void free_row(struct row *row)
{
    tenant_state_unref(&row->tenant);
    free(row);
}

static size_t row_bytes(struct row *row)
{
    return memory_taken(row) + tenant_state_bytes(row->tenant);
}

void tenants_destroy(struct tenants **given)
{
    struct tenants *tenants = *given;
    *given = NULL;
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &tenants->shards[i];
        while (shard->rows_by_index.count > 0) {
            free_row(*hash_array_at(&shard->rows_by_index, shard->rows_by_index.count - 1));
            hash_array_pop(&shard->rows_by_index);
            hash_array_pop(&shard->table.chains);
        }
        pthread_mutex_destroy(&shard->lock);
    }
    book(tenants, -atomic_load(&tenants->rows), -atomic_load(&tenants->bytes));
    free(tenants);
}

/* --- within a shard; its lock is held --- */

static size_t tables_bytes(const struct shard *shard)
{
    return shard->table.chains.bytes + shard->rows_by_index.bytes;
}

static struct row *find_tenant_row(const struct position *position, const uint8_t *tag)
{
    return (struct row *)hash_tagged_find(&position->shard->table, tag, position->hash);
}

static void stand_at(struct shard *shard, struct row *row, uint32_t index)
{
    assert(index < shard->rows_by_index.count);
    *hash_array_at(&shard->rows_by_index, index) = row;
    row->index = index;
}

static void add_row(const struct position *position, struct row *row)
{
    struct shard *shard = position->shard;
    hash_array_push(&shard->rows_by_index, row);
    stand_at(shard, row, shard->rows_by_index.count - 1);
    hash_table_add(&shard->table, &row->by_tag.node, position->hash);
}

static void remove_row(struct shard *shard, struct row *row, uint64_t hash)
{
    assert(*hash_array_at(&shard->rows_by_index, row->index) == row);
    assert(shard->rows_by_index.count == shard->table.chains.count);
    hash_table_remove(&shard->table, &row->by_tag.node, hash);
    stand_at(shard, *hash_array_at(&shard->rows_by_index, shard->rows_by_index.count - 1),
             row->index);
    hash_array_pop(&shard->rows_by_index);
}

static void turn_hand(struct shard *shard, uint32_t to)
{
    shard->hand = to < shard->rows_by_index.count ? to : 0;
}

/* Removes and returns the next row by the clock; NULL if the shard is empty. The last row moves to
 * its index, behind the hand. If all rows are in use the hand passes some and takes the next. */
static struct row *take_victim(struct tenants *tenants, struct shard *shard)
{
    for (int passed = 0; shard->rows_by_index.count > 0; passed++) {
        assert(shard->hand < shard->rows_by_index.count);
        struct row *row = *hash_array_at(&shard->rows_by_index, shard->hand);
        if (!row->by_tag.used || passed >= HASH_SECOND_CHANCES) {
            remove_row(shard, row, hash_of_tenant(&tenants->seed, row->by_tag.tag));
            turn_hand(shard, shard->hand + 1);
            return row;
        }
        row->by_tag.used = false;
        turn_hand(shard, shard->hand + 1);
    }
    return NULL;
}

static void raise_changed(struct counter *counter)
{
    atomic_fetch_add_explicit(&counter->changed, 1, memory_order_release);
}

/* --- room --- */

/* Evicts one row of the shard, if it has one. */
static bool evict_row(struct tenants *tenants, struct shard *shard)
{
    pthread_mutex_lock(&shard->lock);
    int64_t before = (int64_t)tables_bytes(shard);
    struct row *row = take_victim(tenants, shard);
    int64_t growth = (int64_t)tables_bytes(shard) - before;
    pthread_mutex_unlock(&shard->lock);
    if (!row)
        return false;
    book(tenants, -1, growth - (int64_t)row_bytes(row));
    free_row(row);
    return true;
}

static bool is_full(const struct tenants *tenants)
{
    return atomic_load_explicit(&tenants->bytes, memory_order_relaxed) >
           (int64_t)tenants->most_bytes;
}

/* The shard that grew evicts first, so that all stay about equally large; the others follow in
 * turn. */
static void evict_surplus(struct tenants *tenants, struct shard *own)
{
    unsigned in_vain = 0;
    if (is_full(tenants))
        evict_row(tenants, own);
    while (in_vain < SHARDS && is_full(tenants)) {
        uint32_t turn = atomic_fetch_add_explicit(&tenants->turn, 1, memory_order_relaxed);
        in_vain = evict_row(tenants, &tenants->shards[turn % SHARDS]) ? 0 : in_vain + 1;
    }
}

/* --- storing --- */

uint32_t tenants_lease(const struct tenants *tenants, const uint8_t tag[TENANT_TAG])
{
    uint64_t hash = hash_of_tenant(&tenants->seed, tag);
    return atomic_load_explicit(&tenants->counters[(hash >> 32) % COUNTERS].forgotten,
                                memory_order_acquire);
}

/* A row to be stored, and the conditions. */
struct storing {
    struct position position;
    struct row *fresh; /* afterwards NULL if linked in, else a row to be freed, maybe with the
                          replaced state */
    uint32_t lease;
    bool replace;
    bool behind;
};

/* A policy may be older than one seen long ago: an operator may have restored it on purpose. A
 * cutoff, though, never goes back, whatever a backup brings. */
static bool is_behind(const struct row *present, const struct row *fresh)
{
    int64_t age_ms;
    if (fresh->tenant->not_before_ms < present->tenant->not_before_ms)
        return true;
    return fresh->tenant->version < present->tenant->version &&
           !__builtin_sub_overflow(clock_boot_ms(), present->verified_ms, &age_ms) &&
           age_ms < REMEMBERED_MS;
}

/* The lock is held. tenants_forget() raises the counter before it takes the lock: the second of the
 * two sees the first. */
static bool store_locked(struct storing *storing)
{
    struct row *fresh = storing->fresh;
    assert(fresh && fresh->tenant);
    if (atomic_load_explicit(&storing->position.counter->forgotten, memory_order_relaxed) !=
        storing->lease)
        return false;
    struct row *present = find_tenant_row(&storing->position, fresh->by_tag.tag);
    if (!present) {
        add_row(&storing->position, fresh);
        storing->fresh = NULL;
        return true;
    }
    storing->behind = is_behind(present, fresh);
    if (!storing->replace || storing->behind)
        return false;
    struct tenant *old = present->tenant;
    present->tenant = fresh->tenant;
    present->generation = fresh->generation;
    present->verified_ms = fresh->verified_ms;
    present->by_tag.used = true;
    fresh->tenant = old;
    return true;
}

static bool store_row(struct tenants *tenants, struct storing *storing)
{
    struct shard *shard = storing->position.shard;
    int64_t growth = (int64_t)row_bytes(storing->fresh);
    pthread_mutex_lock(&shard->lock);
    int64_t before = (int64_t)tables_bytes(shard);
    bool stored = store_locked(storing);
    if (stored)
        raise_changed(storing->position.counter);
    growth += (int64_t)tables_bytes(shard) - before;
    pthread_mutex_unlock(&shard->lock);
    bool added = !storing->fresh;
    if (!added) {
        growth -= (int64_t)row_bytes(storing->fresh);
        free_row(storing->fresh);
    }
    book(tenants, added, growth);
    evict_surplus(tenants, shard);
    return stored;
}

static struct row *create_row(const uint8_t *tag, struct tenant *tenant, uint32_t generation,
                              int64_t verified_ms)
{
    struct row *row = xmalloc(sizeof(*row));
    *row = (struct row){
        .tenant = tenant_state_ref(tenant), .verified_ms = verified_ms, .generation = generation};
    memcpy(row->by_tag.tag, tag, TENANT_TAG);
    return row;
}

bool tenants_put(struct tenants *tenants, const uint8_t tag[TENANT_TAG], struct tenant *tenant,
                 uint32_t generation, int64_t verified_ms, uint32_t lease, bool *behind)
{
    struct storing storing = {.position = locate_tenant(tenants, tag),
                              .fresh = create_row(tag, tenant, generation, verified_ms),
                              .lease = lease,
                              .replace = true};
    bool stored = store_row(tenants, &storing);
    *behind = storing.behind;
    return stored;
}

bool tenants_put_absent(struct tenants *tenants, const uint8_t tag[TENANT_TAG],
                        struct tenant *tenant, int64_t verified_ms)
{
    struct storing storing = {.position = locate_tenant(tenants, tag),
                              .fresh = create_row(tag, tenant, 0, verified_ms)};
    return store_row(tenants, &storing);
}

void tenants_forget(struct tenants *tenants, const uint8_t tag[TENANT_TAG])
{
    struct position position = locate_tenant(tenants, tag);
    atomic_fetch_add_explicit(&position.counter->forgotten, 1, memory_order_acq_rel);
    pthread_mutex_lock(&position.shard->lock);
    struct row *row = find_tenant_row(&position, tag);
    if (row)
        row->generation = 0;
    raise_changed(position.counter);
    pthread_mutex_unlock(&position.shard->lock);
}

/* --- finding --- */

struct tenants_view *tenants_view_create(struct tenants *tenants)
{
    struct tenants_view *view = xcalloc(1, sizeof(*view));
    view->tenants = tenants;
    return view;
}

void tenants_view_destroy(struct tenants_view **given)
{
    struct tenants_view *view = *given;
    *given = NULL;
    for (size_t i = 0; i < SLOTS; i++)
        tenant_state_unref(&view->slots[i].tenant);
    free(view);
}

/* Copies the row into the slot; empties the slot if there is no row. */
static bool refresh_slot(const struct position *position, const uint8_t *tag, struct slot *slot)
{
    struct tenant *old = slot->tenant;
    *slot = (struct slot){
        .changed = atomic_load_explicit(&position->counter->changed, memory_order_acquire)};
    memcpy(slot->tag, tag, TENANT_TAG);
    pthread_mutex_lock(&position->shard->lock);
    struct row *row = find_tenant_row(position, tag);
    if (row) {
        row->by_tag.used = true;
        slot->tenant = tenant_state_ref(row->tenant);
        slot->generation = row->generation;
        slot->verified_ms = row->verified_ms;
    }
    pthread_mutex_unlock(&position->shard->lock);
    tenant_state_unref(&old);
    return slot->tenant != NULL;
}

bool tenants_find(struct tenants_view *view, const uint8_t tag[TENANT_TAG], struct tenant_row *ret)
{
    struct position position = locate_tenant(view->tenants, tag);
    struct slot *slot = &view->slots[(position.hash >> 48) % SLOTS];
    bool known =
        slot->tenant && memcmp(slot->tag, tag, TENANT_TAG) == 0 && ++slot->uses < USES &&
        slot->changed == atomic_load_explicit(&position.counter->changed, memory_order_acquire);
    if (!known && !refresh_slot(&position, tag, slot))
        return false;
    *ret = (struct tenant_row){slot->tenant, slot->generation, slot->verified_ms};
    return true;
}

/* --- all rows --- */

struct step {
    size_t count;
    struct {
        uint8_t tag[TENANT_TAG];
        struct tenant_row row;
    } rows[STEP];
};

/* Copies rows below index *at and moves *at down. Going down, it meets a row that moves into a gap
 * twice rather than never. */
static bool copy_rows(struct shard *shard, uint32_t *at, struct step *step)
{
    step->count = 0;
    pthread_mutex_lock(&shard->lock);
    if (*at > shard->rows_by_index.count)
        *at = shard->rows_by_index.count;
    while (*at > 0 && step->count < STEP) {
        const struct row *row = *hash_array_at(&shard->rows_by_index, --*at);
        memcpy(step->rows[step->count].tag, row->by_tag.tag, TENANT_TAG);
        step->rows[step->count++].row =
            (struct tenant_row){tenant_state_ref(row->tenant), row->generation, row->verified_ms};
    }
    pthread_mutex_unlock(&shard->lock);
    return step->count > 0;
}

void tenants_each(struct tenants *tenants,
                  void (*visit)(void *user, const uint8_t tag[TENANT_TAG],
                                const struct tenant_row *row),
                  void *user)
{
    struct step step;
    for (size_t i = 0; i < SHARDS; i++) {
        uint32_t at = UINT32_MAX;
        while (copy_rows(&tenants->shards[i], &at, &step))
            for (size_t j = 0; j < step.count; j++) {
                visit(user, step.rows[j].tag, &step.rows[j].row);
                tenant_state_unref(&step.rows[j].row.tenant);
            }
    }
}

void tenants_usage(struct tenants *tenants, struct tenants_usage *ret)
{
    int64_t rows = atomic_load_explicit(&tenants->rows, memory_order_relaxed);
    int64_t bytes = atomic_load_explicit(&tenants->bytes, memory_order_relaxed);
    *ret = (struct tenants_usage){rows > 0 ? (size_t)rows : 0, bytes > 0 ? (size_t)bytes : 0};
}
