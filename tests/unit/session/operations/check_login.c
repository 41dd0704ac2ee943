/* Logins: which sessions they replace, what they count against, and what they wait for. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "support_run.h"
#include "support_session.h"

static struct rig_node *node, *other;

static void set_up(void)
{
    rig_set_up();
    node = rig_start(0);
    other = rig_start(1);
}

static void set_policy(const char *json)
{
    ck_assert_act(act_policy(other, json), ERR_OK);
}

static struct act *login(const char *user, const char *device, const char *type)
{
    clock_fake_pass(5);
    struct act *act = act_of(node);
    act->login.tenant = RIG_TENANT;
    act->login.user_id = text_of(user);
    act->login.device = (struct device){.id = text_of(device), .type = text_of(type)};
    session_login(&act->login);
    return act;
}

static enum err validate(const struct act *act)
{
    struct text token = {act->login.pair.access_token, TOKEN_LENGTH};
    return act_finish(act_validate(other, token));
}

static const struct {
    const char *policy;
    unsigned living; /* of the four before, the newest */
    enum err err;
} limit_rows[] = {
    {"{\"max_devices\":4}", 3, ERR_OK},
    {"{\"max_devices\":2}", 1, ERR_OK},
    {"{\"max_devices\":4,\"overflow\":\"evict_all\"}", 0, ERR_OK},
    {"{\"max_devices\":4,\"overflow\":\"evict_idlest\"}", 3, ERR_OK},
    {"{\"max_devices\":4,\"overflow\":\"reject\"}", 4, ERR_DEVICE_LIMIT},
    {"{\"exclusive\":\"user\"}", 0, ERR_OK},
    {"{\"exclusive\":\"device_type\"}", 0, ERR_OK},
    {"{\"device_types\":{\"tv\":{\"max_devices\":1}}}", 4, ERR_OK},
    {"{\"device_types\":{\"phone\":{\"max_devices\":2}}}", 1, ERR_OK},
    {"{\"device_types\":{\"phone\":{\"max_devices\":2}},\"overflow\":\"reject\"}", 4,
     ERR_DEVICE_LIMIT},
};

START_TEST(a_login_gives_up_whom_the_policy_names)
{
    struct act *acts[4];
    for (size_t i = 0; i < 4; i++) {
        acts[i] = login("alice", (const char *[]){"a", "b", "c", "d"}[i], "phone");
        ck_assert_act(acts[i], ERR_OK);
    }
    set_policy(limit_rows[_i].policy);
    struct act *act = login("alice", "e", "phone");
    ck_assert_act(act, limit_rows[_i].err);
    unsigned living = limit_rows[_i].living;
    for (unsigned i = 0; i < 4; i++)
        ck_assert_int_eq(validate(acts[i]), i >= 4 - living ? ERR_OK : ERR_TOKEN_INVALID);
    if (act->base.out.err == ERR_OK)
        ck_assert_uint_eq(act->login.replaced_count, 4 - living);
    else
        ck_assert_uint_eq(act->login.replaced_count, 4); /* who holds the places */
}
END_TEST

START_TEST(the_same_device_takes_its_own_place)
{
    struct act *first = login("alice", "a", "phone"), *second, *third;
    ck_assert_act(first, ERR_OK);
    second = login("alice", "a", "tv");
    ck_assert_act(second, ERR_OK);
    ck_assert_uint_eq(second->login.replaced_count, 1);
    ck_assert_text_eq(second->login.replaced[0].reason, REASON_REPLACED);
    third = login("alice", NULL, "tv");
    ck_assert_act(third, ERR_OK);
    ck_assert_uint_eq(third->login.replaced_count, 0);
    ck_assert_int_eq(validate(first), ERR_TOKEN_INVALID);
    ck_assert_int_eq(validate(second), ERR_OK);
}
END_TEST

static const char *const type_rows[] = {
    "{\"exclusive\":\"device_type\"}",
    "{\"device_types\":{\"phone\":{\"max_devices\":1}}}",
};

START_TEST(a_rule_of_a_type_leaves_others_alone)
{
    set_policy(type_rows[_i]);
    struct act *tv = login("alice", "a", "tv"), *phone;
    ck_assert_act(tv, ERR_OK);
    phone = login("alice", "b", "phone");
    ck_assert_act(phone, ERR_OK);
    ck_assert_act(login("alice", "c", "phone"), ERR_OK);
    ck_assert_int_eq(validate(tv), ERR_OK);
    ck_assert_int_eq(validate(phone), ERR_TOKEN_INVALID);
}
END_TEST

/* Replaced sessions must end everywhere, whatever becomes of the write. */
START_TEST(an_unknown_login_ends_those_in_its_way_once)
{
    set_policy("{\"exclusive\":\"user\"}");
    struct act *first = login("alice", "a", "phone"), *second;
    ck_assert_act(first, ERR_OK);
    rig_recount();
    rig_plan("write", _i ? FATE_CUT_AFTER : FATE_CUT_BEFORE);
    second = login("alice", "b", "phone");
    ck_assert_act(second, ERR_OK);
    ck_assert_uint_eq(second->login.replaced_count, 1);
    ck_assert_uint_eq(rig_served("epoch"), 1);
    ck_assert_int_eq(validate(first), ERR_TOKEN_INVALID);
    ck_assert_int_eq(validate(second), ERR_OK);
}
END_TEST

START_TEST(what_an_unknown_login_ended_unheard_is_kept_in_the_journal)
{
    set_policy("{\"exclusive\":\"user\"}");
    ck_assert_act(login("alice", "a", "phone"), ERR_OK);
    rig_plan("write", _i ? FATE_CUT_AFTER : FATE_CUT_BEFORE);
    rig_plan("epoch", FATE_AWAY);
    ck_assert_act(login("alice", "b", "phone"), ERR_OK);
    ck_assert_uint_eq(rig_unconfirmed(node), 1);
}
END_TEST

static struct act *theirs;
static void login_elsewhere(void)
{
    theirs = act_login(other, "alice", "elsewhere");
    ck_assert_act(theirs, ERR_OK);
}

START_TEST(of_two_exclusive_logins_the_later_write_lives)
{
    set_policy("{\"exclusive\":\"user\"}");
    rig_plan_after("write", FATE_ANSWER, login_elsewhere);
    struct act *act = login("alice", "a", "phone");
    ck_assert_act(act, ERR_OK);
    ck_assert_int_eq(validate(act), ERR_OK);
    ck_assert_int_eq(validate(theirs), ERR_TOKEN_INVALID);
}
END_TEST

/* --- quotas --- */

static const struct {
    const char *policy;
    enum err first, same, another;
} quota_rows[] = {
    {"{\"quota\":{\"users\":1}}", ERR_OK, ERR_OK, ERR_TENANT_QUOTA},
    {"{\"quota\":{\"sessions\":1}}", ERR_OK, ERR_TENANT_QUOTA, ERR_TENANT_QUOTA},
};

START_TEST(a_tenant_has_as_many_as_its_quota_allows)
{
    set_policy(quota_rows[_i].policy);
    ck_assert_act(login("alice", "a", "phone"), quota_rows[_i].first);
    clock_fake_pass(60000); /* what was counted is counted again */
    ck_assert_act(login("alice", "b", "phone"), quota_rows[_i].same);
    ck_assert_act(login("bob", "a", "phone"), quota_rows[_i].another);
    ck_assert_act(login("alice", "a", "phone"), ERR_OK); /* in its own place */
}
END_TEST

/* Users let in since the last read are in no count yet. */
START_TEST(who_was_let_in_counts_while_the_tenant_is_counted_anew)
{
    set_policy("{\"quota\":{\"users\":1}}");
    ck_assert_act(login("alice", "a", "phone"), ERR_OK);
    clock_fake_pass(1100);
    rig_plan("ZCOUNT", FATE_HOLD_REPLY);
    struct act *asks = login("bob", "a", "phone");
    ck_assert_act(login("carol", "a", "phone"), ERR_TENANT_QUOTA);
    rig_release();
    ck_assert_act(asks, ERR_TENANT_QUOTA);
}
END_TEST

START_TEST(who_was_let_in_counts_when_the_tenant_cannot_be_counted_anew)
{
    set_policy("{\"quota\":{\"users\":2}}");
    ck_assert_act(login("alice", "a", "phone"), ERR_OK);
    clock_fake_pass(1100);
    rig_plan("ZCOUNT", FATE_AWAY);
    ck_assert_act(login("bob", "a", "phone"), ERR_OK);
    ck_assert_act(login("carol", "a", "phone"), ERR_TENANT_QUOTA);
    clock_fake_pass(1100);
    ck_assert_act(login("dave", "a", "phone"), ERR_TENANT_QUOTA);
}
END_TEST

START_TEST(a_count_that_cannot_be_had_keeps_nobody_out)
{
    set_policy("{\"quota\":{\"users\":1}}");
    rig_plan("ZCOUNT", FATE_AWAY);
    ck_assert_act(login("alice", "a", "phone"), ERR_OK);
}
END_TEST

/* --- additional verification --- */

static struct act *answer(struct act *asked, const char *code, bool verified)
{
    struct act *act = act_of(node);
    act->verify.challenge_id = (struct text){asked->base.out.challenge->id, TOKEN_LENGTH};
    act->verify.code = text_of(code);
    act->verify.verified = verified;
    session_verify(&act->verify);
    return act;
}

START_TEST(a_login_from_a_new_device_waits_for_its_verification)
{
    set_policy(_i ? "{\"verify\":{\"on\":[\"new_device\"]},\"quota\":{\"sessions\":9}}"
                  : "{\"verify\":{\"on\":[\"new_device\"]}}");
    struct act *asked = login("alice", "a", "phone");
    ck_assert_act(asked, ERR_VERIFICATION_REQUIRED);
    ck_assert(!redis_model_has(rig.redis, rig_user_key("alice", 'u')));
    ck_assert_act(answer(asked, "123456", false), ERR_BODY_INVALID);
    struct act *act = answer(asked, NULL, true);
    ck_assert_act(act, ERR_OK);
    ck_assert(!act->verify.of_session);
    struct text token = {act->verify.login.pair.access_token, TOKEN_LENGTH};
    ck_assert_act(act_validate(other, token), ERR_OK);
    ck_assert_act(login("alice", "a", "phone"), ERR_OK); /* it is known now */
    ck_assert_act(answer(asked, NULL, true), ERR_CHALLENGE_OVER);
}
END_TEST

static const struct {
    const char *step;
    enum fate fate;
    enum err err;
} challenge_rows[] = {
    {"offer", FATE_AWAY, ERR_STORE_UNAVAILABLE},
    {"offer", FATE_LATE_BEFORE, ERR_STORE_TIMEOUT},
    {"offer", FATE_CUT_AFTER, ERR_VERIFICATION_REQUIRED},
    {"offer", FATE_STRANGE, ERR_VERIFICATION_REQUIRED},
};

START_TEST(a_challenge_that_cannot_be_offered_is_told)
{
    set_policy("{\"verify\":{\"on\":[\"new_device\"]}}");
    rig_plan(challenge_rows[_i].step, challenge_rows[_i].fate);
    ck_assert_act(login("alice", "a", "phone"), challenge_rows[_i].err);
}
END_TEST

START_TEST(a_challenge_from_before_a_cutoff_is_over)
{
    set_policy("{\"verify\":{\"on\":[\"new_device\"]}}");
    struct act *asked = login("alice", "a", "phone");
    ck_assert_act(asked, ERR_VERIFICATION_REQUIRED);
    clock_fake_pass(5);
    ck_assert_act(_i ? act_logout_all(other, "alice") : act_end_tenant(other), ERR_OK);
    ck_assert_act(answer(asked, NULL, true), ERR_CHALLENGE_OVER);
}
END_TEST

/* Clocks of nodes are apart, by less than what is allowed. */
START_TEST(a_cutoff_ends_a_challenge_of_a_clock_that_is_ahead_of_its_own)
{
    set_policy("{\"verify\":{\"on\":[\"new_device\"]}}");
    clock_fake_host(400);
    struct act *asked = login("alice", "a", "phone");
    ck_assert_act(asked, ERR_VERIFICATION_REQUIRED);
    clock_fake_host(-400);
    ck_assert_act(_i ? act_logout_all(other, "alice") : act_end_tenant(other), ERR_OK);
    ck_assert_act(answer(asked, NULL, true), ERR_CHALLENGE_OVER);
}
END_TEST

START_TEST(a_challenge_is_good_after_a_cutoff_of_a_clock_that_is_ahead_of_its_own)
{
    set_policy("{\"verify\":{\"on\":[\"new_device\"]}}");
    clock_fake_host(400);
    ck_assert_act(_i ? act_logout_all(other, "alice") : act_end_tenant(other), ERR_OK);
    clock_fake_host(-400);
    struct act *asked = login("alice", "a", "phone");
    ck_assert_act(asked, ERR_VERIFICATION_REQUIRED);
    ck_assert_act(answer(asked, NULL, true), ERR_OK);
}
END_TEST

/* --- idle and expired --- */

START_TEST(the_next_login_tidies_up)
{
    struct act *first = login("alice", "a", "phone");
    ck_assert_act(first, ERR_OK);
    clock_fake_pass(4000000);
    struct act *second = login("alice", "b", "phone");
    ck_assert_act(second, ERR_OK);
    ck_assert_uint_eq(second->login.replaced_count, 0);
    struct text token = {first->login.pair.refresh_token, TOKEN_LENGTH};
    struct act *act = act_refresh(other, token);
    ck_assert_act(act, ERR_REFRESH_INVALID);
    ck_assert_text_eq(act->base.out.reason, REASON_IDLE);
    clock_fake_pass(INT64_C(2592000000));
    ck_assert_act(login("alice", "c", "phone"), ERR_OK);
    ck_assert_int_eq(validate(second), ERR_TOKEN_INVALID);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("login");
    TCase *tcase = rig_case(suite, "login", set_up);
    tcase_add_loop_test(tcase, a_login_gives_up_whom_the_policy_names, 0,
                        sizeof(limit_rows) / sizeof(limit_rows[0]));
    tcase_add_test(tcase, the_same_device_takes_its_own_place);
    tcase_add_loop_test(tcase, a_rule_of_a_type_leaves_others_alone, 0, 2);
    tcase_add_loop_test(tcase, an_unknown_login_ends_those_in_its_way_once, 0, 2);
    tcase_add_loop_test(tcase, what_an_unknown_login_ended_unheard_is_kept_in_the_journal, 0, 2);
    tcase_add_test(tcase, of_two_exclusive_logins_the_later_write_lives);
    tcase_add_loop_test(tcase, a_tenant_has_as_many_as_its_quota_allows, 0, 2);
    tcase_add_test(tcase, who_was_let_in_counts_while_the_tenant_is_counted_anew);
    tcase_add_test(tcase, who_was_let_in_counts_when_the_tenant_cannot_be_counted_anew);
    tcase_add_test(tcase, a_count_that_cannot_be_had_keeps_nobody_out);
    tcase_add_loop_test(tcase, a_login_from_a_new_device_waits_for_its_verification, 0, 2);
    tcase_add_loop_test(tcase, a_challenge_that_cannot_be_offered_is_told, 0,
                        sizeof(challenge_rows) / sizeof(challenge_rows[0]));
    tcase_add_loop_test(tcase, a_challenge_from_before_a_cutoff_is_over, 0, 2);
    tcase_add_loop_test(tcase, a_cutoff_ends_a_challenge_of_a_clock_that_is_ahead_of_its_own, 0, 2);
    tcase_add_loop_test(
        tcase, a_challenge_is_good_after_a_cutoff_of_a_clock_that_is_ahead_of_its_own, 0, 2);
    tcase_add_test(tcase, the_next_login_tidies_up);
    return support_run(suite);
}
