/* A write of unknown outcome, while another node does the very same: which part of the state is
 * this update's own work? */
#include <check.h>

#include "clock.h"
#include "metrics.h"
#include "support_run.h"
#include "support_session.h"

static struct rig_node *node, *other;
static struct rig_session session, second;
static struct act *theirs;

static void set_up(void)
{
    rig_set_up();
    node = rig_start(0);
    other = rig_start(1);
    session = rig_login(other, "alice");
    second = rig_login(other, "alice");
    clock_fake_pass(5);
}

/* The connection ends before the write has reached Redis, and `hook` runs before that. */
static void lose_write_after(void (*hook)(void))
{
    rig_plan_after("write", FATE_CUT_BEFORE, hook);
}

static void kick_elsewhere(void)
{
    theirs = act_kick(other, "alice", rig_id(&session));
    ck_assert_act(theirs, ERR_OK);
}

START_TEST(another_ones_end_of_the_same_session_is_not_ours)
{
    lose_write_after(kick_elsewhere);
    int64_t ended = metrics_read(METRIC_SESSIONS_ENDED);
    ck_assert_act(act_kick(node, "alice", rig_id(&session)), ERR_SESSION_NOT_FOUND);
    ck_assert_int_eq(metrics_read(METRIC_SESSIONS_ENDED) - ended, 1);
}
END_TEST

static void end_all_elsewhere(void)
{
    ck_assert_act(act_logout_all(other, "alice"), ERR_OK);
}

START_TEST(what_another_one_ended_is_not_in_our_list)
{
    lose_write_after(end_all_elsewhere);
    struct act *act = act_logout_all(node, "alice");
    ck_assert_act(act, ERR_OK);
    ck_assert_uint_eq(act->base.out.ended_count, 0);
}
END_TEST

static void freeze_elsewhere(void)
{
    ck_assert_act(act_freeze(other, "alice", false), ERR_OK);
}

START_TEST(what_another_ones_freeze_ended_is_not_in_our_list)
{
    lose_write_after(freeze_elsewhere);
    struct act *act = act_freeze(node, "alice", false);
    ck_assert_act(act, ERR_OK);
    ck_assert_uint_eq(act->base.out.ended_count, 0);
}
END_TEST

static struct act *refresh_from(struct rig_node *where, const char *ip)
{
    struct act *act = act_of(where);
    act->refresh.refresh_token = rig_refresh(&session);
    act->refresh.ip = act->base.claims.ip = text_of(ip);
    session_refresh(&act->refresh);
    return act;
}

static void refresh_elsewhere(void)
{
    ck_assert_act(refresh_from(other, "198.51.100.1"), ERR_OK);
}

/* The holder of a copied token gets the same pair only where the policy allows it. */
START_TEST(another_ones_refresh_is_not_repeated_as_ours)
{
    rig.conf->policy_refresh_repeat = _i ? REPEAT_REFUSE : REPEAT_ALERT;
    lose_write_after(refresh_elsewhere);
    struct act *act = refresh_from(node, "192.0.2.1");
    ck_assert_act(act, _i ? ERR_REFRESH_INVALID : ERR_OK);
    ck_assert(act->base.out.repeated && act->base.out.repeated_apart);
}
END_TEST

static void put_elsewhere(void)
{
    ck_assert_act(act_attributes(other, rig_access(&session), ATTRIBUTES_PUT, "{\"a\":1}"), ERR_OK);
}

START_TEST(another_ones_attributes_do_not_meet_our_condition)
{
    struct act *before = act_attributes(node, rig_access(&session), ATTRIBUTES_GET, NULL);
    ck_assert_act(before, ERR_OK);
    struct act *act = act_of(node);
    act->attributes.token = rig_access(&session);
    act->attributes.action = ATTRIBUTES_PUT;
    act->attributes.given = TEXT("{\"a\":1}");
    ck_assert(etag_read((struct text){before->attributes.etag, ETAG_LENGTH}, &act->arena,
                        &act->attributes.if_match));
    lose_write_after(put_elsewhere);
    session_attributes(&act->attributes);
    ck_assert_act(act, ERR_PRECONDITION_FAILED);
}
END_TEST

/* --- our own writes, even if they land late --- */

static void nothing(void)
{
}

static struct act *kick(void)
{
    return act_kick(node, "alice", rig_id(&session));
}

static struct act *end_all(void)
{
    return act_logout_all(node, "alice");
}

static struct act *freeze(void)
{
    return act_freeze(node, "alice", false);
}

static const struct {
    struct act *(*begin)(void);
    size_t ended;
} own_rows[] = {{kick, 1}, {end_all, 2}, {freeze, 2}};

START_TEST(our_own_work_is_ours)
{
    rig_plan_after("write", FATE_CUT_AFTER, nothing);
    struct act *act = own_rows[_i].begin();
    ck_assert_act(act, ERR_OK);
    ck_assert_uint_eq(act->base.out.ended_count, own_rows[_i].ended);
    ck_assert_int_eq(rig_validate(other, &session), ERR_TOKEN_INVALID);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("attempts");
    TCase *tcase = rig_case(suite, "unknown", set_up);
    tcase_add_test(tcase, another_ones_end_of_the_same_session_is_not_ours);
    tcase_add_test(tcase, what_another_one_ended_is_not_in_our_list);
    tcase_add_test(tcase, what_another_ones_freeze_ended_is_not_in_our_list);
    tcase_add_loop_test(tcase, another_ones_refresh_is_not_repeated_as_ours, 0, 2);
    tcase_add_test(tcase, another_ones_attributes_do_not_meet_our_condition);
    tcase_add_loop_test(tcase, our_own_work_is_ours, 0, sizeof(own_rows) / sizeof(own_rows[0]));
    return support_run(suite);
}
