/* One change of a user's state against others, and against a store that fails at every step. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "metrics.h"
#include "session/model/state.h"
#include "support_run.h"
#include "support_session.h"

static struct rig_node *node, *other;
static struct rig_session session, theirs;

static void set_up(void)
{
    rig_set_up();
    node = rig_start(0);
    other = rig_start(1);
    session = rig_login(node, "alice");
    rig_recount();
}

static struct act *kick(void)
{
    return act_kick(node, "alice", rig_id(&session));
}

static bool is_alive(struct rig_node *where, const struct rig_session *whose)
{
    enum err err = rig_validate(where, whose);
    ck_assert(err == ERR_OK || err == ERR_TOKEN_INVALID);
    return err == ERR_OK;
}

/* --- the usual way --- */

START_TEST(a_change_is_read_decided_and_written)
{
    struct act *act = kick();
    ck_assert_act(act, ERR_OK);
    ck_assert_int_eq(act->base.out.durability, DURABILITY_REPLICATED);
    ck_assert_uint_eq(act->base.out.ended_count, 1);
    ck_assert_uint_eq(rig_served("write"), 1);
    ck_assert_uint_eq(rig_served("epoch"), 1);
    ck_assert_uint_eq(rig_unconfirmed(node), 0);
    ck_assert(!is_alive(node, &session));
    ck_assert(!is_alive(other, &session));
}
END_TEST

START_TEST(without_a_replica_the_journal_goes_on_keeping_it)
{
    rig.replicas = 0;
    struct act *act = kick();
    ck_assert_act(act, ERR_OK);
    ck_assert_int_eq(act->base.out.durability, DURABILITY_ACCEPTED);
    ck_assert_uint_eq(rig_unconfirmed(node), 1);
}
END_TEST

START_TEST(where_no_replica_is_meant_to_be_the_master_is_enough)
{
    rig.replicas = 0;
    rig.conf->redis_wait_timeout = 0;
    struct act *act = kick();
    ck_assert_act(act, ERR_OK);
    ck_assert_uint_eq(rig_unconfirmed(node), 0);
}
END_TEST

/* --- conflicts --- */

static void login_elsewhere(void)
{
    theirs = rig_login(other, "alice");
}

START_TEST(a_conflict_is_decided_anew_on_what_the_other_wrote)
{
    int64_t conflicts = metrics_read(METRIC_STORE_CONFLICTS);
    rig_plan_after("write", FATE_ANSWER, login_elsewhere);
    ck_assert_act(kick(), ERR_OK);
    ck_assert_int_eq(metrics_read(METRIC_STORE_CONFLICTS) - conflicts, 1);
    ck_assert(!is_alive(node, &session));
    ck_assert(is_alive(node, &theirs));
    ck_assert(is_alive(other, &theirs));
}
END_TEST

static void kick_elsewhere(void)
{
    ck_assert_act(act_kick(other, "alice", rig_id(&session)), ERR_OK);
}

START_TEST(who_loses_to_the_same_change_tells_the_news_again)
{
    rig_plan_after("write", FATE_ANSWER, kick_elsewhere);
    struct act *act = kick();
    ck_assert_act(act, ERR_SESSION_NOT_FOUND);
    ck_assert_uint_eq(rig_served("epoch"), 2);
    ck_assert_uint_eq(act->base.out.ended_count, 0);
}
END_TEST

/* The version moves before each write. */
static int64_t rounds, round_ms;
static void move_version(void)
{
    char stamp[32];
    clock_fake_pass(round_ms);
    snprintf(stamp, sizeof(stamp), "%lld", (long long)(RIG_NOW + 100000 + ++rounds));
    redis_model_set_field(rig.redis, rig_user_key("alice", 'u'), TEXT(STATE_FIELD_VERSION),
                          text_of(stamp));
    rig_plan_after("write", FATE_ANSWER, move_version);
}

static void lose_always(void)
{
    rig_plan_after("write", FATE_ANSWER, move_version);
    ck_assert_act(act_login(node, "alice", "phone"), ERR_STORE_CONTENDED);
    rig_forget_plans();
    ck_assert(is_alive(other, &session));
}

START_TEST(a_change_that_always_loses_gives_up)
{
    rounds = round_ms = 0;
    lose_always();
    ck_assert_int_eq(rounds, 500);
}
END_TEST

START_TEST(a_change_that_loses_until_its_deadline_is_contended)
{
    rounds = 0;
    round_ms = 200;
    lose_always();
    ck_assert_int_eq(rounds, 3);
}
END_TEST

static void be_late(void)
{
    clock_fake_pass(rig.conf->redis_timeout);
}

/* It lost to nobody. */
START_TEST(a_state_that_comes_after_the_deadline_is_late)
{
    rig_plan_after("HGETALL", FATE_ANSWER, be_late);
    ck_assert_act(act_login(node, "alice", "phone"), ERR_STORE_TIMEOUT);
    ck_assert_uint_eq(rig_served("write"), 0);
}
END_TEST

START_TEST(what_is_given_up_leaves_whose_it_was)
{
    for (int i = 0; i < 2; i++) { /* the first is idle when the third comes */
        clock_fake_pass(1000 * 1000);
        rig_login(node, "alice");
    }
    struct act *act = act_validate(other, rig_access(&session));
    ck_assert_act(act, ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.out.reason, REASON_IDLE);
    ck_assert_text_eq(act->base.facts.user_id, "alice");
}
END_TEST

static int64_t version_of_alice(void)
{
    struct text stamp = redis_model_field(rig.redis, rig_user_key("alice", 'u'), //
                                          TEXT(STATE_FIELD_VERSION));
    return strtoll(stamp.data, NULL, 10);
}

/* Within the same millisecond: who has the old epoch must not take the new state for an older one.
 */
START_TEST(what_redis_has_forgotten_goes_on_where_it_ended)
{
    ck_assert_act(act_logout_all(node, "alice"), ERR_OK);
    int64_t before = version_of_alice();
    redis_model_flush(rig.redis);
    ck_assert_act(act_login(node, "alice", "phone"), ERR_OK);
    ck_assert_int_gt(version_of_alice(), before);
}
END_TEST

/* --- a write whose fate is unknown --- */

START_TEST(an_unknown_write_that_took_effect_is_recognised)
{
    rig_plan("write", FATE_CUT_AFTER);
    struct act *act = kick();
    ck_assert_act(act, ERR_OK);
    ck_assert_uint_eq(rig_served("write"), 1);
    ck_assert_uint_eq(act->base.out.ended_count, 1);
    ck_assert_uint_eq(rig_served("epoch"), 1);
    ck_assert_int_eq(act->base.out.durability, DURABILITY_ACCEPTED);
    ck_assert(!is_alive(other, &session));
}
END_TEST

START_TEST(an_unknown_write_that_took_none_is_done_again)
{
    rig_plan("write", FATE_CUT_BEFORE);
    struct act *act = kick();
    ck_assert_act(act, ERR_OK);
    ck_assert_uint_eq(rig_served("write"), 2);
    ck_assert_uint_eq(act->base.out.ended_count, 1);
    ck_assert_int_eq(act->base.out.durability, DURABILITY_REPLICATED);
    ck_assert(!is_alive(other, &session));
}
END_TEST

START_TEST(an_unknown_login_gives_one_session_whether_it_took_effect_or_not)
{
    rig_plan("write", _i ? FATE_CUT_AFTER : FATE_CUT_BEFORE);
    struct act *act = act_login(node, "bob", "phone");
    ck_assert_act(act, ERR_OK);
    struct text token = {act->login.pair.access_token, TOKEN_LENGTH};
    ck_assert_act(act_validate(other, token), ERR_OK);
    ck_assert_uint_eq(rig_served("write"), _i ? 1 : 2);
    struct act *list = act_of(node);
    list->list.token = token;
    session_list(&list->list);
    ck_assert_act(list, ERR_OK);
    ck_assert_uint_eq(list->list.count, 1);
}
END_TEST

START_TEST(the_write_of_another_is_not_taken_for_the_own_unknown_one)
{
    rig_plan_after("write", FATE_CUT_BEFORE, kick_elsewhere);
    struct act *act = kick();
    act->base.actor = TEXT("somebody else");
    ck_assert_act(act, ERR_SESSION_NOT_FOUND);
}
END_TEST

static void let_the_deadline_pass(void)
{
    clock_fake_pass(600);
}

START_TEST(an_unknown_write_at_the_deadline_stays_unknown)
{
    rig_plan_after("write", FATE_CUT_BEFORE, let_the_deadline_pass);
    ck_assert_act(act_login(node, "bob", "phone"), ERR_STORE_UNAVAILABLE);
}
END_TEST

/* --- no answer, step by step --- */

static const struct {
    const char *step;
    enum fate fate;
    enum err err;
    bool took_effect;
} login_rows[] = {
    {"GET", FATE_LATE_BEFORE, ERR_STORE_TIMEOUT, false},
    {"GET", FATE_AWAY, ERR_STORE_UNAVAILABLE, false},
    {"GET", FATE_STRANGE, ERR_STORE_PROTOCOL, false},
    {"HGETALL", FATE_LATE_BEFORE, ERR_STORE_TIMEOUT, false},
    {"HGETALL", FATE_LATE_AFTER, ERR_STORE_TIMEOUT, false},
    {"HGETALL", FATE_AWAY, ERR_STORE_UNAVAILABLE, false},
    {"HGETALL", FATE_STRANGE, ERR_STORE_PROTOCOL, false},
    {"HGETALL", FATE_TWO_NUMBERS, ERR_STORE_PROTOCOL, false},
    {"HGETALL", FATE_FIVE_NUMBERS, ERR_STORE_PROTOCOL, false},
    {"write", FATE_REFUSED, ERR_STORE_REFUSED, false},
    {"HGETALL", FATE_CUT_AFTER, ERR_OK, true},
    {"write", FATE_LATE_BEFORE, ERR_STORE_TIMEOUT, false},
    {"write", FATE_LATE_AFTER, ERR_STORE_TIMEOUT, true},
};

/* At a node that does not know the tenant yet. */
START_TEST(a_login_tells_the_truth_when_a_step_fails)
{
    rig_plan(login_rows[_i].step, login_rows[_i].fate);
    ck_assert_act(act_login(other, "bob", "phone"), login_rows[_i].err);
    ck_assert_int_eq(redis_model_has(rig.redis, rig_user_key("bob", 'u')),
                     login_rows[_i].took_effect);
}
END_TEST

static const struct {
    const char *step;
    enum fate fate;
    enum durability durability;
    size_t unconfirmed;
    bool in_redis;
} kick_rows[] = {
    {"GET", FATE_LATE_BEFORE, DURABILITY_PENDING, 1, false},
    {"HGETALL", FATE_LATE_BEFORE, DURABILITY_PENDING, 1, false},
    {"HGETALL", FATE_AWAY, DURABILITY_PENDING, 1, false},
    {"HGETALL", FATE_STRANGE, DURABILITY_PENDING, 1, false},
    {"write", FATE_LATE_BEFORE, DURABILITY_PENDING, 1, false},
    {"write", FATE_LATE_AFTER, DURABILITY_PENDING, 1, true},
    {"epoch", FATE_LATE_BEFORE, DURABILITY_PENDING, 1, true},
    {"epoch", FATE_AWAY, DURABILITY_PENDING, 1, true},
    {"epoch", FATE_CUT_AFTER, DURABILITY_REPLICATED, 0, true},
};

START_TEST(a_kick_holds_here_whatever_step_fails_and_in_redis_soon)
{
    rig_plan(kick_rows[_i].step, kick_rows[_i].fate);
    rig_plan("refresher:GET", FATE_HOLD);
    struct act *act = kick();
    ck_assert_act(act, ERR_OK);
    ck_assert_int_eq(act->base.out.durability, kick_rows[_i].durability);
    ck_assert_uint_eq(rig_unconfirmed(node), kick_rows[_i].unconfirmed);
    ck_assert(!is_alive(node, &session));
    ck_assert_int_eq(is_alive(other, &session), !kick_rows[_i].in_redis);
    rig_pass(10000);
    rig_forget_plans();
    ck_assert_uint_eq(rig_unconfirmed(node), 0);
    ck_assert(!is_alive(other, &session));
    ck_assert(redis_model_has(rig.redis, rig_user_key("alice", 'e')));
}
END_TEST

/* --- changes of one user on one worker --- */

START_TEST(changes_of_one_user_on_one_worker_go_one_after_the_other)
{
    int64_t conflicts = metrics_read(METRIC_STORE_CONFLICTS);
    struct act *acts[5];
    for (size_t i = 0; i < 5; i++)
        acts[i] = act_login(node, "alice", (const char *[]){"a", "b", "c", "d", "e"}[i]);
    for (size_t i = 0; i < 5; i++)
        ck_assert_act(acts[i], ERR_OK);
    ck_assert_int_eq(metrics_read(METRIC_STORE_CONFLICTS), conflicts);
}
END_TEST

START_TEST(changes_of_several_users_do_not_wait_for_each_other)
{
    rig_plan("HGETALL", FATE_HOLD);
    struct act *alice = act_login(node, "alice", "a"), *behind = act_login(node, "alice", "b");
    struct act *bob = act_login(node, "bob", "a");
    ck_assert_act(bob, ERR_OK);
    ck_assert(!act_is_done(alice) && !act_is_done(behind));
    rig_release();
    ck_assert_act(alice, ERR_OK);
    ck_assert_act(behind, ERR_OK);
}
END_TEST

START_TEST(who_waited_until_his_deadline_ends_with_the_change_before)
{
    struct act *acts[3];
    rig_plan("HGETALL", FATE_HOLD);
    for (size_t i = 0; i < 3; i++)
        acts[i] = act_login(node, "alice", "a");
    rig_pass(600);
    for (size_t i = 0; i < 3; i++)
        ck_assert_act(acts[i], ERR_STORE_TIMEOUT);
    ck_assert_uint_eq(rig_served("write"), 0);
}
END_TEST

START_TEST(a_change_and_those_behind_it_end_with_the_worker)
{
    struct act *acts[3];
    rig_plan("HGETALL", FATE_HOLD);
    for (size_t i = 0; i < 3; i++)
        acts[i] = act_login(node, "alice", "a");
    rig_run();
    rig_stop(node);
    for (size_t i = 0; i < 3; i++)
        ck_assert_act(acts[i], ERR_SHUTTING_DOWN);
}
END_TEST

START_TEST(a_change_whose_write_is_under_way_ends_with_the_worker)
{
    rig_plan(_i ? "epoch" : "write", FATE_HOLD);
    struct act *act = kick();
    rig_run();
    rig_stop(node);
    ck_assert(act_is_done(act));
    ck_assert_act(act_kick(other, "alice", rig_id(&session)), _i ? ERR_SESSION_NOT_FOUND : ERR_OK);
}
END_TEST

/* --- a state that is older than what was seen --- */

START_TEST(a_state_older_than_one_seen_is_nothing_to_build_on_for_a_minute)
{
    struct redis_model *before = redis_model_copy(rig.redis);
    clock_fake_pass(5);
    ck_assert_act(kick(), ERR_OK);
    redis_model_restore(rig.redis, before);
    int64_t behind = metrics_read(METRIC_STORE_BEHIND);
    ck_assert_act(act_login(node, "alice", "a"), ERR_STORE_BEHIND);
    ck_assert_int_eq(metrics_read(METRIC_STORE_BEHIND) - behind, 1);
    clock_fake_pass(61000);
    ck_assert_act(act_login(node, "alice", "a"), ERR_OK);
    redis_model_destroy(&before);
    ck_assert(!is_alive(node, &session));
}
END_TEST

START_TEST(a_state_that_is_gone_goes_on_behind_where_it_ended)
{
    clock_fake_pass(5);
    ck_assert_act(kick(), ERR_OK);
    redis_model_flush(rig.redis);
    theirs = rig_login(node, "alice");
    ck_assert(is_alive(node, &theirs));
    ck_assert(is_alive(other, &theirs));
    ck_assert(!is_alive(node, &session));
}
END_TEST

/* --- records that do not open --- */

/* Marks, touches of nobody, contexts and names that do not open. */
START_TEST(fields_that_say_nothing_are_left_alone)
{
    static const char *const rows[][2] = {
        {STATE_FIELD_CONTEXTS, "no record"}, {STATE_FIELD_NAMES, "no record"},
        {STATE_FIELD_GUESSES, "no number"},  {"another", "field"},
        {"12345678t", "1800000000"},         {"87654321t", "no number"},
        {"12345678x", "no touch"},           {"12345678", "no record"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        redis_model_set_field(rig.redis, rig_user_key("alice", 'u'), text_of(rows[i][0]),
                              text_of(rows[i][1]));
    theirs = rig_login(node, "alice");
    ck_assert(is_alive(other, &theirs) && is_alive(other, &session));
    ck_assert_act(kick(), ERR_OK);
    ck_assert_text_eq(redis_model_field(rig.redis, rig_user_key("alice", 'u'), TEXT("another")),
                      "field");
}
END_TEST

/* Sealed by us, and nothing that we would seal. */
START_TEST(contexts_that_make_no_sense_were_seen_by_nobody)
{
    static const uint8_t no_session[SESSION_ID];
    struct user_tag owner;
    struct buffer stored = {0};
    token_tag_user(rig.keyring, RIG_TENANT, TEXT("alice"), &owner);
    record_write_bytes(rig.keyring, true, (struct record_position){&owner, no_session},
                       RECORD_CONTEXTS, TEXT("no contexts"), &stored);
    redis_model_set_field(rig.redis, rig_user_key("alice", 'u'), TEXT(STATE_FIELD_CONTEXTS),
                          buffer_text(&stored));
    buffer_free(&stored);
    struct act *act = act_login(node, "alice", "phone");
    ck_assert_act(act, ERR_OK);
    ck_assert(act->login.new_device);
}
END_TEST

/* The later of the pair's beginning and the last use that was told. */
START_TEST(the_last_use_is_the_latest_that_is_known)
{
    static const char *const told[] = {"1800000500", "1799999000"};
    char field[SESSION_ID + 1];
    ck_assert(text_from_hex(field, SESSION_ID, rig_id(&session)));
    field[SESSION_ID] = 't';
    redis_model_set_field(rig.redis, rig_user_key("alice", 'u'),
                          (struct text){field, sizeof(field)}, text_of(told[_i]));
    struct act *act = act_of(node);
    act->list.tenant = RIG_TENANT;
    act->list.user_id = TEXT("alice");
    session_list(&act->list);
    ck_assert_act(act, ERR_OK);
    ck_assert_uint_eq(act->list.count, 1);
    ck_assert_int_eq(act->list.sessions[0].last_seen_s, RIG_NOW / 1000 + (_i ? 0 : 500));
}
END_TEST

START_TEST(a_stamp_that_is_none_counts_as_the_oldest)
{
    redis_model_set_field(rig.redis, rig_user_key("alice", 'u'), TEXT(STATE_FIELD_VERSION),
                          _i ? TEXT("12 no epoch") : TEXT("nothing"));
    ck_assert_act(kick(), ERR_OK);
    ck_assert(!is_alive(other, &session));
}
END_TEST

/* --- the journal's disk --- */

START_TEST(without_a_disk_redis_and_a_replica_are_enough)
{
    rig_break_disk(true);
    rig.replicas = _i;
    ck_assert_act(kick(), _i ? ERR_OK : ERR_JOURNAL_UNAVAILABLE);
    ck_assert(!is_alive(node, &session));
    rig_break_disk(false);
}
END_TEST

START_TEST(without_disk_and_epoch_nothing_is_promised)
{
    rig_break_disk(true);
    rig_plan("epoch", FATE_AWAY);
    ck_assert_act(kick(), ERR_JOURNAL_UNAVAILABLE);
    ck_assert(!is_alive(node, &session));
    rig_break_disk(false);
}
END_TEST

START_TEST(without_disk_and_redis_nothing_is_ended)
{
    rig_break_disk(true);
    rig.fate = FATE_AWAY;
    ck_assert_act(_i ? kick() : act_freeze(node, "alice", false), ERR_JOURNAL_UNAVAILABLE);
    rig_break_disk(false);
}
END_TEST

START_TEST(a_journal_that_is_full_takes_no_more_in_an_outage)
{
    rig.conf->journal_max_bytes = 65536;
    struct rig_node *small = rig_start(2);
    ck_assert(is_alive(small, &session));
    char user[16];
    enum err err = ERR_OK;
    rig.fate = FATE_AWAY;
    for (unsigned i = 0; i < 2000 && err == ERR_OK; i++) {
        snprintf(user, sizeof(user), "user%u", i);
        err = act_finish(act_logout_all(small, user));
    }
    ck_assert_int_eq(err, ERR_JOURNAL_UNAVAILABLE);
    ck_assert_act(act_freeze(small, "alice", false), ERR_JOURNAL_UNAVAILABLE);
    rig.fate = FATE_ANSWER;
    ck_assert_act(act_kick(small, "alice", rig_id(&session)), ERR_OK);
    ck_assert(!is_alive(small, &session));
}
END_TEST

START_TEST(a_user_record_that_does_not_open_ends_the_older_sessions)
{
    clock_fake_pass(10);
    redis_model_set_field(rig.redis, rig_user_key("alice", 'u'), TEXT(STATE_FIELD_USER),
                          TEXT("no record"));
    theirs = rig_login(node, "alice");
    ck_assert(is_alive(other, &theirs));
    ck_assert(!is_alive(other, &session));
}
END_TEST

static void add_conflicts(Suite *suite)
{
    TCase *tcase = rig_case(suite, "conflicts", set_up);
    tcase_add_test(tcase, a_conflict_is_decided_anew_on_what_the_other_wrote);
    tcase_add_test(tcase, who_loses_to_the_same_change_tells_the_news_again);
    tcase_add_test(tcase, a_change_that_always_loses_gives_up);
    tcase_add_test(tcase, a_change_that_loses_until_its_deadline_is_contended);
    tcase_add_test(tcase, a_state_that_comes_after_the_deadline_is_late);
    tcase_add_test(tcase, what_is_given_up_leaves_whose_it_was);
    tcase_add_test(tcase, what_redis_has_forgotten_goes_on_where_it_ended);
}

static void add_unknown(Suite *suite)
{
    TCase *tcase = rig_case(suite, "unknown", set_up);
    tcase_add_test(tcase, an_unknown_write_that_took_effect_is_recognised);
    tcase_add_test(tcase, an_unknown_write_that_took_none_is_done_again);
    tcase_add_loop_test(tcase, an_unknown_login_gives_one_session_whether_it_took_effect_or_not, 0,
                        2);
    tcase_add_test(tcase, the_write_of_another_is_not_taken_for_the_own_unknown_one);
    tcase_add_test(tcase, an_unknown_write_at_the_deadline_stays_unknown);
}

static void add_failures(Suite *suite)
{
    TCase *tcase = rig_case(suite, "failures", set_up);
    tcase_add_loop_test(tcase, a_login_tells_the_truth_when_a_step_fails, 0,
                        sizeof(login_rows) / sizeof(login_rows[0]));
    tcase_add_loop_test(tcase, a_kick_holds_here_whatever_step_fails_and_in_redis_soon, 0,
                        sizeof(kick_rows) / sizeof(kick_rows[0]));
}

static void add_rows(Suite *suite)
{
    TCase *tcase = rig_case(suite, "rows", set_up);
    tcase_add_test(tcase, changes_of_one_user_on_one_worker_go_one_after_the_other);
    tcase_add_test(tcase, changes_of_several_users_do_not_wait_for_each_other);
    tcase_add_test(tcase, who_waited_until_his_deadline_ends_with_the_change_before);
    tcase_add_test(tcase, a_change_and_those_behind_it_end_with_the_worker);
    tcase_add_loop_test(tcase, a_change_whose_write_is_under_way_ends_with_the_worker, 0, 2);
}

int main(void)
{
    Suite *suite = suite_create("change");
    TCase *tcase = rig_case(suite, "change", set_up);
    tcase_add_test(tcase, a_change_is_read_decided_and_written);
    tcase_add_test(tcase, without_a_replica_the_journal_goes_on_keeping_it);
    tcase_add_test(tcase, where_no_replica_is_meant_to_be_the_master_is_enough);
    tcase_add_test(tcase, a_state_older_than_one_seen_is_nothing_to_build_on_for_a_minute);
    tcase_add_test(tcase, a_state_that_is_gone_goes_on_behind_where_it_ended);
    tcase_add_test(tcase, a_user_record_that_does_not_open_ends_the_older_sessions);
    tcase_add_test(tcase, fields_that_say_nothing_are_left_alone);
    tcase_add_test(tcase, contexts_that_make_no_sense_were_seen_by_nobody);
    tcase_add_loop_test(tcase, the_last_use_is_the_latest_that_is_known, 0, 2);
    tcase_add_loop_test(tcase, a_stamp_that_is_none_counts_as_the_oldest, 0, 2);
    tcase_add_loop_test(tcase, without_a_disk_redis_and_a_replica_are_enough, 0, 2);
    tcase_add_test(tcase, without_disk_and_epoch_nothing_is_promised);
    tcase_add_loop_test(tcase, without_disk_and_redis_nothing_is_ended, 0, 2);
    tcase_add_test(tcase, a_journal_that_is_full_takes_no_more_in_an_outage);
    add_conflicts(suite);
    add_unknown(suite);
    add_failures(suite);
    add_rows(suite);
    return support_run(suite);
}
