/* GCRA over a table of cells, without locks.
 *
 * A cell is a name and a time: the "theoretical arrival time" of I.371, when all events under the
 * name are paid off. A cell whose time has passed is as good as an empty one. Names are in buckets
 * of two cache lines, chosen by their hash; a full bucket evicts the cell with the earliest time.
 *
 * Races: a thread reads the time, then the name, and exchanges the time that it read. If the cell
 * is evicted in between, the exchange fails or, rarely, counts that event for the newcomer. Two
 * threads with the same new name choose the same cell: the first empty one, or the one that the
 * quicker thread took. Only in a full bucket that changes meanwhile may they choose two; the name
 * is then found in the first, and the count of the other is lost. */
#include "ratelimit.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "crypto.h"
#include "memory.h"

enum { WAYS = 8, ATTEMPTS = 16, NS_PER_MS = 1000000 };

struct cell {
    _Atomic uint64_t name; /* hash; 0: empty */
    _Atomic int64_t due;   /* nanoseconds */
};

struct ratelimit {
    uint8_t key[CRYPTO_TABLE_KEY];
    size_t buckets; /* a power of two */
    struct cell *cells;
    void *memory;
};

static_assert(sizeof(struct cell) == 16, "the header promises 16 bytes");
static_assert(WAYS * sizeof(struct cell) % CACHE_LINE == 0, "buckets share no cache line");

struct ratelimit *ratelimit_create(size_t cells)
{
    struct ratelimit *limit = xcalloc(1, sizeof(*limit));
    crypto_random(limit->key, sizeof(limit->key));
    limit->buckets = 1;
    while (limit->buckets * WAYS < cells)
        limit->buckets *= 2;
    /* Zeroed memory takes no page until it is used. */
    size_t spare = CACHE_LINE / sizeof(struct cell);
    limit->memory = xcalloc(limit->buckets * WAYS + spare, sizeof(struct cell));
    size_t beyond = (uintptr_t)limit->memory % CACHE_LINE;
    char *aligned = (char *)limit->memory + (beyond > 0 ? CACHE_LINE - beyond : 0);
    limit->cells = (struct cell *)(void *)aligned;
    return limit;
}

void ratelimit_destroy(struct ratelimit **limit)
{
    if (!*limit)
        return;
    free((*limit)->memory);
    free(*limit);
    *limit = NULL;
}

/* --- the rule --- */

/* A rate in nanoseconds: one event per interval, and how far ahead of time events may come; the
 * question is about so many of them. */
struct pace {
    int64_t interval, capacity, cost;
};

static struct pace pace_of(const struct rate *rate, int64_t events)
{
    struct pace pace;
    int64_t burst = rate->burst > 1 ? rate->burst : 1;
    if (__builtin_mul_overflow(rate->per_ms, NS_PER_MS, &pace.interval))
        pace.interval = INT64_MAX;
    pace.interval /= rate->count;
    if (pace.interval < 1)
        pace.interval = 1;
    /* Leaves half the range free for sums with the time. */
    if (__builtin_mul_overflow(pace.interval, burst, &pace.capacity) ||
        pace.capacity > INT64_MAX / 4)
        pace.capacity = INT64_MAX / 4;
    if (pace.interval > pace.capacity)
        pace.interval = pace.capacity;
    assert(pace.interval > 0 && events > 0);
    if (__builtin_mul_overflow(pace.interval, events, &pace.cost) || pace.cost > INT64_MAX / 4)
        pace.cost = INT64_MAX / 4;
    return pace;
}

/* How far the cell is ahead of time. Limited to the pace's capacity, which matters only after a
 * change of the rate. */
static int64_t debt_of(const struct pace *pace, int64_t due, int64_t now_ns)
{
    if (due <= now_ns)
        return 0;
    return due - now_ns < pace->capacity ? due - now_ns : pace->capacity;
}

static int64_t to_ms(int64_t ns)
{
    return ns <= 0 ? 0 : (ns - 1) / NS_PER_MS + 1;
}

static struct rate_verdict verdict_of(const struct pace *pace, int64_t debt, bool allowed)
{
    assert(debt >= 0 && debt <= pace->capacity);
    return (struct rate_verdict){
        .allowed = allowed,
        .limit = pace->capacity / pace->interval,
        .remaining = (pace->capacity - debt) / pace->interval,
        .reset_ms = to_ms(debt),
        .retry_ms = allowed ? 0 : to_ms(debt + pace->cost - pace->capacity),
    };
}

static bool is_within_burst(const struct pace *pace, int64_t debt)
{
    return debt + pace->cost <= pace->capacity;
}

/* --- cells --- */

static uint64_t hash_name(const struct ratelimit *limit, const void *name, size_t length)
{
    uint64_t hash = crypto_table_hash(limit->key, name, length);
    return hash ? hash : 1;
}

static struct cell *bucket_at(const struct ratelimit *limit, uint64_t hash)
{
    return &limit->cells[(hash & (limit->buckets - 1)) * WAYS];
}

static uint64_t cell_name(struct cell *cell)
{
    return atomic_load_explicit(&cell->name, memory_order_acquire);
}

static int64_t due_of(struct cell *cell)
{
    return atomic_load_explicit(&cell->due, memory_order_acquire);
}

static struct cell *find_cell(struct cell *bucket, uint64_t hash)
{
    for (size_t i = 0; i < WAYS; i++)
        if (cell_name(&bucket[i]) == hash)
            return &bucket[i];
    return NULL;
}

/* A cell as it was when it was read. */
struct seen {
    struct cell *cell;
    uint64_t name;
    int64_t due;
};

/* The cell for a name: one that another thread has given it meanwhile, an empty one, or the one
 * that has been idle for longest. */
static struct seen choose_cell(struct cell *bucket, uint64_t hash)
{
    struct seen victim = {NULL, 0, INT64_MAX};
    for (size_t i = 0; i < WAYS; i++) {
        int64_t due = due_of(&bucket[i]);
        struct seen seen = {&bucket[i], cell_name(&bucket[i]), due};
        if (seen.name == 0 || seen.name == hash)
            return seen;
        if (due < victim.due)
            victim = seen;
    }
    return victim;
}

/* Gives a name a cell. NULL if another thread was quicker. */
static struct cell *claim(struct cell *bucket, uint64_t hash, int64_t now_ns)
{
    struct seen choice = choose_cell(bucket, hash);
    if (choice.name == hash)
        return choice.cell;
    /* The newcomer does not inherit. */
    if (choice.due > now_ns &&
        !atomic_compare_exchange_strong(&choice.cell->due, &choice.due, now_ns))
        return NULL;
    return atomic_compare_exchange_strong(&choice.cell->name, &choice.name, hash) ? choice.cell
                                                                                  : NULL;
}

/* Counts one event if allowed. False if the cell has another name now. */
static bool charge(struct cell *cell, uint64_t hash, const struct pace *pace, int64_t now_ns,
                   struct rate_verdict *ret)
{
    for (;;) {
        int64_t due = due_of(cell);
        if (cell_name(cell) != hash)
            return false;
        int64_t debt = debt_of(pace, due, now_ns);
        bool allowed = is_within_burst(pace, debt);
        int64_t next = now_ns + debt + (allowed ? pace->cost : 0);
        /* A refusal changes nothing, except a debt from before a change of the rate. */
        if ((!allowed && next >= due) || atomic_compare_exchange_weak(&cell->due, &due, next)) {
            *ret = verdict_of(pace, allowed ? debt + pace->cost : debt, allowed);
            return true;
        }
    }
}

static const struct rate_verdict unlimited = {.allowed = true};

struct rate_verdict ratelimit_take_many(struct ratelimit *limit, const void *name, size_t length,
                                        struct rate rate, int64_t events, int64_t now_ns)
{
    if (rate.count <= 0)
        return unlimited;
    struct pace pace = pace_of(&rate, events);
    uint64_t hash = hash_name(limit, name, length);
    struct cell *bucket = bucket_at(limit, hash);
    struct rate_verdict verdict;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        struct cell *cell = find_cell(bucket, hash);
        if (!cell)
            cell = claim(bucket, hash, now_ns);
        if (cell && charge(cell, hash, &pace, now_ns, &verdict))
            return verdict;
    }
    return verdict_of(&pace, pace.cost < pace.capacity ? pace.cost : pace.capacity, true);
}

struct rate_verdict ratelimit_take(struct ratelimit *limit, const void *name, size_t length,
                                   struct rate rate, int64_t now_ns)
{
    return ratelimit_take_many(limit, name, length, rate, 1, now_ns);
}

struct rate_verdict ratelimit_peek(struct ratelimit *limit, const void *name, size_t length,
                                   struct rate rate, int64_t now_ns)
{
    if (rate.count <= 0)
        return unlimited;
    struct pace pace = pace_of(&rate, 1);
    uint64_t hash = hash_name(limit, name, length);
    struct cell *cell = find_cell(bucket_at(limit, hash), hash);
    int64_t debt = cell ? debt_of(&pace, due_of(cell), now_ns) : 0;
    return verdict_of(&pace, debt, is_within_burst(&pace, debt));
}
