/* Explaining a token: by memory, journal and Redis, each alone, and by all together. */
#include <check.h>
#include <string.h>

#include "clock.h"
#include "support_run.h"
#include "support_session.h"

static struct rig_node *node, *other;
static struct rig_session session;

static void set_up(void)
{
    rig_set_up();
    node = rig_start(0);
    other = rig_start(1);
    session = rig_login(other, "alice");
    clock_fake_pass(5);
}

static const struct explain *explain(struct text token)
{
    struct act *act = act_explain(node, token);
    ck_assert_act(act, ERR_OK);
    return &act->explain;
}

static const struct explain *explain_access(void)
{
    return explain(rig_access(&session));
}

static const struct explain *explain_name(const char *session_id)
{
    struct act *act = act_of(node);
    act->explain.tenant = RIG_TENANT;
    act->explain.user_id = TEXT("alice");
    act->explain.session_id = text_of(session_id);
    session_explain(&act->explain);
    ck_assert_act(act, ERR_OK);
    return &act->explain;
}

/* --- an active session --- */

START_TEST(of_a_token_that_is_good_everybody_who_knows_it_says_so)
{
    const struct explain *told = explain_access();
    ck_assert_int_eq(told->verdict.state, SOURCE_ACTIVE);
    ck_assert_int_eq(told->redis.state, SOURCE_ACTIVE);
    ck_assert_int_eq(told->memory.state, SOURCE_UNKNOWN);
    ck_assert_int_eq(told->journal.state, SOURCE_UNKNOWN);
    ck_assert_text_eq(told->kind, "access");
    ck_assert_text_eq(told->pair, "present");
    ck_assert_text_eq(told->base.facts.user_id, "alice");
    ck_assert(told->issued && told->user_known && !told->user.frozen && !told->from_cache);
    ck_assert_int_eq(told->created_s, RIG_NOW / 1000);
    ck_assert_int_eq(rig_validate(node, &session), ERR_OK);
    told = explain_access();
    ck_assert_int_eq(told->memory.state, SOURCE_ACTIVE);
    ck_assert_int_eq(told->verdict.state, SOURCE_ACTIVE);
}
END_TEST

START_TEST(a_refresh_token_is_explained_as_one)
{
    const struct explain *told = explain(rig_refresh(&session));
    ck_assert_int_eq(told->verdict.state, SOURCE_ACTIVE);
    ck_assert_text_eq(told->kind, "refresh");
    ck_assert_text_eq(told->pair, "present");
}
END_TEST

START_TEST(a_session_is_explained_by_its_name)
{
    char id[2 * SESSION_ID + 1] = "";
    memcpy(id, session.id, 2 * SESSION_ID);
    const struct explain *told = explain_name(id);
    ck_assert_int_eq(told->verdict.state, SOURCE_ACTIVE);
    ck_assert_text_eq(told->kind, "session");
    ck_assert_ptr_null(told->pair.data);
    told = explain_name("0123456789abcdef");
    ck_assert_int_eq(told->redis.state, SOURCE_UNKNOWN);
    ck_assert_int_eq(told->verdict.state, SOURCE_ENDED);
    told = explain_name("no session's name");
    ck_assert_int_eq(told->verdict.state, SOURCE_UNKNOWN);
}
END_TEST

/* --- what is no token --- */

START_TEST(of_what_is_no_token_nobody_is_asked)
{
    rig_recount();
    const struct explain *told = explain(TEXT("nothing of the kind"));
    ck_assert_text_eq(told->kind, "unknown");
    ck_assert_text_eq(told->verdict.reason, REASON_MALFORMED);
    struct rig_session forged = session;
    forged.access[TOKEN_LENGTH - 1] = forged.access[TOKEN_LENGTH - 1] == 'A' ? 'B' : 'A';
    told = explain(rig_access(&forged));
    ck_assert_text_eq(told->kind, "access");
    ck_assert_text_eq(told->verdict.reason, REASON_UNKNOWN);
    ck_assert(!told->issued);
    ck_assert_uint_eq(rig_served("HGETALL"), 0);
}
END_TEST

START_TEST(a_bound_key_learns_nothing_of_another_tenants_token)
{
    struct act *act = act_of(node);
    act->explain.token = rig_access(&session);
    act->explain.tenant = TEXT("another");
    act->explain.tenant_bound = true;
    session_explain(&act->explain);
    ck_assert_act(act, ERR_TENANT_FORBIDDEN);
}
END_TEST

/* --- older pairs --- */

START_TEST(it_is_told_of_which_pair_a_token_is)
{
    struct rig_session old = session;
    struct act *act = act_refresh(other, rig_refresh(&session));
    ck_assert_act(act, ERR_OK);
    const struct explain *told = explain(rig_access(&old));
    ck_assert_text_eq(told->pair, "previous");
    ck_assert_int_eq(told->verdict.state, SOURCE_ACTIVE); /* within the grace */
    clock_fake_pass(600000);
    told = explain(rig_access(&old));
    ck_assert_text_eq(told->verdict.reason, REASON_EXPIRED);
    told = explain(rig_refresh(&old));
    ck_assert_text_eq(told->pair, "previous");
    ck_assert_text_eq(told->verdict.reason, REASON_REUSE);
    memcpy(session.refresh, act->refresh.pair.refresh_token, TOKEN_LENGTH);
    ck_assert_act(act_refresh(other, rig_refresh(&session)), ERR_OK);
    ck_assert_text_eq(explain(rig_refresh(&old))->pair, "older");
    ck_assert_int_eq(rig_validate(other, &old), ERR_TOKEN_INVALID);
}
END_TEST

/* --- ended sessions --- */

START_TEST(of_a_session_that_was_ended_is_told_why_and_by_whom)
{
    struct act *act = act_kick(other, "alice", rig_id(&session));
    ck_assert_act(act, ERR_OK);
    const struct explain *told = explain_access();
    ck_assert_int_eq(told->redis.state, SOURCE_ENDED);
    ck_assert_text_eq(told->redis.reason, REASON_KICKED);
    ck_assert_int_eq(told->verdict.state, SOURCE_ENDED);
    ck_assert_int_eq(told->verdict.at_s, RIG_NOW / 1000);
    ck_assert_int_eq(rig_validate(node, &session), ERR_TOKEN_INVALID);
    told = explain_access();
    ck_assert_int_eq(told->memory.state, SOURCE_ENDED);
    ck_assert(told->memory_fresh);
}
END_TEST

START_TEST(what_is_known_dead_here_is_so_though_redis_cannot_be_asked)
{
    rig.fate = FATE_AWAY;
    ck_assert_act(act_kick(node, "alice", rig_id(&session)), ERR_OK);
    const struct explain *told = explain_access();
    ck_assert_int_eq(told->journal.state, SOURCE_ENDED);
    ck_assert(told->journal_pending);
    ck_assert_int_eq(told->redis.state, SOURCE_UNAVAILABLE);
    ck_assert_int_eq(told->redis_err, ERR_STORE_UNAVAILABLE);
    ck_assert_text_eq(told->verdict.reason, REASON_KICKED);
}
END_TEST

/* Redis does not know it yet: a replay will write it. */
START_TEST(what_the_journal_knows_wins_over_redis)
{
    rig.fate = FATE_AWAY;
    ck_assert_act(act_kick(node, "alice", rig_id(&session)), ERR_OK);
    rig.fate = FATE_ANSWER;
    const struct explain *told = explain_access();
    ck_assert_int_eq(told->redis.state, SOURCE_ACTIVE);
    ck_assert_int_eq(told->verdict.state, SOURCE_ENDED);
}
END_TEST

START_TEST(of_a_tenant_that_ended_all_that_is_the_reason)
{
    ck_assert_act(act_end_tenant(other), ERR_OK);
    const struct explain *told = explain_access();
    ck_assert_int_eq(told->verdict.state, SOURCE_ENDED);
    ck_assert_text_eq(told->verdict.reason, REASON_REVOKED);
}
END_TEST

START_TEST(of_a_frozen_user_is_told_why_and_until_when)
{
    ck_assert_act(act_freeze(other, "alice", false), ERR_OK);
    const struct explain *told = explain_access();
    ck_assert(told->user.frozen);
    ck_assert_int_gt(told->user.not_before_s, 0);
    ck_assert_text_eq(told->verdict.reason, REASON_FROZEN);
}
END_TEST

START_TEST(what_redis_has_forgotten_is_judged_by_its_age)
{
    redis_model_flush(rig.redis);
    ck_assert_text_eq(explain_access()->verdict.reason, REASON_UNKNOWN);
    clock_fake_pass(INT64_C(400) * 24 * 3600 * 1000);
    ck_assert_text_eq(explain_access()->verdict.reason, REASON_EXPIRED);
}
END_TEST

START_TEST(what_redis_has_forgotten_and_memory_knows_dead_is_dead)
{
    ck_assert_act(act_kick(other, "alice", rig_id(&session)), ERR_OK);
    ck_assert_int_eq(rig_validate(node, &session), ERR_TOKEN_INVALID);
    redis_model_flush(rig.redis);
    ck_assert_text_eq(explain_access()->verdict.reason, REASON_KICKED);
}
END_TEST

/* --- in an outage --- */

START_TEST(without_redis_memory_says_what_it_knows_and_since_when)
{
    ck_assert_int_eq(rig_validate(node, &session), ERR_OK);
    clock_fake_pass(7000);
    rig.fate = FATE_AWAY;
    const struct explain *told = explain_access();
    ck_assert(told->from_cache && !told->memory_fresh && !told->user_known);
    ck_assert_int_eq(told->verdict.state, SOURCE_ACTIVE);
    ck_assert_int_eq(told->memory_age_s, 7);
    /* Memory has no hash of the refresh token. */
    told = explain(rig_refresh(&session));
    ck_assert_int_eq(told->verdict.state, SOURCE_ACTIVE);
    ck_assert_ptr_null(told->pair.data);
}
END_TEST

START_TEST(without_redis_and_memory_nobody_says_anything)
{
    rig.fate = FATE_AWAY;
    const struct explain *told = explain_access();
    ck_assert_int_eq(told->verdict.state, SOURCE_UNKNOWN);
    ck_assert(told->issued && told->from_cache);
}
END_TEST

START_TEST(an_answer_to_another_question_is_none)
{
    rig_plan("HGETALL", FATE_STRANGE);
    ck_assert_int_eq(explain_access()->redis_err, ERR_STORE_PROTOCOL);
}
END_TEST

START_TEST(nobody_is_asked_while_the_node_stops)
{
    rig_plan("GET", FATE_HOLD);
    struct act *act = act_explain(node, rig_access(&session));
    rig_run();
    rig_stop(node);
    ck_assert(act_is_done(act));
    ck_assert_int_eq(act->base.out.err, ERR_SHUTTING_DOWN);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("explain");
    TCase *tcase = rig_case(suite, "statements", set_up);
    tcase_add_test(tcase, of_a_token_that_is_good_everybody_who_knows_it_says_so);
    tcase_add_test(tcase, a_refresh_token_is_explained_as_one);
    tcase_add_test(tcase, a_session_is_explained_by_its_name);
    tcase_add_test(tcase, of_what_is_no_token_nobody_is_asked);
    tcase_add_test(tcase, a_bound_key_learns_nothing_of_another_tenants_token);
    tcase_add_test(tcase, it_is_told_of_which_pair_a_token_is);
    tcase_add_test(tcase, of_a_session_that_was_ended_is_told_why_and_by_whom);
    tcase_add_test(tcase, what_is_known_dead_here_is_so_though_redis_cannot_be_asked);
    tcase_add_test(tcase, what_the_journal_knows_wins_over_redis);
    tcase_add_test(tcase, of_a_tenant_that_ended_all_that_is_the_reason);
    tcase_add_test(tcase, of_a_frozen_user_is_told_why_and_until_when);
    tcase_add_test(tcase, what_redis_has_forgotten_is_judged_by_its_age);
    tcase_add_test(tcase, what_redis_has_forgotten_and_memory_knows_dead_is_dead);
    tcase_add_test(tcase, without_redis_memory_says_what_it_knows_and_since_when);
    tcase_add_test(tcase, without_redis_and_memory_nobody_says_anything);
    tcase_add_test(tcase, an_answer_to_another_question_is_none);
    tcase_add_test(tcase, nobody_is_asked_while_the_node_stops);
    return support_run(suite);
}
