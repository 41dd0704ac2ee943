/* The order of freezes and unfreezes: the latest holds, in any order of arrival. */
#include "session/model/freezing.h"

#include <check.h>

#include "support_run.h"

#define NOW_MS INT64_C(100)

static struct revocation freeze_at(int64_t stamp_ms, int64_t until_s)
{
    return (struct revocation){.kind = REVOKE_FREEZE,
                               .before_ms = stamp_ms,
                               .until_s = until_s,
                               .reason = TEXT("fraud"),
                               .actor = TEXT("alice")};
}

static struct revocation lift_at(int64_t stamp_ms)
{
    return (struct revocation){
        .kind = REVOKE_LIFT, .before_ms = stamp_ms, .reason = TEXT("unfrozen")};
}

START_TEST(nothing_is_said_by_revocations_of_other_kinds)
{
    const struct revocation list[] = {{.kind = REVOKE_BEFORE, .before_ms = 9},
                                      {.kind = REVOKE_SESSION, .before_ms = 9}};
    struct user_record user = {.frozen = true, .decided_ms = 1};
    ck_assert_ptr_null(freezing_last(NULL, 0));
    ck_assert_ptr_null(freezing_last(list, 2));
    ck_assert(!freezing_apply(&user, NULL, NOW_MS));
    ck_assert(user.frozen);
}
END_TEST

START_TEST(the_greatest_stamp_is_the_last_word_in_any_order)
{
    struct revocation list[] = {
        lift_at(20), freeze_at(30, 0), freeze_at(10, 0), {.kind = REVOKE_BEFORE, .before_ms = 99}};
    ck_assert_ptr_eq(freezing_last(list, 4), &list[1]);
    list[0].before_ms = 40;
    ck_assert_ptr_eq(freezing_last(list, 4), &list[0]);
    ck_assert_ptr_eq(freezing_last(list + 1, 3), &list[1]);
}
END_TEST

/* The record's word (its stamp, 0 is "never"), the journal's word, and which one holds. */
static const struct row {
    bool frozen;
    int64_t decided_ms;
    enum revocation_kind said;
    int64_t said_ms;
    bool news, frozen_after;
} rows[] = {
    {false, 0, REVOKE_FREEZE, 10, true, true},    /* Redis never heard of it */
    {false, 9, REVOKE_FREEZE, 10, true, true},    /* an unfreeze, before */
    {false, 11, REVOKE_FREEZE, 10, false, false}, /* an unfreeze, after: it stays */
    {true, 10, REVOKE_FREEZE, 10, false, true},   /* the same freeze */
    {true, 9, REVOKE_LIFT, 10, true, false},      /* Redis lost an unfreeze */
    {true, 11, REVOKE_LIFT, 10, false, true},     /* frozen again, after */
    {false, 0, REVOKE_LIFT, 10, true, false},     /* Redis lost all: freezes before are over */
};

START_TEST(the_newer_of_record_and_journal_holds)
{
    const struct row *row = &rows[_i];
    struct user_record user = {.frozen = row->frozen, .decided_ms = row->decided_ms};
    struct revocation said =
        row->said == REVOKE_FREEZE ? freeze_at(row->said_ms, 0) : lift_at(row->said_ms);
    ck_assert_int_eq(freezing_apply(&user, &said, NOW_MS), row->news);
    ck_assert_int_eq(user.frozen, row->frozen_after);
    ck_assert_int_eq(user.decided_ms, row->news ? row->said_ms : row->decided_ms);
    ck_assert(!freezing_apply(&user, &said, NOW_MS)); /* applied twice is applied once */
}
END_TEST

START_TEST(a_freeze_that_redis_lacks_is_not_outdone_by_a_stamp_of_a_wrong_clock)
{
    const int64_t far_ms = NOW_MS + 10 * 365 * INT64_C(86400000);
    struct user_record user = {.decided_ms = far_ms};
    struct revocation freeze = freeze_at(NOW_MS - 10, 0), lift = lift_at(NOW_MS - 10);
    ck_assert(!freezing_apply(&user, &lift, NOW_MS));
    freeze.confirmed = true;
    ck_assert(!freezing_apply(&user, &freeze, NOW_MS));
    freeze.confirmed = false;
    ck_assert(freezing_apply(&user, &freeze, NOW_MS));
    ck_assert(user.frozen);
    ck_assert_int_eq(user.decided_ms, far_ms + 1);
    /* With Redis at hand the order goes on. */
    ck_assert_int_eq(freezing_next_stamp(&user, NOW_MS), far_ms + 2);
}
END_TEST

START_TEST(a_freeze_brings_its_end_and_reason_and_a_lift_takes_them_away)
{
    struct user_record user = {0};
    struct revocation freeze = freeze_at(10, 1800000000), lift = lift_at(11);
    ck_assert(freezing_apply(&user, &freeze, NOW_MS));
    ck_assert_int_eq(user.frozen_until_s, 1800000000);
    ck_assert(text_equal(user.frozen_reason, TEXT("fraud")));
    ck_assert(freezing_apply(&user, &lift, NOW_MS));
    ck_assert_int_eq(user.frozen_until_s, 0);
    ck_assert_ptr_null(user.frozen_reason.data);
}
END_TEST

START_TEST(stamps_grow_whatever_the_clock_says)
{
    struct user_record user = {.decided_ms = 1000};
    ck_assert_int_eq(freezing_next_stamp(&user, 2000), 2000);
    ck_assert_int_eq(freezing_next_stamp(&user, 1000), 1001);
    ck_assert_int_eq(freezing_next_stamp(&user, 1), 1001);
}
END_TEST

static Suite *freezing_suite(void)
{
    Suite *suite = suite_create("freezing");
    TCase *order = tcase_create("order");
    tcase_add_test(order, nothing_is_said_by_revocations_of_other_kinds);
    tcase_add_test(order, the_greatest_stamp_is_the_last_word_in_any_order);
    tcase_add_loop_test(order, the_newer_of_record_and_journal_holds, 0,
                        (int)(sizeof(rows) / sizeof(rows[0])));
    tcase_add_test(order, a_freeze_brings_its_end_and_reason_and_a_lift_takes_them_away);
    tcase_add_test(order, stamps_grow_whatever_the_clock_says);
    tcase_add_test(order, a_freeze_that_redis_lacks_is_not_outdone_by_a_stamp_of_a_wrong_clock);
    suite_add_tcase(suite, order);
    return suite;
}

int main(void)
{
    return support_run(freezing_suite());
}
