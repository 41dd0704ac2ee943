/* The read of one session that several share: what each of them knows holds for all. */
#include <check.h>

#include "clock.h"
#include "metrics.h"
#include "support_run.h"
#include "support_session.h"

static struct rig_node *node, *other;
static struct rig_session session, second;

/* One of two nodes has a tracking connection, and the first of alice's sessions in memory. */
static void set_up(void)
{
    rig_set_up();
    node = rig_start(0);
    other = rig_start(1);
    rig_watch(node, true);
    session = rig_login(other, "alice");
    second = rig_login(other, "alice");
    clock_fake_pass(5);
    ck_assert_int_eq(rig_validate(node, &session), ERR_OK);
}

static struct act *validate(void)
{
    return act_validate(node, rig_access(&session));
}

static struct redis_model *before;
static struct act *joined;

/* The refreshers have read the state after the kick by now. */
static void join_and_lose_writes(void)
{
    int64_t shared = metrics_read(METRIC_CACHE_SHARED);
    joined = validate();
    ck_assert_int_eq(metrics_read(METRIC_CACHE_SHARED) - shared, 1);
    redis_model_restore(rig.redis, before);
}

/* The read began when memory had the older state, as Redis has it again when it answers. */
START_TEST(a_read_is_held_against_what_who_joined_it_knows)
{
    before = redis_model_copy(rig.redis);
    rig_plan("refresher:HMGET", FATE_HOLD_REPLY); /* of both nodes */
    rig_plan("refresher:HMGET", FATE_HOLD_REPLY);
    ck_assert_act(act_kick(other, "alice", rig_id(&second)), ERR_OK);
    rig_watch(node, false); /* what the refresher reads is not fresh any more ... */
    rig_watch(node, true);
    rig_run();
    rig_plan("HMGET", FATE_HOLD);
    struct act *first = validate();
    rig_run();
    rig_plan_after("HMGET", FATE_ANSWER, join_and_lose_writes);
    int64_t behind = metrics_read(METRIC_STORE_BEHIND);
    rig_release();
    ck_assert_act(first, ERR_OK); /* ... but vouches for the session */
    ck_assert_act(joined, ERR_OK);
    ck_assert(first->validate.stale && joined->validate.stale);
    ck_assert_int_eq(metrics_read(METRIC_STORE_BEHIND) - behind, 1);
    redis_model_destroy(&before);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lookup");
    TCase *tcase = rig_case(suite, "joined", set_up);
    tcase_add_test(tcase, a_read_is_held_against_what_who_joined_it_knows);
    return support_run(suite);
}
