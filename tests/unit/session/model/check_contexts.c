/* Known devices and locations of a user. */
#include "session/model/contexts.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "support_keys.h"
#include "support_run.h"

#define DAY 86400

static const int64_t today = INT64_C(20000) * DAY + 5000;

static void hash_of(unsigned number, uint8_t ret[CONTEXT_HASH])
{
    memset(ret, 0, CONTEXT_HASH);
    ret[0] = (uint8_t)number;
    ret[7] = 1;
}

static void note(struct contexts *contexts, unsigned number, int64_t now_s)
{
    uint8_t hash[CONTEXT_HASH];
    hash_of(number, hash);
    contexts_note(contexts, hash, now_s);
}

static bool have(const struct contexts *contexts, unsigned number)
{
    uint8_t hash[CONTEXT_HASH];
    hash_of(number, hash);
    return contexts_have(contexts, hash);
}

START_TEST(what_was_written_is_read)
{
    struct contexts contexts = {0}, again;
    struct buffer bytes = {0};
    note(&contexts, 1, today);
    note(&contexts, 2, today + 3 * DAY);
    contexts_write(&contexts, &bytes);
    ck_assert_uint_eq(bytes.length, 2 * CONTEXT_BYTES);
    ck_assert(contexts_read(buffer_text(&bytes), &again));
    ck_assert_uint_eq(again.count, 2);
    ck_assert(have(&again, 1) && have(&again, 2) && !have(&again, 3));
    ck_assert_uint_eq(again.items[1].day, 20003);
    buffer_free(&bytes);
}
END_TEST

START_TEST(other_bytes_are_refused_and_leave_nothing)
{
    static const size_t lengths[] = {1, CONTEXT_BYTES - 1, CONTEXT_BYTES + 1,
                                     (CONTEXTS_MAX + 1) * CONTEXT_BYTES};
    static const char bytes[(CONTEXTS_MAX + 1) * CONTEXT_BYTES];
    struct contexts contexts;
    ck_assert(!contexts_read((struct text){bytes, lengths[_i]}, &contexts));
    ck_assert_uint_eq(contexts.count, 0);
}
END_TEST

START_TEST(a_context_that_is_seen_again_is_not_noted_twice)
{
    struct contexts contexts = {0};
    note(&contexts, 7, today);
    note(&contexts, 7, today + DAY);
    ck_assert_uint_eq(contexts.count, 1);
    ck_assert_uint_eq(contexts.items[0].day, 20001);
}
END_TEST

START_TEST(where_there_is_no_room_the_longest_unseen_goes)
{
    struct contexts contexts = {0};
    for (unsigned i = 0; i < CONTEXTS_MAX; i++)
        note(&contexts, i, today + (i == 5 ? 0 : DAY));
    note(&contexts, 100, today + 2 * DAY);
    ck_assert_uint_eq(contexts.count, CONTEXTS_MAX);
    ck_assert(have(&contexts, 100));
    ck_assert(!have(&contexts, 5));
    ck_assert(have(&contexts, 0) && have(&contexts, CONTEXTS_MAX - 1));
}
END_TEST

START_TEST(what_was_not_seen_for_long_is_forgotten)
{
    struct contexts contexts = {0};
    note(&contexts, 1, today);
    note(&contexts, 2, today + DAY);
    contexts_forget(&contexts, today + CONTEXT_DAYS * DAY);
    ck_assert(have(&contexts, 1) && have(&contexts, 2));
    contexts_forget(&contexts, today + (CONTEXT_DAYS + 1) * DAY);
    ck_assert(!have(&contexts, 1) && have(&contexts, 2));
    ck_assert_int_gt(contexts_until_s(&contexts), today + CONTEXT_DAYS * DAY);
    ck_assert_int_eq(contexts_until_s(&contexts), contexts_longest_s(today + DAY));
    contexts_forget(&contexts, contexts_until_s(&contexts));
    ck_assert_uint_eq(contexts.count, 0);
    ck_assert_int_eq(contexts_until_s(&contexts), 0);
}
END_TEST

START_TEST(kinds_and_users_do_not_share_hashes)
{
    struct keyring *ring = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1);
    struct user_tag alice, bob;
    token_tag_user(ring, TEXT("default"), TEXT("alice"), &alice);
    token_tag_user(ring, TEXT("default"), TEXT("bob"), &bob);
    uint8_t hashes[4][CONTEXT_HASH], again[CONTEXT_HASH];
    contexts_hash(ring, &alice, CONTEXT_DEVICE, TEXT("x"), hashes[0]);
    contexts_hash(ring, &alice, CONTEXT_LOCATION, TEXT("x"), hashes[1]);
    contexts_hash(ring, &alice, CONTEXT_FINGERPRINT, TEXT("x"), hashes[2]);
    contexts_hash(ring, &bob, CONTEXT_DEVICE, TEXT("x"), hashes[3]);
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < i; j++)
            ck_assert_mem_ne(hashes[i], hashes[j], CONTEXT_HASH);
    contexts_hash(ring, &alice, CONTEXT_DEVICE, TEXT("x"), again);
    ck_assert_mem_eq(again, hashes[0], CONTEXT_HASH);
    keyring_unref(&ring);
}
END_TEST

int main(void)
{
    TCase *all = tcase_create("contexts");
    tcase_add_test(all, what_was_written_is_read);
    tcase_add_loop_test(all, other_bytes_are_refused_and_leave_nothing, 0, 4);
    tcase_add_test(all, a_context_that_is_seen_again_is_not_noted_twice);
    tcase_add_test(all, where_there_is_no_room_the_longest_unseen_goes);
    tcase_add_test(all, what_was_not_seen_for_long_is_forgotten);
    tcase_add_test(all, kinds_and_users_do_not_share_hashes);
    Suite *suite = suite_create("contexts");
    suite_add_tcase(suite, all);
    return support_run(suite);
}
