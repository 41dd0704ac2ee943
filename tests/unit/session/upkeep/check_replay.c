/* Passes over the journal: order, pauses, and when a pass counts as fruitful. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "metrics.h"
#include "support_run.h"
#include "support_session.h"

static struct rig_node *node;
static unsigned users; /* users whose sessions this node has ended */

static void set_up(void)
{
    rig_set_up();
    users = 0;
    node = rig_start(0);
}

/* As many further users lose all their sessions. */
static void end_users(unsigned count)
{
    char user[16];
    for (unsigned i = 0; i < count; i++) {
        snprintf(user, sizeof(user), "user-%u", users++);
        ck_assert_act(act_logout_all(node, user), ERR_OK);
    }
}

static void end_users_in_an_outage(unsigned count)
{
    rig.fate = FATE_AWAY;
    end_users(count);
    ck_assert_uint_eq(rig_unconfirmed(node), count);
}

/* The number of users whose state the refresher has asked for. */
static unsigned looked_at(void)
{
    return rig_served("refresher:HGETALL");
}

/* --- what is unconfirmed --- */

enum { FUTILE_MOST = 64, UNDER_WAY_MOST = 64, PAUSE_MOST_MS = 5000 };

START_TEST(a_pass_that_brings_nothing_pauses_and_goes_on_with_the_others)
{
    end_users_in_an_outage(3 * FUTILE_MOST);
    rig_recount();
    rig_pass(500);
    unsigned first = looked_at();
    ck_assert_uint_ge(first, FUTILE_MOST);
    ck_assert_uint_lt(first, FUTILE_MOST + UNDER_WAY_MOST);
    rig_pass(500); /* of a pause of 1 s */
    ck_assert_uint_eq(looked_at(), first);
    rig_pass(500);
    ck_assert_uint_eq(looked_at(), 3 * FUTILE_MOST);
    rig.fate = FATE_ANSWER;
    rig_pass(2 * PAUSE_MOST_MS);
    ck_assert_uint_eq(rig_unconfirmed(node), 0);
}
END_TEST

START_TEST(the_pauses_of_a_long_outage_grow_to_five_seconds)
{
    end_users_in_an_outage(1);
    rig_pass(20 * 1000);
    rig_recount();
    rig_pass(20 * 1000);
    ck_assert_uint_eq(looked_at(), 4);
}
END_TEST

START_TEST(no_more_replays_are_under_way_than_so_many)
{
    end_users_in_an_outage(UNDER_WAY_MOST + 10);
    rig.fate = FATE_ANSWER;
    rig_pass(400); /* the journal is written */
    for (unsigned i = 0; i < UNDER_WAY_MOST; i++)
        rig_plan("refresher:HGETALL", FATE_HOLD);
    rig_recount();
    while (looked_at() < UNDER_WAY_MOST)
        rig_pass(10);
    rig_pass(50);
    ck_assert_uint_eq(looked_at(), UNDER_WAY_MOST);
    rig_release();
    rig_pass(100);
    ck_assert_uint_eq(rig_unconfirmed(node), 0);
}
END_TEST

START_TEST(a_pass_that_confirmed_something_is_soon_followed_by_another)
{
    end_users_in_an_outage(2);
    rig.fate = FATE_ANSWER;
    rig_plan("refresher:HGETALL", FATE_AWAY);
    while (rig_unconfirmed(node) == 2)
        rig_pass(10);
    rig_recount();
    rig_pass(500);
    ck_assert_uint_eq(looked_at(), 1);
    ck_assert_uint_eq(rig_unconfirmed(node), 0);
}
END_TEST

START_TEST(without_a_replica_it_is_over_when_no_token_lives_that_was_ended)
{
    rig.replicas = 0;
    end_users(1);
    rig_pass(PAUSE_MOST_MS);
    ck_assert_uint_eq(rig_unconfirmed(node), 1);
    clock_fake_pass(rig.conf->policy_absolute_timeout * 1000 + 3600 * 1000);
    rig_pass(2 * PAUSE_MOST_MS);
    ck_assert_uint_eq(rig_unconfirmed(node), 0);
}
END_TEST

START_TEST(a_replay_that_waits_for_its_tenant_ends_with_the_node)
{
    end_users_in_an_outage(1);
    rig_plan("refresher:GET", FATE_HOLD);
    while (!rig_holds("refresher:GET"))
        rig_pass(100);
    rig_stop(node);
}
END_TEST

/* --- what is in doubt --- */

START_TEST(what_redis_has_is_compared_and_not_written_again)
{
    end_users(1);
    ck_assert_uint_eq(rig_unconfirmed(node), 0);
    rig_recount();
    rig_doubt(node, "user-0", _i);
    rig_run();
    ck_assert_uint_eq(looked_at(), 1);
    ck_assert_uint_eq(rig_served("refresher:write"), 0);
    rig_pass(3 * PAUSE_MOST_MS);
    ck_assert_uint_eq(looked_at(), 1);
}
END_TEST

START_TEST(of_a_server_that_was_away_what_is_recent_is_compared_of_another_one_all)
{
    bool owner_changed = _i;
    end_users(1);
    clock_fake_pass(11 * 60 * 1000);
    rig_pass(1000); /* what the refresher has to do besides */
    rig_recount();
    rig_doubt(node, "user-0", owner_changed);
    rig_run();
    ck_assert_uint_eq(looked_at(), owner_changed);
}
END_TEST

START_TEST(what_lies_in_other_slots_is_not_compared)
{
    end_users(3);
    rig_recount();
    rig_doubt(node, "somebody", _i);
    rig_run();
    ck_assert_uint_eq(looked_at(), 0);
}
END_TEST

START_TEST(what_another_server_does_not_have_is_ended_there)
{
    struct rig_session session = rig_login(node, "user-0");
    struct rig_node *other = rig_start(1);
    struct redis_model *before = redis_model_copy(rig.redis);
    clock_fake_pass(5);
    end_users(1);
    redis_model_restore(rig.redis, before);
    ck_assert_int_eq(rig_validate(other, &session), ERR_OK);
    clock_fake_pass(11 * 60 * 1000);
    rig_doubt(node, "user-0", true);
    rig_run();
    ck_assert_int_eq(rig_validate(other, &session), ERR_TOKEN_INVALID);
    redis_model_destroy(&before);
}
END_TEST

START_TEST(what_could_not_be_compared_stays_in_doubt)
{
    end_users(1);
    rig_plan("refresher:HGETALL", FATE_AWAY);
    rig_plan("refresher:HGETALL", FATE_AWAY);
    rig_recount();
    rig_doubt(node, "user-0", false);
    rig_pass(3 * PAUSE_MOST_MS);
    ck_assert_uint_eq(looked_at(), 3);
}
END_TEST

/* --- many --- */

enum { COMPARED_AT_ONCE = 200, COMPARED_PAUSE_MS = 100 };

static void doubt_all(void)
{
    rig_watch(node, false);
    rig_watch(node, true);
}

START_TEST(after_so_many_that_were_compared_there_is_a_pause)
{
    rig_watch(node, true);
    end_users(COMPARED_AT_ONCE + 50);
    rig_recount();
    doubt_all();
    rig_run();
    ck_assert_uint_eq(looked_at(), COMPARED_AT_ONCE);
    rig_pass(COMPARED_PAUSE_MS / 2);
    ck_assert_uint_eq(looked_at(), COMPARED_AT_ONCE);
    rig_pass(COMPARED_PAUSE_MS / 2);
    ck_assert_uint_eq(looked_at(), COMPARED_AT_ONCE + 50);
}
END_TEST

/* The pass begins again, and forgets nothing that the running one was to look at. */
START_TEST(a_doubt_during_a_pass_begins_it_anew)
{
    rig_watch(node, true);
    end_users(COMPARED_AT_ONCE + 50);
    rig_recount();
    doubt_all();
    rig_run();
    ck_assert_uint_eq(looked_at(), COMPARED_AT_ONCE);
    rig_doubt(node, "somebody", _i);
    rig_run();
    ck_assert_uint_eq(looked_at(), 2 * COMPARED_AT_ONCE);
    rig_pass(COMPARED_PAUSE_MS);
    ck_assert_uint_eq(looked_at(), 2 * COMPARED_AT_ONCE + 50);
}
END_TEST

/* Others have their turn meanwhile; none is left out. */
START_TEST(a_long_journal_is_looked_through_in_several_turns)
{
    enum { LOOKED_AT_ONCE = 2048 };
    rig_watch(node, true);
    end_users(LOOKED_AT_ONCE + 10);
    rig_recount();
    rig_doubt(node, "user-0", true);
    rig_run();
    ck_assert_uint_eq(looked_at(), 0);
    rig_pass(50);
    ck_assert_uint_eq(looked_at(), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("replay");
    TCase *tcase = rig_case(suite, "unsettled", set_up);
    tcase_add_test(tcase, a_pass_that_brings_nothing_pauses_and_goes_on_with_the_others);
    tcase_add_test(tcase, the_pauses_of_a_long_outage_grow_to_five_seconds);
    tcase_add_test(tcase, no_more_replays_are_under_way_than_so_many);
    tcase_add_test(tcase, a_pass_that_confirmed_something_is_soon_followed_by_another);
    tcase_add_test(tcase, without_a_replica_it_is_over_when_no_token_lives_that_was_ended);
    tcase_add_test(tcase, a_replay_that_waits_for_its_tenant_ends_with_the_node);
    tcase = rig_case(suite, "doubts", set_up);
    tcase_add_loop_test(tcase, what_redis_has_is_compared_and_not_written_again, 0, 2);
    tcase_add_loop_test(
        tcase, of_a_server_that_was_away_what_is_recent_is_compared_of_another_one_all, 0, 2);
    tcase_add_loop_test(tcase, what_lies_in_other_slots_is_not_compared, 0, 2);
    tcase_add_test(tcase, what_another_server_does_not_have_is_ended_there);
    tcase_add_test(tcase, what_could_not_be_compared_stays_in_doubt);
    tcase_add_test(tcase, after_so_many_that_were_compared_there_is_a_pause);
    tcase_add_loop_test(tcase, a_doubt_during_a_pass_begins_it_anew, 0, 2);
    tcase_add_test(tcase, a_long_journal_is_looked_through_in_several_turns);
    return support_run(suite);
}
