/* Refresh: the next pair, the same again, or the end of a session whose used token came back. */
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
    clock_fake_pass(1000);
    rig_recount();
}

static struct act *refresh_at(struct rig_node *where)
{
    return act_refresh(where, rig_refresh(&session));
}

static struct act *refresh(void)
{
    return refresh_at(node);
}

static enum err validate_pair(const struct issued_pair *pair)
{
    return act_finish(act_validate(other, (struct text){pair->access_token, TOKEN_LENGTH}));
}

static bool are_same(const struct act *a, const struct act *b)
{
    const struct issued_pair *one = &a->refresh.pair, *two = &b->refresh.pair;
    return memcmp(one->access_token, two->access_token, TOKEN_LENGTH) == 0 &&
           memcmp(one->refresh_token, two->refresh_token, TOKEN_LENGTH) == 0;
}

static void set_policy(const char *json)
{
    ck_assert_act(act_policy(node, json), ERR_OK);
}

static void assert_refused(struct act *act, const char *reason)
{
    ck_assert_act(act, ERR_REFRESH_INVALID);
    ck_assert_text_eq(act->base.out.reason, reason);
}

/* --- rotation --- */

START_TEST(a_refresh_gives_the_next_pair)
{
    struct act *act = refresh();
    ck_assert_act(act, ERR_OK);
    ck_assert(!act->base.out.repeated);
    ck_assert_int_eq(memcmp(act->refresh.pair.refresh_token, session.refresh, TOKEN_LENGTH) != 0,
                     1);
    ck_assert_int_eq(validate_pair(&act->refresh.pair), ERR_OK);
    ck_assert_int_eq(act->refresh.pair.access_expires_s, clock_wall_ms() / 1000 + 7200);
}
END_TEST

START_TEST(within_the_grace_the_same_pair_is_given_again)
{
    struct act *first = refresh();
    ck_assert_act(first, ERR_OK);
    clock_fake_pass(29000);
    struct act *second = refresh_at(other);
    ck_assert_act(second, ERR_OK);
    ck_assert(second->base.out.repeated && !second->base.out.repeated_apart);
    ck_assert(are_same(first, second));
}
END_TEST

/* The other nodes may have missed the invalidation. */
START_TEST(a_repetition_tells_the_news_again)
{
    rig_plan("epoch", FATE_AWAY);
    ck_assert_act(refresh(), ERR_STORE_UNAVAILABLE);
    ck_assert_act(refresh(), ERR_OK);
    ck_assert_uint_eq(rig_served("write"), 1);
    ck_assert_uint_eq(rig_served("epoch"), 2);
}
END_TEST

/* The clock of this node alone shows that the grace is over. */
START_TEST(a_clock_that_may_be_wrong_makes_no_reuse_of_a_repetition)
{
    bool disputed = _i;
    struct act *first = refresh();
    ck_assert_act(first, ERR_OK);
    clock_fake_pass(40000);
    if (disputed)
        clock_dispute(clock_host_ahead_ms() - 39000);
    struct act *second = refresh();
    ck_assert_act(second, disputed ? ERR_OK : ERR_REFRESH_INVALID);
    ck_assert_int_eq(second->base.out.repeated, disputed);
}
END_TEST

START_TEST(two_at_once_get_the_same_pair)
{
    struct act *first = refresh(), *second = refresh();
    ck_assert_act(first, ERR_OK);
    ck_assert_act(second, ERR_OK);
    ck_assert(are_same(first, second));
    ck_assert_uint_eq(rig_served("write"), 1);
}
END_TEST

static struct act *elsewhere;
static void refresh_elsewhere(void)
{
    elsewhere = refresh_at(other);
    ck_assert_act(elsewhere, ERR_OK);
}

START_TEST(two_nodes_at_once_give_the_same_pair)
{
    rig_plan_after("write", FATE_ANSWER, refresh_elsewhere);
    struct act *act = refresh();
    ck_assert_act(act, ERR_OK);
    ck_assert(are_same(act, elsewhere));
    ck_assert_int_eq(validate_pair(&act->refresh.pair), ERR_OK);
}
END_TEST

/* --- writes of unknown outcome --- */

START_TEST(after_an_unknown_write_there_is_one_next_pair)
{
    rig_plan("write", _i ? FATE_CUT_AFTER : FATE_CUT_BEFORE);
    struct act *act = refresh();
    ck_assert_act(act, ERR_OK);
    ck_assert(!act->base.out.repeated);
    ck_assert_int_eq(validate_pair(&act->refresh.pair), ERR_OK);
    ck_assert_uint_eq(rig_served("write"), _i ? 1 : 2);
    struct act *again = refresh_at(other);
    ck_assert_act(again, ERR_OK);
    ck_assert(are_same(act, again));
}
END_TEST

static const struct {
    const char *step;
    enum fate fate;
    enum err err;
} step_rows[] = {
    {"GET", FATE_LATE_BEFORE, ERR_STORE_TIMEOUT},
    {"GET", FATE_AWAY, ERR_STORE_UNAVAILABLE},
    {"HGETALL", FATE_LATE_BEFORE, ERR_STORE_TIMEOUT},
    {"HGETALL", FATE_AWAY, ERR_STORE_UNAVAILABLE},
    {"HGETALL", FATE_STRANGE, ERR_STORE_PROTOCOL},
    {"write", FATE_LATE_BEFORE, ERR_STORE_TIMEOUT},
    {"write", FATE_LATE_AFTER, ERR_STORE_TIMEOUT},
};

/* In any case a second request gets a pair that is good. */
START_TEST(a_refresh_that_failed_can_be_asked_for_again)
{
    rig_plan(step_rows[_i].step, step_rows[_i].fate);
    ck_assert_act(refresh_at(other), step_rows[_i].err);
    struct act *again = refresh();
    ck_assert_act(again, ERR_OK);
    ck_assert_int_eq(validate_pair(&again->refresh.pair), ERR_OK);
}
END_TEST

/* --- reuse --- */

/* The used token comes back when it is no mere repetition any more. */
static void use_up(struct act **next)
{
    *next = refresh();
    ck_assert_act(*next, ERR_OK);
    clock_fake_pass(31000);
    rig_recount();
}

static void assert_reused(struct act *act, const struct act *next)
{
    assert_refused(act, REASON_REUSE);
    ck_assert(act->base.out.reused);
    ck_assert_uint_eq(act->base.out.ended_count, 1);
    ck_assert_text_eq(act->base.facts.user_id, "alice");
    ck_assert_int_eq(validate_pair(&next->refresh.pair), ERR_TOKEN_INVALID);
    ck_assert_uint_eq(rig_served("epoch"), 1);
}

START_TEST(a_used_token_that_comes_back_ends_the_session)
{
    struct act *next;
    int64_t reuses = metrics_read(METRIC_REFRESH_REUSES);
    use_up(&next);
    assert_reused(refresh(), next);
    ck_assert_uint_eq(rig_unconfirmed(node), 0);
    ck_assert_int_eq(metrics_read(METRIC_REFRESH_REUSES) - reuses, 1);
    struct act *act =
        act_refresh(node, (struct text){next->refresh.pair.refresh_token, TOKEN_LENGTH});
    assert_refused(act, REASON_REFRESH_REUSE);
}
END_TEST

START_TEST(a_token_of_two_pairs_before_is_no_repetition)
{
    struct act *next = refresh();
    ck_assert_act(next, ERR_OK);
    next = act_refresh(node, (struct text){next->refresh.pair.refresh_token, TOKEN_LENGTH});
    ck_assert_act(next, ERR_OK);
    rig_recount();
    assert_reused(refresh(), next);
}
END_TEST

START_TEST(reuse_is_told_once_whatever_became_of_the_write)
{
    struct act *next;
    use_up(&next);
    rig_plan("write", _i ? FATE_CUT_AFTER : FATE_CUT_BEFORE);
    assert_reused(refresh(), next);
}
END_TEST

START_TEST(an_unknown_reuse_that_others_do_not_hear_of_is_kept_in_the_journal)
{
    struct act *next;
    use_up(&next);
    rig_plan("write", _i ? FATE_CUT_AFTER : FATE_CUT_BEFORE);
    rig_plan("epoch", FATE_AWAY);
    assert_reused(refresh(), next);
    ck_assert_uint_eq(rig_unconfirmed(node), 1);
}
END_TEST

START_TEST(a_reuse_that_meets_another_end_is_told_that_one)
{
    struct act *next;
    use_up(&next);
    rig_plan("write", FATE_HOLD_REPLY);
    struct act *reuse = refresh_at(other);
    rig_run();
    assert_refused(refresh(), REASON_REFRESH_REUSE);
    rig_release();
    assert_refused(reuse, REASON_REUSE);
}
END_TEST

/* --- ended sessions --- */

START_TEST(an_ended_session_tells_why)
{
    ck_assert_act(act_kick(other, "alice", rig_id(&session)), ERR_OK);
    assert_refused(refresh(), REASON_KICKED);
}
END_TEST

START_TEST(a_session_that_redis_lost_is_unknown)
{
    redis_model_flush(rig.redis);
    assert_refused(refresh(), REASON_UNKNOWN);
}
END_TEST

START_TEST(a_session_ends_with_its_refresh_token)
{
    set_policy("{\"access_ttl\":60,\"refresh_ttl\":60,\"idle_timeout\":7200}");
    struct act *act = refresh();
    ck_assert_act(act, ERR_OK);
    clock_fake_pass(61000);
    act = act_refresh(node, (struct text){act->refresh.pair.refresh_token, TOKEN_LENGTH});
    assert_refused(act, REASON_EXPIRED);
}
END_TEST

START_TEST(what_is_no_token_is_refused_without_redis)
{
    assert_refused(act_refresh(node, TEXT("sr_")), REASON_MALFORMED);
    assert_refused(act_refresh(node, rig_access(&session)), REASON_MALFORMED);
    ck_assert_uint_eq(rig_served("HGETALL"), 0);
}
END_TEST

START_TEST(a_frozen_user_gets_no_pair)
{
    ck_assert_act(act_freeze(other, "alice", false), ERR_OK);
    assert_refused(refresh(), REASON_FROZEN);
}
END_TEST

START_TEST(a_tenant_that_ended_all_gives_no_pair)
{
    ck_assert_act(act_end_tenant(other), ERR_OK);
    assert_refused(refresh(), REASON_REVOKED);
}
END_TEST

START_TEST(what_was_ended_here_in_an_outage_gets_no_pair)
{
    rig.fate = FATE_AWAY;
    ck_assert_act(act_kick(node, "alice", rig_id(&session)), ERR_OK);
    rig.fate = FATE_ANSWER;
    assert_refused(refresh(), REASON_KICKED);
}
END_TEST

/* --- address and device --- */

static struct act *refresh_from(struct text refresh_token, struct text ip, struct text fingerprint)
{
    struct act *act = act_of(node);
    act->refresh.refresh_token = arena_copy(&act->arena, refresh_token);
    act->refresh.ip = ip;
    act->base.claims = (struct client_claims){.ip = ip, .fingerprint = fingerprint};
    session_refresh(&act->refresh);
    return act;
}

START_TEST(a_repetition_from_another_network_is_told_and_may_be_refused)
{
    if (_i)
        set_policy("{\"refresh_repeat\":\"refuse\"}");
    session = rig_login_from(node, "bob", "192.0.2.1", "finger");
    struct act *first = refresh_from(rig_refresh(&session), TEXT("192.0.2.9"), TEXT("finger"));
    ck_assert_act(first, ERR_OK);
    struct act *near = refresh_from(rig_refresh(&session), TEXT("192.0.2.8"), TEXT("finger"));
    ck_assert_act(near, ERR_OK);
    ck_assert(near->base.out.repeated && !near->base.out.repeated_apart);
    struct act *apart = refresh_from(rig_refresh(&session), TEXT("198.51.100.1"), TEXT("finger"));
    ck_assert_act(apart, _i ? ERR_REFRESH_INVALID : ERR_OK);
    ck_assert(apart->base.out.repeated_apart);
    struct act *device = refresh_from(rig_refresh(&session), TEXT("192.0.2.9"), TEXT("another"));
    ck_assert_act(device, _i ? ERR_REFRESH_INVALID : ERR_OK);
    ck_assert(device->base.out.repeated_apart);
    ck_assert_int_eq(validate_pair(&first->refresh.pair), ERR_OK);
}
END_TEST

static const struct {
    const char *policy;
    enum err err;
} bind_rows[] = {
    {"{\"bind\":{\"ip\":\"log\"}}", ERR_OK},
    {"{\"bind\":{\"ip\":\"verify\"}}", ERR_STEP_UP_REQUIRED},
    {"{\"bind\":{\"ip\":\"strict\"}}", ERR_REFRESH_INVALID},
};

START_TEST(a_refresh_from_elsewhere_gets_what_the_policy_says)
{
    set_policy(bind_rows[_i].policy);
    session = rig_login_from(node, "bob", "192.0.2.1", NULL);
    struct act *act = refresh_from(rig_refresh(&session), TEXT("198.51.100.1"), (struct text){0});
    ck_assert_act(act, bind_rows[_i].err);
    ck_assert_int_eq(act->base.out.challenge != NULL, bind_rows[_i].err == ERR_STEP_UP_REQUIRED);
    ck_assert_text_eq(act->base.facts.binding, "ip");
}
END_TEST

/* IPv6 is an address of another family: taken over with a refresh, beside the first. */
START_TEST(a_place_that_is_only_logged_does_not_become_the_sessions)
{
    set_policy("{\"bind\":{\"ip\":\"log\"}}");
    session = rig_login_from(node, "bob", "192.0.2.1", NULL);
    struct act *first = refresh_from(rig_refresh(&session), TEXT("198.51.100.1"), (struct text){0});
    ck_assert_act(first, ERR_OK);
    struct text next = {first->refresh.pair.refresh_token, TOKEN_LENGTH};
    struct act *second = refresh_from(next, TEXT("198.51.100.1"), (struct text){0});
    ck_assert_act(second, ERR_OK);
    ck_assert_text_eq(second->base.facts.binding, "ip");
}
END_TEST

START_TEST(a_bound_session_gets_an_address_of_the_other_family_with_a_refresh)
{
    set_policy("{\"bind\":{\"ip\":\"strict\"}}");
    session = rig_login_from(node, "bob", "192.0.2.1", NULL);
    struct act *act = refresh_from(rig_refresh(&session), TEXT("2001:db8::1"), (struct text){0});
    ck_assert_act(act, ERR_OK);
    struct text next = {act->refresh.pair.refresh_token, TOKEN_LENGTH};
    struct act *back = refresh_from(next, TEXT("192.0.2.2"), (struct text){0});
    ck_assert_act(back, ERR_OK);
    next = (struct text){back->refresh.pair.refresh_token, TOKEN_LENGTH};
    ck_assert_act(refresh_from(next, TEXT("2001:db8:1::1"), (struct text){0}), ERR_REFRESH_INVALID);
}
END_TEST

static void add_pairs(Suite *suite)
{
    TCase *tcase = rig_case(suite, "pairs", set_up);
    tcase_add_test(tcase, a_refresh_gives_the_next_pair);
    tcase_add_test(tcase, within_the_grace_the_same_pair_is_given_again);
    tcase_add_test(tcase, a_repetition_tells_the_news_again);
    tcase_add_loop_test(tcase, a_clock_that_may_be_wrong_makes_no_reuse_of_a_repetition, 0, 2);
    tcase_add_test(tcase, two_at_once_get_the_same_pair);
    tcase_add_test(tcase, two_nodes_at_once_give_the_same_pair);
    tcase_add_loop_test(tcase, after_an_unknown_write_there_is_one_next_pair, 0, 2);
    tcase_add_loop_test(tcase, a_refresh_that_failed_can_be_asked_for_again, 0,
                        sizeof(step_rows) / sizeof(step_rows[0]));
}

static void add_refusals(Suite *suite)
{
    TCase *tcase = rig_case(suite, "refusals", set_up);
    tcase_add_test(tcase, a_used_token_that_comes_back_ends_the_session);
    tcase_add_test(tcase, a_token_of_two_pairs_before_is_no_repetition);
    tcase_add_loop_test(tcase, reuse_is_told_once_whatever_became_of_the_write, 0, 2);
    tcase_add_loop_test(tcase, an_unknown_reuse_that_others_do_not_hear_of_is_kept_in_the_journal,
                        0, 2);
    tcase_add_test(tcase, a_reuse_that_meets_another_end_is_told_that_one);
    tcase_add_test(tcase, an_ended_session_tells_why);
    tcase_add_test(tcase, a_session_that_redis_lost_is_unknown);
    tcase_add_test(tcase, a_session_ends_with_its_refresh_token);
    tcase_add_test(tcase, what_is_no_token_is_refused_without_redis);
    tcase_add_test(tcase, a_frozen_user_gets_no_pair);
    tcase_add_test(tcase, a_tenant_that_ended_all_gives_no_pair);
    tcase_add_test(tcase, what_was_ended_here_in_an_outage_gets_no_pair);
}

static void add_places(Suite *suite)
{
    TCase *tcase = rig_case(suite, "places", set_up);
    tcase_add_loop_test(tcase, a_repetition_from_another_network_is_told_and_may_be_refused, 0, 2);
    tcase_add_loop_test(tcase, a_refresh_from_elsewhere_gets_what_the_policy_says, 0,
                        sizeof(bind_rows) / sizeof(bind_rows[0]));
    tcase_add_test(tcase, a_place_that_is_only_logged_does_not_become_the_sessions);
    tcase_add_test(tcase, a_bound_session_gets_an_address_of_the_other_family_with_a_refresh);
}

int main(void)
{
    Suite *suite = suite_create("refresh");
    add_pairs(suite);
    add_refusals(suite);
    add_places(suite);
    return support_run(suite);
}
