/* The memory of epochs seen. */
#include "session/engine/epoch_floor.h"

#include <string.h>

#include "support_run.h"

#define NOW INT64_C(1800000000000)

static struct epoch_floor *epoch_floor;

static void setup(void)
{
    epoch_floor = epoch_floor_create();
}

static void teardown(void)
{
    epoch_floor_destroy(&epoch_floor);
}

static struct user_tag user(uint64_t number)
{
    struct user_tag tag = {.tenant = "tenant"};
    memcpy(tag.user, &number, sizeof(number));
    return tag;
}

START_TEST(an_epoch_that_was_seen_is_remembered)
{
    struct user_tag alice = user(1);
    ck_assert_int_eq(epoch_floor_of(epoch_floor, &alice, NOW), 0);
    epoch_floor_raise(epoch_floor, &alice, NOW - 5, NOW);
    ck_assert_int_eq(epoch_floor_of(epoch_floor, &alice, NOW), NOW - 5);
}
END_TEST

START_TEST(a_lower_epoch_changes_nothing)
{
    struct user_tag alice = user(1);
    epoch_floor_raise(epoch_floor, &alice, NOW - 5, NOW);
    epoch_floor_raise(epoch_floor, &alice, NOW - 6, NOW);
    epoch_floor_raise(epoch_floor, &alice, 0, NOW);
    ck_assert_int_eq(epoch_floor_of(epoch_floor, &alice, NOW), NOW - 5);
    epoch_floor_raise(epoch_floor, &alice, NOW - 4, NOW);
    ck_assert_int_eq(epoch_floor_of(epoch_floor, &alice, NOW), NOW - 4);
}
END_TEST

START_TEST(an_epoch_floor_lasts_a_minute)
{
    struct user_tag alice = user(1);
    epoch_floor_raise(epoch_floor, &alice, NOW, NOW);
    ck_assert_int_eq(epoch_floor_of(epoch_floor, &alice, NOW + 59999), NOW);
    ck_assert_int_eq(epoch_floor_of(epoch_floor, &alice, NOW + 60000), 0);
}
END_TEST

START_TEST(an_epoch_from_the_past_or_far_future_is_none)
{
    struct user_tag alice = user(1);
    epoch_floor_raise(epoch_floor, &alice, NOW - 60000, NOW);
    ck_assert_int_eq(epoch_floor_of(epoch_floor, &alice, NOW), 0);
    epoch_floor_raise(epoch_floor, &alice, NOW + 5000, NOW);
    ck_assert_int_eq(epoch_floor_of(epoch_floor, &alice, NOW), 0);
    epoch_floor_raise(epoch_floor, &alice, NOW + 4999, NOW);
    ck_assert_int_eq(epoch_floor_of(epoch_floor, &alice, NOW), NOW + 4999);
}
END_TEST

START_TEST(users_in_the_same_place_are_told_apart)
{
    struct user_tag alice = user(7), bob = user(UINT64_C(1) << 50 | 7);
    epoch_floor_raise(epoch_floor, &alice, NOW - 10, NOW);
    ck_assert_int_eq(epoch_floor_of(epoch_floor, &bob, NOW), 0);
    epoch_floor_raise(epoch_floor, &bob, NOW - 5, NOW);
    ck_assert_int_eq(epoch_floor_of(epoch_floor, &bob, NOW), NOW - 5);
    ck_assert_int_eq(epoch_floor_of(epoch_floor, &alice, NOW), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("epoch_floor");
    TCase *all = tcase_create("epoch_floor");
    tcase_add_checked_fixture(all, setup, teardown);
    tcase_add_test(all, an_epoch_that_was_seen_is_remembered);
    tcase_add_test(all, a_lower_epoch_changes_nothing);
    tcase_add_test(all, an_epoch_floor_lasts_a_minute);
    tcase_add_test(all, an_epoch_from_the_past_or_far_future_is_none);
    tcase_add_test(all, users_in_the_same_place_are_told_apart);
    suite_add_tcase(suite, all);
    return support_run(suite);
}
