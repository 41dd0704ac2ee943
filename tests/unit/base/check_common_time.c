/* Common time: the median of clocks, and what holds by it. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "redis/topology/server_clocks.h"
#include "support_redis_node.h"
#include "support_run.h"
#include "support_store.h"

#define NOW       INT64_C(1800000000000)
#define TEN_YEARS INT64_C(315619200000)

static const struct row {
    int64_t readings[7];
    size_t count;
    bool agreed;
    int64_t median;
} rows[] = {
    {{0}, 0, false, 0},
    {{5}, 1, true, 5},
    {{0, 900}, 2, true, 0},
    {{0, TEN_YEARS}, 2, false, 0},
    {{TEN_YEARS, 3, 7}, 3, true, 7},                   /* one server, and what was before */
    {{TEN_YEARS, 0, 3, 7}, 4, true, 3},                /* three servers against this host */
    {{-TEN_YEARS, 0, 3, 7}, 4, true, 0},               /* the same, behind */
    {{0, 0, TEN_YEARS, TEN_YEARS}, 4, false, 0},       /* half is no majority */
    {{0, 1, 2, TEN_YEARS, TEN_YEARS + 1}, 5, true, 2}, /* two servers are wrong */
    {{0, 1500, 3000, 4500, 6000}, 5, false, 0},        /* each a little more than the other */
    {{0, 0, 0, TEN_YEARS, -TEN_YEARS, 2 * TEN_YEARS, 1}, 7, true, 0},
};

START_TEST(common_time_is_the_middle_that_a_majority_is_near)
{
    const struct row *row = &rows[_i];
    int64_t readings[7], found;
    memcpy(readings, row->readings, sizeof(readings));
    bool agreed = server_clocks_median(readings, row->count, &found);
    ck_assert_int_eq(agreed, row->agreed);
    if (agreed)
        ck_assert_int_eq(found, row->median);
}
END_TEST

START_TEST(the_own_clock_holds_while_it_is_near_and_common_time_while_it_is_not)
{
    clock_fake(NOW);
    ck_assert_int_eq(clock_common_ms(), NOW);
    clock_agree(300);
    ck_assert_int_eq(clock_common_ms(), NOW);
    ck_assert_int_eq(clock_skew_ms(), -300);
    clock_agree(-TEN_YEARS);
    ck_assert_int_eq(clock_common_ms(), NOW - TEN_YEARS);
    ck_assert_int_eq(clock_skew_ms(), TEN_YEARS);
    ck_assert_int_eq(clock_deletion_ms(), NOW - TEN_YEARS);
    clock_agree(TEN_YEARS);
    ck_assert_int_eq(clock_common_ms(), NOW + TEN_YEARS);
    ck_assert_int_eq(clock_trust(), CLOCK_AGREED);
    clock_fake(0);
}
END_TEST

START_TEST(in_a_dispute_the_own_clock_holds_and_nothing_is_deleted_before_all_say_so)
{
    clock_fake(NOW);
    clock_dispute(-5000);
    ck_assert_int_eq(clock_trust(), CLOCK_DISPUTED);
    ck_assert_int_eq(clock_common_ms(), NOW);
    ck_assert_int_eq(clock_skew_ms(), 0);
    ck_assert_int_eq(clock_deletion_ms(), NOW - 5000);
    clock_dispute(5000);
    ck_assert_int_eq(clock_deletion_ms(), NOW);
    clock_fake(0);
    ck_assert_int_eq(clock_trust(), CLOCK_ALONE);
}
END_TEST

/* --- deletion --- */

START_TEST(alone_nothing_is_old_but_by_what_is_borne_out_and_the_own_clock)
{
    clock_fake(NOW);
    clock_fake_boot(TEN_YEARS);
    ck_assert_int_eq(clock_deletion_ms(), 0);
    ck_assert_int_eq(clock_file_ms(), NOW + TEN_YEARS);
    clock_bear_out(NOW - 60000);
    clock_bear_out(NOW - 90000);
    ck_assert_int_eq(clock_deletion_ms(), NOW - 60000);
    clock_fake_pass(1000);
    ck_assert_int_eq(clock_deletion_ms(), NOW - 59000);
    clock_fake_host(-TEN_YEARS);
    ck_assert_int_eq(clock_deletion_ms(), NOW + 1000 - TEN_YEARS);
    ck_assert_int_eq(clock_file_ms(), NOW - 59000);
    clock_agree(0);
    ck_assert_int_eq(clock_file_ms(), NOW + 1000);
    clock_fake(0);
}
END_TEST

/* Dates that it wrote itself must not bear it out at the next start. */
START_TEST(a_clock_is_doubted_that_is_a_day_later_than_deletion)
{
    clock_fake(NOW);
    ck_assert(!clock_is_doubted());
    clock_fake_host(CLOCK_PUT_OFF_MS + 1);
    ck_assert(clock_is_doubted());
    clock_fake_host(CLOCK_PUT_OFF_MS);
    ck_assert(!clock_is_doubted());
    clock_fake_host(-TEN_YEARS);
    ck_assert(!clock_is_doubted());
    clock_fake_boot(TEN_YEARS);
    ck_assert(clock_is_doubted());
    clock_bear_out(NOW);
    ck_assert(clock_is_doubted());
    clock_untold();
    ck_assert_msg(!clock_is_doubted(), "there is no other clock");
    clock_agree(0);
    ck_assert(clock_is_doubted());
    clock_fake(0);
}
END_TEST

static const int64_t jumps[] = {1001,       -1001,       90000,     -90000,
                                2100000,    -2100000,    86400000,  -86400000,
                                2678400000, -2678400000, TEN_YEARS, -TEN_YEARS};

/* By any distance and either way, even if all the clocks of Redis went along. */
START_TEST(a_jump_makes_nothing_old_for_a_day_and_is_told)
{
    struct clock_jumps seen;
    int64_t jump = jumps[_i];
    clock_fake(NOW);
    clock_agree(0);
    clock_look();
    ck_assert(!clock_take_jumps(&seen));
    clock_fake_host(jump);
    clock_agree(jump);
    ck_assert_int_eq(clock_deletion_ms(), jump > 0 ? NOW : NOW + jump);
    ck_assert(clock_take_jumps(&seen));
    ck_assert_int_eq(seen.ms, jump);
    ck_assert(!clock_take_jumps(&seen));
    clock_fake_pass(CLOCK_PUT_OFF_MS - 1);
    ck_assert_int_eq(clock_deletion_ms(), NOW + CLOCK_PUT_OFF_MS - 1 + (jump > 0 ? 0 : jump));
    clock_fake_pass(1);
    ck_assert_int_eq(clock_deletion_ms(), NOW + CLOCK_PUT_OFF_MS + jump);
    ck_assert(!clock_take_jumps(&seen));
    clock_fake(0);
}
END_TEST

START_TEST(there_and_back_are_two_jumps_and_the_earlier_time_holds)
{
    struct clock_jumps seen;
    clock_fake(NOW);
    clock_fake_boot(0);
    clock_bear_out(NOW);
    clock_look();
    clock_fake_host(-TEN_YEARS);
    clock_look();
    clock_fake_host(0);
    ck_assert_int_eq(clock_deletion_ms(), NOW - TEN_YEARS);
    ck_assert(clock_take_jumps(&seen));
    ck_assert_int_eq(seen.count, 2);
    clock_fake(0);
}
END_TEST

START_TEST(a_clock_that_is_slewed_or_found_out_to_be_wrong_has_not_jumped)
{
    struct clock_jumps seen;
    clock_fake(NOW);
    clock_fake_boot(TEN_YEARS);
    clock_look();
    clock_fake_host(TEN_YEARS + CLOCKS_APART_MS);
    clock_look();
    clock_fake_host(TEN_YEARS + 2 * CLOCKS_APART_MS);
    clock_look();
    clock_agree(0);
    clock_look();
    ck_assert(!clock_take_jumps(&seen));
    ck_assert_int_eq(clock_deletion_ms(), NOW);
    clock_fake(0);
}
END_TEST

/* A busy machine may stop a thread between any two instructions. */
START_TEST(a_thread_that_is_held_up_between_two_clocks_sees_no_jump)
{
    struct clock_jumps seen;
    clock_fake(NOW);
    clock_agree(0);
    clock_look();
    clock_fake_stall(5000);
    clock_look();
    ck_assert(!clock_take_jumps(&seen));
    clock_fake_stall(5000);
    ck_assert_int_eq(clock_skew_ms(), 0);
    clock_fake_stall(5000);
    ck_assert_int_eq(clock_host_ahead_ms(), 0);
    clock_fake_stall(5000);
    ck_assert_int_eq(clock_slept_ms(), 0);
    clock_fake(0);
}
END_TEST

/* A reading of a server's clock is off by up to half of the round trip. */
START_TEST(deletion_goes_by_the_own_clock_while_it_is_near)
{
    clock_fake(NOW);
    clock_agree(-CLOCKS_APART_MS / 2);
    ck_assert_int_eq(clock_deletion_ms(), NOW);
    clock_agree(-CLOCKS_APART_MS / 2 - 1);
    ck_assert_int_eq(clock_deletion_ms(), NOW - CLOCKS_APART_MS / 2 - 1);
    clock_fake(0);
}
END_TEST

/* --- asked of servers --- */

/* A server that says of itself that it is in 2036. */
static const char ahead_reply[] = "*2\r\n$10\r\n2111311620\r\n$1\r\n7\r\n";

static struct redis_node *nodes[3];
static struct store_rig rig;

static void start_servers(unsigned wrong)
{
    char slots[512];
    for (unsigned i = 0; i < 3; i++) {
        nodes[i] = redis_node_start(0);
        if (i < wrong)
            redis_node_answer(nodes[i], "TIME", ahead_reply);
    }
    snprintf(slots, sizeof(slots),
             "*3\r\n*3\r\n:0\r\n:5460\r\n*2\r\n$9\r\n127.0.0.1\r\n:%u\r\n"
             "*3\r\n:5461\r\n:10922\r\n*2\r\n$9\r\n127.0.0.1\r\n:%u\r\n"
             "*3\r\n:10923\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%u\r\n",
             redis_node_port(nodes[0]), redis_node_port(nodes[1]), redis_node_port(nodes[2]));
    for (unsigned i = 0; i < 3; i++)
        redis_node_slots(nodes[i], slots);
    rig_open_cluster(&rig, nodes, 3);
}

static void stop_servers(void)
{
    rig_close(&rig);
    for (unsigned i = 0; i < 3; i++)
        redis_node_stop(&nodes[i]);
}

static void wait_for_trust(enum clock_trust trust)
{
    for (int left = 100; clock_trust() != trust && left > 0; left--)
        rig_run(&rig, 50);
    ck_assert_int_eq(clock_trust(), trust);
}

START_TEST(servers_with_right_clocks_are_agreed_with_and_one_that_is_wrong_is_outvoted)
{
    start_servers((unsigned)_i);
    wait_for_trust(CLOCK_AGREED);
    ck_assert_int_le(llabs(clock_skew_ms()), CLOCKS_APART_MS);
    stop_servers();
}
END_TEST

static const char *const refusals[] = {
    "-NOPERM User default has no permissions to run the 'time' command\r\n",
    "-ERR unknown command 'TIME', with args beginning with: \r\n", /* renamed, or a proxy */
};

/* /readyz waits for this. */
START_TEST(a_server_that_does_not_tell_its_time_was_asked)
{
    struct store_health health = {0};
    start_servers(0);
    for (unsigned i = 0; i < 3; i++)
        redis_node_answer(nodes[i], "TIME", refusals[_i]);
    for (int left = 60; !health.time_asked && left > 0; left--) {
        rig_run(&rig, 50);
        store_health(rig.store, &health);
    }
    ck_assert(health.time_asked);
    ck_assert_int_eq(clock_trust(), CLOCK_ALONE);
    stop_servers();
}
END_TEST

START_TEST(servers_that_agree_outvote_this_host)
{
    start_servers(3);
    wait_for_trust(CLOCK_AGREED);
    ck_assert_int_ge(clock_common_ms(), INT64_C(2111311620000));
    ck_assert_int_lt(clock_skew_ms(), -INT64_C(86400000));
    stop_servers();
}
END_TEST

START_TEST(two_against_two_is_a_dispute_in_which_this_host_is_believed)
{
    start_servers(2);
    wait_for_trust(CLOCK_DISPUTED);
    ck_assert_int_le(llabs(clock_common_ms() - clock_wall_ms()), CLOCKS_APART_MS);
    stop_servers();
}
END_TEST

static void wait_for_rounds(unsigned rounds)
{
    unsigned begin = redis_node_answered(nodes[0], "TIME");
    for (int left = 200; redis_node_answered(nodes[0], "TIME") < begin + rounds && left > 0; left--)
        rig_run(&rig, 50);
    ck_assert_uint_ge(redis_node_answered(nodes[0], "TIME"), begin + rounds);
}

/* The single one that has answered may be the wrong one, and so may this host's. */
START_TEST(no_first_dispute_is_settled_by_those_who_happened_to_answer)
{
    struct store_health health;
    start_servers(1);
    for (unsigned i = 1; i < 3; i++)
        redis_node_answer(nodes[i], "TIME", "-LOADING Redis is loading the dataset in memory\r\n");
    wait_for_rounds(2);
    store_health(rig.store, &health);
    ck_assert(!health.time_asked);
    ck_assert_int_eq(clock_trust(), CLOCK_ALONE);
    for (unsigned i = 1; i < 3; i++)
        redis_node_answer(nodes[i], "TIME", NULL);
    wait_for_trust(CLOCK_AGREED);
    store_health(rig.store, &health);
    ck_assert(health.time_asked);
    stop_servers();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("common_time");
    TCase *tests = tcase_create("clocks");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, common_time_is_the_middle_that_a_majority_is_near, 0,
                        sizeof(rows) / sizeof(rows[0]));
    tcase_add_test(tests, the_own_clock_holds_while_it_is_near_and_common_time_while_it_is_not);
    tcase_add_test(tests,
                   in_a_dispute_the_own_clock_holds_and_nothing_is_deleted_before_all_say_so);
    tcase_add_test(tests, a_clock_is_doubted_that_is_a_day_later_than_deletion);
    tcase_add_test(tests, alone_nothing_is_old_but_by_what_is_borne_out_and_the_own_clock);
    tcase_add_loop_test(tests, a_jump_makes_nothing_old_for_a_day_and_is_told, 0,
                        sizeof(jumps) / sizeof(jumps[0]));
    tcase_add_test(tests, there_and_back_are_two_jumps_and_the_earlier_time_holds);
    tcase_add_test(tests, a_clock_that_is_slewed_or_found_out_to_be_wrong_has_not_jumped);
    tcase_add_test(tests, a_thread_that_is_held_up_between_two_clocks_sees_no_jump);
    tcase_add_test(tests, deletion_goes_by_the_own_clock_while_it_is_near);
    tcase_add_loop_test(
        tests, servers_with_right_clocks_are_agreed_with_and_one_that_is_wrong_is_outvoted, 0, 2);
    tcase_add_loop_test(tests, a_server_that_does_not_tell_its_time_was_asked, 0, 2);
    tcase_add_test(tests, servers_that_agree_outvote_this_host);
    tcase_add_test(tests, two_against_two_is_a_dispute_in_which_this_host_is_believed);
    tcase_add_test(tests, no_first_dispute_is_settled_by_those_who_happened_to_answer);
    suite_add_tcase(suite, tests);
    return support_run(suite);
}
