/* Kick, logout and logout-all, with Redis and in an outage; and the replay of the journal. */
#include <check.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/conf/conf_options.h"
#include "clock.h"
#include "metrics.h"
#include "session/model/state.h"
#include "support_run.h"
#include "support_session.h"

static struct rig_node *node, *other;
static struct rig_session session, second;

static void set_up(void)
{
    rig_set_up();
    node = rig_start(0);
    other = rig_start(1);
    session = rig_login(node, "alice");
    second = rig_login(node, "alice");
    clock_fake_pass(5);
    rig_recount();
}

static enum err validate(const struct rig_session *whose)
{
    return rig_validate(other, whose);
}

static struct act *end_with(const struct rig_session *by, enum end_scope scope)
{
    struct act *act = act_of(node);
    act->end.token = rig_access(by);
    act->end.scope = scope;
    act->end.why = TEXT(REASON_LOGGED_OUT);
    return act;
}

static struct act *kick_by(const struct rig_session *by, struct text target)
{
    struct act *act = end_with(by, END_ONE);
    act->end.target = target;
    session_end(&act->end);
    return act;
}

static void lose_redis(void)
{
    rig.fate = FATE_AWAY;
}

/* Redis is back, and the journal was replayed. */
static void get_redis_back(void)
{
    rig.fate = FATE_ANSWER;
    rig_pass(12000);
    ck_assert_uint_eq(rig_unconfirmed(node), 0);
}

static struct revocation only_revocation(struct arena *arena)
{
    struct user_tag owner;
    size_t count;
    token_tag_user(rig.keyring, RIG_TENANT, TEXT("alice"), &owner);
    struct revocation *list =
        journal_of_owner(node->journal, (const uint8_t *)&owner, arena, &count);
    ck_assert_uint_eq(count, 1);
    return *list;
}

/* --- with Redis --- */

START_TEST(a_logout_ends_the_session_of_the_token)
{
    struct text token = _i ? rig_refresh(&session) : rig_access(&session);
    struct act *act = act_logout(node, token);
    ck_assert_act(act, ERR_OK);
    ck_assert(act->end.own_ended);
    ck_assert_uint_eq(act->base.out.ended_count, 1);
    ck_assert_int_eq(validate(&session), ERR_TOKEN_INVALID);
    ck_assert_int_eq(validate(&second), ERR_OK);
    struct act *again = act_logout(node, token);
    ck_assert_act(again, ERR_OK);
    ck_assert(again->end.own_ended);
    ck_assert_uint_eq(again->base.out.ended_count, 0);
}
END_TEST

START_TEST(a_logout_with_what_is_no_token_finds_it_over)
{
    struct act *act = act_logout(node, TEXT("sa_nothing"));
    ck_assert_act(act, ERR_OK);
    ck_assert(act->end.own_ended);
    ck_assert_uint_eq(rig_served("HGETALL"), 0);
}
END_TEST

START_TEST(a_logout_with_a_used_token_ends_the_session_it_was_of)
{
    struct act *refresh = act_refresh(node, rig_refresh(&session));
    ck_assert_act(refresh, ERR_OK);
    clock_fake_pass(60000);
    ck_assert_act(act_logout(node, rig_refresh(&session)), ERR_OK);
    struct text next = {refresh->refresh.pair.access_token, TOKEN_LENGTH};
    ck_assert_act(act_validate(other, next), ERR_TOKEN_INVALID);
}
END_TEST

START_TEST(a_user_ends_one_of_his_sessions)
{
    ck_assert_act(kick_by(&session, rig_id(&second)), ERR_OK);
    ck_assert_int_eq(validate(&second), ERR_TOKEN_INVALID);
    ck_assert_int_eq(validate(&session), ERR_OK);
    ck_assert_act(kick_by(&session, rig_id(&second)), ERR_SESSION_NOT_FOUND);
    ck_assert_act(kick_by(&session, TEXT("no session")), ERR_SESSION_NOT_FOUND);
    ck_assert_act(kick_by(&session, rig_id(&session)), ERR_OK);
    ck_assert_int_eq(validate(&session), ERR_TOKEN_INVALID);
}
END_TEST

/* As far as it is his own. */
START_TEST(who_has_an_old_token_ends_the_session_it_was_of)
{
    ck_assert_act(act_policy(node, "{\"access_ttl\":60}"), ERR_OK);
    clock_fake_pass(100 * 1000);
    ck_assert_act(kick_by(&session, rig_id(&second)), ERR_TOKEN_INVALID);
    ck_assert_act(kick_by(&session, rig_id(&session)), ERR_OK);
}
END_TEST

START_TEST(who_is_logged_out_ends_nothing)
{
    ck_assert_act(act_kick(other, "alice", rig_id(&session)), ERR_OK);
    struct act *act = kick_by(&session, rig_id(&second));
    ck_assert_act(act, ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.out.reason, REASON_KICKED);
    ck_assert_int_eq(validate(&second), ERR_OK);
}
END_TEST

START_TEST(all_are_ended_but_the_one_that_is_kept)
{
    static const bool keeps[] = {false, true, true};
    struct act *act = end_with(&session, END_ALL);
    act->end.keep_own = _i == 1;
    if (_i == 2)
        act->end.keep = rig_id(&session);
    session_end(&act->end);
    ck_assert_act(act, ERR_OK);
    ck_assert_uint_eq(act->base.out.ended_count, keeps[_i] ? 1 : 2);
    ck_assert_int_eq(validate(&session), keeps[_i] ? ERR_OK : ERR_TOKEN_INVALID);
    ck_assert_int_eq(validate(&second), ERR_TOKEN_INVALID);
    struct rig_session third = rig_login(other, "alice");
    ck_assert_int_eq(validate(&third), ERR_OK);
}
END_TEST

START_TEST(a_kept_session_is_not_kept_by_the_next_end_of_all)
{
    struct act *act = end_with(&session, END_ALL);
    act->end.keep_own = true;
    session_end(&act->end);
    ck_assert_act(act, ERR_OK);
    clock_fake_pass(5);
    ck_assert_act(act_logout_all(node, "alice"), ERR_OK);
    act = act_of(node);
    act->end.tenant = RIG_TENANT;
    act->end.user_id = TEXT("alice");
    act->end.scope = END_ALL;
    act->end.keep = rig_id(&session);
    act->end.why = TEXT(REASON_REVOKED);
    session_end(&act->end);
    ck_assert_act(act, ERR_OK);
    ck_assert_int_eq(validate(&session), ERR_TOKEN_INVALID);
}
END_TEST

START_TEST(an_unknown_end_is_told_once_whether_it_took_effect_or_not)
{
    bool took_effect = _i % 2;
    rig_plan("write", took_effect ? FATE_CUT_AFTER : FATE_CUT_BEFORE);
    struct act *act = _i / 2 == 0   ? act_logout(node, rig_access(&session))
                      : _i / 2 == 1 ? kick_by(&second, rig_id(&session))
                                    : act_logout_all(node, "alice");
    ck_assert_act(act, ERR_OK);
    ck_assert_uint_eq(act->base.out.ended_count, _i / 2 == 2 ? 2 : 1);
    ck_assert_int_eq(validate(&session), ERR_TOKEN_INVALID);
    ck_assert_int_eq(validate(&second), _i / 2 == 2 ? ERR_TOKEN_INVALID : ERR_OK);
}
END_TEST

/* The round that finds the write done knows what it revoked. */
START_TEST(an_unknown_end_that_others_do_not_hear_of_is_kept_in_the_journal)
{
    rig_plan("write", _i % 2 ? FATE_CUT_AFTER : FATE_CUT_BEFORE);
    rig_plan("epoch", FATE_AWAY);
    struct act *act =
        _i / 2 ? act_logout_all(node, "alice") : act_logout(node, rig_access(&session));
    ck_assert_act(act, ERR_OK);
    ck_assert_int_eq(act->base.out.durability, DURABILITY_PENDING);
    ck_assert_uint_eq(rig_unconfirmed(node), 1);
}
END_TEST

START_TEST(a_session_that_redis_lost_gets_a_tombstone)
{
    struct redis_model *before = redis_model_copy(rig.redis);
    redis_model_flush(rig.redis);
    ck_assert_act(act_logout(node, rig_access(&session)), ERR_OK);
    ck_assert_int_eq(validate(&session), ERR_TOKEN_INVALID);
    ck_assert_act(act_kick(node, "alice", rig_id(&second)), ERR_SESSION_NOT_FOUND);
    redis_model_destroy(&before);
}
END_TEST

START_TEST(a_policy_may_keep_users_from_it)
{
    ck_assert_act(act_policy(node, "{\"self_service\":{\"kick\":false}}"), ERR_OK);
    struct act *act = end_with(&session, END_ONE);
    act->base.permission = PERMISSION_SELF_KICK;
    act->end.target = rig_id(&second);
    session_end(&act->end);
    ck_assert_act(act, ERR_FORBIDDEN);
    ck_assert_int_eq(validate(&second), ERR_OK);
}
END_TEST

START_TEST(a_tenant_that_ended_all_lets_its_users_end_nothing_but_their_own)
{
    ck_assert_act(act_end_tenant(other), ERR_OK);
    ck_assert_act(kick_by(&session, rig_id(&second)), ERR_TOKEN_INVALID);
    ck_assert_act(act_logout(node, rig_access(&session)), ERR_OK);
}
END_TEST

START_TEST(another_tenants_token_is_refused)
{
    for (int bound = 0; bound < 2; bound++) {
        struct act *act = end_with(&session, END_ONE);
        act->end.target = rig_id(&second);
        act->end.tenant = TEXT("another");
        act->end.tenant_bound = bound;
        session_end(&act->end);
        ck_assert_act(act, bound ? ERR_TENANT_FORBIDDEN : ERR_TOKEN_INVALID);
    }
}
END_TEST

/* --- in an outage --- */

static struct act *end_by_service(int scope)
{
    return scope == 0   ? act_kick(node, "alice", rig_id(&session))
           : scope == 1 ? act_logout(node, rig_access(&session))
                        : act_logout_all(node, "alice");
}

START_TEST(what_is_ended_in_an_outage_holds_here_at_once_and_elsewhere_when_redis_is_back)
{
    ck_assert_int_eq(rig_validate(node, &session), ERR_OK);
    lose_redis();
    struct act *act = end_by_service(_i);
    ck_assert_act(act, ERR_OK);
    ck_assert_int_eq(act->base.out.durability, DURABILITY_PENDING);
    ck_assert_uint_eq(rig_unconfirmed(node), 1);
    ck_assert_int_eq(rig_validate(node, &session), ERR_TOKEN_INVALID);
    get_redis_back();
    ck_assert_int_eq(validate(&session), ERR_TOKEN_INVALID);
    ck_assert_int_eq(validate(&second), _i == 2 ? ERR_TOKEN_INVALID : ERR_OK);
}
END_TEST

START_TEST(a_login_behind_an_end_in_an_outage_lives)
{
    lose_redis();
    ck_assert_act(act_logout_all(node, "alice"), ERR_OK);
    rig.fate = FATE_ANSWER;
    struct rig_session third = rig_login(node, "alice");
    get_redis_back();
    ck_assert_int_eq(validate(&third), ERR_OK);
    ck_assert_int_eq(rig_validate(node, &third), ERR_OK);
    ck_assert_int_eq(validate(&session), ERR_TOKEN_INVALID);
}
END_TEST

/* The clock of the node that wrote the tenant's cutoff is ahead. */
START_TEST(an_end_in_an_outage_ends_sessions_behind_the_tenants_cutoff_too)
{
    clock_fake_host(400);
    ck_assert_act(act_end_tenant(other), ERR_OK);
    clock_fake_host(-400);
    struct rig_session third = rig_login(node, "alice");
    ck_assert_int_eq(rig_validate(node, &third), ERR_OK);
    lose_redis();
    ck_assert_act(_i ? act_freeze(node, "alice", false) : act_logout_all(node, "alice"), ERR_OK);
    ck_assert_int_eq(rig_validate(node, &third), ERR_TOKEN_INVALID);
    get_redis_back();
    ck_assert_int_eq(validate(&third), ERR_TOKEN_INVALID);
}
END_TEST

START_TEST(a_user_ends_his_sessions_in_an_outage_if_memory_vouches_for_him)
{
    bool vouched = _i;
    if (vouched)
        ck_assert_int_eq(rig_validate(node, &session), ERR_OK);
    lose_redis();
    struct act *act = kick_by(&session, rig_id(&second));
    ck_assert_act(act, vouched ? ERR_OK : ERR_STORE_UNAVAILABLE);
    ck_assert_uint_eq(rig_unconfirmed(node), vouched);
    struct act *own = kick_by(&session, rig_id(&session));
    ck_assert_act(own, ERR_OK);
    if (vouched)
        ck_assert_act(kick_by(&session, rig_id(&second)), ERR_TOKEN_INVALID);
}
END_TEST

START_TEST(in_an_outage_a_user_may_keep_a_session)
{
    ck_assert_int_eq(rig_validate(node, &session), ERR_OK);
    lose_redis();
    struct act *act = end_with(&session, END_ALL);
    act->end.keep_own = _i == 0;
    if (_i == 1)
        act->end.keep = rig_id(&session);
    session_end(&act->end);
    ck_assert_act(act, ERR_OK);
    ck_assert(!act->end.own_ended || _i == 1);
    get_redis_back();
    ck_assert_int_eq(validate(&session), ERR_OK);
    ck_assert_int_eq(validate(&second), ERR_TOKEN_INVALID);
}
END_TEST

START_TEST(a_name_that_no_session_can_have_is_not_found_in_an_outage)
{
    lose_redis();
    ck_assert_act(act_kick(node, "alice", TEXT("0000000000000001")), ERR_SESSION_NOT_FOUND);
}
END_TEST

START_TEST(a_user_names_so_many_sessions_in_an_outage_and_no_more)
{
    ck_assert_int_eq(rig_validate(node, &session), ERR_OK);
    lose_redis();
    for (uint64_t i = 0; i < 101; i++) {
        uint8_t id[SESSION_ID];
        char hex[2 * SESSION_ID];
        token_new_session_id(clock_wall_ms(), id);
        text_to_hex(hex, id, SESSION_ID);
        ck_assert_act(kick_by(&session, (struct text){hex, sizeof(hex)}),
                      i < 100 ? ERR_OK : ERR_STORE_UNAVAILABLE);
    }
    struct act *all = end_with(&session, END_ALL);
    session_end(&all->end);
    ck_assert_act(all, ERR_OK);
}
END_TEST

/* This node does not know the tenant, so the lifetime of its sessions is unknown. */
START_TEST(of_a_tenant_that_is_not_known_sessions_end_in_an_outage_too)
{
    lose_redis();
    struct act *act = act_logout(other, rig_access(&session));
    ck_assert_act(act, ERR_OK);
    ck_assert_int_eq(act->base.out.durability, DURABILITY_PENDING);
    ck_assert_int_eq(rig_validate(other, &session), ERR_TOKEN_INVALID);
    rig.fate = FATE_ANSWER;
    rig_pass(12000);
    ck_assert_uint_eq(rig_unconfirmed(other), 0);
    ck_assert_int_eq(rig_validate(node, &session), ERR_TOKEN_INVALID);
}
END_TEST

/* A session lives from its login on, and no longer than any. */
START_TEST(what_was_ended_in_an_outage_is_kept_while_a_token_of_it_may_live)
{
    struct arena arena = {0};
    int64_t began_s = clock_wall_ms() / 1000;
    clock_fake_pass(1000 * 1000);
    lose_redis();
    ck_assert_act(_i ? act_logout(node, rig_access(&session))
                     : act_kick(node, "alice", rig_id(&session)),
                  ERR_OK);
    ck_assert_int_eq(only_revocation(&arena).forget_s, began_s + rig.conf->policy_absolute_timeout);
    arena_free(&arena);
}
END_TEST

/* --- replay --- */

/* The row of absolute_timeout lets sessions live so long; each test has a process of its own. */
static void let_sessions_live(int64_t seconds)
{
    struct option_row *row = (struct option_row *)conf_option_find(TEXT("policy"), //
                                                                   TEXT("absolute_timeout"));
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)row / page * page;
    ck_assert_int_eq(mprotect((void *)first, (uintptr_t)(row + 1) - first, PROT_READ | PROT_WRITE),
                     0);
    row->maximum = seconds;
    rig.conf->policy_absolute_timeout = rig.conf->policy_refresh_ttl = seconds;
    rig.conf->policy_idle_timeout = rig.conf->policy_access_ttl = seconds;
}

enum { YEAR_S = 365 * 24 * 3600 };

/* The end of alice's session, or of all of hers, by a node that does not know the tenant: while
 * Redis is away, and when it is back. *before: what Redis had. */
static void end_unknown(bool all, struct redis_model **before)
{
    let_sessions_live(3 * YEAR_S);
    session = rig_login(node, "alice");
    clock_fake_pass(5);
    *before = redis_model_copy(rig.redis);
    lose_redis();
    ck_assert_act(all ? act_logout_all(other, "alice") : act_kick(other, "alice", rig_id(&session)),
                  ERR_OK);
    rig.fate = FATE_ANSWER;
    rig_plan("refresher:GET", FATE_AWAY);
    rig_pass(12000);
    ck_assert_uint_eq(rig_unconfirmed(other), 0);
}

/* For the longest lifetime that a policy may give Redis may lose the end again. */
START_TEST(of_a_tenant_that_is_not_known_what_was_ended_is_kept_while_it_may_live)
{
    struct redis_model *before;
    end_unknown(_i, &before);
    clock_fake_pass(INT64_C(2000) * YEAR_S);
    rig_stop(other);
    redis_model_restore(rig.redis, before);
    other = rig_start(1);
    ck_assert_act(act_validate(other, rig_access(&session)), ERR_TOKEN_INVALID);
    redis_model_destroy(&before);
}
END_TEST

/* The invalidation, and the state that others then read, last as long. */
START_TEST(a_replay_for_a_tenant_that_is_not_known_lets_nothing_expire_too_early)
{
    struct redis_model *before;
    end_unknown(_i, &before);
    redis_model_destroy(&before);
    int64_t least_ms = RIG_NOW + INT64_C(3000) * YEAR_S;
    ck_assert_int_ge(redis_model_expiry(rig.redis, rig_user_key("alice", 'u')), least_ms);
    ck_assert_int_ge(redis_model_expiry(rig.redis, rig_user_key("alice", 'e')), least_ms);
}
END_TEST

START_TEST(a_replay_that_loses_to_a_change_is_decided_anew)
{
    lose_redis();
    ck_assert_act(act_kick(node, "alice", rig_id(&session)), ERR_OK);
    rig_plan("refresher:write", FATE_CUT_AFTER);
    get_redis_back();
    ck_assert_int_eq(validate(&session), ERR_TOKEN_INVALID);
}
END_TEST

static void login_elsewhere(void)
{
    second = rig_login(other, "alice");
}

START_TEST(a_refresher_in_conflict_with_a_login_ends_what_was_ended_and_nothing_else)
{
    lose_redis();
    ck_assert_act(act_kick(node, "alice", rig_id(&session)), ERR_OK);
    rig_plan_after("refresher:write", FATE_ANSWER, login_elsewhere);
    get_redis_back();
    ck_assert_int_eq(validate(&session), ERR_TOKEN_INVALID);
    ck_assert_int_eq(validate(&second), ERR_OK);
}
END_TEST

static const struct {
    const char *step;
    enum fate fate;
} replay_rows[] = {
    {"refresher:GET", FATE_LATE_BEFORE},  {"refresher:HGETALL", FATE_AWAY},
    {"refresher:HGETALL", FATE_STRANGE},  {"refresher:HGETALL", FATE_LATE_AFTER},
    {"refresher:write", FATE_CUT_BEFORE}, {"refresher:write", FATE_LATE_AFTER},
    {"refresher:write", FATE_AWAY},       {"refresher:epoch", FATE_LATE_BEFORE},
    {"refresher:epoch", FATE_CUT_AFTER},
};

START_TEST(a_replay_that_fails_at_any_step_is_done_again)
{
    lose_redis();
    ck_assert_act(act_kick(node, "alice", rig_id(&session)), ERR_OK);
    rig_plan(replay_rows[_i].step, replay_rows[_i].fate);
    get_redis_back();
    ck_assert_int_eq(validate(&session), ERR_TOKEN_INVALID);
    ck_assert_int_eq(validate(&second), ERR_OK);
}
END_TEST

START_TEST(without_a_replica_a_replay_is_not_the_last)
{
    lose_redis();
    ck_assert_act(act_kick(node, "alice", rig_id(&session)), ERR_OK);
    rig.fate = FATE_ANSWER;
    rig.replicas = 0;
    rig_pass(12000);
    ck_assert_uint_eq(rig_unconfirmed(node), 1);
    ck_assert_int_eq(validate(&session), ERR_TOKEN_INVALID);
    rig.replicas = 1;
    get_redis_back();
}
END_TEST

/* A server that was away may have lost what is recent: the journal is held against it. */
START_TEST(what_redis_lost_is_ended_again_when_tracking_comes_back)
{
    struct redis_model *before = redis_model_copy(rig.redis);
    int64_t repairs = metrics_read(METRIC_JOURNAL_REPAIRS);
    rig_watch(node, true);
    ck_assert_act(act_kick(node, "alice", rig_id(&session)), ERR_OK);
    ck_assert_uint_eq(rig_unconfirmed(node), 0);
    rig_watch(node, false);
    redis_model_restore(rig.redis, before);
    ck_assert_int_eq(validate(&session), ERR_OK); /* the node that has not heard of it */
    rig_watch(node, true);
    rig_pass(1000);
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_REPAIRS) - repairs, 1);
    ck_assert_int_eq(validate(&session), ERR_TOKEN_INVALID);
    redis_model_destroy(&before);
}
END_TEST

START_TEST(a_replay_ends_with_its_node)
{
    const char *step = _i ? "refresher:write" : "refresher:HGETALL";
    lose_redis();
    ck_assert_act(act_kick(node, "alice", rig_id(&session)), ERR_OK);
    rig.fate = FATE_ANSWER;
    rig_plan(step, FATE_HOLD);
    while (!rig_holds(step))
        rig_pass(100);
    rig_stop(node);
    ck_assert_int_eq(validate(&session), ERR_OK);
}
END_TEST

/* --- records under a key that is missing here --- */

/* Both of alice's sessions are sealed by a node with a newer key. */
static struct rig_node *seal_both(void)
{
    struct rig_node *newer = rig_start_newer(2);
    rig_seal_anew(newer, rig_access(&session));
    rig_seal_anew(newer, rig_access(&second));
    return newer;
}

START_TEST(what_cannot_be_opened_here_can_be_ended_by_its_name)
{
    struct rig_node *newer = seal_both();
    ck_assert_act(act_kick(node, "alice", rig_id(&second)), ERR_OK);
    ck_assert_int_eq(rig_validate(newer, &second), ERR_TOKEN_INVALID);
    ck_assert_int_eq(rig_validate(newer, &session), ERR_OK);
    ck_assert_act(act_logout_all(node, "alice"), ERR_OK);
    ck_assert_int_eq(rig_validate(newer, &session), ERR_TOKEN_INVALID);
}
END_TEST

/* Redis does not know of it yet: a list shows what the journal knows. */
START_TEST(what_cannot_be_opened_here_and_was_ended_here_is_listed_as_ended)
{
    seal_both();
    lose_redis();
    ck_assert_act(act_kick(node, "alice", rig_id(&second)), ERR_OK);
    rig.fate = FATE_ANSWER;
    struct act *act = act_list(node, "alice");
    ck_assert_act(act, ERR_OK);
    ck_assert_uint_eq(act->list.over_count, 1);
    ck_assert(text_equal(act->list.over[0].session_id, rig_id(&second)));
    ck_assert_text_eq(act->list.over[0].reason, REASON_KICKED);
}
END_TEST

/* Memory vouches, with an access token, for sessions that Redis has lost; records that cannot be
 * opened here may be refreshed. */
START_TEST(what_was_not_seen_is_kept_dead_while_a_token_of_it_may_be_good)
{
    struct arena arena = {0};
    bool foreign = _i;
    int64_t began_s = clock_wall_ms() / 1000;
    clock_fake_pass(1000 * 1000);
    if (foreign)
        seal_both();
    else
        redis_model_flush(rig.redis);
    ck_assert_act(act_logout(node, rig_access(&session)), ERR_OK);
    ck_assert_int_eq(only_revocation(&arena).forget_s,
                     foreign ? began_s + rig.conf->policy_absolute_timeout
                             : clock_wall_ms() / 1000 + rig.conf->policy_access_ttl);
    arena_free(&arena);
}
END_TEST

/* The node that ended all could not bury it: its record is there. */
START_TEST(what_an_end_of_all_has_killed_is_not_kept_by_the_next)
{
    struct rig_node *newer = seal_both();
    ck_assert_act(act_logout_all(node, "alice"), ERR_OK);
    clock_fake_pass(5);
    struct act *act = act_of(newer);
    act->end.tenant = RIG_TENANT;
    act->end.user_id = TEXT("alice");
    act->end.scope = END_ALL;
    act->end.keep = rig_id(&session);
    act->end.why = TEXT(REASON_REVOKED);
    session_end(&act->end);
    ck_assert_act(act, ERR_OK);
    ck_assert_int_eq(rig_validate(newer, &session), ERR_TOKEN_INVALID);
}
END_TEST

/* The time of its last use belongs to nobody then. */
START_TEST(with_what_cannot_be_opened_here_its_last_use_is_forgotten)
{
    uint8_t id[SESSION_ID];
    char field[TOUCH_FIELD] = {[SESSION_ID] = 't'};
    struct text touch = {field, sizeof(field)}, key = rig_user_key("alice", 'u');
    ck_assert(text_from_hex(id, SESSION_ID, rig_id(&second)));
    memcpy(field, id, SESSION_ID);
    seal_both();
    redis_model_set_field(rig.redis, key, touch, TEXT("1800000000"));
    ck_assert_act(act_kick(node, "alice", rig_id(&second)), ERR_OK);
    ck_assert_ptr_null(redis_model_field(rig.redis, rig_user_key("alice", 'u'), touch).data);
}
END_TEST

START_TEST(what_cannot_be_opened_here_is_ended_by_the_replay_of_an_outage)
{
    struct rig_node *newer = seal_both();
    rig_plan("HGETALL", FATE_AWAY);
    ck_assert_act(act_kick(node, "alice", rig_id(&session)), ERR_OK);
    ck_assert_uint_eq(rig_unconfirmed(node), 1);
    get_redis_back();
    ck_assert_int_eq(rig_validate(newer, &session), ERR_TOKEN_INVALID);
    ck_assert_int_eq(rig_validate(newer, &second), ERR_OK);
}
END_TEST

static void add_ends(Suite *suite)
{
    TCase *tcase = rig_case(suite, "ends", set_up);
    tcase_add_loop_test(tcase, a_logout_ends_the_session_of_the_token, 0, 2);
    tcase_add_test(tcase, a_logout_with_what_is_no_token_finds_it_over);
    tcase_add_test(tcase, a_logout_with_a_used_token_ends_the_session_it_was_of);
    tcase_add_test(tcase, a_user_ends_one_of_his_sessions);
    tcase_add_test(tcase, who_has_an_old_token_ends_the_session_it_was_of);
    tcase_add_test(tcase, who_is_logged_out_ends_nothing);
    tcase_add_loop_test(tcase, all_are_ended_but_the_one_that_is_kept, 0, 3);
    tcase_add_test(tcase, a_kept_session_is_not_kept_by_the_next_end_of_all);
    tcase_add_loop_test(tcase, an_unknown_end_is_told_once_whether_it_took_effect_or_not, 0, 6);
    tcase_add_loop_test(tcase, an_unknown_end_that_others_do_not_hear_of_is_kept_in_the_journal, 0,
                        4);
    tcase_add_test(tcase, a_session_that_redis_lost_gets_a_tombstone);
    tcase_add_test(tcase, a_policy_may_keep_users_from_it);
    tcase_add_test(tcase, a_tenant_that_ended_all_lets_its_users_end_nothing_but_their_own);
    tcase_add_test(tcase, another_tenants_token_is_refused);
    tcase_add_test(tcase, what_cannot_be_opened_here_can_be_ended_by_its_name);
    tcase_add_loop_test(tcase, what_was_not_seen_is_kept_dead_while_a_token_of_it_may_be_good, 0,
                        2);
    tcase_add_test(tcase, what_an_end_of_all_has_killed_is_not_kept_by_the_next);
    tcase_add_test(tcase, what_cannot_be_opened_here_and_was_ended_here_is_listed_as_ended);
    tcase_add_test(tcase, with_what_cannot_be_opened_here_its_last_use_is_forgotten);
    tcase_add_test(tcase, what_cannot_be_opened_here_is_ended_by_the_replay_of_an_outage);
}

static void add_outages(Suite *suite)
{
    TCase *tcase = rig_case(suite, "outages", set_up);
    tcase_add_loop_test(
        tcase, what_is_ended_in_an_outage_holds_here_at_once_and_elsewhere_when_redis_is_back, 0,
        3);
    tcase_add_loop_test(tcase, what_was_ended_in_an_outage_is_kept_while_a_token_of_it_may_live, 0,
                        2);
    tcase_add_test(tcase, a_login_behind_an_end_in_an_outage_lives);
    tcase_add_loop_test(tcase, an_end_in_an_outage_ends_sessions_behind_the_tenants_cutoff_too, 0,
                        2);
    tcase_add_loop_test(tcase, a_user_ends_his_sessions_in_an_outage_if_memory_vouches_for_him, 0,
                        2);
    tcase_add_loop_test(tcase, in_an_outage_a_user_may_keep_a_session, 0, 2);
    tcase_add_test(tcase, a_name_that_no_session_can_have_is_not_found_in_an_outage);
    tcase_add_test(tcase, a_user_names_so_many_sessions_in_an_outage_and_no_more);
    tcase_add_loop_test(
        tcase, of_a_tenant_that_is_not_known_what_was_ended_is_kept_while_it_may_live, 0, 2);
    tcase_add_loop_test(
        tcase, a_replay_for_a_tenant_that_is_not_known_lets_nothing_expire_too_early, 0, 2);
    tcase_add_test(tcase, of_a_tenant_that_is_not_known_sessions_end_in_an_outage_too);
}

static void add_replays(Suite *suite)
{
    TCase *tcase = rig_case(suite, "replays", set_up);
    tcase_add_test(tcase, a_replay_that_loses_to_a_change_is_decided_anew);
    tcase_add_test(tcase,
                   a_refresher_in_conflict_with_a_login_ends_what_was_ended_and_nothing_else);
    tcase_add_loop_test(tcase, a_replay_that_fails_at_any_step_is_done_again, 0,
                        sizeof(replay_rows) / sizeof(replay_rows[0]));
    tcase_add_test(tcase, without_a_replica_a_replay_is_not_the_last);
    tcase_add_test(tcase, what_redis_lost_is_ended_again_when_tracking_comes_back);
    tcase_add_loop_test(tcase, a_replay_ends_with_its_node, 0, 2);
}

int main(void)
{
    Suite *suite = suite_create("end");
    add_ends(suite);
    add_outages(suite);
    add_replays(suite);
    return support_run(suite);
}
