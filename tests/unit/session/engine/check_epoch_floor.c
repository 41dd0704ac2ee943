/* The memory of epochs that were seen. */
#include "session/engine/epoch_floor.h"

#include <string.h>

#include "support_run.h"

#define NOW INT64_C(1800000000000)

static struct fence *fence;

static void setup(void)
{
    fence = fence_create();
}

static void teardown(void)
{
    fence_destroy(&fence);
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
    ck_assert_int_eq(fence_of(fence, &alice, NOW), 0);
    fence_raise(fence, &alice, NOW - 5, NOW);
    ck_assert_int_eq(fence_of(fence, &alice, NOW), NOW - 5);
}
END_TEST

START_TEST(a_lower_epoch_changes_nothing)
{
    struct user_tag alice = user(1);
    fence_raise(fence, &alice, NOW - 5, NOW);
    fence_raise(fence, &alice, NOW - 6, NOW);
    fence_raise(fence, &alice, 0, NOW);
    ck_assert_int_eq(fence_of(fence, &alice, NOW), NOW - 5);
    fence_raise(fence, &alice, NOW - 4, NOW);
    ck_assert_int_eq(fence_of(fence, &alice, NOW), NOW - 4);
}
END_TEST

START_TEST(a_fence_lasts_a_minute)
{
    struct user_tag alice = user(1);
    fence_raise(fence, &alice, NOW, NOW);
    ck_assert_int_eq(fence_of(fence, &alice, NOW + 59999), NOW);
    ck_assert_int_eq(fence_of(fence, &alice, NOW + 60000), 0);
}
END_TEST

START_TEST(an_epoch_from_the_past_or_far_future_is_none)
{
    struct user_tag alice = user(1);
    fence_raise(fence, &alice, NOW - 60000, NOW);
    ck_assert_int_eq(fence_of(fence, &alice, NOW), 0);
    fence_raise(fence, &alice, NOW + 5000, NOW);
    ck_assert_int_eq(fence_of(fence, &alice, NOW), 0);
    fence_raise(fence, &alice, NOW + 4999, NOW);
    ck_assert_int_eq(fence_of(fence, &alice, NOW), NOW + 4999);
}
END_TEST

START_TEST(users_in_the_same_place_are_told_apart)
{
    struct user_tag alice = user(7), bob = user(UINT64_C(1) << 50 | 7);
    fence_raise(fence, &alice, NOW - 10, NOW);
    ck_assert_int_eq(fence_of(fence, &bob, NOW), 0);
    fence_raise(fence, &bob, NOW - 5, NOW);
    ck_assert_int_eq(fence_of(fence, &bob, NOW), NOW - 5);
    ck_assert_int_eq(fence_of(fence, &alice, NOW), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fence");
    TCase *all = tcase_create("fence");
    tcase_add_checked_fixture(all, setup, teardown);
    tcase_add_test(all, an_epoch_that_was_seen_is_remembered);
    tcase_add_test(all, a_lower_epoch_changes_nothing);
    tcase_add_test(all, a_fence_lasts_a_minute);
    tcase_add_test(all, an_epoch_from_the_past_or_far_future_is_none);
    tcase_add_test(all, users_in_the_same_place_are_told_apart);
    suite_add_tcase(suite, all);
    return support_run(suite);
}
