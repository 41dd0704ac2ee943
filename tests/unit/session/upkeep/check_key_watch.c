/* A node's verdict on the marks that other nodes' keys have left in Redis. */
#include <check.h>
#include <string.h>

#include "clock.h"
#include "metrics.h"
#include "session/upkeep/key_marks.h"
#include "support_keys.h"
#include "support_run.h"
#include "support_session.h"

static enum session_keys keys_of(const struct rig_node *node, uint64_t *ids)
{
    return session_keys(node->service, ids);
}

#define ck_assert_keys(node, expected) ck_assert_int_eq(keys_of(node, NULL), expected)

#define FOREIGN_KEY_1 "key 1 ff2122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f\n"

/* A node whose first key is another one. */
static struct rig_node *start_foreign(size_t number)
{
    struct keyring *keyring = support_keyring(SUPPORT_NAMES FOREIGN_KEY_1);
    struct rig_node *node = rig_start_with(number, keyring);
    keyring_unref(&keyring);
    return node;
}

static void rekey(struct rig_node *node, const char *file)
{
    struct keyring *keyring = support_keyring(file);
    session_service_rekey(node->service, keyring);
    keyring_unref(&keyring);
    rig_run();
}

START_TEST(nodes_with_the_same_keys_agree)
{
    struct rig_node *node = rig_start(0), *other = rig_start(1);
    ck_assert_keys(node, SESSION_KEYS_AGREE);
    ck_assert_keys(other, SESSION_KEYS_AGREE);
    rig_pass(400000);
    ck_assert_keys(node, SESSION_KEYS_AGREE);
}
END_TEST

START_TEST(a_newer_key_of_another_node_is_missed_until_it_is_here)
{
    uint64_t ids;
    struct rig_node *node = rig_start(0);
    (void)rig_start_newer(1);
    rig_pass(61000);
    ck_assert_int_eq(keys_of(node, &ids), SESSION_KEYS_MISSING);
    ck_assert_uint_eq(ids, 1u << 2);
    rekey(node, SUPPORT_NAMES SUPPORT_KEY_1 SUPPORT_KEY_2);
    ck_assert_keys(node, SESSION_KEYS_AGREE);
}
END_TEST

START_TEST(a_foreign_key_is_told_and_marks_nothing)
{
    uint64_t ids;
    (void)rig_start(0);
    struct rig_node *foreign = start_foreign(1);
    ck_assert_int_eq(keys_of(foreign, &ids), SESSION_KEYS_FOREIGN);
    ck_assert_uint_eq(ids, 1u << 1);
    ck_assert_int_eq(metrics_read(METRIC_KEYS_FOREIGN), 1);
    rig_pass(20000);
    ck_assert_keys(foreign, SESSION_KEYS_FOREIGN);
    ck_assert_keys(rig_start(2), SESSION_KEYS_AGREE);
    rekey(foreign, SUPPORT_NAMES SUPPORT_KEY_1);
    ck_assert_keys(foreign, SESSION_KEYS_AGREE);
}
END_TEST

/* Redis has lost the marks: a right node writes them within a minute. */
START_TEST(a_foreign_node_leaves_lost_marks_to_the_others)
{
    struct rig_node *node = rig_start(0), *foreign = start_foreign(1);
    redis_model_flush(rig.redis);
    rig_pass(10000);
    ck_assert_keys(foreign, SESSION_KEYS_FOREIGN);
    if (_i) {
        rig_pass(65000);
        ck_assert_keys(node, SESSION_KEYS_AGREE);
        ck_assert_keys(foreign, SESSION_KEYS_FOREIGN);
    } else {
        rig_stop(node); /* there is none */
        rig_pass(80000);
        ck_assert_keys(foreign, SESSION_KEYS_AGREE);
    }
}
END_TEST

START_TEST(while_redis_says_nothing_nobody_knows)
{
    rig.fate = _i ? FATE_STRANGE : FATE_AWAY;
    struct rig_node *node = rig_start(0);
    ck_assert_keys(node, SESSION_KEYS_UNKNOWN);
    rig_pass(2000);
    ck_assert_keys(node, SESSION_KEYS_UNKNOWN);
    rig.fate = FATE_ANSWER;
    rig_pass(1000);
    ck_assert_keys(node, SESSION_KEYS_AGREE);
}
END_TEST

START_TEST(what_redis_said_holds_while_it_says_nothing)
{
    (void)rig_start(0);
    struct rig_node *foreign = start_foreign(1);
    rig.fate = FATE_AWAY;
    rig_pass(200000);
    ck_assert_keys(foreign, SESSION_KEYS_FOREIGN);
    rekey(foreign, SUPPORT_NAMES SUPPORT_KEY_1);
    ck_assert_keys(foreign, SESSION_KEYS_UNKNOWN);
}
END_TEST

/* A comparison in flight compares the old ones. */
START_TEST(keys_that_come_while_a_comparison_is_under_way_are_compared_after_it)
{
    (void)rig_start(0);
    struct rig_node *foreign = start_foreign(1);
    rig_plan("refresher:HGETALL", FATE_HOLD_REPLY);
    while (!rig_holds("refresher:HGETALL"))
        rig_pass(1000);
    rekey(foreign, SUPPORT_NAMES SUPPORT_KEY_1);
    rig_release();
    rig_run();
    ck_assert_keys(foreign, SESSION_KEYS_AGREE);
}
END_TEST

START_TEST(a_comparison_ends_with_its_node)
{
    struct rig_node *node = rig_start(0);
    rig_plan("refresher:HGETALL", FATE_HOLD);
    while (!rig_holds("refresher:HGETALL"))
        rig_pass(1000);
    rig_stop(node);
}
END_TEST

START_TEST(keys_are_named_for_people)
{
    char names[SESSION_KEYS_NAMES];
    session_keys_name(0, names, sizeof(names));
    ck_assert_str_eq(names, "");
    session_keys_name(1u | 1u << 2 | UINT64_C(1) << 63, names, sizeof(names));
    ck_assert_str_eq(names, "the names secret, key 2, key 63");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("key_watch");
    TCase *tcase = rig_case(suite, "keys", rig_set_up);
    tcase_add_test(tcase, nodes_with_the_same_keys_agree);
    tcase_add_test(tcase, a_newer_key_of_another_node_is_missed_until_it_is_here);
    tcase_add_test(tcase, a_foreign_key_is_told_and_marks_nothing);
    tcase_add_loop_test(tcase, a_foreign_node_leaves_lost_marks_to_the_others, 0, 2);
    tcase_add_loop_test(tcase, while_redis_says_nothing_nobody_knows, 0, 2);
    tcase_add_test(tcase, what_redis_said_holds_while_it_says_nothing);
    tcase_add_test(tcase, keys_that_come_while_a_comparison_is_under_way_are_compared_after_it);
    tcase_add_test(tcase, a_comparison_ends_with_its_node);
    tcase_add_test(tcase, keys_are_named_for_people);
    return support_run(suite);
}
