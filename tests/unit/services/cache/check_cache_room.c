/* Room in the cache: order of eviction, and that the ledger is right about memory. */
#include <check.h>
#include <malloc.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "metrics.h"

#include "services/cache/cache_shard.h"
#include "support_cache.h"
#include "support_keys.h"
#include "support_run.h"

#define PLENTY (INT64_C(4) << 30)
#define LENGTH 300

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

static struct cache *cache;

static void tear_down(void)
{
    cache_destroy(&cache);
    ck_assert_int_eq(metrics_read(METRIC_CACHE_ENTRIES), 0);
    ck_assert_int_eq(metrics_read(METRIC_CACHE_BYTES), 0);
}

static void put(uint32_t tenant, uint32_t user, uint32_t session)
{
    struct cache_key key = support_cache_key(tenant, user, session);
    ck_assert(support_cache_put(cache, &key, LENGTH));
}

/* Finding an entry is a use of it. */
static bool has(uint32_t tenant, uint32_t user, uint32_t session)
{
    struct cache_key key = support_cache_key(tenant, user, session);
    return support_cache_has(cache, &key, LENGTH);
}

/* --- clocks --- */

/* The textbook's CLOCK: frames in a circle, the new one in the frame of the old one. */
enum { FRAMES = 40, ROUNDS = 5000 };

struct frames {
    uint32_t sessions[FRAMES];
    bool used[FRAMES];
    size_t hand;
};

static size_t frame_to_replace(struct frames *frames)
{
    for (;;) {
        size_t at = frames->hand;
        frames->hand = (frames->hand + 1) % FRAMES;
        if (!frames->used[at])
            return at;
        frames->used[at] = false;
    }
}

/* One user's sessions, so that all lie in one shard. Some are used, then one more comes, again and
 * again; what goes must be what goes in the model. */
static void compare_with_frames(uint32_t tenant, struct frames *frames)
{
    uint64_t state = 7;
    for (uint32_t next = FRAMES; next < ROUNDS; next++) {
        for (int uses = (int)(support_next(&state) % 4); uses > 0; uses--) {
            size_t at = support_next(&state) % FRAMES;
            ck_assert(has(tenant, 1, frames->sessions[at]));
            frames->used[at] = true;
        }
        put(tenant, 1, next);
        size_t at = frame_to_replace(frames);
        /* A miss is not a use: ask for entries that must be evicted, not for those that must be
         * there. */
        ck_assert_msg(!has(tenant, 1, frames->sessions[at]), "at %u", next);
        frames->sessions[at] = next;
    }
    for (size_t i = 0; i < FRAMES; i++)
        ck_assert(has(tenant, 1, frames->sessions[i]));
}

static struct frames fill_frames(uint32_t tenant)
{
    struct frames frames = {0};
    for (uint32_t i = 0; i < FRAMES; i++) {
        put(tenant, 1, i);
        frames.sessions[i] = i;
    }
    return frames;
}

START_TEST(a_full_cache_gives_up_what_the_clock_says)
{
    cache = support_cache(PLENTY, 0);
    struct frames frames = fill_frames(1);
    support_cache_resize(cache, (int64_t)support_cache_usage(cache).bytes, 0);
    int64_t evictions = metrics_read(METRIC_CACHE_EVICTIONS);
    compare_with_frames(1, &frames);
    ck_assert_int_eq(metrics_read(METRIC_CACHE_EVICTIONS), evictions + ROUNDS - FRAMES);
    ck_assert_uint_eq(support_cache_usage(cache).entries, FRAMES);
}
END_TEST

/* The charge for a tenant with so many entries, and half an entry. */
static int64_t quota_for(size_t entries)
{
    struct cache_item *item = xmalloc(offsetof(struct cache_item, value) + LENGTH);
    struct cache_tenant *tenant = xmalloc(sizeof(*tenant));
    size_t each = memory_taken(item) + CACHE_PLACES;
    size_t quota = memory_taken(tenant) + entries * each + each / 2;
    free(item);
    free(tenant);
    return (int64_t)quota;
}

START_TEST(a_tenant_at_its_quota_gives_up_what_its_own_clock_says)
{
    cache = support_cache(PLENTY, 0);
    for (uint32_t i = 0; i < FRAMES; i++)
        put(2, i, 0);
    struct frames frames = fill_frames(1);
    support_cache_resize(cache, PLENTY, quota_for(FRAMES));
    compare_with_frames(1, &frames);
    for (uint32_t i = 0; i < FRAMES; i++)
        ck_assert(has(2, i, 0));
}
END_TEST

/* Everything is used between any two stores: the hand must not go round in search of an unused one,
 * and yet find one to evict. */
START_TEST(a_cache_in_which_everything_is_used_still_gives_way)
{
    enum { MANY = 900 };
    cache = support_cache(PLENTY, 0);
    for (uint32_t i = 0; i < MANY; i++)
        put(1, 1, i);
    support_cache_resize(cache, (int64_t)support_cache_usage(cache).bytes, 0);
    for (uint32_t i = MANY; i < MANY + 20; i++) {
        for (uint32_t j = 0; j < i; j++)
            has(1, 1, j);
        put(1, 1, i);
        ck_assert(has(1, 1, i));
    }
}
END_TEST

/* --- bounds --- */

START_TEST(the_bound_holds_after_every_store)
{
    enum { BOUND = 2000000 };
    cache = support_cache(BOUND, 0);
    uint64_t state = 1;
    int kept = 0;
    for (int i = 0; i < 30000; i++) {
        uint64_t random = support_next(&state);
        struct cache_key key = support_cache_key((uint32_t)(random % 5), random >> 8 & 0xffff, 0);
        size_t length = random >> 40 & 15 ? random >> 32 & 511 : random >> 32 & 16383;
        ck_assert(support_cache_put(cache, &key, length));
        ck_assert_uint_le(support_cache_usage(cache).bytes, BOUND);
        kept += support_cache_has(cache, &key, length);
    }
    /* The room for a table that grew may come from the very entry that made it grow. */
    ck_assert_int_ge(kept, 29900);
    ck_assert_uint_ge(support_cache_usage(cache).bytes, BOUND * 9 / 10);
    ck_assert_uint_eq(support_cache_usage(cache).tenants, 5);
}
END_TEST

START_TEST(a_tenant_at_its_quota_costs_no_other_tenant_an_entry)
{
    enum { OTHERS = 2000, FLOOD = 20000, QUOTA = 200000 };
    cache = support_cache(PLENTY, 0);
    for (uint32_t i = 0; i < OTHERS; i++)
        put(1, i, 0);
    /* Room for the quota of one more, and for the tables that it may grow. */
    size_t bound = support_cache_usage(cache).bytes + QUOTA + 80000;
    support_cache_resize(cache, (int64_t)bound, QUOTA);
    size_t before = support_cache_usage(cache).entries;
    for (uint32_t i = 0; i < FLOOD; i++) {
        put(2, i, 0);
        ck_assert(has(2, i, 0));
    }
    size_t flooded = support_cache_usage(cache).entries - before;
    ck_assert_uint_le(flooded * LENGTH, QUOTA);
    ck_assert_uint_ge(flooded * 400, QUOTA * 9 / 10);
    for (uint32_t i = 0; i < OTHERS; i++)
        ck_assert(has(1, i, 0));
}
END_TEST

static size_t put_within(uint32_t tenant, uint32_t first, size_t count, int64_t quota)
{
    size_t before = support_cache_usage(cache).entries;
    for (uint32_t i = first; i < first + count; i++) {
        struct cache_key key = support_cache_key(tenant, i, 0);
        ck_assert(support_cache_put_within(cache, &key, LENGTH, (size_t)quota));
    }
    return support_cache_usage(cache).entries - before;
}

START_TEST(a_quota_of_its_own_bounds_a_tenant_and_no_other)
{
    cache = support_cache(PLENTY, 0);
    ck_assert_uint_eq(put_within(2, 0, 500, quota_for(100)), 100);
    ck_assert_uint_eq(put_within(3, 0, 500, 0), 500);
    ck_assert_uint_eq(put_within(4, 0, 500, quota_for(50)), 50);
    /* Raised, then lifted: it holds from the next entry on. */
    ck_assert_uint_eq(put_within(2, 1000, 500, quota_for(200)), 100);
    ck_assert_uint_eq(put_within(2, 2000, 500, 0), 500);
}
END_TEST

START_TEST(a_quota_of_its_own_stands_before_the_common_one)
{
    cache = support_cache(PLENTY, quota_for(100));
    ck_assert_uint_eq(put_within(2, 0, 300, quota_for(200)), 200);
    ck_assert_uint_eq(put_within(3, 0, 300, quota_for(30)), 30);
    ck_assert_uint_eq(put_within(4, 0, 300, 0), 100);
    ck_assert_uint_eq(put_within(5, 0, 300, -1), 300);
}
END_TEST

START_TEST(a_lowered_quota_is_reached_little_by_little)
{
    enum { LEFT = 50 };
    cache = support_cache(PLENTY, 0);
    put_within(1, 0, 400, 0);
    put_within(2, 0, 400, 0);
    size_t stores = 0;
    while (support_cache_usage(cache).entries > 400 + LEFT && stores < 1000) {
        size_t before = support_cache_usage(cache).entries;
        put_within(2, (uint32_t)(1000 + stores++), 1, quota_for(LEFT));
        ck_assert_uint_lt(support_cache_usage(cache).entries, before);
        ck_assert_uint_ge(support_cache_usage(cache).entries + 4, before);
    }
    ck_assert_uint_eq(support_cache_usage(cache).entries, 400 + LEFT);
    for (uint32_t i = 0; i < 400; i++)
        ck_assert(has(1, i, 0));
}
END_TEST

START_TEST(an_entry_that_its_tenants_quota_can_never_hold_is_not_stored)
{
    struct cache_key key = support_cache_key(1, 99, 0);
    cache = support_cache(PLENTY, 0);
    put_within(1, 0, 10, 0);
    ck_assert(!support_cache_put_within(cache, &key, 8000, 4000));
    ck_assert_uint_eq(support_cache_usage(cache).entries, 10);
    ck_assert(support_cache_put_within(cache, &key, 8000, 0));
}
END_TEST

/* Fewer entries than shards: most stores find none of the tenant's in their own shard. */
START_TEST(a_tenant_with_a_tiny_quota_gets_its_newest_entries)
{
    cache = support_cache(PLENTY, 3000);
    for (uint32_t i = 0; i < 2000; i++) {
        put(1, i, 0);
        ck_assert(has(1, i, 0));
        ck_assert_uint_le(support_cache_usage(cache).entries, 7);
    }
    ck_assert_uint_ge(support_cache_usage(cache).entries, 5);
}
END_TEST

START_TEST(what_can_never_have_room_costs_nobody_an_entry)
{
    struct cache_key key = support_cache_key(1, 99, 0);
    cache = support_cache(PLENTY, 8000);
    for (uint32_t i = 0; i < 10; i++)
        put(1, i, 0);
    ck_assert(!support_cache_put(cache, &key, 8000));
    support_cache_resize(cache, 200000, 0);
    ck_assert(support_cache_put(cache, &key, 8000));
    support_cache_resize(cache, 8000, 0);
    ck_assert(!support_cache_put(cache, &key, 8000));
    ck_assert_uint_gt(support_cache_usage(cache).entries, 0);
}
END_TEST

START_TEST(a_lowered_bound_is_reached_little_by_little)
{
    enum { MANY = 20000, STORES = 20000 };
    cache = support_cache(PLENTY, 0);
    for (uint32_t i = 0; i < MANY; i++)
        put(1, i, 0);
    support_cache_resize(cache, 1000000, 0);
    ck_assert_uint_eq(support_cache_usage(cache).entries, MANY);
    uint32_t stores = 0;
    while (support_cache_usage(cache).bytes > 1000000 && stores < STORES) {
        size_t before = support_cache_usage(cache).entries;
        put(1, MANY + stores++, 0);
        ck_assert_uint_lt(support_cache_usage(cache).entries, before + 1);
        ck_assert_uint_ge(support_cache_usage(cache).entries + 16, before);
    }
    ck_assert_uint_lt(stores, STORES);
}
END_TEST

/* --- memory --- */

static size_t heap_bytes(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void assert_books_are_right(size_t before, size_t entries)
{
    struct cache_usage usage = support_cache_usage(cache);
    ck_assert_uint_eq(usage.entries, entries);
    ck_assert_int_eq(metrics_read(METRIC_CACHE_BYTES), (int64_t)usage.bytes);
    ck_assert_int_eq(metrics_read(METRIC_CACHE_ENTRIES), (int64_t)entries);
    if (SANITIZED)
        return;
    double heap = (double)(heap_bytes() - before);
    ck_assert_msg((double)usage.bytes > heap * 0.95 && (double)usage.bytes < heap * 1.05,
                  "%zu bytes in the books, %.0f on the heap", usage.bytes, heap);
}

/* Arguments: entries, entries for each tenant, longest value. */
static const struct books {
    uint32_t entries, per_tenant;
    size_t longest;
} books[] = {
    {1, 1, 300},        {100, 100, 16},    {1000, 1, 300},
    {20000, 5000, 300}, {100000, 100, 64}, {3000, 500, CACHE_VALUE_MAX},
};

START_TEST(the_books_agree_with_the_heap)
{
    const struct books *row = &books[_i];
    metrics_attach();
    metrics_gauge_add(METRIC_CACHE_BYTES, 0);
    cache = support_cache(PLENTY, 0);
    size_t before = heap_bytes();
    for (uint32_t i = 0; i < row->entries; i++) {
        struct cache_key key = support_cache_key(i / row->per_tenant, i, 0);
        ck_assert(support_cache_put(cache, &key, i * 7919 % (row->longest + 1)));
    }
    assert_books_are_right(before, row->entries);
    for (uint32_t i = 0; i < row->entries; i++)
        if (i % 5 != 0) {
            struct cache_key key = support_cache_key(i / row->per_tenant, i, 0);
            cache_forget(cache, key.owner, NULL, NULL);
        }
    assert_books_are_right(before, (row->entries + 4) / 5);
}
END_TEST

/* Nanoseconds of one cache_get() among the first `count` users. */
static double time_gets(uint32_t count)
{
    enum { GETS = 300000 };
    struct arena arena = {0};
    struct cache_entry entry;
    size_t found = 0;
    uint64_t state = 3;
    int64_t begin = clock_monotonic_ns();
    for (int i = 0; i < GETS; i++) {
        struct cache_key key = support_cache_key(1, (uint32_t)(support_next(&state) % count), 0);
        found += cache_get(cache, &key, &arena, &entry);
        arena_reset(&arena);
    }
    double taken = (double)(clock_monotonic_ns() - begin) / GETS;
    arena_free(&arena);
    ck_assert_uint_eq(found, GETS);
    return taken;
}

/* Processor time of this thread: what others on the machine do does not count. */
static int64_t own_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* The promise of the option's help: about 400 bytes each. */
START_TEST(a_million_entries_take_at_most_400_bytes_each)
{
    uint32_t few = 1000, many = SANITIZED ? 100000 : 1000000;
    cache = support_cache(PLENTY, 0);
    for (uint32_t i = 0; i < few; i++)
        put(1, i, 0);
    double ns_few = time_gets(few);
    int64_t slowest = 0;
    for (uint32_t i = few; i < many; i++) {
        int64_t begin = own_ns();
        put(1, i, 0);
        int64_t taken = own_ns() - begin;
        slowest = taken > slowest ? taken : slowest;
    }
    double ns_many = time_gets(many);
    double each = (double)support_cache_usage(cache).bytes / many;
    printf("%u entries of %d bytes: %.1f bytes each; cache_get %.0f ns among %u, %.0f ns among %u; "
           "slowest store %.3f ms\n",
           many, LENGTH, each, ns_few, few, ns_many, many, (double)slowest / 1e6);
    if (!SANITIZED)
        ck_assert_double_le(each, 400);
}
END_TEST

/* Two threads change the table of one shard and book that after they gave up its lock. */
START_TEST(a_table_that_shrinks_is_booked_before_its_growth)
{
    static const uint8_t tag[TENANT_TAG] = {1};
    static const struct hash_seed seed;
    struct cache_ledger ledger = {0};
    struct cache_usage usage;
    struct cache_debt debt;
    cache_ledger_init(&ledger, &seed);
    cache_ledger_set_bounds(&ledger, 1 << 20, 0);
    struct cache_tenant *tenant = cache_ledger_charge(&ledger, tag, 1000, NULL);
    cache_ledger_book(&ledger, _i ? -900 : -100000);
    cache_ledger_usage(&ledger, &usage);
    ck_assert_uint_lt(usage.bytes, 100000);
    ck_assert(!cache_ledger_owes(&ledger, tenant, &debt));
    cache_ledger_release(&ledger, tenant, 1000);
    cache_ledger_book(&ledger, _i ? 900 : 100000);
    cache_ledger_fini(&ledger);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("cache_room");
    TCase *clocks = tcase_create("clocks");
    tcase_add_checked_fixture(clocks, NULL, tear_down);
    tcase_add_test(clocks, a_full_cache_gives_up_what_the_clock_says);
    tcase_add_test(clocks, a_tenant_at_its_quota_gives_up_what_its_own_clock_says);
    tcase_add_test(clocks, a_cache_in_which_everything_is_used_still_gives_way);
    suite_add_tcase(suite, clocks);
    TCase *bounds = tcase_create("bounds");
    tcase_add_checked_fixture(bounds, NULL, tear_down);
    tcase_set_timeout(bounds, 30);
    tcase_add_test(bounds, the_bound_holds_after_every_store);
    tcase_add_test(bounds, a_tenant_at_its_quota_costs_no_other_tenant_an_entry);
    tcase_add_test(bounds, a_quota_of_its_own_bounds_a_tenant_and_no_other);
    tcase_add_test(bounds, a_quota_of_its_own_stands_before_the_common_one);
    tcase_add_test(bounds, a_lowered_quota_is_reached_little_by_little);
    tcase_add_test(bounds, an_entry_that_its_tenants_quota_can_never_hold_is_not_stored);
    tcase_add_test(bounds, a_tenant_with_a_tiny_quota_gets_its_newest_entries);
    tcase_add_test(bounds, what_can_never_have_room_costs_nobody_an_entry);
    tcase_add_test(bounds, a_lowered_bound_is_reached_little_by_little);
    suite_add_tcase(suite, bounds);
    TCase *order = tcase_create("order of booking");
    tcase_add_loop_test(order, a_table_that_shrinks_is_booked_before_its_growth, 0, 2);
    suite_add_tcase(suite, order);
    TCase *memory = tcase_create("memory");
    tcase_add_checked_fixture(memory, NULL, tear_down);
    tcase_set_timeout(memory, 120);
    tcase_add_loop_test(memory, the_books_agree_with_the_heap, 0,
                        (int)(sizeof(books) / sizeof(books[0])));
    tcase_add_test(memory, a_million_entries_take_at_most_400_bytes_each);
    suite_add_tcase(suite, memory);
    return suite;
}

/* mallinfo2() counts what the allocator keeps for each thread as in use: let it keep nothing. */
int main(int argc, char **argv)
{
    (void)argc;
    if (!SANITIZED && !getenv("GLIBC_TUNABLES")) {
        setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0", 1);
        execv("/proc/self/exe", argv);
    }
    return support_run(suite());
}
