/* A node's knowledge of a tenant: read, joined, waited for, lost and restored; and its changes. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "metrics.h"
#include "session/engine/tenant_record.h"
#include "session/model/keys.h"
#include "support_run.h"
#include "support_session.h"

static struct rig_node *node, *other;
static struct rig_session session;

/* The other node logs in; this one knows neither tenant nor user. */
static void set_up(void)
{
    rig_set_up();
    node = rig_start(0);
    other = rig_start(1);
    session = rig_login(other, "alice");
    clock_fake_pass(5);
    rig_recount();
}

static struct text key_of_tenant(void)
{
    static char key[KEYS_TENANT_LENGTH];
    uint8_t tag[TENANT_TAG];
    token_tag_tenant(rig.keyring, RIG_TENANT, tag);
    keys_tenant(tag, key);
    return (struct text){key, KEYS_TENANT_LENGTH};
}

static struct act *validate(void)
{
    return act_validate(node, rig_access(&session));
}

static void warm(void)
{
    ck_assert_act(validate(), ERR_OK);
}

static struct act *call(struct rig_node *where, enum tenant_action action, const char *given)
{
    struct act *act = act_of(where);
    act->tenant.tenant = RIG_TENANT;
    act->tenant.action = action;
    act->tenant.given = text_of(given);
    act->tenant.why = TEXT(REASON_REVOKED);
    return act;
}

static struct act *change(struct rig_node *where, enum tenant_action action, const char *given)
{
    struct act *act = call(where, action, given);
    session_tenant(&act->tenant);
    return act;
}

/* The policy in force, as the node shows it. */
static bool shows(struct rig_node *where, const char *member)
{
    struct act *act = change(where, TENANT_SHOW, NULL);
    ck_assert_act(act, ERR_OK);
    struct text policy = act->tenant.policy;
    return memmem(policy.data, policy.length, member, strlen(member)) != NULL;
}

/* --- what is known --- */

START_TEST(a_tenant_is_read_once_while_its_slot_is_tracked)
{
    rig_watch(node, true);
    warm();
    warm();
    ck_assert_uint_eq(rig_served("GET"), 1);
    rig_watch(node, false);
    warm();
    warm();
    ck_assert_uint_eq(rig_served("GET"), 3);
}
END_TEST

START_TEST(who_asks_for_the_same_tenant_meanwhile_joins_the_read)
{
    struct act *acts[3];
    rig_plan("GET", FATE_HOLD);
    for (size_t i = 0; i < 3; i++)
        acts[i] = validate();
    rig_run();
    rig_release();
    for (size_t i = 0; i < 3; i++)
        ck_assert_act(acts[i], ERR_OK);
    ck_assert_uint_eq(rig_served("GET"), 2); /* the held one is served twice */
}
END_TEST

START_TEST(nobody_joins_a_read_from_before_a_change_that_was_heard_of)
{
    rig_watch(node, true);
    rig_run();
    rig_plan("GET", FATE_HOLD_REPLY);
    struct act *first = validate();
    rig_run();
    ck_assert_act(act_end_tenant(other), ERR_OK);
    struct act *second = validate();
    ck_assert_act(second, ERR_TOKEN_INVALID);
    ck_assert_text_eq(second->base.out.reason, REASON_REVOKED);
    ck_assert_text_eq(second->base.out.ended_actor, "support");
    rig_release();
    ck_assert_act(first, ERR_OK); /* it was, when it was asked for */
    ck_assert_act(validate(), ERR_TOKEN_INVALID);
}
END_TEST

/* A quarter of the time that the operation has. */
START_TEST(whoever_knows_the_tenant_waits_for_it_for_a_while_only)
{
    warm();
    clock_fake_pass(5);
    rig_plan("GET", FATE_HOLD);
    struct act *act = validate();
    rig_pass(124);
    ck_assert(!act_is_done(act));
    rig_pass(2);
    ck_assert(act_is_done(act));
    ck_assert_act(act, ERR_OK);
    ck_assert(act->validate.stale);
    rig_recount();
    warm(); /* at once, though another read is in flight */
    ck_assert_uint_eq(rig_served("GET"), 0);
    rig_release();
    rig_run();
    warm();
    ck_assert_uint_eq(rig_served("GET"), 2);
}
END_TEST

START_TEST(those_who_came_later_are_patient_for_as_long)
{
    warm();
    rig_plan("GET", FATE_HOLD);
    struct act *first = validate();
    rig_pass(60);
    struct act *second = validate();
    rig_pass(66);
    ck_assert(act_is_done(first));
    rig_pass(60);
    ck_assert(act_is_done(second));
    rig_release();
    ck_assert_act(first, ERR_OK);
    ck_assert_act(second, ERR_OK);
}
END_TEST

START_TEST(a_change_that_is_heard_of_ends_the_silence)
{
    warm();
    rig_plan("GET", FATE_LATE_BEFORE);
    warm();
    rig_watch(node, true);
    ck_assert_act(act_end_tenant(other), ERR_OK);
    ck_assert_act(validate(), ERR_TOKEN_INVALID);
}
END_TEST

/* Lists with the tenant as it is known now: there is no second look at the tenant. */
static struct act *list_own(void)
{
    struct act *act = act_of(node);
    act->list.token = rig_access(&session);
    act->base.permission = PERMISSION_SELF_DEVICES;
    session_list(&act->list);
    return act;
}

static void forbid_lists(void)
{
    ck_assert_act(act_policy(other, "{\"self_service\":{\"devices\":false}}"), ERR_OK);
}

START_TEST(in_a_silence_whoever_has_heard_of_a_change_waits_for_it)
{
    warm();
    rig_plan("GET", FATE_LATE_BEFORE);
    warm();
    rig_watch(node, true);
    forbid_lists();
    ck_assert_act(list_own(), ERR_FORBIDDEN);
}
END_TEST

START_TEST(a_read_that_is_answered_ends_the_silence)
{
    warm();
    rig_plan("GET", FATE_LATE_BEFORE);
    warm();
    ck_assert_act(list_own(), ERR_OK); /* goes on at once, and has the tenant read */
    forbid_lists();
    ck_assert_act(list_own(), ERR_FORBIDDEN);
}
END_TEST

START_TEST(whoever_does_not_know_the_tenant_waits_until_the_deadline)
{
    rig_plan("GET", FATE_HOLD);
    struct act *act = validate();
    rig_pass(499);
    ck_assert(!act_is_done(act));
    rig_pass(1);
    ck_assert_act(act, ERR_STORE_TIMEOUT);
}
END_TEST

START_TEST(what_is_known_holds_in_an_outage_for_the_grace)
{
    ck_assert_act(act_policy(other, "{\"outage_grace\":60}"), ERR_OK);
    warm();
    rig_plan("GET", FATE_AWAY);
    ck_assert_act(validate(), ERR_OK);
    clock_fake_pass(61000);
    rig_plan("GET", FATE_AWAY);
    ck_assert_act(validate(), ERR_STORE_UNAVAILABLE);
    warm();
}
END_TEST

START_TEST(a_cutoff_is_known_in_an_outage_too)
{
    warm();
    ck_assert_act(act_end_tenant(other), ERR_OK);
    ck_assert_act(validate(), ERR_TOKEN_INVALID);
    rig.fate = FATE_AWAY;
    struct act *act = validate();
    ck_assert_act(act, ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.out.reason, REASON_REVOKED);
}
END_TEST

START_TEST(sessions_behind_a_cutoff_live)
{
    ck_assert_act(act_end_tenant(other), ERR_OK);
    struct rig_session next = rig_login(other, "alice"); /* at once, before the cutoff is past */
    ck_assert_int_eq(rig_validate(node, &next), ERR_OK);
    ck_assert_act(act_refresh(node, rig_refresh(&next)), ERR_OK);
    ck_assert_act(validate(), ERR_TOKEN_INVALID);
}
END_TEST

/* The clock of the node that wrote the first cutoff is ahead. */
START_TEST(the_next_end_ends_sessions_behind_a_cutoff_too)
{
    clock_fake_host(400);
    ck_assert_act(act_end_tenant(other), ERR_OK);
    clock_fake_host(-400);
    struct rig_session next = rig_login(node, "alice"), last = rig_login(node, "alice");
    ck_assert_int_eq(rig_validate(node, &last), ERR_OK);
    ck_assert_act(act_end_tenant(node), ERR_OK);
    ck_assert_int_eq(rig_validate(node, &next), ERR_TOKEN_INVALID);
    ck_assert_int_eq(rig_validate(node, &last), ERR_TOKEN_INVALID);
    ck_assert_int_eq(rig_validate(other, &last), ERR_TOKEN_INVALID);
    last = rig_login(node, "alice");
    ck_assert_int_eq(rig_validate(other, &last), ERR_OK);
}
END_TEST

static const struct {
    const char *stored;
    enum err err;
} state_rows[] = {
    {"no record", ERR_STORE_PROTOCOL},
    {"", ERR_STORE_PROTOCOL},
};

START_TEST(a_state_that_does_not_open_is_no_state)
{
    int64_t unreadable = metrics_read(METRIC_RECORDS_UNREADABLE);
    redis_model_set(rig.redis, key_of_tenant(), text_of(state_rows[_i].stored));
    ck_assert_act(validate(), state_rows[_i].err);
    ck_assert_int_ge(metrics_read(METRIC_RECORDS_UNREADABLE) - unreadable, 1);
    struct act *act = change(node, TENANT_PUT, "{}");
    ck_assert_act(act, state_rows[_i].err);
}
END_TEST

START_TEST(a_state_under_a_key_that_is_missing_here_is_not_judged)
{
    ck_assert_act(act_policy(rig_start_newer(2), "{\"idle_timeout\":60}"), ERR_OK);
    ck_assert_act(validate(), ERR_SEAL_KEY_UNKNOWN);
    ck_assert_act(change(other, TENANT_PATCH, "{}"), ERR_SEAL_KEY_UNKNOWN);
}
END_TEST

/* --- states that go back --- */

START_TEST(a_state_that_redis_lost_is_known_and_written_again)
{
    rig_watch(node, true);
    rig_run();
    struct redis_model *before = redis_model_copy(rig.redis);
    ck_assert_act(act_policy(node, "{\"idle_timeout\":77}"), ERR_OK);
    ck_assert(shows(node, "77"));
    rig_watch(node, false);
    redis_model_restore(rig.redis, before);
    int64_t behind = metrics_read(METRIC_STORE_BEHIND);
    rig_recount();
    ck_assert(shows(node, "77"));
    ck_assert_int_eq(metrics_read(METRIC_STORE_BEHIND) - behind, 1);
    ck_assert_uint_eq(rig_served("tenant-write"), 1);
    ck_assert(shows(other, "77"));
    redis_model_destroy(&before);
}
END_TEST

static const struct {
    const char *step;
    enum fate fate;
    bool restored;
} restore_rows[] = {
    {"tenant-write", FATE_CUT_AFTER, true},    {"tenant-write", FATE_CUT_BEFORE, true},
    {"tenant-write", FATE_LATE_BEFORE, false}, {"tenant-write", FATE_AWAY, true},
    {"tenant-write", FATE_LATE_AFTER, true},
};

START_TEST(a_restoration_that_fails_is_left_to_the_next)
{
    struct redis_model *before = redis_model_copy(rig.redis);
    ck_assert_act(act_policy(node, "{\"idle_timeout\":77}"), ERR_OK);
    redis_model_restore(rig.redis, before);
    rig_plan(restore_rows[_i].step, restore_rows[_i].fate);
    ck_assert(shows(node, "77"));
    ck_assert_int_eq(shows(other, "77"), restore_rows[_i].restored);
    ck_assert(shows(node, "77"));
    ck_assert(shows(other, "77"));
    redis_model_destroy(&before);
}
END_TEST

static void change_elsewhere(void)
{
    ck_assert_act(act_policy(other, "{\"idle_timeout\":88}"), ERR_OK);
}

START_TEST(a_restoration_gives_way_to_what_is_newer)
{
    struct redis_model *before = redis_model_copy(rig.redis);
    ck_assert_act(act_policy(node, "{\"idle_timeout\":77}"), ERR_OK);
    redis_model_restore(rig.redis, before);
    clock_fake_pass(5);
    rig_plan_after("tenant-write", FATE_ANSWER, change_elsewhere);
    ck_assert(shows(node, "77"));
    ck_assert(shows(node, "88"));
    ck_assert(shows(other, "88"));
    redis_model_destroy(&before);
}
END_TEST

START_TEST(one_restoration_at_a_time_is_enough)
{
    struct redis_model *before = redis_model_copy(rig.redis);
    ck_assert_act(act_policy(node, "{\"idle_timeout\":77}"), ERR_OK);
    redis_model_restore(rig.redis, before);
    rig_plan("tenant-write", FATE_HOLD);
    rig_recount();
    ck_assert(shows(node, "77"));
    ck_assert(shows(node, "77"));
    ck_assert_uint_eq(rig_served("tenant-write"), 1);
    if (_i)
        rig_stop(node);
    rig_release();
    rig_run();
    ck_assert_int_eq(shows(other, "77"), !_i);
    redis_model_destroy(&before);
}
END_TEST

START_TEST(a_state_that_stays_older_is_believed_after_a_minute)
{
    struct redis_model *before = redis_model_copy(rig.redis);
    ck_assert_act(act_policy(node, "{\"idle_timeout\":77}"), ERR_OK);
    redis_model_restore(rig.redis, before);
    clock_fake_pass(61000);
    ck_assert(!shows(node, "77"));
    redis_model_destroy(&before);
}
END_TEST

/* --- changes --- */

START_TEST(a_policy_is_put_patched_and_deleted)
{
    struct act *act = change(node, TENANT_PUT, "{\"idle_timeout\":77,\"max_devices\":3}");
    ck_assert_act(act, ERR_OK);
    ck_assert_int_eq(act->base.out.durability, DURABILITY_REPLICATED);
    ck_assert_act(change(node, TENANT_PATCH, "{\"idle_timeout\":null}"), ERR_OK);
    ck_assert(!shows(node, "77") && shows(node, "\"max_devices\":3"));
    ck_assert_act(change(other, TENANT_DELETE, NULL), ERR_OK);
    ck_assert(!shows(node, "\"max_devices\":3"));
    rig_recount();
    ck_assert_act(change(other, TENANT_DELETE, NULL), ERR_OK);
    ck_assert_uint_eq(rig_served("tenant-write"), 0); /* nothing to change */
}
END_TEST

START_TEST(what_is_no_policy_changes_nothing)
{
    struct act *act = change(node, TENANT_PUT, "{\"idle_timeout\":\"long\"}");
    ck_assert_act(act, ERR_BODY_INVALID);
    ck_assert_uint_gt(act->base.out.detail.length, 0);
    ck_assert_act(change(node, TENANT_PATCH, "{\"nothing\":1}"), ERR_BODY_INVALID);
    ck_assert(!redis_model_has(rig.redis, key_of_tenant()));
}
END_TEST

START_TEST(a_key_of_the_tenant_leaves_members_of_the_platform_alone)
{
    struct act *act = call(node, TENANT_PUT, "{\"force_logout\":false}");
    act->tenant.bound = true;
    session_tenant(&act->tenant);
    ck_assert_act(act, ERR_FORBIDDEN);
    act = call(node, TENANT_PUT, "{\"idle_timeout\":77}");
    act->tenant.bound = true;
    session_tenant(&act->tenant);
    ck_assert_act(act, ERR_OK);
}
END_TEST

/* Two patches that fit by themselves. */
START_TEST(a_policy_that_a_patch_makes_too_large_is_refused_as_such)
{
    static const char *const lists[] = {"roles", "device_types"};
    static const char one[] = "{\"access_ttl\":7200,\"refresh_ttl\":604800,\"idle_timeout\":1800,"
                              "\"absolute_timeout\":2592000,\"renew\":\"sliding\"}";
    for (int list = 0; list < 2; list++) {
        struct buffer json = {0};
        buffer_addf(&json, "{\"%s\":{", lists[list]);
        for (int i = 0; i < 60; i++)
            buffer_addf(&json, "%s\"%030d\":%s", i ? "," : "", i, one);
        buffer_add_literal(&json, "}}");
        ck_assert_uint_le(json.length, POLICY_MAX);
        buffer_add_char(&json, '\0');
        struct act *act = call(node, TENANT_PATCH, json.data);
        session_tenant(&act->tenant);
        ck_assert_act(act, list == 0 ? ERR_OK : ERR_TOO_LARGE);
        ck_assert(list == 0 || strstr(act->base.out.detail.data, "The policy takes "));
        buffer_free(&json);
    }
}
END_TEST

START_TEST(a_change_may_depend_on_what_was_seen)
{
    struct act *first = change(node, TENANT_PUT, "{\"idle_timeout\":77}");
    ck_assert_act(first, ERR_OK);
    struct text etag = {first->tenant.etag, ETAG_LENGTH};
    struct act *act = call(other, TENANT_PATCH, "{\"max_devices\":3}");
    ck_assert(etag_read(etag, &act->arena, &act->tenant.if_match));
    session_tenant(&act->tenant);
    ck_assert_act(act, ERR_OK);
    act = call(other, TENANT_PATCH, "{\"max_devices\":4}");
    ck_assert(etag_read(etag, &act->arena, &act->tenant.if_match));
    session_tenant(&act->tenant);
    ck_assert_act(act, ERR_PRECONDITION_FAILED);
    ck_assert(shows(node, "\"max_devices\":3"));
}
END_TEST

static const struct {
    const char *step;
    enum fate fate;
    enum err err;
    bool took_effect;
} change_rows[] = {
    {"tenant-write", FATE_CUT_AFTER, ERR_OK, true},
    {"tenant-write", FATE_CUT_BEFORE, ERR_OK, true},
    {"tenant-write", FATE_AWAY, ERR_OK, true},
    {"tenant-write", FATE_LATE_BEFORE, ERR_STORE_TIMEOUT, false},
    {"tenant-write", FATE_LATE_AFTER, ERR_STORE_TIMEOUT, true},
    {"GET", FATE_LATE_BEFORE, ERR_STORE_TIMEOUT, false},
    {"GET", FATE_AWAY, ERR_STORE_UNAVAILABLE, false},
    {"GET", FATE_STRANGE, ERR_STORE_PROTOCOL, false},
};

START_TEST(a_change_tells_the_truth_when_a_step_fails)
{
    rig_plan(change_rows[_i].step, change_rows[_i].fate);
    struct act *act = change(node, TENANT_PUT, "{\"idle_timeout\":77}");
    ck_assert_act(act, change_rows[_i].err);
    ck_assert_int_eq(shows(other, "77"), change_rows[_i].took_effect);
}
END_TEST

/* The first GET is that of the tenant as it is known, the second that of the change. */
START_TEST(a_change_whose_own_read_fails_changes_nothing)
{
    static const enum fate fates[] = {FATE_AWAY, FATE_STRANGE};
    static const enum err errs[] = {ERR_STORE_UNAVAILABLE, ERR_STORE_PROTOCOL};
    rig_plan("GET", FATE_ANSWER);
    rig_plan("GET", fates[_i]);
    ck_assert_act(change(node, TENANT_PUT, "{\"idle_timeout\":77}"), errs[_i]);
    ck_assert(!redis_model_has(rig.redis, key_of_tenant()));
}
END_TEST

START_TEST(a_change_that_meets_another_is_decided_anew)
{
    int64_t conflicts = metrics_read(METRIC_STORE_CONFLICTS);
    rig_plan_after("tenant-write", FATE_ANSWER, change_elsewhere);
    ck_assert_act(change(node, TENANT_PATCH, "{\"max_devices\":3}"), ERR_OK);
    ck_assert_int_eq(metrics_read(METRIC_STORE_CONFLICTS) - conflicts, 1);
    ck_assert(shows(node, "88") && shows(node, "\"max_devices\":3"));
}
END_TEST

static unsigned rounds;
static void change_again(void)
{
    char policy[64];
    snprintf(policy, sizeof(policy), "{\"idle_timeout\":%u}", 100 + ++rounds);
    rig_plan_after("tenant-write", FATE_ANSWER, NULL);
    ck_assert_act(act_policy(other, policy), ERR_OK);
    rig_plan_after("tenant-write", FATE_ANSWER, change_again);
}

START_TEST(a_change_that_always_loses_gives_up)
{
    rounds = 0;
    rig_plan_after("tenant-write", FATE_ANSWER, change_again);
    ck_assert_act(change(node, TENANT_PATCH, "{\"max_devices\":3}"), ERR_STORE_CONTENDED);
    rig_forget_plans();
    ck_assert_uint_eq(rounds, 100);
}
END_TEST

START_TEST(all_sessions_of_the_tenant_end_with_one_write)
{
    struct rig_session bob = rig_login(other, "bob");
    rig_recount();
    rig_plan("tenant-write", _i ? FATE_CUT_AFTER : FATE_ANSWER);
    struct act *act = act_end_tenant(node);
    ck_assert_act(act, ERR_OK);
    ck_assert_int_eq(act->base.out.durability, _i ? DURABILITY_ACCEPTED : DURABILITY_REPLICATED);
    ck_assert_uint_eq(rig_served("tenant-write"), 1);
    ck_assert_int_eq(rig_validate(other, &bob), ERR_TOKEN_INVALID);
    ck_assert_int_eq(rig_validate(other, &session), ERR_TOKEN_INVALID);
    ck_assert_act(act_end_tenant(node), ERR_OK); /* again: a later cutoff */
}
END_TEST

START_TEST(what_waits_for_a_tenant_ends_with_its_worker)
{
    rig_plan("GET", FATE_HOLD);
    struct act *acts[] = {validate(), change(node, TENANT_PUT, "{}"),
                          act_logout(node, rig_access(&session))};
    rig_run();
    rig_stop(node);
    for (size_t i = 0; i < 3; i++)
        ck_assert_act(acts[i], ERR_SHUTTING_DOWN);
}
END_TEST

static const struct {
    enum permission permission;
    const char *policy;
} permission_rows[] = {
    {PERMISSION_SELF_DEVICES, "{\"self_service\":{\"devices\":false}}"},
    {PERMISSION_SELF_KICK, "{\"self_service\":{\"kick\":false}}"},
    {PERMISSION_SELF_LOGOUT_ALL, "{\"self_service\":{\"logout_all\":false}}"},
    {PERMISSION_FORCE_LOGOUT, "{\"force_logout\":false}"},
};

START_TEST(what_the_policy_forbids_is_refused_with_a_sentence)
{
    for (int forbids = 0; forbids < 2; forbids++) {
        if (forbids)
            ck_assert_act(act_policy(node, permission_rows[_i].policy), ERR_OK);
        struct act *act = act_of(node);
        act->list.token = rig_access(&session);
        act->base.permission = permission_rows[_i].permission;
        session_list(&act->list);
        ck_assert_act(act, forbids ? ERR_FORBIDDEN : ERR_OK);
        ck_assert_int_eq(act->base.out.detail.length > 0, forbids);
    }
}
END_TEST

START_TEST(tenants_are_read_each_for_itself)
{
    struct act *act = act_of(node);
    act->tenant.tenant = TEXT("another");
    act->tenant.action = TENANT_SHOW;
    rig_plan("GET", FATE_HOLD);
    session_tenant(&act->tenant);
    warm();
    ck_assert(!act_is_done(act));
    rig_release();
    ck_assert_act(act, ERR_OK);
}
END_TEST

START_TEST(what_is_known_of_a_policy_is_told_without_a_question)
{
    uint8_t tag[TENANT_TAG];
    struct policy policy;
    token_tag_tenant(rig.keyring, RIG_TENANT, tag);
    session_known_policy(node->worker, rig.conf, tag, &policy);
    ck_assert_int_eq(policy.idle_timeout, 1800);
    ck_assert_act(act_policy(node, "{\"idle_timeout\":77}"), ERR_OK);
    rig_recount();
    session_known_policy(node->worker, rig.conf, tag, &policy);
    ck_assert_int_eq(policy.idle_timeout, 77);
    ck_assert_uint_eq(rig_served("GET"), 0);
}
END_TEST

static void add_known(Suite *suite)
{
    TCase *tcase = rig_case(suite, "known", set_up);
    tcase_add_test(tcase, a_policy_that_a_patch_makes_too_large_is_refused_as_such);
    tcase_add_test(tcase, a_tenant_is_read_once_while_its_slot_is_tracked);
    tcase_add_test(tcase, who_asks_for_the_same_tenant_meanwhile_joins_the_read);
    tcase_add_test(tcase, nobody_joins_a_read_from_before_a_change_that_was_heard_of);
    tcase_add_test(tcase, whoever_knows_the_tenant_waits_for_it_for_a_while_only);
    tcase_add_test(tcase, those_who_came_later_are_patient_for_as_long);
    tcase_add_test(tcase, a_change_that_is_heard_of_ends_the_silence);
    tcase_add_test(tcase, in_a_silence_whoever_has_heard_of_a_change_waits_for_it);
    tcase_add_test(tcase, a_read_that_is_answered_ends_the_silence);
    tcase_add_test(tcase, whoever_does_not_know_the_tenant_waits_until_the_deadline);
    tcase_add_test(tcase, what_is_known_holds_in_an_outage_for_the_grace);
    tcase_add_test(tcase, a_cutoff_is_known_in_an_outage_too);
    tcase_add_test(tcase, sessions_behind_a_cutoff_live);
    tcase_add_test(tcase, the_next_end_ends_sessions_behind_a_cutoff_too);
    tcase_add_loop_test(tcase, a_state_that_does_not_open_is_no_state, 0, 2);
    tcase_add_test(tcase, a_state_under_a_key_that_is_missing_here_is_not_judged);
    tcase_add_test(tcase, what_waits_for_a_tenant_ends_with_its_worker);
    tcase_add_test(tcase, what_is_known_of_a_policy_is_told_without_a_question);
    tcase_add_loop_test(tcase, what_the_policy_forbids_is_refused_with_a_sentence, 0,
                        sizeof(permission_rows) / sizeof(permission_rows[0]));
    tcase_add_test(tcase, tenants_are_read_each_for_itself);
}

static void add_lost(Suite *suite)
{
    TCase *tcase = rig_case(suite, "lost", set_up);
    tcase_add_test(tcase, a_state_that_redis_lost_is_known_and_written_again);
    tcase_add_loop_test(tcase, a_restoration_that_fails_is_left_to_the_next, 0,
                        sizeof(restore_rows) / sizeof(restore_rows[0]));
    tcase_add_test(tcase, a_restoration_gives_way_to_what_is_newer);
    tcase_add_loop_test(tcase, one_restoration_at_a_time_is_enough, 0, 2);
    tcase_add_test(tcase, a_state_that_stays_older_is_believed_after_a_minute);
}

static void add_changes(Suite *suite)
{
    TCase *tcase = rig_case(suite, "changes", set_up);
    tcase_add_test(tcase, a_policy_is_put_patched_and_deleted);
    tcase_add_test(tcase, what_is_no_policy_changes_nothing);
    tcase_add_test(tcase, a_key_of_the_tenant_leaves_members_of_the_platform_alone);
    tcase_add_test(tcase, a_change_may_depend_on_what_was_seen);
    tcase_add_loop_test(tcase, a_change_tells_the_truth_when_a_step_fails, 0,
                        sizeof(change_rows) / sizeof(change_rows[0]));
    tcase_add_loop_test(tcase, a_change_whose_own_read_fails_changes_nothing, 0, 2);
    tcase_add_test(tcase, a_change_that_meets_another_is_decided_anew);
    tcase_add_test(tcase, a_change_that_always_loses_gives_up);
    tcase_add_loop_test(tcase, all_sessions_of_the_tenant_end_with_one_write, 0, 2);
}

int main(void)
{
    Suite *suite = suite_create("tenant");
    add_known(suite);
    add_lost(suite);
    add_changes(suite);
    return support_run(suite);
}
