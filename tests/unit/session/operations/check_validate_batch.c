/* Batches: each token as by itself, reads side by side, long ones in pieces. */
#include <check.h>
#include <string.h>

#include "clock.h"
#include "support_run.h"
#include "support_session.h"

enum { USERS = 12 };

static struct rig_node *node, *other;
static struct rig_session sessions[USERS];

static void set_up(void)
{
    rig_set_up();
    node = rig_start(0);
    other = rig_start(1);
    rig_watch(node, true);
    for (int i = 0; i < USERS; i++) {
        char user[16];
        snprintf(user, sizeof(user), "user%d", i);
        sessions[i] = rig_login(other, user);
    }
    rig_recount();
}

/* Begins a batch of so many tokens, of all users in turn. */
static struct act *begin(size_t count)
{
    struct act *act = act_of(node);
    struct validate_batch *batch = &act->batch;
    batch->items = arena_zalloc(&act->arena, count * sizeof(*batch->items));
    batch->count = count;
    for (size_t i = 0; i < count; i++) {
        batch->items[i].token = rig_access(&sessions[i % USERS]);
        batch->items[i].touch = true;
        batch->items[i].max_age_s = -1;
    }
    session_validate_batch(batch);
    return act;
}

static void warm(void)
{
    ck_assert_act(begin(USERS), ERR_OK);
    rig_recount();
}

static size_t count_of(const struct act *act, enum err err)
{
    size_t count = 0;
    for (size_t i = 0; i < act->batch.count; i++)
        count += act->batch.items[i].base.out.err == err;
    return count;
}

static void assert_in_order(const struct act *act)
{
    for (size_t i = 0; i < act->batch.count; i++)
        ck_assert(
            text_equal(act->batch.items[i].base.facts.session_id, rig_id(&sessions[i % USERS])));
}

START_TEST(what_memory_has_is_answered_at_once)
{
    warm();
    struct act *act = begin(100);
    ck_assert(act_is_done(act));
    ck_assert_uint_eq(count_of(act, ERR_OK), 100);
    ck_assert_uint_eq(rig_served("HMGET"), 0);
    for (size_t i = 0; i < 100; i++)
        ck_assert(act->batch.items[i].from_cache);
    assert_in_order(act);
}
END_TEST

/* All are held at the same time: none waits for another. */
START_TEST(reads_are_sent_side_by_side_and_one_for_each_session)
{
    for (int i = 0; i < USERS; i++)
        rig_plan("HMGET", FATE_HOLD);
    struct act *act = begin(3 * USERS);
    rig_run();
    ck_assert(!act_is_done(act) && rig_holds("HMGET"));
    ck_assert_uint_eq(rig_served("HMGET"), USERS);
    rig_release();
    rig_recount();
    ck_assert_act(act, ERR_OK);
    ck_assert_uint_eq(count_of(act, ERR_OK), 3 * USERS);
    ck_assert_uint_eq(rig_served("HMGET"), USERS); /* those that were held */
    assert_in_order(act);
}
END_TEST

START_TEST(a_token_that_cannot_be_decided_is_alone_in_it)
{
    rig_plan("HMGET", FATE_AWAY);
    struct act *act = begin(USERS);
    ck_assert_act(act, ERR_OK);
    ck_assert_uint_eq(count_of(act, ERR_STORE_UNAVAILABLE), 1);
    ck_assert_uint_eq(count_of(act, ERR_OK), USERS - 1);
}
END_TEST

START_TEST(a_dead_token_has_its_reason_and_spoils_nothing)
{
    ck_assert_act(act_kick(other, "user3", rig_id(&sessions[3])), ERR_OK);
    rig_recount();
    struct act *act = begin(USERS);
    ck_assert_act(act, ERR_OK);
    ck_assert_int_eq(act->batch.items[3].base.out.err, ERR_TOKEN_INVALID);
    ck_assert_text_eq(act->batch.items[3].base.out.reason, REASON_KICKED);
    ck_assert_uint_eq(count_of(act, ERR_OK), USERS - 1);
}
END_TEST

START_TEST(a_long_batch_leaves_the_worker_to_others_between_its_pieces)
{
    warm();
    struct act *batch = begin(1000);
    ck_assert(!act_is_done(batch));
    size_t begun = batch->batch.begun;
    ck_assert(begun > 0 && begun < 1000);
    ck_assert(act_is_done(act_validate(node, rig_access(&sessions[0]))));
    struct act *second = begin(1000);
    ck_assert(!act_is_done(second) && batch->batch.begun == begun);
    ck_assert_act(batch, ERR_OK);
    ck_assert_act(second, ERR_OK);
    ck_assert_uint_eq(count_of(batch, ERR_OK) + count_of(second, ERR_OK), 2000);
    ck_assert_uint_eq(rig_served("HMGET"), 0);
    assert_in_order(batch);
}
END_TEST

/* A worker that closes ends what it has begun, and what it has not. */
START_TEST(a_worker_that_closes_ends_its_batches)
{
    warm();
    struct act *act = begin(1000);
    size_t begun = act->batch.begun;
    ck_assert(!act_is_done(act));
    rig_stop(node);
    ck_assert(act_is_done(act));
    ck_assert_uint_eq(count_of(act, ERR_OK), begun);
    ck_assert_uint_eq(count_of(act, ERR_SHUTTING_DOWN), 1000 - begun);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("validate_batch");
    TCase *tcase = rig_case(suite, "batches", set_up);
    tcase_add_test(tcase, what_memory_has_is_answered_at_once);
    tcase_add_test(tcase, reads_are_sent_side_by_side_and_one_for_each_session);
    tcase_add_test(tcase, a_token_that_cannot_be_decided_is_alone_in_it);
    tcase_add_test(tcase, a_dead_token_has_its_reason_and_spoils_nothing);
    tcase_add_test(tcase, a_long_batch_leaves_the_worker_to_others_between_its_pieces);
    tcase_add_test(tcase, a_worker_that_closes_ends_its_batches);
    return support_run(suite);
}
