/* The cache under threads: what was read before a change never outlives it, nothing is torn, and
 * the books are right in the end. */
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "metrics.h"

#include "support_cache.h"
#include "support_keys.h"
#include "support_run.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { TURNS = 20000 };
#else
enum { TURNS = 150000 };
#endif

enum { USERS = 24, SESSIONS = 3, THREADS = 4, LONGEST = 96 };

static struct cache *cache;
/* A user's state, as Redis would have it: raised by a change, which then reaches the cache. */
static _Atomic uint32_t truth[USERS];
/* The last change that reached the cache; raised when cache_forget() has returned. */
static _Atomic uint32_t told[USERS];
static atomic_bool failed; /* set by a thread, which must not call check's functions */
static atomic_size_t found, stored;

static void set_up(void)
{
    cache = support_cache(1 << 20, 0);
}

static void tear_down(void)
{
    cache_destroy(&cache);
    ck_assert_int_eq(metrics_read(METRIC_CACHE_ENTRIES), 0);
    ck_assert_int_eq(metrics_read(METRIC_CACHE_BYTES), 0);
}

static struct cache_key key_of(uint64_t random)
{
    uint32_t user = (uint32_t)(random % USERS);
    return support_cache_key(user % 2, user, random >> 8 & 0xff ? random >> 16 & 1 : 2);
}

static uint32_t user_of(const struct cache_key *key)
{
    return key->owner[TENANT_TAG];
}

/* Only one thread changes a user, as Redis lets one change win. */
static void change(const struct cache_key *key)
{
    uint32_t user = user_of(key);
    uint32_t now = atomic_load(&truth[user]) + 1;
    atomic_store(&truth[user], now);
    cache_forget(cache, key->owner, NULL, NULL);
    atomic_store(&told[user], now);
}

static void read_through(const struct cache_key *key, uint64_t random)
{
    uint32_t lease = cache_lease(cache, key->owner);
    uint32_t words[LONGEST / 4];
    uint32_t read = atomic_load(&truth[user_of(key)]);
    size_t count = 1 + random % (LONGEST / 4);
    for (size_t i = 0; i < count; i++)
        words[i] = read;
    struct cache_entry entry = {.value = {(char *)words, 4 * count}, .generation = read};
    atomic_fetch_add(&stored, cache_put(cache, key, &entry, lease));
}

static void find(const struct cache_key *key, struct arena *arena)
{
    uint32_t least = atomic_load(&told[user_of(key)]);
    uint32_t words[LONGEST / 4];
    struct cache_entry entry;
    cache_prefetch(cache, key->owner, PREFETCH_CHAIN);
    cache_prefetch(cache, key->owner, PREFETCH_ENTRY);
    if (!cache_get(cache, key, arena, &entry))
        return;
    memcpy(words, entry.value.data, entry.value.length);
    atomic_fetch_add(&found, 1);
    if (entry.generation < least)
        atomic_store(&failed, true);
    for (size_t i = 0; i < entry.value.length / 4; i++)
        if (words[i] != entry.generation)
            atomic_store(&failed, true);
}

static void *take_turns(void *user)
{
    uint64_t state = (uint64_t)(uintptr_t)user;
    struct arena arena = {0};
    metrics_attach();
    for (int i = 0; i < TURNS; i++) {
        uint64_t random = support_next(&state);
        struct cache_key key = key_of(random >> 16);
        if ((random & 7) < 3)
            read_through(&key, random >> 8);
        else if ((random & 7) < 7)
            find(&key, &arena);
        else if (user_of(&key) % THREADS == (uintptr_t)user % THREADS)
            change(&key);
        arena_reset(&arena);
    }
    arena_free(&arena);
    return NULL;
}

static void count_entry(void *user, const struct cache_key *key, const struct cache_entry *entry)
{
    (void)key;
    (void)entry;
    ++*(size_t *)user;
}

/* One thread goes through everything, and lowers and raises the bounds, until it is stopped.
 */
static void *visit_and_resize(void *user)
{
    size_t count = 0;
    for (uint32_t turn = 1; !atomic_load((atomic_bool *)user); turn++) {
        cache_each(cache, count_entry, &count);
        support_cache_resize(cache, turn % 3 ? 1 << 20 : 12000, turn % 2 ? 6000 : 0);
    }
    return NULL;
}

static void run_threads(void *(*disturb)(void *user))
{
    pthread_t threads[THREADS], disturber;
    atomic_bool stop = false;
    for (uintptr_t i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, take_turns, (void *)(i + THREADS)), 0);
    if (disturb)
        ck_assert_int_eq(pthread_create(&disturber, NULL, disturb, &stop), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&stop, true);
    if (disturb)
        pthread_join(disturber, NULL);
}

START_TEST(no_value_outlives_the_change_that_it_was_read_before)
{
    run_threads(NULL);
    ck_assert(!atomic_load(&failed));
    ck_assert_uint_gt(atomic_load(&found), TURNS / 10);
    ck_assert_uint_gt(atomic_load(&stored), TURNS / 10);
}
END_TEST

START_TEST(the_books_are_right_after_evictions_and_changes_at_once)
{
    run_threads(visit_and_resize);
    ck_assert(!atomic_load(&failed));
    size_t visited = 0;
    cache_each(cache, count_entry, &visited);
    ck_assert_uint_eq(support_cache_usage(cache).entries, visited);
    ck_assert_uint_eq((size_t)metrics_read(METRIC_CACHE_ENTRIES), visited);
    ck_assert_uint_eq((size_t)metrics_read(METRIC_CACHE_BYTES), support_cache_usage(cache).bytes);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("cache_races");
    TCase *races = tcase_create("races");
    tcase_add_checked_fixture(races, set_up, tear_down);
    tcase_set_timeout(races, 120);
    tcase_add_test(races, no_value_outlives_the_change_that_it_was_read_before);
    tcase_add_test(races, the_books_are_right_after_evictions_and_changes_at_once);
    suite_add_tcase(suite, races);
    return suite;
}

int main(void)
{
    return support_run(suite());
}
