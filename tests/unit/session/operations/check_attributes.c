/* Attributes of a session: read, replaced, patched, under a condition, and refused. */
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

static struct act *change(enum attributes_action action, const char *given)
{
    return act_attributes(node, rig_access(&session), action, given);
}

static struct act *show(void)
{
    struct act *act = change(ATTRIBUTES_GET, NULL);
    ck_assert_act(act, ERR_OK);
    return act;
}

START_TEST(what_was_put_is_shown_and_patches_are_merged)
{
    ck_assert_text_eq(show()->attributes.json, "{}");
    ck_assert_act(change(ATTRIBUTES_PUT, "{\"a\":1,\"b\":2}"), ERR_OK);
    ck_assert_act(change(ATTRIBUTES_PATCH, "{\"a\":null,\"c\":3}"), ERR_OK);
    ck_assert_text_eq(show()->attributes.json, "{\"b\":2,\"c\":3}");
    struct act *act = act_validate(other, rig_access(&session));
    ck_assert_act(act, ERR_OK);
    ck_assert_ptr_nonnull(memmem(act->validate.session_json.data, act->validate.session_json.length,
                                 "{\"b\":2,\"c\":3}", 13));
}
END_TEST

static struct act *put_if(const char etag[ETAG_LENGTH])
{
    struct act *act = act_of(node);
    act->attributes.token = rig_access(&session);
    act->attributes.action = ATTRIBUTES_PUT;
    act->attributes.given = TEXT("{\"d\":4}");
    ck_assert(etag_read((struct text){etag, ETAG_LENGTH}, &act->arena, &act->attributes.if_match));
    session_attributes(&act->attributes);
    return act;
}

START_TEST(a_condition_holds_once)
{
    struct act *before = show();
    struct act *act = put_if(before->attributes.etag);
    ck_assert_act(act, ERR_OK);
    ck_assert_mem_eq(act->attributes.etag, show()->attributes.etag, ETAG_LENGTH);
    ck_assert_act(put_if(before->attributes.etag), ERR_PRECONDITION_FAILED);
}
END_TEST

/* The condition was judged with the write that turns out to be done. */
START_TEST(a_condition_holds_for_a_write_that_was_done_unheard_of)
{
    struct act *before = show();
    rig_plan("write", _i ? FATE_CUT_AFTER : FATE_CUT_BEFORE);
    ck_assert_act(put_if(before->attributes.etag), ERR_OK);
    ck_assert_text_eq(show()->attributes.json, "{\"d\":4}");
}
END_TEST

START_TEST(too_much_is_refused)
{
    char large[ATTRIBUTES_MAX + 20];
    memset(large, 'x', sizeof(large));
    memcpy(large, "{\"a\":\"", 6);
    memcpy(large + sizeof(large) - 3, "\"}", 3);
    struct act *act = change(ATTRIBUTES_PUT, large);
    ck_assert_act(act, ERR_TOO_LARGE);
    ck_assert_ptr_nonnull(strstr(act->base.out.detail.data, "at most 4096 bytes"));
    rig.conf->policy_limit_session_bytes = 256;
    memcpy(large + 300, "\"}", 3);
    act = change(ATTRIBUTES_PUT, large);
    ck_assert_act(act, ERR_TOO_LARGE);
    ck_assert_ptr_nonnull(act->base.out.detail.data);
}
END_TEST

START_TEST(what_is_no_patch_is_refused)
{
    struct act *act = change(ATTRIBUTES_PATCH, "[1]");
    ck_assert_act(act, ERR_BODY_INVALID);
    ck_assert_uint_gt(act->base.out.detail.length, 0);
}
END_TEST

START_TEST(only_for_a_session_that_lives)
{
    ck_assert_act(act_attributes(node, TEXT("no token"), ATTRIBUTES_GET, NULL), ERR_TOKEN_INVALID);
    ck_assert_act(act_kick(other, "alice", rig_id(&session)), ERR_OK);
    ck_assert_act(change(ATTRIBUTES_GET, NULL), ERR_TOKEN_INVALID);
}
END_TEST

START_TEST(what_was_revoked_here_or_with_the_tenant_is_not_asked_for)
{
    if (_i == 0) {
        rig.fate = FATE_AWAY;
        ck_assert_act(act_kick(node, "alice", rig_id(&session)), ERR_OK);
        rig.fate = FATE_ANSWER;
    } else {
        ck_assert_act(act_end_tenant(other), ERR_OK);
    }
    rig_recount();
    ck_assert_act(change(ATTRIBUTES_GET, NULL), ERR_TOKEN_INVALID);
    ck_assert_uint_eq(rig_served("HGETALL"), 0);
}
END_TEST

START_TEST(they_need_redis)
{
    rig_plan("HGETALL", FATE_AWAY);
    ck_assert_act(change(ATTRIBUTES_GET, NULL), ERR_STORE_UNAVAILABLE);
    rig_plan("GET", FATE_AWAY);
    struct rig_node *third = rig_start(2);
    ck_assert_act(act_attributes(third, rig_access(&session), ATTRIBUTES_GET, NULL),
                  ERR_STORE_UNAVAILABLE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("attributes");
    TCase *tcase = rig_case(suite, "attributes", set_up);
    tcase_add_test(tcase, what_was_put_is_shown_and_patches_are_merged);
    tcase_add_test(tcase, a_condition_holds_once);
    tcase_add_loop_test(tcase, a_condition_holds_for_a_write_that_was_done_unheard_of, 0, 2);
    tcase_add_test(tcase, too_much_is_refused);
    tcase_add_test(tcase, what_is_no_patch_is_refused);
    tcase_add_test(tcase, only_for_a_session_that_lives);
    tcase_add_loop_test(tcase, what_was_revoked_here_or_with_the_tenant_is_not_asked_for, 0, 2);
    tcase_add_test(tcase, they_need_redis);
    return support_run(suite);
}
