/* The index of a tenant's users: names, scores, what is due, page tokens. */
#include <check.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "session/index/index.h"
#include "session/model/rules.h"

#include "session/model/keys.h"
#include "support_keys.h"
#include "support_run.h"

static const uint8_t tenant[TENANT_TAG] = {1, 2, 3, 4, 5, 6};
static const uint8_t other_tenant[TENANT_TAG] = {1, 2, 3, 4, 5, 7};
static const uint8_t user[USER_TAG] = {0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 1};

START_TEST(each_bucket_has_a_key_and_a_slot_of_its_own)
{
    char keys[INDEX_BUCKETS][KEYS_BUCKET_LENGTH];
    for (unsigned i = 0; i < INDEX_BUCKETS; i++) {
        keys_bucket(KEYS_INDEX, tenant, i, keys[i]);
        for (unsigned j = 0; j < i; j++) {
            ck_assert_mem_ne(keys[i], keys[j], KEYS_BUCKET_LENGTH);
            ck_assert_uint_ne(store_slot((struct text){keys[i], KEYS_BUCKET_LENGTH}),
                              store_slot((struct text){keys[j], KEYS_BUCKET_LENGTH}));
        }
    }
    ck_assert_mem_eq(keys[0], "sd:i:{AQIDBAUG.0}", KEYS_BUCKET_LENGTH);
    ck_assert_mem_eq(keys[16], "sd:i:{AQIDBAUG.g}", KEYS_BUCKET_LENGTH);
    keys_bucket(KEYS_FROZEN, tenant, 1, keys[0]);
    ck_assert_mem_eq(keys[0], "sd:f:{AQIDBAUG.1}", KEYS_BUCKET_LENGTH);
}
END_TEST

START_TEST(users_share_all_buckets_but_the_root)
{
    unsigned counts[INDEX_BUCKETS] = {0};
    for (unsigned i = 0; i < 1600; i++) {
        uint8_t tag[USER_TAG] = {(uint8_t)i, (uint8_t)(i >> 8)};
        counts[index_bucket(tag)]++;
    }
    ck_assert_uint_eq(counts[0], 0);
    for (unsigned i = 1; i < INDEX_BUCKETS; i++)
        ck_assert_uint_eq(counts[i], 100);
}
END_TEST

START_TEST(scores_sort_by_moment_and_fit_a_double)
{
    static const uint8_t low[USER_TAG] = {0};
    const int64_t year_2106 = UINT32_MAX;
    for (int64_t moment = 1; moment < year_2106; moment = moment * 3 + 1) {
        ck_assert_int_lt(index_score(moment, user), index_score(moment + 1, low));
        ck_assert_int_eq(index_moment_of_score(index_score(moment, user)), moment);
        ck_assert_int_le(index_floor(moment), index_score(moment, low));
        ck_assert_int_lt(index_score(moment, user), index_floor(moment + 1));
    }
    int64_t last = index_score(year_2106, user);
    ck_assert_int_lt(last, INT64_C(1) << 53);
    ck_assert_int_eq((int64_t)(double)last, last);
    ck_assert_int_eq(index_floor(-5), 0);
}
END_TEST

START_TEST(one_use_in_each_step_is_due)
{
    ck_assert(!index_is_due(3 * INDEX_STEP, 3 * INDEX_STEP));
    ck_assert(!index_is_due(3 * INDEX_STEP, 4 * INDEX_STEP - 1));
    ck_assert(index_is_due(4 * INDEX_STEP - 1, 4 * INDEX_STEP));
    ck_assert(index_is_due(0, 1795000000));
    /* The index is never later than by a step, no matter how often a user is seen. */
    const int64_t begun = 1795000000;
    int64_t written = begun, seen = begun;
    for (int64_t now = begun; now < begun + 20 * INDEX_STEP; now += 61) {
        if (index_is_due(seen, now))
            written = now;
        seen = now;
        ck_assert_int_lt(now - written, INDEX_STEP);
    }
}
END_TEST

static struct session make_session(uint64_t created_ms, int64_t seen_s)
{
    struct session session = {.last_seen_s = seen_s};
    session.record.issued_ms = (int64_t)created_ms;
    session.record.absolute_s = (int64_t)created_ms / 1000 + 5000;
    uint64_t id = htobe64(created_ms << 22);
    memcpy(session.id, &id, sizeof(id));
    return session;
}

START_TEST(the_moment_of_a_state_is_that_of_its_latest_session)
{
    const uint64_t begun_ms = UINT64_C(1795000000000);
    const struct policy policy = {
        .access_ttl = 100, .refresh_ttl = 2000, .idle_timeout = 300, .absolute_timeout = 4000};
    struct session sessions[] = {make_session(begun_ms, 1795000050),
                                 make_session(begun_ms + 10000, 1795000020)};
    struct user_state state = {.sessions = sessions, .session_count = 2};
    const int64_t now_ms = (int64_t)begun_ms + 60000, begun_s = (int64_t)begun_ms / 1000;
    ck_assert_int_eq(index_moment_of_state(&state, &policy, 0, now_ms), begun_s + 50);
    ck_assert_int_eq(index_moment_of_state(&state, &policy, (int64_t)begun_ms + 1, now_ms),
                     begun_s + 20);
    ck_assert_int_eq(index_moment_of_state(&state, &policy, now_ms, now_ms), 0);
    state.user.not_before_ms = (int64_t)begun_ms + 5000;
    ck_assert_int_eq(index_moment_of_state(&state, &policy, 0, now_ms), begun_s + 20);
    state.user.frozen = true;
    ck_assert_int_eq(index_moment_of_state(&state, &policy, 0, now_ms), 0);
    state.user = (struct user_record){0};
    sessions[1].record.remember = true;
    ck_assert_int_eq(index_moment_of_state(&state, &policy, 0, now_ms), begun_s + 10 + 2000);
    state.session_count = 0;
    ck_assert_int_eq(index_moment_of_state(&state, &policy, 0, now_ms), 0);
}
END_TEST

START_TEST(a_user_who_is_not_idle_yet_is_not_too_old_for_the_index)
{
    const int64_t begun = 3 * INDEX_STEP;
    const struct policy policy = {
        .access_ttl = 9000, .refresh_ttl = 9000, .idle_timeout = 1800, .absolute_timeout = 9000};
    /* Written in the index at the beginning of a step, used until its end, and once more within the
     * interval in which uses are not written. */
    struct session session = make_session((uint64_t)begun * 1000, begun + INDEX_STEP - 1);
    int64_t last_s = rules_lifetimes(&session, &policy, begun + INDEX_STEP).idle_s;
    ck_assert_int_ge(last_s, session.last_seen_s + 1800 + 59);
    ck_assert_int_le(index_oldest(last_s, policy.idle_timeout), begun);
}
END_TEST

START_TEST(with_fixed_renewal_the_moment_is_that_of_the_pair)
{
    const struct policy fixed = {
        .refresh_ttl = 9000, .idle_timeout = 1800, .absolute_timeout = 9000, .renew = RENEW_FIXED};
    struct session session = make_session(UINT64_C(1795000000000), 1795000100);
    ck_assert_int_eq(index_moment(&session, &fixed, 1795000200), 1795000000);
}
END_TEST

START_TEST(a_page_token_reads_back_and_no_other_text_does)
{
    struct keyring *ring = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1);
    struct keyring *rotated = support_keyring(SUPPORT_NAMES SUPPORT_KEY_2);
    struct index_position position = {.bucket = 16, .score = index_score(1795000000, user)};
    struct index_position found;
    char token[PAGE_TOKEN_LENGTH];
    memcpy(position.user, user, USER_TAG);
    index_page_token_print(ring, tenant, &position, token);
    struct text text = {token, PAGE_TOKEN_LENGTH};
    ck_assert(index_page_token_read(rotated, tenant, text, &found));
    ck_assert_int_eq(found.bucket, position.bucket);
    ck_assert_int_eq(found.score, position.score);
    ck_assert_mem_eq(found.user, user, USER_TAG);
    ck_assert(!index_page_token_read(ring, other_tenant, text, &found));
    for (size_t i = 0; i < PAGE_TOKEN_LENGTH; i++) {
        char kept = token[i];
        token[i] = kept == 'A' ? 'B' : 'A';
        ck_assert(!index_page_token_read(ring, tenant, text, &found));
        token[i] = kept;
    }
    ck_assert(
        !index_page_token_read(ring, tenant, (struct text){token, PAGE_TOKEN_LENGTH - 1}, &found));
    ck_assert(!index_page_token_read(ring, tenant, (struct text){0}, &found));
    position.bucket = INDEX_BUCKETS;
    index_page_token_print(ring, tenant, &position, token);
    ck_assert(!index_page_token_read(ring, tenant, text, &found));
    keyring_unref(&ring);
    keyring_unref(&rotated);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("index");
    TCase *tests = tcase_create("index");
    tcase_add_test(tests, each_bucket_has_a_key_and_a_slot_of_its_own);
    tcase_add_test(tests, users_share_all_buckets_but_the_root);
    tcase_add_test(tests, scores_sort_by_moment_and_fit_a_double);
    tcase_add_test(tests, one_use_in_each_step_is_due);
    tcase_add_test(tests, the_moment_of_a_state_is_that_of_its_latest_session);
    tcase_add_test(tests, a_user_who_is_not_idle_yet_is_not_too_old_for_the_index);
    tcase_add_test(tests, with_fixed_renewal_the_moment_is_that_of_the_pair);
    tcase_add_test(tests, a_page_token_reads_back_and_no_other_text_does);
    suite_add_tcase(suite, tests);
    return support_run(suite);
}
