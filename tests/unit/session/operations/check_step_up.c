/* Step-up of an active session that is used from elsewhere: the challenge, its answer, and the
 * outcome when a step fails. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "session/operations/step_up.h"
#include "support_run.h"
#include "support_session.h"

#define HOME "192.0.2.1"
#define AWAY "198.51.100.1"

static struct rig_node *node, *other;
static struct rig_session session;

static void set_up(void)
{
    rig_set_up();
    node = rig_start(0);
    other = rig_start(1);
    ck_assert_act(
        act_policy(other, "{\"bind\":{\"ip\":\"verify\"},\"verify\":{\"method\":\"otp\"}}"),
        ERR_OK);
    session = rig_login_from(other, "alice", HOME, NULL);
    clock_fake_pass(5);
    rig_recount();
}

static struct act *validate_away(void)
{
    return act_validate_from(node, &session, AWAY, NULL);
}

/* Used from elsewhere: what there is to answer. */
static const struct offered_challenge *be_asked(void)
{
    struct act *act = validate_away();
    ck_assert_act(act, ERR_STEP_UP_REQUIRED);
    ck_assert_ptr_nonnull(act->base.out.challenge);
    return act->base.out.challenge;
}

static struct act *answer_with(const struct offered_challenge *challenge, struct text code,
                               bool verified)
{
    struct act *act = act_of(node);
    act->verify.challenge_id = (struct text){challenge->id, TOKEN_LENGTH};
    act->verify.code = code;
    act->verify.verified = verified;
    session_verify(&act->verify);
    return act;
}

static struct text code_of(const struct offered_challenge *challenge)
{
    return (struct text){challenge->code, CHALLENGE_CODE};
}

static struct act *answer(const struct offered_challenge *challenge)
{
    return answer_with(challenge, code_of(challenge), false);
}

static enum err validate_pair(const struct issued_pair *pair, const char *ip)
{
    struct rig_session next;
    memcpy(next.access, pair->access_token, TOKEN_LENGTH);
    return act_finish(act_validate_from(other, &next, ip, NULL));
}

static void assert_accepted(struct act *act)
{
    ck_assert_act(act, ERR_OK);
    ck_assert(act->verify.of_session);
    ck_assert_text_eq(act->base.facts.user_id, "alice");
    ck_assert_int_eq(validate_pair(&act->login.pair, AWAY), ERR_OK);
    ck_assert_int_eq(validate_pair(&act->login.pair, HOME), ERR_OK);
    ck_assert_int_eq(validate_pair(&act->login.pair, "203.0.113.1"), ERR_STEP_UP_REQUIRED);
}

START_TEST(a_verified_place_is_the_sessions_from_then_on)
{
    assert_accepted(answer(be_asked()));
}
END_TEST

START_TEST(who_asks_again_is_asked_the_same)
{
    const struct offered_challenge *first = be_asked(), *second = be_asked();
    ck_assert_int_eq(memcmp(first->id, second->id, TOKEN_LENGTH), 0);
    ck_assert_int_eq(memcmp(first->code, second->code, CHALLENGE_CODE), 0);
    ck_assert_uint_eq(rig_served("offer"), 1);
    assert_accepted(answer(second));
}
END_TEST

START_TEST(a_wrong_code_costs_a_try)
{
    const struct offered_challenge *challenge = be_asked();
    struct act *act = answer_with(challenge, TEXT("00000x"), false);
    ck_assert_act(act, ERR_VERIFICATION_FAILED);
    ck_assert_int_eq(act->verify.attempts_left, challenge->attempts - 1);
    ck_assert_act(answer_with(challenge, (struct text){0}, true), ERR_BODY_INVALID);
    assert_accepted(answer(challenge));
    ck_assert_act(answer(challenge), ERR_CHALLENGE_OVER);
}
END_TEST

START_TEST(when_the_tries_are_used_up_the_right_code_is_none)
{
    const struct offered_challenge *challenge = be_asked();
    for (int64_t left = challenge->attempts; left > 0; left--)
        ck_assert_act(answer_with(challenge, TEXT("00000x"), false), ERR_VERIFICATION_FAILED);
    ck_assert_act(answer(challenge), ERR_CHALLENGE_OVER);
}
END_TEST

START_TEST(what_is_no_challenge_is_over)
{
    struct offered_challenge none = {.code = {'1', '2', '3', '4', '5', '6'}};
    ck_assert_act(answer(&none), ERR_CHALLENGE_OVER);
    const struct offered_challenge *challenge = be_asked();
    clock_fake_pass(3600000);
    ck_assert_act(answer(challenge), ERR_CHALLENGE_OVER);
}
END_TEST

static void end_session(void)
{
    ck_assert_act(act_kick(other, "alice", rig_id(&session)), ERR_OK);
}

static void end_all(void)
{
    ck_assert_act(act_logout_all(other, "alice"), ERR_OK);
}

static void end_tenant(void)
{
    ck_assert_act(act_end_tenant(other), ERR_OK);
}

START_TEST(a_session_that_ended_meanwhile_stays_dead)
{
    static void (*const ends[])(void) = {end_session, end_all, end_tenant};
    const struct offered_challenge *challenge = be_asked();
    clock_fake_pass(5);
    ends[_i]();
    ck_assert_act(answer(challenge), ERR_CHALLENGE_OVER);
}
END_TEST

/* The session was kept: somebody else's challenge was not. */
START_TEST(a_challenge_from_before_an_end_of_all_is_over_though_the_session_lives)
{
    clock_fake_host(_i ? 400 : 0);
    const struct offered_challenge *challenge = be_asked();
    clock_fake_pass(5);
    clock_fake_host(_i ? -400 : 0);
    struct act *act = act_of(other);
    act->end.tenant = RIG_TENANT;
    act->end.user_id = TEXT("alice");
    act->end.scope = END_ALL;
    act->end.keep = rig_id(&session);
    act->end.why = TEXT(REASON_REVOKED);
    session_end(&act->end);
    ck_assert_act(act, ERR_OK);
    ck_assert_act(answer(challenge), ERR_CHALLENGE_OVER);
    ck_assert_act(act_validate_from(other, &session, HOME, NULL), ERR_OK);
}
END_TEST

START_TEST(a_session_that_ends_while_it_is_accepted_stays_dead)
{
    const struct offered_challenge *challenge = be_asked();
    rig_plan_after("write", FATE_ANSWER, end_session);
    ck_assert_act(answer(challenge), ERR_CHALLENGE_OVER);
}
END_TEST

START_TEST(an_acceptance_whose_write_is_unknown_gives_one_pair)
{
    const struct offered_challenge *challenge = be_asked();
    rig_plan("write", _i ? FATE_CUT_AFTER : FATE_CUT_BEFORE);
    rig_recount();
    struct act *act = answer(challenge);
    assert_accepted(act);
    ck_assert_uint_eq(rig_served("write"), _i ? 1 : 2);
}
END_TEST

static void refresh_meanwhile(void)
{
    struct act *act = act_of(other);
    act->refresh.refresh_token = rig_refresh(&session);
    act->base.claims = (struct client_claims){.ip = TEXT(HOME)};
    session_refresh(&act->refresh);
    ck_assert_act(act, ERR_OK);
}

/* A write of somebody else's that came instead of the unknown one is not the own. */
START_TEST(a_refresh_in_the_place_of_an_unknown_acceptance_is_not_taken_for_it)
{
    const struct offered_challenge *challenge = be_asked();
    rig_plan_after("write", FATE_CUT_BEFORE, refresh_meanwhile);
    assert_accepted(answer(challenge));
}
END_TEST

static const struct {
    const char *step;
    enum fate fate;
    enum err err;
} offer_rows[] = {
    {"HMGET", FATE_AWAY, ERR_STORE_UNAVAILABLE},     {"offer", FATE_AWAY, ERR_STORE_UNAVAILABLE},
    {"offer", FATE_LATE_BEFORE, ERR_STORE_TIMEOUT},  {"offer", FATE_LATE_AFTER, ERR_STORE_TIMEOUT},
    {"offer", FATE_CUT_AFTER, ERR_STEP_UP_REQUIRED},
};

START_TEST(an_offer_that_fails_is_told_and_the_next_one_is_whole)
{
    rig_plan(offer_rows[_i].step, offer_rows[_i].fate);
    ck_assert_act(validate_away(), offer_rows[_i].err);
    assert_accepted(answer(be_asked()));
}
END_TEST

static const struct {
    const char *step;
    enum fate fate;
    enum err err;
} answer_rows[] = {
    {"HMGET", FATE_AWAY, ERR_STORE_UNAVAILABLE},   {"HMGET", FATE_STRANGE, ERR_CHALLENGE_OVER},
    {"take", FATE_LATE_BEFORE, ERR_STORE_TIMEOUT}, {"take", FATE_AWAY, ERR_STORE_UNAVAILABLE},
    {"HDEL", FATE_LATE_BEFORE, ERR_STORE_TIMEOUT}, {"HDEL", FATE_AWAY, ERR_STORE_UNAVAILABLE},
};

START_TEST(an_answer_that_fails_before_the_challenge_is_used_up_can_be_given_again)
{
    const struct offered_challenge *challenge = be_asked();
    rig_plan(answer_rows[_i].step, answer_rows[_i].fate);
    ck_assert_act(answer(challenge), answer_rows[_i].err);
    assert_accepted(answer(challenge));
}
END_TEST

/* Every place is a challenge of its own; their number is bounded. */
START_TEST(whoever_is_everywhere_at_once_is_not_asked_everywhere)
{
    char ip[32];
    enum err err = ERR_STEP_UP_REQUIRED;
    for (unsigned i = 0; i < 200 && err == ERR_STEP_UP_REQUIRED; i++) {
        snprintf(ip, sizeof(ip), "198.18.%u.1", i);
        struct act *act = act_validate_from(node, &session, ip, NULL);
        err = act_finish(act);
        ck_assert_int_eq(act->base.out.retry_after_s > 0, err == ERR_TOO_MANY_CHALLENGES);
    }
    ck_assert_int_eq(err, ERR_TOO_MANY_CHALLENGES);
}
END_TEST

/* This node knows, and Redis does not yet. */
START_TEST(a_session_that_was_ended_in_an_outage_is_not_accepted)
{
    const struct offered_challenge *challenge = be_asked();
    rig_plan("HGETALL", FATE_AWAY);
    ck_assert_act(act_kick(node, "alice", rig_id(&session)), ERR_OK);
    ck_assert_act(answer(challenge), ERR_CHALLENGE_OVER);
}
END_TEST

START_TEST(a_session_that_became_idle_meanwhile_is_not_accepted)
{
    ck_assert_act(act_policy(other, "{\"bind\":{\"ip\":\"verify\"},\"idle_timeout\":60,"
                                    "\"verify\":{\"method\":\"otp\"}}"),
                  ERR_OK);
    const struct offered_challenge *challenge = be_asked();
    clock_fake_pass(200 * 1000);
    struct act *act = answer(challenge);
    ck_assert_act(act, ERR_CHALLENGE_OVER);
    ck_assert_text_eq(act->base.out.reason, REASON_IDLE);
}
END_TEST

START_TEST(where_nothing_is_known_of_the_tenant_nothing_is_accepted)
{
    const struct offered_challenge *challenge = be_asked();
    node = rig_start(2);
    rig_plan("GET", FATE_AWAY);
    ck_assert_act(answer(challenge), ERR_STORE_UNAVAILABLE);
}
END_TEST

/* Somebody who may write to Redis and has its records unsealed writes what he likes. */
START_TEST(a_body_that_ends_too_early_says_nothing)
{
    static const struct text bodies[] = {
        {"", 0},
        {"1234567", 7},         /* no session id */
        {"12345678", 8},        /* no tenant */
        {"12345678\4acm", 12},  /* half of it */
        {"12345678\4acme", 13}, /* no user */
        {"12345678\4acme\5alic", 18},
    };
    struct act *act = act_of(node);
    step_up_note(&act->base, bodies[_i]);
    ck_assert_ptr_null(act->base.facts.user_id.data);
    static const struct authentication stated;
    struct user_tag owner;
    struct issued_pair pair;
    token_tag_user(rig.keyring, RIG_TENANT, TEXT("alice"), &owner);
    step_up_accept(&act->base, &owner, RIG_NOW, bodies[_i], &stated, &pair);
    ck_assert_act(act, ERR_CHALLENGE_OVER);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("step_up");
    TCase *tcase = rig_case(suite, "step_up", set_up);
    tcase_add_test(tcase, a_verified_place_is_the_sessions_from_then_on);
    tcase_add_test(tcase, who_asks_again_is_asked_the_same);
    tcase_add_test(tcase, a_wrong_code_costs_a_try);
    tcase_add_test(tcase, when_the_tries_are_used_up_the_right_code_is_none);
    tcase_add_test(tcase, what_is_no_challenge_is_over);
    tcase_add_loop_test(tcase, a_session_that_ended_meanwhile_stays_dead, 0, 3);
    tcase_add_loop_test(
        tcase, a_challenge_from_before_an_end_of_all_is_over_though_the_session_lives, 0, 2);
    tcase_add_test(tcase, a_session_that_ends_while_it_is_accepted_stays_dead);
    tcase_add_loop_test(tcase, an_acceptance_whose_write_is_unknown_gives_one_pair, 0, 2);
    tcase_add_test(tcase, a_refresh_in_the_place_of_an_unknown_acceptance_is_not_taken_for_it);
    tcase_add_loop_test(tcase, an_offer_that_fails_is_told_and_the_next_one_is_whole, 0,
                        sizeof(offer_rows) / sizeof(offer_rows[0]));
    tcase_add_loop_test(tcase,
                        an_answer_that_fails_before_the_challenge_is_used_up_can_be_given_again, 0,
                        sizeof(answer_rows) / sizeof(answer_rows[0]));
    tcase_add_test(tcase, whoever_is_everywhere_at_once_is_not_asked_everywhere);
    tcase_add_test(tcase, a_session_that_was_ended_in_an_outage_is_not_accepted);
    tcase_add_test(tcase, a_session_that_became_idle_meanwhile_is_not_accepted);
    tcase_add_test(tcase, where_nothing_is_known_of_the_tenant_nothing_is_accepted);
    tcase_add_loop_test(tcase, a_body_that_ends_too_early_says_nothing, 0, 6);
    return support_run(suite);
}
