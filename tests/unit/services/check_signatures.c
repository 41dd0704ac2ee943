/* Signed texts in memory: given out for half their lifetime, bounded, replaced. */
#include "signatures.h"

#include <check.h>
#include <pthread.h>
#include <string.h>

#include "crypto.h"
#include "support_run.h"

enum { NOW = 1800000000, MOST = 1 << 20, ALL = 1000 };

static struct signatures *signatures;
static struct arena arena;
static struct signed_text got;

static void setup(void)
{
    crypto_init();
    signatures = signatures_create();
}

static void teardown(void)
{
    signatures_destroy(&signatures);
    ck_assert_ptr_null(signatures);
    arena_free(&arena);
}

static const uint8_t *key_of(unsigned number)
{
    static uint8_t key[SIGNATURES_KEY];
    struct text part = {(const char *)&number, sizeof(number)};
    uint8_t hash[32];
    crypto_digest(hash, part);
    memcpy(key, hash, sizeof(key));
    return key;
}

static void keep(unsigned number, const char *text, int64_t signed_s, int64_t expires_s)
{
    struct signed_text kept = {text_of(text), signed_s, expires_s};
    signatures_put(signatures, key_of(number), &kept, MOST);
}

static bool serves(unsigned number, int64_t now_s, int64_t last_s)
{
    return signatures_get(signatures, key_of(number), now_s, last_s, &arena, &got);
}

START_TEST(a_text_serves_the_first_half_of_its_lifetime)
{
    keep(1, "text", NOW, NOW + 30);
    ck_assert(!serves(1, NOW - 1, NOW + 30)); /* the clock was set back */
    ck_assert(serves(1, NOW, NOW + 30));
    ck_assert(text_equal(got.text, TEXT("text")));
    ck_assert_int_eq(got.signed_s, NOW);
    ck_assert_int_eq(got.expires_s, NOW + 30);
    ck_assert(serves(1, NOW + 14, NOW + 44));
    ck_assert(!serves(1, NOW + 15, NOW + 45));
    ck_assert(!serves(2, NOW, NOW + 30));
}
END_TEST

START_TEST(a_lifetime_of_one_second_has_no_first_half)
{
    keep(1, "text", NOW, NOW + 1);
    ck_assert(!serves(1, NOW, NOW + 1));
}
END_TEST

START_TEST(a_text_that_outlives_the_session_is_not_given_out)
{
    keep(1, "text", NOW, NOW + 30);
    ck_assert(!serves(1, NOW + 1, NOW + 29));
    ck_assert(serves(1, NOW + 1, NOW + 30));
}
END_TEST

START_TEST(the_same_key_holds_the_latest_text)
{
    struct signatures_usage usage;
    keep(1, "first", NOW, NOW + 30);
    keep(1, "second", NOW + 15, NOW + 45);
    ck_assert(serves(1, NOW + 20, NOW + 45));
    ck_assert(text_equal(got.text, TEXT("second")));
    signatures_usage(signatures, &usage);
    ck_assert_uint_eq(usage.texts, 1);
}
END_TEST

START_TEST(memory_is_bounded_and_the_oldest_go_first)
{
    enum { BOUND = 64 * 1024 };
    static char long_text[1000];
    struct signatures_usage usage;
    memset(long_text, 'x', sizeof(long_text));
    for (unsigned i = 0; i < ALL; i++) {
        struct signed_text kept = {{long_text, sizeof(long_text)}, NOW, NOW + 60};
        signatures_put(signatures, key_of(i), &kept, BOUND);
        signatures_usage(signatures, &usage);
        ck_assert_uint_le(usage.bytes, BOUND);
    }
    ck_assert_uint_gt(usage.texts, 16); /* more than one in each shard */
    unsigned found = 0;
    for (unsigned i = 0; i < ALL; i++)
        found += serves(i, NOW, NOW + 60);
    ck_assert_uint_eq(found, usage.texts);
    ck_assert(serves(ALL - 1, NOW, NOW + 60) && !serves(0, NOW, NOW + 60));
}
END_TEST

START_TEST(without_memory_nothing_is_kept)
{
    struct signatures_usage usage;
    struct signed_text kept = {TEXT("text"), NOW, NOW + 30};
    keep(1, "before", NOW, NOW + 30);
    for (unsigned i = 0; i < ALL; i++)
        signatures_put(signatures, key_of(i), &kept, 0);
    signatures_usage(signatures, &usage);
    ck_assert_uint_eq(usage.texts, 0);
    ck_assert_uint_eq(usage.bytes, 0);
}
END_TEST

START_TEST(texts_whose_time_is_over_leave_room)
{
    struct signatures_usage usage;
    for (unsigned i = 0; i < ALL; i++)
        keep(i, "text", NOW, NOW + 30);
    for (unsigned i = ALL; i < 2 * ALL; i++)
        keep(i, "text", NOW + 15, NOW + 45);
    signatures_usage(signatures, &usage);
    ck_assert_uint_eq(usage.texts, ALL);
}
END_TEST

static void *use_at_once(void *number)
{
    struct arena own = {0};
    struct signed_text found;
    unsigned first = *(unsigned *)number;
    for (unsigned i = 0; i < 20 * ALL; i++) {
        struct text part = {(const char *)&(unsigned){(first + i) % ALL}, sizeof(unsigned)};
        uint8_t hash[32];
        crypto_digest(hash, part);
        struct signed_text kept = {TEXT("text"), NOW, NOW + 30};
        if (!signatures_get(signatures, hash, NOW, NOW + 30, &own, &found))
            signatures_put(signatures, hash, &kept, 32 * 1024);
        else
            ck_assert(text_equal(found.text, TEXT("text")));
        arena_reset(&own);
    }
    arena_free(&own);
    return NULL;
}

START_TEST(threads_use_it_at_once)
{
    pthread_t threads[4];
    unsigned firsts[4] = {0, 10, 500, 501};
    for (size_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, use_at_once, &firsts[i]);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    struct signatures_usage usage;
    signatures_usage(signatures, &usage);
    ck_assert_uint_le(usage.bytes, 32 * 1024);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("signatures");
    TCase *tcase = tcase_create("signatures");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_text_serves_the_first_half_of_its_lifetime);
    tcase_add_test(tcase, a_lifetime_of_one_second_has_no_first_half);
    tcase_add_test(tcase, a_text_that_outlives_the_session_is_not_given_out);
    tcase_add_test(tcase, the_same_key_holds_the_latest_text);
    tcase_add_test(tcase, memory_is_bounded_and_the_oldest_go_first);
    tcase_add_test(tcase, without_memory_nothing_is_kept);
    tcase_add_test(tcase, texts_whose_time_is_over_leave_room);
    tcase_add_test(tcase, threads_use_it_at_once);
    suite_add_tcase(suite, tcase);
    return support_run(suite);
}
