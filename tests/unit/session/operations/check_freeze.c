/* Freezing and lifting: with Redis, in an outage, in conflict, and against the tenant's quota. */
#include <check.h>
#include <string.h>

#include "clock.h"
#include "metrics.h"
#include "support_run.h"
#include "support_session.h"

static struct rig_node *node, *other;
static struct rig_session session;

static void set_up(void)
{
    rig_set_up();
    node = rig_start(0);
    other = rig_start(1);
    session = rig_login(node, "alice");
    clock_fake_pass(5);
    rig_recount();
}

static struct act *freeze(void)
{
    return act_freeze(node, "alice", false);
}

static struct act *lift(void)
{
    return act_freeze(node, "alice", true);
}

static enum err login(void)
{
    struct act *act = act_login(other, "alice", "another");
    enum err err = act_finish(act);
    if (err == ERR_ACCOUNT_FROZEN)
        ck_assert_text_eq(act->base.out.reason, "fraud");
    return err;
}

static void assert_frozen(void)
{
    struct act *act = act_validate(other, rig_access(&session));
    ck_assert_act(act, ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.out.reason, REASON_FROZEN);
    ck_assert_int_eq(login(), ERR_ACCOUNT_FROZEN);
}

static void get_redis_back(void)
{
    rig.fate = FATE_ANSWER;
    rig_pass(12000);
    ck_assert_uint_eq(rig_unconfirmed(node), 0);
}

START_TEST(a_freeze_ends_the_sessions_and_keeps_the_user_out_until_it_is_lifted)
{
    struct act *act = freeze();
    ck_assert_act(act, ERR_OK);
    ck_assert_uint_eq(act->base.out.ended_count, 1);
    ck_assert_int_eq(act->base.out.durability, DURABILITY_REPLICATED);
    assert_frozen();
    ck_assert_act(lift(), ERR_OK);
    ck_assert_int_eq(login(), ERR_OK);
    ck_assert_int_eq(rig_validate(other, &session), ERR_TOKEN_INVALID);
}
END_TEST

START_TEST(a_freeze_ends_by_itself_at_its_time)
{
    struct act *act = act_of(node);
    act->freeze.tenant = RIG_TENANT;
    act->freeze.user_id = TEXT("alice");
    act->freeze.why = TEXT("fraud");
    act->freeze.until_s = clock_wall_ms() / 1000 + 60;
    session_freeze(&act->freeze);
    ck_assert_act(act, ERR_OK);
    ck_assert_int_eq(login(), ERR_ACCOUNT_FROZEN);
    clock_fake_pass(61000);
    ck_assert_int_eq(login(), ERR_OK);
}
END_TEST

START_TEST(a_freeze_of_a_user_without_sessions_holds)
{
    ck_assert_act(act_freeze(node, "bob", false), ERR_OK);
    ck_assert_act(act_login(other, "bob", "d"), ERR_ACCOUNT_FROZEN);
    ck_assert_act(act_freeze(node, "bob", false), ERR_OK);
    ck_assert_act(act_freeze(node, "bob", true), ERR_OK);
    ck_assert_act(act_login(other, "bob", "d"), ERR_OK);
}
END_TEST

START_TEST(an_unknown_freeze_is_told_once_whether_it_took_effect_or_not)
{
    rig_plan("write", _i ? FATE_CUT_AFTER : FATE_CUT_BEFORE);
    struct act *act = freeze();
    ck_assert_act(act, ERR_OK);
    ck_assert_uint_eq(act->base.out.ended_count, 1);
    assert_frozen();
}
END_TEST

static struct rig_session second;
static void login_elsewhere(void)
{
    second = rig_login(other, "alice");
}

START_TEST(a_login_that_was_faster_ends_with_the_others)
{
    rig_plan_after("write", FATE_ANSWER, login_elsewhere);
    struct act *act = freeze();
    ck_assert_act(act, ERR_OK);
    ck_assert_uint_eq(act->base.out.ended_count, 2);
    ck_assert_int_eq(rig_validate(other, &second), ERR_TOKEN_INVALID);
    assert_frozen();
}
END_TEST

static void lift_elsewhere(void)
{
    ck_assert_act(act_freeze(other, "alice", true), ERR_OK);
}

START_TEST(of_a_freeze_and_a_lift_the_later_decision_holds)
{
    rig_plan_after("write", FATE_ANSWER, lift_elsewhere);
    ck_assert_act(freeze(), ERR_OK);
    assert_frozen();
}
END_TEST

static const struct {
    const char *step;
    enum fate fate;
    enum err err;
} step_rows[] = {
    {"epoch", FATE_LATE_BEFORE, ERR_STORE_TIMEOUT},
    {"GET", FATE_LATE_BEFORE, ERR_STORE_TIMEOUT},
    {"HGETALL", FATE_LATE_BEFORE, ERR_STORE_TIMEOUT},
    {"HGETALL", FATE_AWAY, ERR_STORE_UNAVAILABLE},
    {"HGETALL", FATE_STRANGE, ERR_STORE_PROTOCOL},
    {"write", FATE_LATE_BEFORE, ERR_STORE_TIMEOUT},
    {"write", FATE_LATE_AFTER, ERR_STORE_TIMEOUT},
};

START_TEST(a_freeze_holds_here_whatever_step_fails_and_in_redis_soon)
{
    rig_plan(step_rows[_i].step, step_rows[_i].fate);
    struct act *act = freeze();
    ck_assert_act(act, ERR_OK);
    ck_assert_int_eq(act->base.out.durability, DURABILITY_PENDING);
    ck_assert_int_eq(rig_validate(node, &session), ERR_TOKEN_INVALID);
    get_redis_back();
    assert_frozen();
}
END_TEST

START_TEST(a_lift_needs_redis)
{
    ck_assert_act(freeze(), ERR_OK);
    rig_plan(step_rows[_i].step, step_rows[_i].fate);
    ck_assert_act(lift(), step_rows[_i].err);
    ck_assert_act(lift(), ERR_OK);
    ck_assert_int_eq(login(), ERR_OK);
}
END_TEST

START_TEST(a_freeze_in_an_outage_holds_here_at_once_and_elsewhere_when_redis_is_back)
{
    struct rig_node *where = _i ? other : node; /* which does not know the tenant */
    rig.fate = FATE_AWAY;
    struct act *act = act_freeze(where, "alice", false);
    ck_assert_act(act, ERR_OK);
    ck_assert_int_eq(act->base.out.durability, DURABILITY_PENDING);
    ck_assert_uint_eq(act->base.out.ended_count, 0);
    struct act *refused = act_validate(where, rig_access(&session));
    ck_assert_act(refused, ERR_TOKEN_INVALID);
    ck_assert_text_eq(refused->base.out.reason, REASON_FROZEN);
    rig.fate = FATE_ANSWER;
    rig_pass(12000);
    ck_assert_uint_eq(rig_unconfirmed(where), 0);
    assert_frozen();
}
END_TEST

START_TEST(a_freeze_in_an_outage_keeps_a_login_out_that_comes_before_the_replay)
{
    rig.fate = FATE_AWAY;
    ck_assert_act(freeze(), ERR_OK);
    rig.fate = FATE_ANSWER;
    ck_assert_act(act_login(node, "alice", "d"), ERR_ACCOUNT_FROZEN);
    get_redis_back();
    assert_frozen();
}
END_TEST

START_TEST(a_lift_behind_a_freeze_in_an_outage_is_not_undone_by_its_replay)
{
    rig.fate = FATE_AWAY;
    ck_assert_act(freeze(), ERR_OK);
    rig.fate = FATE_ANSWER;
    clock_fake_pass(2000);
    rig_plan("refresher:GET", FATE_HOLD);
    ck_assert_act(lift(), ERR_OK);
    rig_release();
    get_redis_back();
    rig_forget_plans();
    ck_assert_int_eq(login(), ERR_OK);
}
END_TEST

START_TEST(a_freeze_of_a_made_up_user_counts_towards_the_quota)
{
    ck_assert_act(act_policy(node, "{\"quota\":{\"users\":2}}"), ERR_OK);
    ck_assert_act(act_freeze(node, "bob", false), ERR_OK);
    ck_assert_act(act_freeze(node, "carol", false), ERR_TENANT_QUOTA);
    ck_assert_act(freeze(), ERR_OK); /* gives the place of a session for that of a frozen one */
    assert_frozen();
    ck_assert_act(act_freeze(node, "bob", true), ERR_OK);
}
END_TEST

START_TEST(a_freeze_ends_with_its_worker)
{
    rig_plan(_i ? "write" : "HGETALL", FATE_HOLD);
    struct act *act = freeze();
    rig_run();
    ck_assert(rig_holds(_i ? "write" : "HGETALL"));
    rig_stop(node);
    ck_assert(act_is_done(act));
}
END_TEST

/* Redis cannot name the token's owner. */
START_TEST(in_an_outage_it_is_known_who_was_frozen)
{
    rig.fate = FATE_AWAY;
    ck_assert_act(freeze(), ERR_OK);
    struct act *act = act_validate(node, rig_access(&session));
    ck_assert_act(act, ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.facts.user_id, "alice");
}
END_TEST

/* --- quotas --- */

static enum err freeze_somebody(const char *user)
{
    return act_finish(act_freeze(node, user, false));
}

static enum err lift_somebody(const char *user)
{
    return act_finish(act_freeze(node, user, true));
}

/* A user with a session gives its place in the quota for the frozen one's. */
START_TEST(freezes_of_users_who_have_nothing_count_and_no_others)
{
    ck_assert_act(act_policy(node, "{\"quota\":{\"users\":2}}"), ERR_OK);
    ck_assert_int_eq(freeze_somebody("made-up"), ERR_OK);
    ck_assert_int_eq(freeze_somebody("another"), ERR_TENANT_QUOTA);
    ck_assert_int_eq(freeze_somebody("made-up"), ERR_OK);
    ck_assert_int_eq(freeze_somebody("alice"), ERR_OK);
    ck_assert_int_eq(lift_somebody("alice"), ERR_OK);
    ck_assert_int_eq(lift_somebody("made-up"), ERR_OK);
}
END_TEST

/* It counts by their records. A user who is frozen for the first time will be remembered, too. */
START_TEST(another_node_counts_the_frozen_and_the_lifted_too)
{
    bool lifted = _i;
    ck_assert_act(act_policy(node, "{\"quota\":{\"users\":2}}"), ERR_OK);
    ck_assert_act(act_freeze(node, "made-up", lifted), ERR_OK);
    ck_assert_act(act_freeze(node, "second", lifted), lifted ? ERR_OK : ERR_TENANT_QUOTA);
    ck_assert_act(act_freeze(other, "third", lifted), ERR_TENANT_QUOTA);
    ck_assert_act(act_freeze(other, "third", !lifted), lifted ? ERR_TENANT_QUOTA : ERR_OK);
}
END_TEST

START_TEST(lifts_of_users_who_have_nothing_count_among_themselves)
{
    ck_assert_act(act_policy(node, "{\"quota\":{\"users\":2}}"), ERR_OK);
    ck_assert_int_eq(lift_somebody("made-up"), ERR_OK);
    ck_assert_int_eq(lift_somebody("another"), ERR_OK);
    ck_assert_int_eq(lift_somebody("third"), ERR_TENANT_QUOTA);
    ck_assert_int_eq(lift_somebody("made-up"), ERR_OK);
    ck_assert_int_eq(lift_somebody("alice"), ERR_OK);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("freeze");
    TCase *tcase = rig_case(suite, "freeze", set_up);
    int steps = sizeof(step_rows) / sizeof(step_rows[0]);
    tcase_add_test(tcase, a_freeze_ends_the_sessions_and_keeps_the_user_out_until_it_is_lifted);
    tcase_add_test(tcase, a_freeze_ends_by_itself_at_its_time);
    tcase_add_test(tcase, a_freeze_of_a_user_without_sessions_holds);
    tcase_add_loop_test(tcase, an_unknown_freeze_is_told_once_whether_it_took_effect_or_not, 0, 2);
    tcase_add_test(tcase, a_login_that_was_faster_ends_with_the_others);
    tcase_add_test(tcase, of_a_freeze_and_a_lift_the_later_decision_holds);
    tcase_add_loop_test(tcase, a_freeze_holds_here_whatever_step_fails_and_in_redis_soon, 0, steps);
    tcase_add_loop_test(tcase, a_lift_needs_redis, 1, steps); /* it raises no epoch */
    tcase_add_loop_test(
        tcase, a_freeze_in_an_outage_holds_here_at_once_and_elsewhere_when_redis_is_back, 0, 2);
    tcase_add_test(tcase, a_freeze_in_an_outage_keeps_a_login_out_that_comes_before_the_replay);
    tcase_add_test(tcase, a_lift_behind_a_freeze_in_an_outage_is_not_undone_by_its_replay);
    tcase_add_test(tcase, a_freeze_of_a_made_up_user_counts_towards_the_quota);
    tcase_add_loop_test(tcase, a_freeze_ends_with_its_worker, 0, 2);
    tcase_add_test(tcase, in_an_outage_it_is_known_who_was_frozen);
    tcase_add_test(tcase, freezes_of_users_who_have_nothing_count_and_no_others);
    tcase_add_loop_test(tcase, another_node_counts_the_frozen_and_the_lifted_too, 0, 2);
    tcase_add_test(tcase, lifts_of_users_who_have_nothing_count_among_themselves);
    return support_run(suite);
}
