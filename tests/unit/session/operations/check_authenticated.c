/* Strength on the stepped rig: demands from memory, Redis and in an outage; re-authentication;
 * fresh.*; the record format that nodes agree on. */
#include <check.h>
#include <string.h>

#include "clock.h"
#include "record.h"
#include "session/engine/service.h"
#include "support_clock.h"
#include "support_run.h"
#include "support_session.h"

static struct rig_node *node, *other;
static struct rig_session session;

static const struct authentication nothing;

static struct rig_session login_with(const struct authentication *authentication)
{
    struct act *act = act_of(node);
    act->login.tenant = RIG_TENANT;
    act->login.user_id = TEXT("alice");
    act->login.authentication = *authentication;
    session_login(&act->login);
    ck_assert_act(act, ERR_OK);
    struct rig_session made;
    memcpy(made.access, act->login.pair.access_token, TOKEN_LENGTH);
    memcpy(made.refresh, act->login.pair.refresh_token, TOKEN_LENGTH);
    memcpy(made.id, act->base.facts.session_id.data, sizeof(made.id));
    return made;
}

static void set_up(void)
{
    rig_set_up();
    node = rig_start(0);
    other = rig_start(1);
    const struct authentication stated = {clock_wall_ms() / 1000, TEXT("gold"), 1};
    session = login_with(&stated);
}

static struct act *demand(struct rig_node *of, struct text token, int64_t max_age_s,
                          const char *acr)
{
    struct act *act = act_of(of);
    act->validate.token = arena_copy(&act->arena, token);
    act->validate.max_age_s = max_age_s;
    if (acr)
        act->validate.acr = text_of(acr);
    session_validate(&act->validate);
    return act;
}

static void assert_demands(struct rig_node *of, bool stale)
{
    const struct text token = rig_access(&session);
    struct act *good = demand(of, token, 3600, "gold");
    ck_assert_act(good, ERR_OK);
    ck_assert_int_eq(good->validate.stale, stale);
    struct act *weak = demand(of, token, -1, "platinum");
    ck_assert_act(weak, ERR_INSUFFICIENT_AUTHENTICATION);
    ck_assert(text_equal(weak->base.out.reason, TEXT(REASON_INSUFFICIENT)));
    ck_assert(text_equal(weak->base.out.demanded.acr, TEXT("platinum")));
    ck_assert_int_eq(weak->base.out.demanded.max_age_s, -1);
    ck_assert(!weak->validate.session_json.data && !weak->validate.stale);
    ck_assert(text_equal(weak->base.facts.user_id, TEXT("alice")));
}

START_TEST(a_demand_is_judged_alike_from_redis_from_memory_and_in_an_outage)
{
    rig_watch(node, true);
    assert_demands(node, false); /* Redis */
    rig_recount();
    assert_demands(node, false); /* memory */
    ck_assert_uint_eq(rig_served("HMGET"), 0);
    rig_watch(node, false);
    rig.fate = FATE_AWAY;
    rig_pass(10000);
    assert_demands(node, true);
    ck_assert_act(demand(node, rig_access(&session), 9, NULL), ERR_INSUFFICIENT_AUTHENTICATION);
    rig.fate = FATE_ANSWER;
}
END_TEST

START_TEST(a_refused_call_is_no_use)
{
    rig_pass(120000);
    rig_recount();
    struct act *act = demand(node, rig_access(&session), 1, NULL);
    act->validate.touch = true;
    ck_assert_act(act, ERR_INSUFFICIENT_AUTHENTICATION);
    ck_assert_uint_eq(rig_served("touch"), 0);
}
END_TEST

static struct act *renew(struct text token)
{
    struct act *act = act_of(node);
    act->authenticated.token = arena_copy(&act->arena, token);
    act->authenticated.authentication.acr = TEXT("platinum");
    session_authenticated(&act->authenticated);
    return act;
}

static struct text access_of(const struct act *act)
{
    return (struct text){act->authenticated.pair.access_token, TOKEN_LENGTH};
}

static void assert_renewed(struct act *act)
{
    ck_assert_act(act, ERR_OK);
    ck_assert_act(demand(other, access_of(act), 5, "platinum"), ERR_OK);
    ck_assert_act(demand(other, access_of(act), -1, "gold"), ERR_INSUFFICIENT_AUTHENTICATION);
    ck_assert_act(demand(other, rig_access(&session), -1, NULL), ERR_TOKEN_INVALID);
    struct act *refresh = act_refresh(other, rig_refresh(&session));
    ck_assert_act(refresh, ERR_REFRESH_INVALID);
    ck_assert(text_equal(refresh->base.out.reason, TEXT(REASON_EXPIRED)));
    ck_assert(!refresh->base.out.reused);
    ck_assert_act(demand(other, access_of(act), -1, NULL), ERR_OK);
    const struct text next = {act->authenticated.pair.refresh_token, TOKEN_LENGTH};
    ck_assert_act(act_refresh(other, next), ERR_OK);
    ck_assert_act(act_refresh(node, next), ERR_OK); /* a repetition, as ever */
}

START_TEST(a_re_authentication_leaves_nothing_of_the_pair_before)
{
    assert_renewed(renew(rig_access(&session)));
}
END_TEST

START_TEST(a_write_whose_outcome_is_unknown_gives_one_fresh_pair)
{
    rig_plan("write", _i ? FATE_CUT_AFTER : FATE_CUT_BEFORE);
    rig_recount();
    assert_renewed(renew(rig_access(&session)));
}
END_TEST

START_TEST(after_the_grace_the_refresh_token_before_is_reuse)
{
    ck_assert_act(renew(rig_access(&session)), ERR_OK);
    rig_pass(31000);
    struct act *refresh = act_refresh(other, rig_refresh(&session));
    ck_assert_act(refresh, ERR_REFRESH_INVALID);
    ck_assert(refresh->base.out.reused);
}
END_TEST

START_TEST(a_dead_token_and_an_outage_renew_nothing)
{
    rig.fate = FATE_AWAY;
    ck_assert_act(renew(rig_access(&session)), ERR_STORE_UNAVAILABLE);
    rig.fate = FATE_ANSWER;
    ck_assert_act(act_kick(other, "alice", rig_id(&session)), ERR_OK);
    ck_assert_act(renew(rig_access(&session)), ERR_TOKEN_INVALID);
    ck_assert_act(renew(TEXT("sa_x")), ERR_TOKEN_INVALID);
}
END_TEST

/* --- fresh.* --- */

static struct act *kick_other(struct text token, const struct rig_session *target, bool all)
{
    struct act *act = act_of(node);
    act->base.permission = all ? PERMISSION_SELF_LOGOUT_ALL : PERMISSION_SELF_KICK;
    act->end.token = arena_copy(&act->arena, token);
    act->end.scope = all ? END_ALL : END_ONE;
    if (!all)
        act->end.target = rig_id(target);
    act->end.why = TEXT(REASON_KICKED);
    session_end(&act->end);
    return act;
}

/* Bit 0: logout-all, bit 1: in an outage. */
START_TEST(users_end_other_sessions_only_after_a_recent_authentication)
{
    bool all = _i & 1, away = _i & 2;
    rig_watch(node, true);
    ck_assert_act(act_policy(node, "{\"fresh\":{\"kick\":60,\"logout_all\":60}}"), ERR_OK);
    struct rig_session target = login_with(&nothing);
    ck_assert_act(demand(node, rig_access(&session), -1, NULL), ERR_OK);
    ck_assert_act(demand(node, rig_access(&target), -1, NULL), ERR_OK);
    if (away) {
        rig_watch(node, false);
        rig.fate = FATE_AWAY;
    }
    struct act *old = kick_other(rig_access(&target), &session, all);
    ck_assert_act(old, ERR_INSUFFICIENT_AUTHENTICATION);
    ck_assert_int_eq(old->base.out.demanded.max_age_s, 60);
    ck_assert_uint_eq(old->base.out.ended_count, 0);
    ck_assert_act(kick_other(rig_access(&target), &target, false), ERR_OK); /* its own */
    ck_assert_act(kick_other(rig_access(&session), &target, all), all    ? ERR_OK
                                                                  : away ? ERR_OK
                                                                         : ERR_SESSION_NOT_FOUND);
    rig.fate = FATE_ANSWER;
}
END_TEST

/* --- formats --- */

static unsigned format_of(const struct rig_node *of)
{
    return of->service->record_format;
}

/* As a node of an earlier version confirms its marks. */
static void confirm_as_earlier(void)
{
    struct text field = TEXT("names"), mark = redis_model_field(rig.redis, TEXT("sd:k"), field);
    char value[64];
    ck_assert_uint_eq(strspn(mark.data, "0123456789abcdef"), 16);
    int length = snprintf(value, sizeof(value), "%.16s 1700000000 %lld", mark.data,
                          (long long)(clock_wall_ms() / 1000));
    redis_model_set_field(rig.redis, TEXT("sd:k"), field, (struct text){value, (size_t)length});
}

static uint8_t head_of(const struct rig_session *of)
{
    uint8_t id[SESSION_ID];
    ck_assert(text_from_hex(id, SESSION_ID, rig_id(of)));
    struct text stored = redis_model_field(rig.redis, rig_user_key("alice", 'u'),
                                           (struct text){(const char *)id, SESSION_ID});
    return (uint8_t)stored.data[1];
}

START_TEST(a_later_format_is_written_while_no_earlier_node_was_seen)
{
    rig_run();
    ck_assert_uint_eq(format_of(node), 2);
    ck_assert_uint_eq(head_of(&session) & 0x80, 0); /* nothing in it needs the later one */
    struct act *act = renew(rig_access(&session));
    ck_assert_act(act, ERR_OK);
    ck_assert_uint_eq(head_of(&session) & 0x80, 0x80);
    confirm_as_earlier();
    rig_pass(61000);
    ck_assert_uint_eq(format_of(node), 1);
    ck_assert_uint_eq(format_of(other), 1);
    rig_pass(840000);
    ck_assert_uint_eq(format_of(node), 1);
    rig_pass(600000);
    ck_assert_uint_eq(format_of(node), 2);
}
END_TEST

START_TEST(while_an_earlier_node_runs_the_pair_before_counts_as_used)
{
    confirm_as_earlier();
    rig_pass(61000);
    ck_assert_uint_eq(format_of(node), 1);
    struct act *act = renew(rig_access(&session));
    ck_assert_act(act, ERR_OK);
    ck_assert_uint_eq(head_of(&session) & 0x80, 0);
    ck_assert_act(demand(other, access_of(act), 100, "platinum"), ERR_OK);
    struct act *refresh = act_refresh(other, rig_refresh(&session));
    ck_assert_act(refresh, ERR_REFRESH_INVALID);
    ck_assert(refresh->base.out.reused);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("authenticated");
    TCase *tcase = rig_case(suite, "strength", set_up);
    tcase_add_test(tcase, a_demand_is_judged_alike_from_redis_from_memory_and_in_an_outage);
    tcase_add_test(tcase, a_refused_call_is_no_use);
    tcase_add_test(tcase, a_re_authentication_leaves_nothing_of_the_pair_before);
    tcase_add_loop_test(tcase, a_write_whose_outcome_is_unknown_gives_one_fresh_pair, 0, 2);
    tcase_add_test(tcase, after_the_grace_the_refresh_token_before_is_reuse);
    tcase_add_test(tcase, a_dead_token_and_an_outage_renew_nothing);
    tcase_add_loop_test(tcase, users_end_other_sessions_only_after_a_recent_authentication, 0, 4);
    tcase_add_test(tcase, a_later_format_is_written_while_no_earlier_node_was_seen);
    tcase_add_test(tcase, while_an_earlier_node_runs_the_pair_before_counts_as_used);
    return support_run(suite);
}
