/* Every reader of a user's state against a Redis that has lost a state seen by this node. */
#include <check.h>

#include "clock.h"
#include "metrics.h"
#include "support_run.h"
#include "support_session.h"

static struct rig_node *node, *other;
static struct rig_session session, second;

/* Two sessions of alice, and neither node hears of the other's changes. */
static void set_up(void)
{
    rig_set_up();
    node = rig_start(0);
    other = rig_start(1);
    session = rig_login(other, "alice");
    second = rig_login(other, "alice");
    clock_fake_pass(5);
}

static struct act *list(void)
{
    return act_list(node, "alice");
}

static struct act *list_own(void)
{
    struct act *act = act_of(node);
    act->list.token = rig_access(&session);
    session_list(&act->list);
    return act;
}

static struct act *list_users(void)
{
    return act_users(node);
}

static struct act *explain(void)
{
    return act_explain(node, rig_access(&session));
}

static struct act *validate(void)
{
    return act_validate(node, rig_access(&session));
}

static struct act *show_attributes(void)
{
    return act_attributes(node, rig_access(&session), ATTRIBUTES_GET, NULL);
}

static struct act *refresh(void)
{
    return act_refresh(node, rig_refresh(&session));
}

static const struct reader {
    struct act *(*read)(void);
    bool explains; /* it answers all the same, and says what is behind */
} readers[] = {
    {list, false},     {list_own, false}, {list_users, false},      {explain, true},
    {validate, false}, {refresh, false},  {show_attributes, false},
};
enum { READERS = sizeof(readers) / sizeof(readers[0]) };

static enum err outcome(const struct reader *reader, struct act *act)
{
    enum err err = act_finish(act);
    return reader->explains ? act->explain.redis_err : err;
}

/* A revoked session must not be believed active because the next server asked has lost that. */
START_TEST(what_a_reader_has_seen_is_known_to_all)
{
    struct redis_model *before = redis_model_copy(rig.redis);
    ck_assert_act(act_kick(other, "alice", rig_id(&second)), ERR_OK);
    ck_assert_int_eq(outcome(&readers[_i], readers[_i].read()), ERR_OK);
    redis_model_restore(rig.redis, before);
    ck_assert_act(act_validate(node, rig_access(&second)), ERR_STORE_BEHIND);
    redis_model_destroy(&before);
}
END_TEST

START_TEST(a_reader_takes_no_word_of_a_server_that_is_behind)
{
    struct redis_model *before = redis_model_copy(rig.redis);
    ck_assert_act(act_kick(node, "alice", rig_id(&second)), ERR_OK);
    redis_model_restore(rig.redis, before);
    int64_t behind = metrics_read(METRIC_STORE_BEHIND);
    ck_assert_int_eq(outcome(&readers[_i], readers[_i].read()), ERR_STORE_BEHIND);
    ck_assert_int_ge(metrics_read(METRIC_STORE_BEHIND), behind + 1);
    redis_model_destroy(&before);
}
END_TEST

/* Whether its refresher has read what came of it or not. */
START_TEST(what_this_node_has_changed_it_has_seen)
{
    struct redis_model *before = redis_model_copy(rig.redis);
    rig_plan("refresher:HMGET", FATE_AWAY);
    ck_assert_act(act_kick(node, "alice", rig_id(&second)), ERR_OK);
    redis_model_restore(rig.redis, before);
    ck_assert_int_eq(outcome(&readers[_i], readers[_i].read()), ERR_STORE_BEHIND);
    redis_model_destroy(&before);
}
END_TEST

/* A missing state shows no active session. */
START_TEST(nothing_is_not_behind)
{
    ck_assert_act(act_kick(node, "alice", rig_id(&second)), ERR_OK);
    redis_model_flush(rig.redis);
    int64_t behind = metrics_read(METRIC_STORE_BEHIND);
    ck_assert_int_ne(outcome(&readers[_i], readers[_i].read()), ERR_STORE_BEHIND);
    ck_assert_int_eq(metrics_read(METRIC_STORE_BEHIND), behind);
}
END_TEST

START_TEST(after_a_minute_what_redis_says_holds)
{
    struct redis_model *before = redis_model_copy(rig.redis);
    ck_assert_act(act_kick(other, "alice", rig_id(&second)), ERR_OK);
    ck_assert_int_eq(outcome(&readers[_i], readers[_i].read()), ERR_OK);
    redis_model_restore(rig.redis, before);
    clock_fake_pass(61000);
    ck_assert_int_eq(outcome(&readers[_i], readers[_i].read()), ERR_OK);
    redis_model_destroy(&before);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("freshness");
    TCase *tcase = rig_case(suite, "readers", set_up);
    tcase_add_loop_test(tcase, what_a_reader_has_seen_is_known_to_all, 0, READERS);
    tcase_add_loop_test(tcase, a_reader_takes_no_word_of_a_server_that_is_behind, 0, READERS);
    tcase_add_loop_test(tcase, what_this_node_has_changed_it_has_seen, 0, READERS);
    tcase_add_loop_test(tcase, nothing_is_not_behind, 0, READERS);
    tcase_add_loop_test(tcase, after_a_minute_what_redis_says_holds, 0, READERS);
    return support_run(suite);
}
