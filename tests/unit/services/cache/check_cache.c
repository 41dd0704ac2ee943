/* The cache's promises about entries: kept, replaced, patched, forgotten, visited. Room and clocks
 * are in check_cache_room.c, threads in check_cache_races.c. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "metrics.h"

#include "services/cache/cache_shard.h"
#include "support_cache.h"
#include "support_keys.h"
#include "support_run.h"

#define PLENTY (64 << 20)

static struct cache *cache;
static struct arena arena;

static void set_up(void)
{
    cache = support_cache(PLENTY, 0);
}

/* After any test nothing is left in the books. */
static void tear_down(void)
{
    arena_free(&arena);
    cache_destroy(&cache);
    ck_assert_ptr_null(cache);
    ck_assert_int_eq(metrics_read(METRIC_CACHE_ENTRIES), 0);
    ck_assert_int_eq(metrics_read(METRIC_CACHE_BYTES), 0);
}

static bool put(const struct cache_key *key, const char *value, bool final)
{
    struct cache_entry entry = {.value = text_of(value), .final = final};
    return cache_put(cache, key, &entry, cache_lease(cache, key->owner));
}

static void assert_holds(const struct cache_key *key, const char *value)
{
    struct cache_entry entry;
    ck_assert(cache_get(cache, key, &arena, &entry));
    ck_assert(text_equal(entry.value, text_of(value)));
}

static void assert_misses(const struct cache_key *key)
{
    struct cache_entry entry;
    ck_assert(!cache_get(cache, key, &arena, &entry));
}

/* --- get and put --- */

START_TEST(an_entry_comes_back_as_it_was_stored)
{
    struct cache_key key = support_cache_key(1, 2, 3);
    struct cache_entry entry = {.value = TEXT("value"), .generation = 77, .verified_ms = -12345};
    struct cache_entry found;
    ck_assert(cache_put(cache, &key, &entry, cache_lease(cache, key.owner)));
    ck_assert(cache_get(cache, &key, &arena, &found));
    ck_assert(text_equal(found.value, TEXT("value")));
    ck_assert_uint_eq(found.generation, 77);
    ck_assert_int_eq(found.verified_ms, -12345);
    ck_assert(!found.final);
    cache_patch(cache, &key, 0, "other", 5);
    ck_assert_msg(text_equal(found.value, TEXT("value")), "the caller has a copy");
}
END_TEST

START_TEST(every_byte_of_the_key_counts)
{
    struct cache_key key = support_cache_key(1, 2, 3);
    ck_assert(put(&key, "value", false));
    for (size_t i = 0; i < sizeof(key); i++) {
        struct cache_key other = key;
        ((uint8_t *)&other)[i] ^= 0x80;
        assert_misses(&other);
    }
    assert_holds(&key, "value");
}
END_TEST

START_TEST(a_second_store_replaces_the_first)
{
    struct cache_key key = support_cache_key(1, 2, 3);
    ck_assert(put(&key, "first", false));
    ck_assert(put(&key, "the second", false));
    assert_holds(&key, "the second");
    ck_assert_uint_eq(support_cache_usage(cache).entries, 1);
}
END_TEST

START_TEST(values_of_every_length_up_to_the_longest_are_kept)
{
    static const size_t lengths[] = {0, 1, 3, 4, 300, CACHE_VALUE_MAX - 1, CACHE_VALUE_MAX};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct cache_key key = support_cache_key(1, 2, (uint32_t)i);
        ck_assert(support_cache_put(cache, &key, lengths[i]));
        ck_assert(support_cache_has(cache, &key, lengths[i]));
    }
    struct cache_key key = support_cache_key(1, 2, 99);
    int64_t refused = metrics_read(METRIC_CACHE_STORES_REFUSED);
    ck_assert(!support_cache_put(cache, &key, CACHE_VALUE_MAX + 1));
    ck_assert_int_eq(metrics_read(METRIC_CACHE_STORES_REFUSED), refused + 1);
    assert_misses(&key);
}
END_TEST

START_TEST(a_final_entry_is_only_replaced_by_a_final_one)
{
    struct cache_key key = support_cache_key(1, 2, 3);
    ck_assert(put(&key, "alive", false));
    ck_assert(put(&key, "dead", true));
    ck_assert(!put(&key, "alive again", false));
    assert_holds(&key, "dead");
    ck_assert(put(&key, "dead for ever", true));
    assert_holds(&key, "dead for ever");
}
END_TEST

START_TEST(a_user_has_so_many_entries_and_the_oldest_goes)
{
    struct cache_key key;
    for (uint32_t i = 0; i < CACHE_OWNER_ENTRIES + 2; i++) {
        key = support_cache_key(1, 2, i);
        ck_assert(put(&key, "value", false));
    }
    ck_assert_uint_eq(support_cache_usage(cache).entries, CACHE_OWNER_ENTRIES);
    for (uint32_t i = 0; i < 4; i++) {
        key = support_cache_key(1, 2, i);
        struct cache_entry entry;
        ck_assert_int_eq(cache_get(cache, &key, &arena, &entry), i >= 2);
    }
}
END_TEST

/* --- patch --- */

START_TEST(a_patch_stays_within_the_value)
{
    struct cache_key key = support_cache_key(1, 2, 3);
    struct cache_key none = support_cache_key(1, 2, 4);
    ck_assert(put(&key, "0123456789", false));
    cache_patch(cache, &key, 2, "ab", 2);
    cache_patch(cache, &key, 9, "z", 1);
    assert_holds(&key, "01ab45678z");
    cache_patch(cache, &key, 9, "xy", 2);
    cache_patch(cache, &key, 10, "x", 1);
    cache_patch(cache, &key, SIZE_MAX, "xy", 2);
    cache_patch(cache, &key, 0, "x", 0);
    cache_patch(cache, &none, 0, "x", 1);
    assert_holds(&key, "01ab45678z");
    assert_misses(&none);
}
END_TEST

START_TEST(a_patch_with_a_condition_needs_the_bytes_that_it_expects)
{
    struct cache_key key = support_cache_key(1, 2, 3);
    ck_assert(put(&key, "0123456789", false));
    cache_patch_if(cache, &key, "0123", "abcd", 4);
    assert_holds(&key, "abcd456789");
    cache_patch_if(cache, &key, "0123", "wxyz", 4);
    cache_patch_if(cache, &key, "abcd456789+", "abcd456789-", 11);
    assert_holds(&key, "abcd456789");
    ck_assert(put(&key, "0123456789", true));
    cache_patch_if(cache, &key, "0123", "abcd", 4);
    assert_holds(&key, "0123456789");
}
END_TEST

START_TEST(a_final_entry_is_not_patched)
{
    struct cache_key key = support_cache_key(1, 2, 3);
    ck_assert(put(&key, "0123456789", true));
    cache_patch(cache, &key, 2, "ab", 2);
    assert_holds(&key, "0123456789");
}
END_TEST

/* --- forgetting --- */

struct gone {
    size_t count;
    unsigned sessions; /* a bit each */
};

static void note_gone(void *user, const struct cache_key *key)
{
    struct gone *gone = user;
    gone->count++;
    gone->sessions |= 1u << key->session[0];
    assert_misses(key); /* and no lock is held */
}

START_TEST(forgetting_takes_the_entries_of_one_owner_that_are_not_final)
{
    struct gone gone = {0};
    for (uint32_t i = 0; i < 6; i++) {
        struct cache_key key = support_cache_key(1, 2, i);
        ck_assert(put(&key, "value", i == 3));
    }
    struct cache_key other_user = support_cache_key(1, 3, 0);
    struct cache_key other_tenant = support_cache_key(2, 2, 0);
    ck_assert(put(&other_user, "value", false));
    ck_assert(put(&other_tenant, "value", false));

    struct cache_key owner = support_cache_key(1, 2, 0);
    cache_forget(cache, owner.owner, note_gone, &gone);
    ck_assert_uint_eq(gone.count, 5);
    ck_assert_uint_eq(gone.sessions, 0x37);
    struct cache_key final = support_cache_key(1, 2, 3);
    assert_holds(&final, "value");
    assert_holds(&other_user, "value");
    assert_holds(&other_tenant, "value");

    cache_forget(cache, owner.owner, note_gone, &gone);
    ck_assert_uint_eq(gone.count, 5);
    cache_forget(cache, other_user.owner, NULL, NULL);
    assert_misses(&other_user);
}
END_TEST

START_TEST(a_ticket_is_void_once_its_owner_was_forgotten)
{
    struct cache_key key = support_cache_key(1, 2, 3);
    struct cache_key other = support_cache_key(1, 4, 3);
    struct cache_entry entry = {.value = TEXT("old"), .final = true};
    uint32_t before = cache_lease(cache, key.owner);
    uint32_t others = cache_lease(cache, other.owner);
    cache_forget(cache, key.owner, NULL, NULL);
    int64_t refused = metrics_read(METRIC_CACHE_STORES_REFUSED);
    ck_assert(!cache_put(cache, &key, &entry, before));
    ck_assert_int_eq(metrics_read(METRIC_CACHE_STORES_REFUSED), refused + 1);
    assert_misses(&key);
    ck_assert(cache_put(cache, &key, &entry, cache_lease(cache, key.owner)));
    ck_assert(cache_put(cache, &other, &entry, others));
}
END_TEST

/* --- a cache that is switched off --- */

START_TEST(a_cache_without_bytes_stores_and_finds_nothing)
{
    struct cache_key key = support_cache_key(1, 2, 3);
    support_cache_resize(cache, 0, 0);
    ck_assert(!put(&key, "value", true));
    assert_misses(&key);
    ck_assert_uint_eq(support_cache_usage(cache).bytes, 0);
}
END_TEST

START_TEST(switching_off_hides_what_is_there_and_gives_it_up)
{
    struct cache_key key = support_cache_key(1, 2, 3);
    ck_assert(put(&key, "value", false));
    support_cache_resize(cache, 0, 0);
    assert_misses(&key);
    ck_assert(!put(&key, "value", false));
    ck_assert_uint_eq(support_cache_usage(cache).bytes, 0);
    support_cache_resize(cache, PLENTY, 0);
    assert_misses(&key);
    ck_assert(put(&key, "value", false));
    assert_holds(&key, "value");
}
END_TEST

/* --- against a naive reference --- */

enum { USERS = 40, SESSIONS = 12, STEPS = 200000 };

struct modelled {
    bool there, final;
    uint32_t generation;
    size_t length;
    uint8_t value[64];
};

static struct modelled model[USERS][SESSIONS];
static uint32_t leases[USERS]; /* of some time ago */
static bool is_void[USERS];

static void model_put(uint32_t user, uint32_t session, uint64_t random)
{
    struct cache_key key = support_cache_key(user % 3, user, session);
    struct modelled *modelled = &model[user][session];
    struct modelled new = {.there = true, .final = random % 8 == 0, .length = random / 8 % 65};
    memset(new.value, (int)(random >> 20 & 255), new.length);
    new.generation = (uint32_t)(random >> 32);
    struct cache_entry entry = {.value = {(char *)new.value, new.length},
                                .generation = new.generation,
                                .verified_ms = (int64_t)random,
                                .final = new.final};
    bool old_lease = random >> 16 & 1;
    uint32_t lease = old_lease ? leases[user] : cache_lease(cache, key.owner);
    bool stored = cache_put(cache, &key, &entry, lease);
    if (!old_lease) {
        ck_assert_int_eq(stored, !modelled->final || new.final);
    } else if (is_void[user]) {
        ck_assert(!stored);
    } /* else another user's lease may be the same, which may refuse it */
    if (stored)
        *modelled = new;
}

static void model_forget(uint32_t user)
{
    struct cache_key key = support_cache_key(user % 3, user, 0);
    cache_forget(cache, key.owner, NULL, NULL);
    is_void[user] = true;
    for (uint32_t i = 0; i < SESSIONS; i++)
        if (!model[user][i].final)
            model[user][i].there = false;
}

static void model_get(uint32_t user, uint32_t session)
{
    struct cache_key key = support_cache_key(user % 3, user, session);
    const struct modelled *modelled = &model[user][session];
    struct cache_entry entry;
    ck_assert_int_eq(cache_get(cache, &key, &arena, &entry), modelled->there);
    if (!modelled->there)
        return;
    ck_assert(text_equal(entry.value, (struct text){(char *)modelled->value, modelled->length}));
    ck_assert_uint_eq(entry.generation, modelled->generation);
    ck_assert_int_eq(entry.final, modelled->final);
}

static void model_patch(uint32_t user, uint32_t session, size_t offset)
{
    struct cache_key key = support_cache_key(user % 3, user, session);
    struct modelled *modelled = &model[user][session];
    cache_patch(cache, &key, offset, "!!", 2);
    if (modelled->there && !modelled->final && offset + 2 <= modelled->length)
        memcpy(modelled->value + offset, "!!", 2);
}

static void model_step(uint64_t random)
{
    uint32_t user = (uint32_t)(random % USERS);
    uint32_t session = (uint32_t)(random / USERS % SESSIONS);
    struct cache_key key = support_cache_key(user % 3, user, session);
    random = random / USERS / SESSIONS;
    uint64_t action = random % 100;
    random /= 100;
    if (action < 40)
        model_put(user, session, random);
    else if (action < 80)
        model_get(user, session);
    else if (action < 90)
        model_patch(user, session, random % 70);
    else if (action < 97)
        model_forget(user);
    else {
        leases[user] = cache_lease(cache, key.owner);
        is_void[user] = false;
    }
}

static void count_visited(void *user, const struct cache_key *key, const struct cache_entry *entry)
{
    uint32_t of, session;
    memcpy(&of, key->owner + TENANT_TAG, sizeof(of));
    memcpy(&session, key->session, sizeof(session));
    ck_assert(of < USERS && session < SESSIONS && model[of][session].there);
    ck_assert_uint_eq(entry->generation, model[of][session].generation);
    ck_assert_uint_eq(entry->value.length, model[of][session].length);
    *(size_t *)user += 1;
}

static void compare_all(void)
{
    size_t there = 0, visited = 0;
    for (uint32_t user = 0; user < USERS; user++)
        for (uint32_t session = 0; session < SESSIONS; session++) {
            model_get(user, session);
            there += model[user][session].there;
        }
    ck_assert_uint_eq(support_cache_usage(cache).entries, there);
    cache_each(cache, count_visited, &visited);
    ck_assert_uint_eq(visited, there);
}

START_TEST(a_long_random_history_ends_as_in_a_naive_table)
{
    uint64_t state = 20;
    for (uint32_t user = 0; user < USERS; user++)
        leases[user] = cache_lease(cache, support_cache_key(user % 3, user, 0).owner);
    for (int i = 0; i < STEPS; i++) {
        model_step(support_next(&state) >> 1);
        if (i % 1000 == 0)
            compare_all();
        arena_reset(&arena);
    }
    compare_all();
}
END_TEST

/* --- visiting --- */

static void count_large(void *user, const struct cache_key *key, const struct cache_entry *entry)
{
    (void)key;
    ck_assert_uint_eq(entry->value.length, CACHE_VALUE_MAX);
    ++*(size_t *)user;
}

START_TEST(large_values_are_all_visited)
{
    size_t count = 0;
    for (uint32_t i = 0; i < 100; i++) {
        struct cache_key key = support_cache_key(1, 1, i);
        ck_assert(support_cache_put(cache, &key, CACHE_VALUE_MAX));
    }
    cache_each(cache, count_large, &count);
    ck_assert_uint_eq(count, 100);
}
END_TEST

static void forget_visited(void *user, const struct cache_key *key, const struct cache_entry *entry)
{
    (void)entry;
    cache_forget(user, key->owner, NULL, NULL);
}

START_TEST(a_visitor_may_change_the_cache)
{
    for (uint32_t i = 0; i < 5000; i++) {
        struct cache_key key = support_cache_key(i % 7, i, 1);
        ck_assert(put(&key, "value", false));
    }
    cache_each(cache, forget_visited, cache);
    ck_assert_uint_eq(support_cache_usage(cache).entries, 0);
    ck_assert_uint_eq(support_cache_usage(cache).bytes, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("cache");
    TCase *entries = tcase_create("entries");
    tcase_add_checked_fixture(entries, set_up, tear_down);
    tcase_set_timeout(entries, 60);
    tcase_add_test(entries, an_entry_comes_back_as_it_was_stored);
    tcase_add_test(entries, every_byte_of_the_key_counts);
    tcase_add_test(entries, a_second_store_replaces_the_first);
    tcase_add_test(entries, values_of_every_length_up_to_the_longest_are_kept);
    tcase_add_test(entries, a_final_entry_is_only_replaced_by_a_final_one);
    tcase_add_test(entries, a_user_has_so_many_entries_and_the_oldest_goes);
    tcase_add_test(entries, a_patch_stays_within_the_value);
    tcase_add_test(entries, a_patch_with_a_condition_needs_the_bytes_that_it_expects);
    tcase_add_test(entries, a_final_entry_is_not_patched);
    tcase_add_test(entries, forgetting_takes_the_entries_of_one_owner_that_are_not_final);
    tcase_add_test(entries, a_ticket_is_void_once_its_owner_was_forgotten);
    tcase_add_test(entries, a_cache_without_bytes_stores_and_finds_nothing);
    tcase_add_test(entries, switching_off_hides_what_is_there_and_gives_it_up);
    tcase_add_test(entries, a_long_random_history_ends_as_in_a_naive_table);
    tcase_add_test(entries, large_values_are_all_visited);
    tcase_add_test(entries, a_visitor_may_change_the_cache);
    suite_add_tcase(suite, entries);
    return suite;
}

int main(void)
{
    return support_run(suite());
}
