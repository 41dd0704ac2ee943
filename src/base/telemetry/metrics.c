/* Counting. A cell has one writer, the thread that owns the shard, so that a plain load and a plain
 * store suffice: no locked instruction and no shared cache line on the hot path. A reader may see
 * a number a moment old, never a torn one. Threads without a shard share one under `lock`, which
 * also guards the list. */
#include "metrics_cells.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "err.h"
#include "memory.h"

enum { STATUS_LIMIT = 600 };

struct shard {
    struct shard *next;
    size_t count;
    _Alignas(CACHE_LINE) _Atomic int64_t cells[];
};

const struct metric_row metric_rows[METRIC_COUNT] = {
#define COUNTER(id, name, help)   {METRIC_IS_COUNTER, CELL_##id, (name), (help)},
#define GAUGE(id, name, help)     {METRIC_IS_GAUGE, CELL_##id, (name), (help)},
#define HISTOGRAM(id, name, help) {METRIC_IS_HISTOGRAM, CELL_##id, (name), (help)},
#include "tbl/metrics.h"
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
};

const struct metric_bucket metric_buckets[BUCKET_COUNT] = {
    {10000, "0.00001"},  {25000, "0.000025"},        {50000, "0.00005"},  {100000, "0.0001"},
    {250000, "0.00025"}, {500000, "0.0005"},         {1000000, "0.001"},  {2500000, "0.0025"},
    {5000000, "0.005"},  {10000000, "0.01"},         {25000000, "0.025"}, {50000000, "0.05"},
    {100000000, "0.1"},  {250000000, "0.25"},        {500000000, "0.5"},  {1000000000, "1"},
    {2500000000, "2.5"}, {INT64_C(5000000000), "5"},
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct shard *shards; /* guarded by lock; never shrinks */
static struct shard *common; /* guarded by lock, cells too */
static _Thread_local struct shard *own;

/* Written once at start, before there are threads. */
static struct metric_routes routes;
static unsigned char status_slots[STATUS_LIMIT];

/* --- routes and statuses --- */

static void add_status(unsigned status)
{
    if (status_slots[status] == 0) {
        assert(routes.status_count < STATUS_SLOTS);
        status_slots[status] = (unsigned char)routes.status_count;
        routes.statuses[routes.status_count++] = status;
    }
}

void metrics_define_routes(const char *const *methods, const char *const *templates, size_t count)
{
    static const unsigned successes[] = {200, 201, 202, 204, 304};
    assert(!own && routes.count == 0);
    routes.methods = methods;
    routes.templates = templates;
    routes.count = count;
    routes.status_count = 1;
    for (size_t i = 0; i < sizeof(successes) / sizeof(successes[0]); i++)
        add_status(successes[i]);
    for (int err = ERR_OK + 1; err < ERR_COUNT; err++)
        add_status(err_status((enum err)err));
}

const struct metric_routes *metrics_routes(void)
{
    return &routes;
}

/* --- shards --- */

static struct shard *new_shard(void)
{
    size_t count = route_cell(routes.count);
    size_t size = sizeof(struct shard) + count * sizeof(int64_t);
    size = (size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    void *memory = NULL;
    if (posix_memalign(&memory, CACHE_LINE, size) != 0)
        abort();
    struct shard *shard = memory;
    shard->next = NULL;
    shard->count = count;
    for (size_t i = 0; i < count; i++)
        atomic_init(&shard->cells[i], 0);
    return shard;
}

/* Puts a shard into the list; the caller holds the lock. */
static struct shard *enlist(struct shard *shard)
{
    shard->next = shards;
    shards = shard;
    return shard;
}

void metrics_attach(void)
{
    if (!own) {
        own = new_shard();
        pthread_mutex_lock(&lock);
        enlist(own);
        pthread_mutex_unlock(&lock);
    }
}

/* The common shard was created before the routes were defined: its numbers move to a larger one. */
static void grow_common(void)
{
    struct shard *old = common;
    common = enlist(new_shard());
    for (size_t i = 0; old && i < old->count; i++) {
        atomic_store(&common->cells[i], atomic_load(&old->cells[i]));
        atomic_store(&old->cells[i], 0);
    }
}

/* The shard to count in. Ends with release_shard(). */
static struct shard *take_shard(void)
{
    if (own)
        return own;
    pthread_mutex_lock(&lock);
    if (!common || common->count < route_cell(routes.count))
        grow_common();
    return common;
}

static void release_shard(const struct shard *shard)
{
    if (shard != own)
        pthread_mutex_unlock(&lock);
}

static void cell_add(struct shard *shard, size_t cell, int64_t amount)
{
    int64_t value = atomic_load_explicit(&shard->cells[cell], memory_order_relaxed);
    atomic_store_explicit(&shard->cells[cell], value + amount, memory_order_relaxed);
}

static void histogram_add(struct shard *shard, size_t first, int64_t nanoseconds)
{
    size_t bucket = 0;
    while (bucket < BUCKET_COUNT && nanoseconds > metric_buckets[bucket].nanoseconds)
        bucket++;
    cell_add(shard, first + bucket, 1);
    cell_add(shard, first + HISTOGRAM_SUM, nanoseconds > 0 ? nanoseconds : 0);
}

/* --- counting --- */

void metrics_add(enum metric counter, uint64_t amount)
{
    assert(metric_rows[counter].kind == METRIC_IS_COUNTER);
    struct shard *shard = take_shard();
    cell_add(shard, metric_rows[counter].cell, (int64_t)amount);
    release_shard(shard);
}

void metrics_gauge_add(enum metric gauge, int64_t amount)
{
    assert(metric_rows[gauge].kind == METRIC_IS_GAUGE);
    struct shard *shard = take_shard();
    cell_add(shard, metric_rows[gauge].cell, amount);
    release_shard(shard);
}

void metrics_gauge_set(enum metric gauge, int64_t value)
{
    assert(metric_rows[gauge].kind == METRIC_IS_GAUGE);
    struct shard *shard = take_shard();
    atomic_store_explicit(&shard->cells[metric_rows[gauge].cell], value, memory_order_relaxed);
    release_shard(shard);
}

void metrics_observe(enum metric histogram, int64_t nanoseconds)
{
    assert(metric_rows[histogram].kind == METRIC_IS_HISTOGRAM);
    struct shard *shard = take_shard();
    histogram_add(shard, metric_rows[histogram].cell, nanoseconds);
    release_shard(shard);
}

void metrics_request(size_t route, unsigned status, int64_t nanoseconds)
{
    assert(route < routes.count);
    size_t slot = status < STATUS_LIMIT ? status_slots[status] : 0;
    struct shard *shard = take_shard();
    cell_add(shard, route_cell(route) + slot, 1);
    histogram_add(shard, route_cell(route) + STATUS_SLOTS, nanoseconds);
    release_shard(shard);
}

/* --- adding up --- */

int64_t metrics_read(enum metric metric)
{
    assert(metric_rows[metric].kind != METRIC_IS_HISTOGRAM);
    int64_t sum = 0;
    pthread_mutex_lock(&lock);
    for (const struct shard *shard = shards; shard; shard = shard->next)
        sum += atomic_load_explicit(&shard->cells[metric_rows[metric].cell], memory_order_relaxed);
    pthread_mutex_unlock(&lock);
    return sum;
}

int64_t *metrics_sum(void)
{
    int64_t *sums = xcalloc(route_cell(routes.count), sizeof(*sums));
    pthread_mutex_lock(&lock);
    for (const struct shard *shard = shards; shard; shard = shard->next)
        for (size_t i = 0; i < shard->count; i++)
            sums[i] += atomic_load_explicit(&shard->cells[i], memory_order_relaxed);
    pthread_mutex_unlock(&lock);
    return sums;
}
