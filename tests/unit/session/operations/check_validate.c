/* Validation: from fresh memory, from Redis, in an outage; and events between a read and its
 * reply. */
#include <check.h>
#include <string.h>

#include "clock.h"
#include "metrics.h"
#include "session/engine/cache_value.h"
#include "session/model/state.h"
#include "support_run.h"
#include "support_session.h"

static struct rig_node *node, *other;
static struct rig_session session;

/* One node with tracking up, another without; a session that neither has read. */
static void set_up(void)
{
    rig_set_up();
    node = rig_start(0);
    other = rig_start(1);
    rig_watch(node, true);
    session = rig_login(other, "alice");
    rig_recount();
}

static struct act *validate(void)
{
    return act_validate(node, rig_access(&session));
}

/* Validates without asking Redis. */
static struct act *validate_from_memory(enum err expected)
{
    unsigned before = rig_served("HMGET");
    struct act *act = validate();
    ck_assert_act(act, expected);
    ck_assert_uint_eq(rig_served("HMGET"), before);
    return act;
}

/* The same, with one. */
static struct act *validate_from_redis(enum err expected)
{
    unsigned before = rig_served("HMGET");
    struct act *act = validate();
    ck_assert_act(act, expected);
    ck_assert_uint_eq(rig_served("HMGET"), before + 1);
    return act;
}

static void warm(void)
{
    ck_assert_act(validate(), ERR_OK);
}

static void end_elsewhere(void)
{
    ck_assert_act(act_kick(other, "alice", rig_id(&session)), ERR_OK);
}

/* The other node makes the next pair in the place of the present one. */
static void refresh_elsewhere(void)
{
    struct act *act = act_refresh(other, rig_refresh(&session));
    ck_assert_act(act, ERR_OK);
    memcpy(session.access, act->refresh.pair.access_token, TOKEN_LENGTH);
    memcpy(session.refresh, act->refresh.pair.refresh_token, TOKEN_LENGTH);
}

static void set_policy(const char *json)
{
    ck_assert_act(act_policy(other, json), ERR_OK);
}

/* Redis loses the one field that is the session. */
static void lose_session(const char *user)
{
    uint8_t id[SESSION_ID];
    struct buffer reply = {0};
    struct text key = rig_user_key(user, 'u');
    ck_assert(text_from_hex(id, SESSION_ID, rig_id(&session)));
    const struct text command[] = {TEXT("HDEL"), key, {(const char *)id, SESSION_ID}};
    redis_model_run(rig.redis, NULL, key, command, 3, &reply);
    buffer_free(&reply);
}

/* --- memory and Redis --- */

START_TEST(what_was_read_while_tracked_is_answered_from_memory)
{
    int64_t hits = metrics_read(METRIC_CACHE_HITS);
    struct act *first = validate_from_redis(ERR_OK);
    ck_assert(!first->validate.from_cache);
    struct act *second = validate_from_memory(ERR_OK);
    ck_assert(second->validate.from_cache && !second->validate.stale);
    ck_assert_int_eq(metrics_read(METRIC_CACHE_HITS) - hits, 1);
    ck_assert(text_equal(first->validate.session_json, second->validate.session_json));
    ck_assert_int_eq(first->validate.access_expires_s, second->validate.access_expires_s);
    ck_assert_text_eq(second->base.facts.user_id, "alice");
}
END_TEST

START_TEST(without_tracking_redis_is_asked_each_time)
{
    rig_watch(node, false);
    validate_from_redis(ERR_OK);
    ck_assert(!validate_from_redis(ERR_OK)->validate.from_cache);
}
END_TEST

START_TEST(an_end_that_is_heard_of_is_known_at_once)
{
    warm();
    end_elsewhere();
    rig_run();
    struct act *act = validate_from_memory(ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.out.reason, REASON_KICKED);
    ck_assert_text_eq(act->base.out.ended_actor, "support");
}
END_TEST

START_TEST(an_end_that_redis_reports_stays_known_without_tracking)
{
    rig_watch(node, false);
    end_elsewhere();
    struct act *act = validate_from_redis(ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.out.reason, REASON_KICKED);
    validate_from_memory(ERR_TOKEN_INVALID);
}
END_TEST

START_TEST(a_token_of_the_pair_before_is_good_for_the_grace_alone)
{
    struct rig_session before = session;
    warm();
    clock_fake_pass(1000);
    refresh_elsewhere();
    ck_assert_int_eq(rig_validate(node, &before), ERR_OK);
    ck_assert_int_eq(rig_validate(node, &session), ERR_OK);
    clock_fake_pass(31000);
    struct act *act = act_validate(node, rig_access(&before));
    ck_assert_act(act, ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.out.reason, REASON_EXPIRED);
    ck_assert_int_eq(rig_validate(node, &session), ERR_OK);
}
END_TEST

static bool memory_recognises(const struct rig_session *wanted)
{
    struct arena arena = {0};
    struct token token;
    struct cache_key key;
    struct cache_entry entry;
    struct cache_value value;
    uint8_t hash[SECRET_HASH];
    ck_assert(token_read(rig.keyring, TOKEN_ACCESS, rig_access(wanted), &token));
    memcpy(key.owner, &token.owner, OWNER_TAG);
    memcpy(key.session, token.session_id, SESSION_ID);
    bool recognised = cache_get(node->cache, &key, &arena, &entry) &&
                      cache_value_read_active(entry.value, key.session, &value) &&
                      cache_value_recognise(node->service, &value, &token, hash);
    arena_free(&arena);
    return recognised;
}

START_TEST(memory_recognises_the_present_token_and_no_other)
{
    struct rig_session before = session;
    warm();
    ck_assert(!memory_recognises(&session));
    validate_from_memory(ERR_OK);
    ck_assert(memory_recognises(&session));
    validate_from_memory(ERR_OK);
    refresh_elsewhere();
    rig_run();
    ck_assert_int_eq(rig_validate(node, &before), ERR_OK);
    ck_assert_int_eq(rig_validate(node, &before), ERR_OK);
    ck_assert(!memory_recognises(&session) && !memory_recognises(&before));
    validate_from_memory(ERR_OK);
    ck_assert(memory_recognises(&session) && !memory_recognises(&before));
    ck_assert_int_eq(rig_validate(node, &before), ERR_OK); /* within the grace */
    ck_assert(memory_recognises(&session) && !memory_recognises(&before));
    clock_fake_pass(31000);
    ck_assert_int_eq(rig_validate(node, &before), ERR_TOKEN_INVALID);
    ck_assert_int_eq(rig_validate(node, &session), ERR_OK);
}
END_TEST

START_TEST(a_recognised_token_that_is_over_is_refused_and_explained)
{
    set_policy("{\"access_ttl\":60}");
    warm();
    validate_from_memory(ERR_OK);
    ck_assert(memory_recognises(&session));
    rig.fate = FATE_AWAY;
    struct act *act = act_explain(node, rig_access(&session));
    ck_assert_act(act, ERR_OK);
    ck_assert_text_eq(act->explain.pair, "present");
    rig.fate = FATE_ANSWER;
    clock_fake_pass(60000);
    ck_assert_text_eq(validate_from_memory(ERR_TOKEN_INVALID)->base.out.reason, REASON_EXPIRED);
}
END_TEST

START_TEST(memory_refuses_an_access_token_that_is_over)
{
    set_policy("{\"access_ttl\":60}");
    warm();
    clock_fake_pass(60000);
    struct act *act = validate_from_memory(ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.out.reason, REASON_EXPIRED);
}
END_TEST

/* It may have been used elsewhere meanwhile. */
START_TEST(of_an_idle_session_redis_is_asked)
{
    set_policy("{\"idle_timeout\":60,\"access_ttl\":7200}");
    warm();
    clock_fake_pass(200000);
    struct act *act = validate_from_redis(ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.out.reason, REASON_IDLE);
}
END_TEST

START_TEST(a_token_older_than_any_session_lives_asks_nobody)
{
    warm();
    clock_fake_pass(INT64_C(2592000) * 1000);
    rig_run();
    struct act *act = validate_from_memory(ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.out.reason, REASON_EXPIRED);
}
END_TEST

START_TEST(what_is_no_token_or_not_of_the_tenant_is_refused)
{
    struct act *act = act_validate(node, TEXT("sa_no"));
    ck_assert_act(act, ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.out.reason, REASON_MALFORMED);
    for (int bound = 0; bound < 2; bound++) {
        act = act_of(node);
        act->validate.token = rig_access(&session);
        act->validate.tenant = TEXT("another");
        act->validate.tenant_bound = bound;
        act->validate.max_age_s = -1;
        session_validate(&act->validate);
        ck_assert_act(act, bound ? ERR_TENANT_FORBIDDEN : ERR_TOKEN_INVALID);
    }
    ck_assert_uint_eq(rig_served("HMGET"), 0);
}
END_TEST

START_TEST(a_frozen_user_has_no_session_that_is_good)
{
    warm();
    ck_assert_act(act_freeze(other, "alice", false), ERR_OK);
    rig_run();
    struct act *act = validate();
    ck_assert_act(act, ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.out.reason, REASON_FROZEN);
}
END_TEST

START_TEST(a_record_that_does_not_open_is_no_session)
{
    int64_t unreadable = metrics_read(METRIC_RECORDS_UNREADABLE);
    uint8_t id[SESSION_ID];
    ck_assert(text_from_hex(id, SESSION_ID, rig_id(&session)));
    struct text field = _i ? TEXT(STATE_FIELD_USER) : (struct text){(char *)id, SESSION_ID};
    redis_model_set_field(rig.redis, rig_user_key("alice", 'u'), field, TEXT("no record"));
    struct act *act = validate_from_redis(ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.out.reason, REASON_UNKNOWN);
    ck_assert_int_eq(metrics_read(METRIC_RECORDS_UNREADABLE) - unreadable, 1);
}
END_TEST

/* --- joined reads --- */

START_TEST(who_asks_for_the_same_session_meanwhile_joins_the_read)
{
    int64_t shared = metrics_read(METRIC_CACHE_SHARED);
    rig_plan("HMGET", FATE_HOLD);
    struct act *acts[4];
    for (size_t i = 0; i < 4; i++)
        acts[i] = validate();
    rig_run();
    rig_release();
    for (size_t i = 0; i < 4; i++)
        ck_assert_act(acts[i], ERR_OK);
    ck_assert_uint_eq(rig_served("HMGET"), 2); /* the held one is served twice */
    ck_assert_int_eq(metrics_read(METRIC_CACHE_SHARED) - shared, 3);
}
END_TEST

START_TEST(who_joined_with_a_token_that_is_newer_than_the_read_asks_again)
{
    warm();
    rig_watch(node, false);
    rig_plan("HMGET", FATE_HOLD_REPLY);
    struct act *first = validate();
    rig_run();
    ck_assert(rig_holds("HMGET"));
    refresh_elsewhere();
    struct act *second = validate();
    rig_run();
    ck_assert(!act_is_done(second));
    rig_release();
    ck_assert_act(first, ERR_OK);
    ck_assert_act(second, ERR_OK);
}
END_TEST

START_TEST(nobody_joins_a_read_from_before_a_change_that_was_heard_of)
{
    ck_assert_act(act_validate(node, rig_access(&session)), ERR_OK);
    rig_watch(node, false);
    rig_watch(node, true);
    rig_run();
    rig_plan("HMGET", FATE_HOLD_REPLY);
    rig_plan("refresher:HMGET", FATE_HOLD); /* of either node: it would make it known here */
    rig_plan("refresher:HMGET", FATE_HOLD);
    struct act *first = validate();
    rig_run();
    ck_assert(rig_holds("HMGET"));
    end_elsewhere();
    ck_assert_act(validate(), ERR_TOKEN_INVALID);
    rig_release();
    ck_assert_act(first, ERR_OK); /* it was, when it was asked for */
    validate_from_memory(ERR_TOKEN_INVALID);
}
END_TEST

START_TEST(nobody_joins_a_read_that_is_slow)
{
    rig_watch(node, false);
    rig_plan("HMGET", FATE_HOLD_REPLY);
    struct act *first = validate();
    rig_run();
    end_elsewhere();
    rig_pass(101);
    ck_assert_act(validate(), ERR_TOKEN_INVALID);
    rig_release();
    ck_assert_act(first, ERR_OK);
}
END_TEST

/* --- between read and reply --- */

START_TEST(what_was_read_before_a_change_is_not_kept)
{
    rig_plan_after("HMGET", FATE_HOLD_REPLY, NULL);
    struct act *act = validate();
    rig_run();
    refresh_elsewhere();
    rig_release();
    ck_assert_act(act, ERR_OK);
    validate_from_redis(ERR_OK);
    validate_from_memory(ERR_OK);
}
END_TEST

START_TEST(a_session_that_was_ended_here_meanwhile_is_refused)
{
    rig_plan("HMGET", FATE_HOLD_REPLY);
    struct act *act = validate();
    rig_run();
    ck_assert_act(act_kick(node, "alice", rig_id(&session)), ERR_OK);
    rig_release();
    ck_assert_act(act, ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.out.reason, REASON_KICKED);
}
END_TEST

START_TEST(what_was_read_while_tracking_ended_is_not_fresh)
{
    rig_plan("HMGET", FATE_HOLD_REPLY);
    struct act *act = validate();
    rig_run();
    rig_watch(node, false);
    rig_watch(node, true);
    rig_run();
    rig_release();
    ck_assert_act(act, ERR_OK);
    validate_from_redis(ERR_OK);
    validate_from_memory(ERR_OK);
}
END_TEST

START_TEST(tracking_that_ends_while_the_tenant_is_read_makes_nothing_fresh)
{
    rig_watch(node, false);
    rig_watch(node, true);
    rig_run();
    rig_plan("GET", FATE_HOLD_REPLY);
    struct act *act = validate();
    rig_run();
    rig_watch(node, false);
    rig_release();
    ck_assert_act(act, ERR_OK);
    unsigned before = rig_served("GET");
    validate_from_redis(ERR_OK);
    ck_assert_uint_eq(rig_served("GET"), before + 1);
}
END_TEST

/* Heard while the read is in flight: the session that was read lives by another policy. */
START_TEST(a_policy_that_is_heard_of_meanwhile_holds_for_the_next)
{
    warm();
    set_policy("{\"access_ttl\":60}");
    rig_run();
    clock_fake_pass(61000);
    struct act *act = validate();
    ck_assert_act(act, ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.out.reason, REASON_EXPIRED);
}
END_TEST

START_TEST(a_tenant_that_ended_all_meanwhile_refuses_who_went_on_with_what_was_known)
{
    warm();
    rig_watch(node, false);
    rig_plan("GET", FATE_AWAY); /* goes on with what is known ... */
    rig_plan("HMGET", FATE_HOLD_REPLY);
    struct act *act = validate();
    rig_run();
    ck_assert_act(act_end_tenant(other), ERR_OK);
    struct act *second = validate(); /* ... as does another, who has Redis asked again */
    rig_run();
    rig_release();
    ck_assert_act(act, ERR_TOKEN_INVALID);
    ck_assert_act(second, ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.out.reason, REASON_REVOKED);
}
END_TEST

/* --- tracking is lost --- */

START_TEST(memory_counts_again_only_after_a_new_look)
{
    warm();
    rig_watch(node, false);
    validate_from_redis(ERR_OK);
    rig_watch(node, true);
    rig_run();
    validate_from_redis(ERR_OK);
    validate_from_memory(ERR_OK);
}
END_TEST

START_TEST(what_a_refresher_read_before_another_change_it_reads_again)
{
    warm();
    rig_plan("refresher:HMGET", FATE_ANSWER); /* the other node's */
    rig_plan("refresher:HMGET", FATE_HOLD_REPLY);
    refresh_elsewhere();
    ck_assert(rig_holds("refresher:HMGET"));
    end_elsewhere();
    rig_release();
    rig_run();
    validate_from_memory(ERR_TOKEN_INVALID);
}
END_TEST

START_TEST(deaf_tracking_is_believed_and_what_it_missed_counts_when_it_comes)
{
    warm();
    rig_deafen(node, true);
    end_elsewhere();
    validate_from_memory(ERR_OK); /* until the ping that it does not answer */
    rig_deafen(node, false);
    rig_run();
    validate_from_memory(ERR_TOKEN_INVALID);
}
END_TEST

/* --- outages --- */

static void lose_redis(void)
{
    rig_watch(node, false);
    rig.fate = FATE_AWAY;
}

START_TEST(in_an_outage_memory_vouches_within_the_grace)
{
    int64_t stale = metrics_read(METRIC_CACHE_STALE);
    warm();
    lose_redis();
    rig_pass(10000);
    struct act *act = validate();
    ck_assert_act(act, ERR_OK);
    ck_assert(act->validate.stale && act->validate.from_cache);
    ck_assert_int_eq(act->validate.stale_for_s, 10);
    ck_assert_int_eq(metrics_read(METRIC_CACHE_STALE) - stale, 1);
    rig_pass(890000);
    ck_assert_act(validate(), ERR_OK);
    rig_pass(2000);
    ck_assert_act(validate(), ERR_STORE_UNAVAILABLE);
    rig.fate = FATE_ANSWER;
    ck_assert_act(validate(), ERR_OK);
}
END_TEST

static const struct {
    enum fate fate;
    enum err err;
} failure_rows[] = {
    {FATE_AWAY, ERR_STORE_UNAVAILABLE},
    {FATE_LATE_BEFORE, ERR_STORE_TIMEOUT},
    {FATE_LATE_AFTER, ERR_STORE_TIMEOUT},
    {FATE_STRANGE, ERR_STORE_PROTOCOL},
    {FATE_TWO_NUMBERS, ERR_STORE_PROTOCOL},
    {FATE_FIVE_NUMBERS, ERR_STORE_PROTOCOL},
    {FATE_DENIED, ERR_STORE_DENIED},
    {FATE_UNFIT, ERR_STORE_UNFIT},
    {FATE_REFUSED, ERR_STORE_REFUSED},
    {FATE_CUT_BEFORE, ERR_OK},
    {FATE_CUT_AFTER, ERR_OK},
};

START_TEST(a_read_that_fails_is_told_where_memory_has_nothing)
{
    rig_plan("HMGET", failure_rows[_i].fate);
    ck_assert_act(validate(), failure_rows[_i].err);
}
END_TEST

START_TEST(a_read_that_fails_is_made_up_for_by_memory)
{
    warm();
    rig_watch(node, false);
    rig_plan("HMGET", failure_rows[_i].fate);
    struct act *act = validate();
    ck_assert_act(act, ERR_OK);
    ck_assert_int_eq(act->validate.stale, failure_rows[_i].err != ERR_OK);
}
END_TEST

START_TEST(memory_vouches_for_no_token_that_it_does_not_know)
{
    warm();
    rig_watch(node, false);
    refresh_elsewhere(); /* which no invalidation reports */
    struct rig_session bob = rig_login(other, "bob");
    lose_redis();
    ck_assert_act(validate(), ERR_STORE_UNAVAILABLE);
    ck_assert_int_eq(rig_validate(node, &bob), ERR_STORE_UNAVAILABLE);
}
END_TEST

/* Another session of the user showed that something had ended. */
START_TEST(memory_vouches_for_nothing_older_than_an_epoch_that_was_seen)
{
    warm();
    rig_watch(node, false);
    struct rig_session second = rig_login(other, "alice");
    clock_fake_pass(5);
    end_elsewhere();
    ck_assert_int_eq(rig_validate(node, &second), ERR_OK);
    lose_redis();
    ck_assert_int_eq(rig_validate(node, &second), ERR_OK);
    ck_assert_act(validate(), ERR_STORE_UNAVAILABLE);
}
END_TEST

START_TEST(what_was_ended_here_in_an_outage_is_dead_here)
{
    warm();
    lose_redis();
    ck_assert_act(act_kick(node, "alice", rig_id(&session)), ERR_OK);
    struct act *act = validate();
    ck_assert_act(act, ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.out.reason, REASON_KICKED);
}
END_TEST

/* Nobody knew whose it was; then somebody does. */
START_TEST(that_nobody_knows_a_user_holds_until_something_of_him_changes)
{
    redis_model_flush(rig.redis);
    struct act *act = validate();
    ck_assert_act(act, ERR_TOKEN_INVALID);
    ck_assert_ptr_null(act->base.facts.user_id.data);
    struct rig_session next = rig_login(other, "alice");
    ck_assert_act(act_kick(other, "alice", rig_id(&next)), ERR_OK);
    rig_run();
    rig.fate = FATE_AWAY;
    ck_assert_act(act_logout(node, rig_access(&session)), ERR_OK);
    rig.fate = FATE_ANSWER;
    act = validate();
    ck_assert_act(act, ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.facts.user_id, "alice");
}
END_TEST

START_TEST(a_session_that_redis_lost_is_vouched_for)
{
    warm();
    rig_watch(node, false);
    redis_model_flush(rig.redis);
    struct act *act = validate();
    ck_assert_act(act, ERR_OK);
    ck_assert(act->validate.stale);
    ck_assert_int_eq(rig_validate(other, &session), ERR_TOKEN_INVALID); /* never met it */
}
END_TEST

/* The last session to end had ended before memory read of it. */
START_TEST(a_session_alone_that_redis_lost_is_vouched_for)
{
    struct rig_session second = rig_login(other, "alice");
    clock_fake_pass(5);
    ck_assert_act(act_kick(other, "alice", rig_id(&second)), ERR_OK);
    rig_run();
    warm();
    lose_session("alice");
    rig_watch(node, false);
    struct act *act = validate_from_redis(ERR_OK);
    ck_assert(act->validate.stale);
}
END_TEST

START_TEST(a_session_that_redis_lost_is_not_vouched_for_once_tokens_of_the_user_died)
{
    warm();
    rig_watch(node, false);
    struct rig_session second = rig_login(other, "alice");
    clock_fake_pass(5);
    ck_assert_act(act_kick(other, "alice", rig_id(&second)), ERR_OK);
    lose_session("alice");
    struct act *act = validate();
    ck_assert_act(act, ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.out.reason, REASON_UNKNOWN);
}
END_TEST

START_TEST(a_state_older_than_what_memory_has_is_none)
{
    struct redis_model *before = redis_model_copy(rig.redis);
    int64_t behind = metrics_read(METRIC_STORE_BEHIND);
    clock_fake_pass(5);
    refresh_elsewhere();
    rig_watch(node, false);
    warm();
    redis_model_restore(rig.redis, before);
    struct act *act = validate();
    ck_assert_act(act, ERR_OK);
    ck_assert(act->validate.stale);
    ck_assert_int_eq(metrics_read(METRIC_STORE_BEHIND) - behind, 1);
    clock_fake_pass(61000);
    ck_assert_act(validate(), ERR_TOKEN_INVALID); /* it is what there is, then */
    redis_model_destroy(&before);
}
END_TEST

START_TEST(a_session_that_redis_lost_is_vouched_for_within_the_grace_alone)
{
    warm();
    rig_watch(node, false);
    redis_model_flush(rig.redis);
    clock_fake_pass(901000);
    struct act *act = validate();
    ck_assert_act(act, ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.out.reason, REASON_UNKNOWN);
}
END_TEST

/* No token died in between: the version alone tells. */
START_TEST(a_state_of_an_older_version_than_memory_has_is_none)
{
    struct redis_model *before = redis_model_copy(rig.redis);
    int64_t behind = metrics_read(METRIC_STORE_BEHIND);
    rig_watch(node, false);
    clock_fake_pass(5);
    rig_login(other, "alice");
    warm();
    redis_model_restore(rig.redis, before);
    struct act *act = validate();
    ck_assert_act(act, ERR_OK);
    ck_assert(act->validate.stale);
    ck_assert_int_eq(metrics_read(METRIC_STORE_BEHIND) - behind, 1);
    redis_model_destroy(&before);
}
END_TEST

/* Memory has nothing of this session; of the user an epoch was seen. */
START_TEST(a_state_older_than_an_epoch_that_was_seen_is_none)
{
    struct rig_session second = rig_login(other, "alice");
    struct redis_model *before = redis_model_copy(rig.redis);
    clock_fake_pass(5);
    ck_assert_act(act_kick(node, "alice", rig_id(&second)), ERR_OK);
    redis_model_restore(rig.redis, before);
    ck_assert_act(validate(), ERR_STORE_BEHIND);
    redis_model_destroy(&before);
}
END_TEST

/* The user's record came back from a later state, the session from an earlier one. */
START_TEST(what_holds_for_the_user_holds_for_a_session_that_was_not_buried)
{
    rig_watch(node, false);
    struct redis_model *before = redis_model_copy(rig.redis);
    struct text key = rig_user_key("alice", 'u');
    clock_fake_pass(5);
    ck_assert_act(_i ? act_logout_all(other, "alice") : act_freeze(other, "alice", false), ERR_OK);
    struct arena arena = {0};
    struct text user =
        arena_copy(&arena, redis_model_field(rig.redis, key, TEXT(STATE_FIELD_USER)));
    rig_stop(other);
    redis_model_restore(rig.redis, before);
    redis_model_set_field(rig.redis, key, TEXT(STATE_FIELD_USER), user);
    struct act *act = validate_from_redis(ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.out.reason, _i ? REASON_REVOKED : REASON_FROZEN);
    ck_assert_text_eq(act->base.facts.user_id, "alice");
    arena_free(&arena);
    redis_model_destroy(&before);
}
END_TEST

START_TEST(a_read_ends_with_its_worker)
{
    rig_plan(_i ? "HMGET" : "GET", FATE_HOLD);
    rig_watch(node, false);
    struct act *act = validate();
    rig_run();
    ck_assert(rig_holds(_i ? "HMGET" : "GET"));
    rig_stop(node);
    ck_assert_act(act, ERR_SHUTTING_DOWN);
}
END_TEST

/* --- uses --- */

static struct act *use(void)
{
    struct act *act = act_of(node);
    act->validate.token = rig_access(&session);
    act->validate.touch = true;
    act->validate.max_age_s = -1;
    session_validate(&act->validate);
    return act;
}

START_TEST(a_use_is_noted_when_it_is_due)
{
    struct act *first = use();
    ck_assert_act(first, ERR_OK);
    ck_assert_uint_eq(rig_served("touch"), 0);
    clock_fake_pass(900000);
    struct act *act = use();
    ck_assert_act(act, ERR_OK);
    ck_assert_uint_eq(rig_served("touch"), 1);
    ck_assert_int_eq(act->validate.idle_expires_s, first->validate.idle_expires_s + 900);
    ck_assert_act(use(), ERR_OK);
    ck_assert_uint_eq(rig_served("touch"), 1);
    clock_fake_pass(1700000);
    ck_assert_int_eq(rig_validate(other, &session), ERR_OK);
}
END_TEST

START_TEST(a_use_in_an_outage_is_told_when_redis_is_back)
{
    warm();
    lose_redis();
    clock_fake_pass(800000);
    ck_assert_act(use(), ERR_OK);
    rig.fate = FATE_ANSWER;
    rig_recount();
    ck_assert_act(use(), ERR_OK);
    ck_assert_uint_eq(rig_served("touch"), 1);
    clock_fake_pass(1700000);
    ck_assert_int_eq(rig_validate(other, &session), ERR_OK);
}
END_TEST

START_TEST(uses_in_an_outage_are_told_once)
{
    warm();
    lose_redis();
    clock_fake_pass(300000);
    ck_assert_act(use(), ERR_OK);
    clock_fake_pass(300000);
    ck_assert_act(use(), ERR_OK);
    rig.fate = FATE_ANSWER;
    rig_recount();
    ck_assert_act(use(), ERR_OK);
    ck_assert_act(use(), ERR_OK);
    ck_assert_uint_le(rig_served("touch"), 2);
}
END_TEST

/* Though it is asked again. */
START_TEST(a_use_that_redis_was_told_of_is_not_told_again)
{
    clock_fake_pass(900000);
    ck_assert_act(use(), ERR_OK);
    ck_assert_uint_eq(rig_served("touch"), 1);
    rig_watch(node, false);
    for (int i = 0; i < 2; i++)
        ck_assert_act(use(), ERR_OK);
    ck_assert_uint_eq(rig_served("touch"), 1);
}
END_TEST

/* The index of the tenant's users is coarser than the session. */
START_TEST(a_use_soon_after_another_is_not_told_to_the_index)
{
    set_policy("{\"idle_timeout\":600}");
    warm();
    rig_recount();
    clock_fake_pass(61000);
    ck_assert_act(use(), ERR_OK);
    ck_assert_uint_eq(rig_served("touch"), 1);
    ck_assert_uint_eq(rig_served("index"), 0);
}
END_TEST

START_TEST(a_use_that_redis_does_not_take_is_no_reason_to_refuse)
{
    clock_fake_pass(900000);
    rig_plan("touch", _i ? FATE_LATE_BEFORE : FATE_AWAY);
    ck_assert_act(use(), ERR_OK);
}
END_TEST

/* --- address and device --- */

static struct act *validate_from(const char *ip, const char *fingerprint)
{
    return act_validate_from(node, &session, ip, fingerprint);
}

static void login_from(const char *ip)
{
    session = rig_login_from(other, "bob", ip, "finger");
}

static const struct {
    const char *policy;
    enum err err;
} bind_rows[] = {
    {"{\"bind\":{\"ip\":\"log\"}}", ERR_OK},
    {"{\"bind\":{\"ip\":\"verify\"}}", ERR_STEP_UP_REQUIRED},
    {"{\"bind\":{\"ip\":\"strict\"}}", ERR_TOKEN_INVALID},
};

START_TEST(a_token_from_elsewhere_gets_what_the_policy_says)
{
    set_policy(bind_rows[_i].policy);
    login_from("192.0.2.1");
    ck_assert_act(validate_from("192.0.2.77", "finger"), ERR_OK);
    struct act *act = validate_from("198.51.100.1", "finger");
    ck_assert_act(act, bind_rows[_i].err);
    ck_assert_text_eq(act->base.facts.binding, "ip");
    ck_assert_int_eq(act->base.out.challenge != NULL, bind_rows[_i].err == ERR_STEP_UP_REQUIRED);
    unsigned before = rig_served("HMGET");
    ck_assert_act(validate_from("192.0.2.78", "finger"), ERR_OK);
    ck_assert_uint_eq(rig_served("HMGET"), before);
}
END_TEST

START_TEST(a_policy_that_binds_holds_for_what_memory_had_before)
{
    login_from("192.0.2.1");
    ck_assert_act(validate_from("198.51.100.1", "finger"), ERR_OK);
    set_policy("{\"bind\":{\"ip\":\"strict\",\"device\":\"strict\"}}");
    ck_assert_act(validate_from("198.51.100.1", "finger"), ERR_TOKEN_INVALID);
    ck_assert_act(validate_from("192.0.2.2", "finger"), ERR_OK);
    struct act *act = validate_from("192.0.2.2", "another");
    ck_assert_act(act, ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.out.reason, REASON_BINDING);
}
END_TEST

/* The read was begun by one whose policy did not look at bounds. */
START_TEST(who_joined_a_read_without_bounds_asks_again)
{
    login_from("192.0.2.1");
    ck_assert_act(validate_from("192.0.2.1", "finger"), ERR_OK);
    rig_watch(node, false);
    rig_plan("HMGET", FATE_HOLD_REPLY);
    struct act *first = validate_from("198.51.100.1", "finger");
    rig_run();
    set_policy("{\"bind\":{\"ip\":\"strict\"}}");
    struct act *second = validate_from("198.51.100.1", "finger");
    rig_run();
    rig_release();
    ck_assert_act(second, ERR_TOKEN_INVALID);
    ck_assert_act(first, ERR_OK);
}
END_TEST

/* The read tells all that those who joined it need. */
START_TEST(who_joined_a_read_without_bounds_from_where_he_is_bound_to_asks_no_more)
{
    login_from("192.0.2.1");
    ck_assert_act(validate_from("192.0.2.1", "finger"), ERR_OK);
    rig_watch(node, false);
    rig_plan("HMGET", FATE_HOLD);
    struct act *first = validate_from("192.0.2.1", "finger");
    rig_run();
    set_policy("{\"bind\":{\"ip\":\"strict\"}}");
    struct act *second = validate_from("192.0.2.1", "finger");
    rig_run();
    rig_recount();
    rig_release();
    ck_assert_act(first, ERR_OK);
    ck_assert_act(second, ERR_OK);
    ck_assert_uint_eq(rig_served("HMGET"), 1);
}
END_TEST

START_TEST(in_an_outage_memory_vouches_for_nobody_from_elsewhere)
{
    set_policy("{\"bind\":{\"ip\":\"strict\"}}");
    login_from("192.0.2.1");
    ck_assert_act(validate_from("192.0.2.1", "finger"), ERR_OK);
    lose_redis();
    ck_assert_act(validate_from("192.0.2.2", "finger"), ERR_OK);
    ck_assert_act(validate_from("198.51.100.1", "finger"), ERR_STORE_UNAVAILABLE);
}
END_TEST

START_TEST(memory_without_bounds_vouches_for_nobody_under_a_policy_that_binds)
{
    login_from("192.0.2.1");
    ck_assert_act(validate_from("192.0.2.1", "finger"), ERR_OK);
    set_policy("{\"bind\":{\"ip\":\"strict\"}}");
    rig_plan("HMGET", FATE_AWAY);
    ck_assert_act(validate_from("192.0.2.1", "finger"), ERR_STORE_UNAVAILABLE);
}
END_TEST

/* It went on with what was known of the tenant, and Redis told of it before the reply came. */
START_TEST(a_policy_that_binds_and_is_heard_of_meanwhile_has_redis_asked_again)
{
    login_from("192.0.2.1");
    ck_assert_act(validate_from("192.0.2.1", "finger"), ERR_OK);
    rig_watch(node, false);
    clock_fake_pass(5);
    rig_plan("GET", FATE_AWAY);
    rig_plan("HMGET", FATE_HOLD_REPLY);
    struct act *act = validate_from("198.51.100.1", "finger");
    rig_run();
    set_policy("{\"bind\":{\"ip\":\"strict\"}}");
    ck_assert_int_eq(act_finish(act_login(node, "carol", "d")), ERR_OK); /* reads the tenant */
    rig_release();
    ck_assert_act(act, ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.out.reason, REASON_BINDING);
}
END_TEST

/* A login without an address: the first that is seen is the session's. */
START_TEST(a_session_without_an_address_adopts_the_first)
{
    set_policy("{\"bind\":{\"ip\":\"strict\"}}");
    login_from(NULL);
    rig_recount();
    ck_assert_act(validate_from("192.0.2.1", "finger"), ERR_OK);
    ck_assert_uint_eq(rig_served("write"), 1);
    ck_assert_act(validate_from("192.0.2.1", "finger"), ERR_OK);
    ck_assert_uint_eq(rig_served("write"), 1);
    ck_assert_act(validate_from("198.51.100.1", "finger"), ERR_TOKEN_INVALID);
}
END_TEST

static const struct {
    const char *step;
    enum fate fate;
    bool again; /* to be adopted another time */
} adopt_rows[] = {
    {"HGETALL", FATE_AWAY, true},      {"HGETALL", FATE_LATE_BEFORE, true},
    {"write", FATE_AWAY, false},       {"write", FATE_CUT_BEFORE, false},
    {"write", FATE_CUT_AFTER, false},  {"write", FATE_LATE_AFTER, false},
    {"write", FATE_LATE_BEFORE, true},
};

START_TEST(an_adoption_that_fails_is_no_reason_to_refuse)
{
    set_policy("{\"bind\":{\"ip\":\"strict\"}}");
    login_from(NULL);
    rig_plan(adopt_rows[_i].step, adopt_rows[_i].fate);
    ck_assert_act(validate_from("192.0.2.1", "finger"), ERR_OK);
    rig_recount();
    ck_assert_act(validate_from("192.0.2.1", "finger"), ERR_OK);
    ck_assert_uint_eq(rig_served("write"), adopt_rows[_i].again);
}
END_TEST

static void seal_under_a_newer_key(void)
{
    rig_seal_anew(rig_start_newer(2), rig_access(&session));
}

/* It was found alive here; that it is another node's to write now is no reason, either. */
START_TEST(an_adoption_that_a_newer_key_prevents_is_no_reason_to_refuse)
{
    set_policy("{\"bind\":{\"ip\":\"strict\"}}");
    login_from(NULL);
    rig_plan_after("HGETALL", FATE_ANSWER, seal_under_a_newer_key);
    ck_assert_act(validate_from("192.0.2.1", "finger"), ERR_OK);
}
END_TEST

static void use_from_elsewhere(void)
{
    ck_assert_act(act_validate_from(other, &session, "198.51.100.1", NULL), ERR_OK);
}

START_TEST(who_is_beaten_to_the_adoption_is_elsewhere)
{
    set_policy("{\"bind\":{\"ip\":\"strict\"}}");
    login_from(NULL);
    rig_plan_after("write", FATE_ANSWER, use_from_elsewhere);
    struct act *act = validate_from("192.0.2.1", "finger");
    ck_assert_act(act, ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.out.reason, REASON_BINDING);
}
END_TEST

static struct redis_model *whole;

static void lose_bobs(void)
{
    lose_session("bob");
}

static void find_bobs(void)
{
    redis_model_restore(rig.redis, whole);
}

/* Two reads of a Redis that says one thing and then another. */
START_TEST(an_adoption_is_tried_twice_and_not_for_ever)
{
    set_policy("{\"bind\":{\"ip\":\"strict\"}}");
    login_from(NULL);
    whole = redis_model_copy(rig.redis);
    for (int i = 0; i < 3; i++) {
        rig_plan_after("HMGET", FATE_ANSWER, find_bobs);
        rig_plan_after("HGETALL", FATE_ANSWER, lose_bobs);
    }
    rig_recount();
    ck_assert_act(validate_from("192.0.2.1", "finger"), ERR_TOKEN_INVALID);
    ck_assert_uint_eq(rig_served("HGETALL"), 2);
    rig_forget_plans();
    redis_model_destroy(&whole);
}
END_TEST

/* Redis, which was away, takes the session for idle; memory knows of a use since. */
START_TEST(an_adoption_of_what_redis_takes_for_idle_is_no_reason_to_refuse)
{
    set_policy("{\"bind\":{\"ip\":\"strict\"},\"idle_timeout\":600,\"access_ttl\":7200}");
    login_from(NULL);
    rig_watch(node, false);
    ck_assert_act(use(), ERR_OK);
    rig.fate = FATE_AWAY;
    clock_fake_pass(500 * 1000);
    ck_assert_act(use(), ERR_OK);
    rig.fate = FATE_ANSWER;
    clock_fake_pass(500 * 1000);
    rig_recount();
    ck_assert_act(validate_from("192.0.2.1", "finger"), ERR_OK);
    ck_assert_uint_eq(rig_served("HGETALL"), 1);
    ck_assert_uint_eq(rig_served("write"), 0);
}
END_TEST

static void end_bob(void)
{
    ck_assert_act(act_logout_all(other, "bob"), ERR_OK);
}

START_TEST(a_session_that_ends_while_it_adopts_is_refused)
{
    set_policy("{\"bind\":{\"ip\":\"strict\"}}");
    login_from(NULL);
    clock_fake_pass(5);
    rig_plan_after("write", FATE_ANSWER, end_bob);
    struct act *act = validate_from("192.0.2.1", "finger");
    ck_assert_act(act, ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->base.out.reason, REASON_REVOKED);
}
END_TEST

/* --- limits of memory --- */

START_TEST(a_record_under_a_key_that_is_missing_here_is_not_judged)
{
    struct rig_node *newer = rig_start_newer(2);
    rig_seal_anew(newer, rig_access(&session));
    ck_assert_act(validate(), ERR_SEAL_KEY_UNKNOWN);
    ck_assert_act(act_refresh(node, rig_refresh(&session)), ERR_SEAL_KEY_UNKNOWN);
    ck_assert_act(act_kick(node, "alice", rig_id(&session)), ERR_OK);
    ck_assert_int_eq(rig_validate(newer, &session), ERR_TOKEN_INVALID);
}
END_TEST

/* The user's record is sealed under it: this node cannot know whether the user is frozen. */
START_TEST(a_user_under_a_key_that_is_missing_here_is_not_judged)
{
    struct rig_node *newer = rig_start_newer(2);
    struct rig_session second = rig_login(other, "alice");
    struct act *act = act_of(newer);
    act->end.token = rig_access(&second);
    act->end.scope = END_ALL;
    act->end.keep_own = true;
    act->end.why = TEXT(REASON_REVOKED);
    session_end(&act->end);
    ck_assert_act(act, ERR_OK);
    ck_assert_int_eq(rig_validate(node, &second), ERR_SEAL_KEY_UNKNOWN);
    ck_assert_act(act_login(node, "alice", "d"), ERR_SEAL_KEY_UNKNOWN);
    ck_assert_int_eq(rig_validate(newer, &second), ERR_OK);
}
END_TEST

START_TEST(an_expected_token_is_no_use_and_needs_not_be_one)
{
    session_expect(node->worker, TEXT("nothing"));
    session_expect(node->worker, rig_access(&session));
    ck_assert_uint_eq(rig_served("HMGET"), 0);
    warm();
}
END_TEST

/* A clock that is behind meets uses that lie in its future: they stand, unless it is known that it
 * is this clock that is right. */
START_TEST(a_use_in_the_future_is_taken_back_by_an_agreed_clock_alone)
{
    clock_fake_pass(900000);
    ck_assert_act(use(), ERR_OK);
    clock_fake(RIG_NOW + 10000);
    if (_i == 0)
        clock_dispute(0);
    rig_recount();
    ck_assert_act(use(), ERR_OK);
    ck_assert_int_eq(rig_served("touch"), _i);
}
END_TEST

static void add_answers(Suite *suite)
{
    TCase *tcase = rig_case(suite, "answers", set_up);
    tcase_add_test(tcase, what_was_read_while_tracked_is_answered_from_memory);
    tcase_add_test(tcase, without_tracking_redis_is_asked_each_time);
    tcase_add_test(tcase, an_end_that_is_heard_of_is_known_at_once);
    tcase_add_test(tcase, an_end_that_redis_reports_stays_known_without_tracking);
    tcase_add_test(tcase, a_token_of_the_pair_before_is_good_for_the_grace_alone);
    tcase_add_test(tcase, memory_recognises_the_present_token_and_no_other);
    tcase_add_test(tcase, a_recognised_token_that_is_over_is_refused_and_explained);
    tcase_add_test(tcase, memory_refuses_an_access_token_that_is_over);
    tcase_add_test(tcase, of_an_idle_session_redis_is_asked);
    tcase_add_test(tcase, a_token_older_than_any_session_lives_asks_nobody);
    tcase_add_test(tcase, what_is_no_token_or_not_of_the_tenant_is_refused);
    tcase_add_test(tcase, a_frozen_user_has_no_session_that_is_good);
    tcase_add_loop_test(tcase, a_record_that_does_not_open_is_no_session, 0, 2);
}

static void add_races(Suite *suite)
{
    TCase *tcase = rig_case(suite, "races", set_up);
    tcase_add_test(tcase, who_asks_for_the_same_session_meanwhile_joins_the_read);
    tcase_add_test(tcase, who_joined_with_a_token_that_is_newer_than_the_read_asks_again);
    tcase_add_test(tcase, nobody_joins_a_read_from_before_a_change_that_was_heard_of);
    tcase_add_test(tcase, nobody_joins_a_read_that_is_slow);
    tcase_add_test(tcase, what_was_read_before_a_change_is_not_kept);
    tcase_add_test(tcase, a_session_that_was_ended_here_meanwhile_is_refused);
    tcase_add_test(tcase, what_was_read_while_tracking_ended_is_not_fresh);
    tcase_add_test(tcase, tracking_that_ends_while_the_tenant_is_read_makes_nothing_fresh);
    tcase_add_test(tcase, a_policy_that_is_heard_of_meanwhile_holds_for_the_next);
    tcase_add_test(tcase,
                   a_tenant_that_ended_all_meanwhile_refuses_who_went_on_with_what_was_known);
    tcase_add_test(tcase, memory_counts_again_only_after_a_new_look);
    tcase_add_test(tcase, what_a_refresher_read_before_another_change_it_reads_again);
    tcase_add_test(tcase, deaf_tracking_is_believed_and_what_it_missed_counts_when_it_comes);
}

static void add_outages(Suite *suite)
{
    TCase *tcase = rig_case(suite, "outages", set_up);
    int rows = sizeof(failure_rows) / sizeof(failure_rows[0]);
    tcase_add_test(tcase, in_an_outage_memory_vouches_within_the_grace);
    tcase_add_loop_test(tcase, a_read_that_fails_is_told_where_memory_has_nothing, 0, rows);
    tcase_add_loop_test(tcase, a_read_that_fails_is_made_up_for_by_memory, 0, rows);
    tcase_add_test(tcase, memory_vouches_for_no_token_that_it_does_not_know);
    tcase_add_test(tcase, memory_vouches_for_nothing_older_than_an_epoch_that_was_seen);
    tcase_add_test(tcase, what_was_ended_here_in_an_outage_is_dead_here);
    tcase_add_test(tcase, a_session_alone_that_redis_lost_is_vouched_for);
    tcase_add_test(tcase, that_nobody_knows_a_user_holds_until_something_of_him_changes);
    tcase_add_test(tcase, a_session_that_redis_lost_is_vouched_for);
    tcase_add_test(tcase,
                   a_session_that_redis_lost_is_not_vouched_for_once_tokens_of_the_user_died);
    tcase_add_test(tcase, a_state_older_than_what_memory_has_is_none);
    tcase_add_test(tcase, a_session_that_redis_lost_is_vouched_for_within_the_grace_alone);
    tcase_add_test(tcase, a_state_of_an_older_version_than_memory_has_is_none);
    tcase_add_test(tcase, a_state_older_than_an_epoch_that_was_seen_is_none);
    tcase_add_loop_test(tcase, what_holds_for_the_user_holds_for_a_session_that_was_not_buried, 0,
                        2);
    tcase_add_loop_test(tcase, a_read_ends_with_its_worker, 0, 2);
}

static void add_uses(Suite *suite)
{
    TCase *tcase = rig_case(suite, "uses", set_up);
    tcase_add_test(tcase, a_use_is_noted_when_it_is_due);
    tcase_add_test(tcase, a_use_in_an_outage_is_told_when_redis_is_back);
    tcase_add_test(tcase, uses_in_an_outage_are_told_once);
    tcase_add_test(tcase, a_use_that_redis_was_told_of_is_not_told_again);
    tcase_add_test(tcase, a_use_soon_after_another_is_not_told_to_the_index);
    tcase_add_loop_test(tcase, a_use_that_redis_does_not_take_is_no_reason_to_refuse, 0, 2);
    tcase_add_loop_test(tcase, a_use_in_the_future_is_taken_back_by_an_agreed_clock_alone, 0, 2);
    tcase_add_test(tcase, a_record_under_a_key_that_is_missing_here_is_not_judged);
    tcase_add_test(tcase, a_user_under_a_key_that_is_missing_here_is_not_judged);
    tcase_add_test(tcase, an_expected_token_is_no_use_and_needs_not_be_one);
}

static void add_places(Suite *suite)
{
    TCase *tcase = rig_case(suite, "places", set_up);
    tcase_add_loop_test(tcase, a_token_from_elsewhere_gets_what_the_policy_says, 0,
                        sizeof(bind_rows) / sizeof(bind_rows[0]));
    tcase_add_test(tcase, a_policy_that_binds_holds_for_what_memory_had_before);
    tcase_add_test(tcase, who_joined_a_read_without_bounds_asks_again);
    tcase_add_test(tcase, who_joined_a_read_without_bounds_from_where_he_is_bound_to_asks_no_more);
    tcase_add_test(tcase, in_an_outage_memory_vouches_for_nobody_from_elsewhere);
    tcase_add_test(tcase, memory_without_bounds_vouches_for_nobody_under_a_policy_that_binds);
    tcase_add_test(tcase, a_policy_that_binds_and_is_heard_of_meanwhile_has_redis_asked_again);
    tcase_add_test(tcase, a_session_without_an_address_adopts_the_first);
    tcase_add_loop_test(tcase, an_adoption_that_fails_is_no_reason_to_refuse, 0,
                        sizeof(adopt_rows) / sizeof(adopt_rows[0]));
    tcase_add_test(tcase, an_adoption_that_a_newer_key_prevents_is_no_reason_to_refuse);
    tcase_add_test(tcase, who_is_beaten_to_the_adoption_is_elsewhere);
    tcase_add_test(tcase, a_session_that_ends_while_it_adopts_is_refused);
    tcase_add_test(tcase, an_adoption_is_tried_twice_and_not_for_ever);
    tcase_add_test(tcase, an_adoption_of_what_redis_takes_for_idle_is_no_reason_to_refuse);
}

int main(void)
{
    Suite *suite = suite_create("validate");
    add_places(suite);
    add_answers(suite);
    add_races(suite);
    add_outages(suite);
    add_uses(suite);
    return support_run(suite);
}
