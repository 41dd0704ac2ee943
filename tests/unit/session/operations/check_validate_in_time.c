/* Validations with a time by which they are answered, whatever Redis does: its read goes on. */
#include <check.h>

#include "clock.h"
#include "metrics.h"
#include "support_run.h"
#include "support_session.h"

enum { IN_TIME_MS = 150, TIMEOUT_MS = 500 };

static struct rig_node *node, *other;
static struct rig_session session;

/* One node with tracking up, another without; a session that neither has read. */
static void set_up(void)
{
    rig_set_up();
    node = rig_start(0);
    other = rig_start(1);
    rig_watch(node, true);
    session = rig_login(other, "alice");
    rig_recount();
}

/* --- the caller --- */

static struct operation *overdue;
static enum err overdue_err;

static void on_overdue(struct operation *operation, enum err err)
{
    ck_assert_ptr_null(overdue);
    overdue = operation;
    overdue_err = err;
}

static struct act *begin_from(struct rig_node *at, const char *ip)
{
    struct act *act = act_of(at);
    act->validate.token = arena_copy(&act->arena, rig_access(&session));
    act->validate.max_age_s = -1;
    act->base.claims = (struct client_claims){.ip = text_of(ip), .fingerprint = TEXT("finger")};
    act->base.answer_by_ms = clock_monotonic_ms() + IN_TIME_MS;
    act->base.overdue = on_overdue;
    overdue = NULL;
    session_validate(&act->validate);
    rig_run();
    return act;
}

static struct act *begin(void)
{
    return begin_from(node, NULL);
}

/* Time passes up to the moment of the answer; it was not there before. */
static void assert_in_time(struct act *act, enum err expected)
{
    rig_pass(IN_TIME_MS - 1);
    ck_assert(!act_is_done(act));
    rig_pass(1);
    ck_assert(act_is_done(act));
    ck_assert_int_eq(act->base.out.err, expected);
    ck_assert_ptr_null(overdue);
}

static void warm(void)
{
    ck_assert_int_eq(rig_validate(node, &session), ERR_OK);
    clock_fake_pass(5);
}

static void set_policy(const char *json)
{
    ck_assert_act(act_policy(other, json), ERR_OK);
}

/* --- the session --- */

START_TEST(an_answer_in_time_is_the_same_as_without)
{
    ck_assert_act(begin(), ERR_OK);
    rig_plan("HMGET", FATE_HOLD);
    rig_watch(node, false);
    struct act *act = begin();
    rig_pass(IN_TIME_MS - 1);
    rig_release();
    rig_run();
    ck_assert(act_is_done(act) && act->base.out.err == ERR_OK && !act->validate.stale);
    rig_pass(TIMEOUT_MS);
}
END_TEST

START_TEST(what_memory_does_not_know_is_unknown_in_time_and_read_on)
{
    int64_t hurried = metrics_read(METRIC_VALIDATIONS_HURRIED);
    warm();
    session = rig_login(other, "alice");
    clock_fake_pass(5);
    rig_plan("HMGET", FATE_HOLD);
    assert_in_time(begin(), ERR_STORE_TIMEOUT);
    ck_assert_int_eq(metrics_read(METRIC_VALIDATIONS_HURRIED) - hurried, 1);
    ck_assert(rig_holds("HMGET"));
    rig_release();
    rig_run();
    rig_recount();
    ck_assert_int_eq(rig_validate(node, &session), ERR_OK); /* the read has filled memory */
    ck_assert_uint_eq(rig_served("HMGET"), 0);
}
END_TEST

START_TEST(what_memory_knows_is_answered_stale_in_time)
{
    warm();
    rig_watch(node, false);
    rig_pass(3000);
    rig_plan("GET", FATE_ANSWER);
    rig_plan("HMGET", FATE_HOLD);
    struct act *act = begin();
    assert_in_time(act, ERR_OK);
    ck_assert(act->validate.stale && act->validate.from_cache);
    ck_assert_int_eq(act->validate.stale_for_s, 3);
    rig_pass(TIMEOUT_MS); /* the read ends at its own deadline, with nobody waiting */
    ck_assert(!rig_holds("HMGET"));
}
END_TEST

START_TEST(the_others_that_share_the_read_go_on_waiting)
{
    warm();
    session = rig_login(other, "alice");
    clock_fake_pass(5);
    rig_plan("HMGET", FATE_HOLD);
    struct act *patient = act_validate(node, rig_access(&session));
    rig_run();
    struct act *hurried = begin(), *another = begin();
    unsigned reads = rig_served("HMGET");
    rig_pass(IN_TIME_MS);
    ck_assert(act_is_done(hurried) && act_is_done(another) && !act_is_done(patient));
    rig_release();
    ck_assert_act(patient, ERR_OK);
    ck_assert_uint_eq(rig_served("HMGET"), reads + 1);
}
END_TEST

START_TEST(a_session_that_was_ended_here_is_refused_in_time)
{
    warm();
    rig_watch(node, false);
    rig.fate = FATE_AWAY;
    ck_assert_act(act_logout(node, rig_access(&session)), ERR_OK);
    rig.fate = FATE_HOLD;
    struct act *act = begin();
    ck_assert(act_is_done(act)); /* the journal and memory tell */
    ck_assert_int_eq(act->base.out.err, ERR_TOKEN_INVALID);
    rig.fate = FATE_ANSWER;
    rig_release();
}
END_TEST

/* --- the tenant --- */

START_TEST(an_unknown_tenant_is_unknown_in_time)
{
    rig_plan("GET", FATE_HOLD);
    assert_in_time(begin(), ERR_STORE_TIMEOUT);
    rig_release();
    rig_run();
    ck_assert_int_eq(rig_validate(node, &session), ERR_OK);
}
END_TEST

START_TEST(all_that_waits_for_an_unknown_tenant_goes_on_in_order)
{
    rig_plan("GET", FATE_HOLD);
    struct act *first = begin();
    struct act *patient = act_validate(node, rig_access(&session));
    rig_pass(50);
    struct act *second = begin();
    rig_pass(100);
    ck_assert(act_is_done(first) && !act_is_done(second) && !act_is_done(patient));
    struct act *third = begin();
    rig_pass(50);
    ck_assert(act_is_done(second) && !act_is_done(patient) && !act_is_done(third));
    rig_release();
    rig_run();
    ck_assert_act(patient, ERR_OK);
    ck_assert_act(third, ERR_OK);
}
END_TEST

START_TEST(a_tenant_that_is_known_takes_a_quarter_of_the_time)
{
    warm();
    rig_watch(node, false);
    rig_plan("GET", FATE_HOLD);
    rig_plan("HMGET", FATE_HOLD);
    struct act *act = begin();
    rig_pass(IN_TIME_MS / 4 - 1);
    ck_assert(!rig_holds("HMGET"));
    rig_pass(2);
    ck_assert(rig_holds("HMGET"));
    rig_pass(IN_TIME_MS - IN_TIME_MS / 4 - 1);
    ck_assert(act_is_done(act) && act->base.out.err == ERR_OK && act->validate.stale);
}
END_TEST

/* --- names of refused tokens --- */

START_TEST(the_names_for_the_audit_are_not_waited_for)
{
    ck_assert_act(act_end_tenant(other), ERR_OK);
    rig_plan("HMGET", FATE_HOLD);
    struct act *act = begin();
    ck_assert(!act_is_done(act));
    rig_pass(IN_TIME_MS);
    ck_assert(act_is_done(act));
    ck_assert_int_eq(act->base.out.err, ERR_TOKEN_INVALID);
    ck_assert(!act->base.facts.user_id.data && rig_holds("HMGET"));
    rig_release();
    rig_run();
    struct act *again = begin();
    ck_assert_act(again, ERR_TOKEN_INVALID);
    ck_assert_text_eq(again->base.facts.user_id, "alice"); /* the read went on */
}
END_TEST

/* --- use from elsewhere --- */

START_TEST(an_adoption_is_not_waited_for)
{
    set_policy("{\"bind\":{\"ip\":\"strict\"}}");
    session = rig_login_from(other, "bob", NULL, "finger");
    rig_plan("write", FATE_HOLD);
    struct act *act = begin_from(node, "192.0.2.1");
    rig_pass(IN_TIME_MS - 1);
    ck_assert_ptr_null(overdue);
    rig_pass(1);
    ck_assert_ptr_eq(overdue, &act->base);
    ck_assert_int_eq(overdue_err, ERR_OK);
    ck_assert(act->validate.session_json.length > 0 && act->validate.bound);
    ck_assert_text_eq(act->base.facts.user_id, "bob");
    ck_assert(!act_is_done(act));
    rig_release();
    ck_assert_act(act, ERR_OK);
    ck_assert_act(act_validate_from(node, &session, "198.51.100.1", "finger"), ERR_TOKEN_INVALID);
}
END_TEST

START_TEST(a_challenge_is_not_waited_for)
{
    set_policy("{\"bind\":{\"ip\":\"verify\"}}");
    session = rig_login_from(other, "bob", "192.0.2.1", "finger");
    rig_recount();
    ck_assert_int_eq(act_finish(begin_from(node, "192.0.2.1")), ERR_OK);
    rig.fate = FATE_HOLD;
    rig_plan("HMGET", FATE_ANSWER);
    struct act *act = begin_from(node, "198.51.100.1");
    rig_pass(IN_TIME_MS - 1);
    ck_assert_ptr_null(overdue);
    rig_pass(1);
    ck_assert_ptr_eq(overdue, &act->base);
    ck_assert_int_eq(overdue_err, ERR_STORE_TIMEOUT);
    ck_assert(!act_is_done(act));
    rig.fate = FATE_ANSWER;
    rig_release();
    ck_assert_act(act, ERR_STEP_UP_REQUIRED);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("validate in time");
    TCase *tcase = rig_case(suite, "in time", set_up);
    tcase_add_test(tcase, an_answer_in_time_is_the_same_as_without);
    tcase_add_test(tcase, what_memory_does_not_know_is_unknown_in_time_and_read_on);
    tcase_add_test(tcase, what_memory_knows_is_answered_stale_in_time);
    tcase_add_test(tcase, the_others_that_share_the_read_go_on_waiting);
    tcase_add_test(tcase, a_session_that_was_ended_here_is_refused_in_time);
    tcase_add_test(tcase, an_unknown_tenant_is_unknown_in_time);
    tcase_add_test(tcase, all_that_waits_for_an_unknown_tenant_goes_on_in_order);
    tcase_add_test(tcase, a_tenant_that_is_known_takes_a_quarter_of_the_time);
    tcase_add_test(tcase, the_names_for_the_audit_are_not_waited_for);
    tcase_add_test(tcase, an_adoption_is_not_waited_for);
    tcase_add_test(tcase, a_challenge_is_not_waited_for);
    return support_run(suite);
}
