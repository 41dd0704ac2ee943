/* Reactions of a node to invalidations: the keys' users, and the reads of the refresher. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "session/model/keys.h"
#include "support_run.h"
#include "support_session.h"

static struct rig_node *node, *other;
static struct rig_session session;

/* One node that tracks, in whose memory alice's session is. */
static void set_up(void)
{
    rig_set_up();
    node = rig_start(0);
    other = rig_start(1);
    rig_watch(node, true);
    session = rig_login(other, "alice");
    clock_fake_pass(5);
    ck_assert_int_eq(rig_validate(node, &session), ERR_OK);
    rig_run();
    rig_recount();
}

static unsigned reads(void)
{
    return rig_served("refresher:HMGET");
}

static unsigned asked(void)
{
    return rig_served("HMGET");
}

/* --- keys --- */

START_TEST(of_a_user_who_changed_the_refresher_reads_what_memory_has)
{
    rig_tell(node, rig_user_key("alice", 'e'));
    rig_run();
    ck_assert_uint_eq(reads(), 1);
    ck_assert_int_eq(rig_validate(node, &session), ERR_OK);
    ck_assert_uint_eq(asked(), 0);
}
END_TEST

/* It hears nothing: it has no tracking connection. */
START_TEST(of_a_change_of_its_own_the_refresher_reads_what_came_of_it)
{
    rig_watch(node, false);
    ck_assert_act(act_logout_all(node, "alice"), ERR_OK);
    ck_assert_uint_ge(reads(), 1);
    rig.fate = FATE_AWAY;
    ck_assert_int_eq(rig_validate(node, &session), ERR_TOKEN_INVALID);
}
END_TEST

/* As long as one, but of other letters; and what is no key of ours at all. */
START_TEST(a_key_that_names_nobody_is_not_heard)
{
    char key[KEYS_USER_LENGTH];
    struct text told = {key, sizeof(key)};
    static const size_t locations[] = {3, 6, 15}; /* the kind, the tenant, the user */
    for (size_t i = 0; i < sizeof(locations) / sizeof(locations[0]); i++) {
        memcpy(key, rig_user_key("alice", 'e').data, sizeof(key));
        key[locations[i]] = '*';
        rig_tell(node, told);
    }
    rig_tell(node, TEXT("sd:e:"));
    rig_tell(node, TEXT("sd:p:{}"));
    rig_run();
    ck_assert_uint_eq(reads(), 0);
    ck_assert_int_eq(rig_validate(node, &session), ERR_OK);
    ck_assert_uint_eq(asked(), 0);
}
END_TEST

/* --- reads --- */

/* As the tracker does it, but the refresher is not asked. */
static void forget(const char *user)
{
    struct user_tag owner;
    token_tag_user(rig.keyring, RIG_TENANT, text_of(user), &owner);
    cache_forget(node->cache, (const uint8_t *)&owner, NULL, NULL);
}

START_TEST(whoever_changes_all_the_time_is_not_read_for_ever)
{
    enum { READS_MOST = 8, ROUNDS = READS_MOST + 2 };
    for (int i = 0; i < ROUNDS; i++)
        rig_plan("refresher:HMGET", FATE_HOLD_REPLY);
    rig_tell(node, rig_user_key("alice", 'e'));
    for (int i = 0; i < ROUNDS; i++) {
        rig_run();
        forget("alice");
        rig_release();
    }
    rig_forget_plans();
    rig_run();
    ck_assert_uint_eq(reads(), 2 * READS_MOST); /* what is held is served twice */
}
END_TEST

static void tell_of_users(unsigned count)
{
    char user[16];
    for (unsigned i = 0; i < count; i++) {
        snprintf(user, sizeof(user), "user-%u", i);
        rig_tell(node, rig_user_key(user, 'e'));
    }
}

enum { UNDER_WAY_MOST = 256, MANY = UNDER_WAY_MOST + 44 };

START_TEST(no_more_reads_are_under_way_than_so_many_and_the_others_wait)
{
    for (unsigned i = 0; i < UNDER_WAY_MOST; i++)
        rig_plan("refresher:HMGET", FATE_HOLD);
    tell_of_users(MANY);
    rig_run();
    ck_assert_uint_eq(reads(), UNDER_WAY_MOST);
    rig_release();
    rig_run();
    ck_assert_uint_eq(reads(), MANY + UNDER_WAY_MOST);
}
END_TEST

START_TEST(what_waits_to_be_read_ends_with_the_node)
{
    for (unsigned i = 0; i < UNDER_WAY_MOST; i++)
        rig_plan("refresher:HMGET", FATE_HOLD);
    tell_of_users(MANY);
    if (_i)
        rig_run();
    else
        rig_forget_plans();
    rig_stop(node);
    ck_assert_uint_eq(reads(), _i ? UNDER_WAY_MOST : 0);
}
END_TEST

/* The news of it is not read, but the session is asked for when somebody uses it. */
START_TEST(what_the_queue_has_no_room_for_is_read_by_whoever_asks)
{
    enum { QUEUE_MOST = 1 << 16 };
    struct text nobody = rig_user_key("nobody", 'e');
    for (unsigned i = 0; i < QUEUE_MOST; i++)
        rig_tell(node, nobody);
    rig_tell(node, rig_user_key("alice", 'e'));
    rig_run();
    ck_assert_uint_eq(asked(), 0);
    ck_assert_int_eq(rig_validate(node, &session), ERR_OK);
    ck_assert_uint_eq(asked(), 1);
    rig_tell(node, rig_user_key("alice", 'e')); /* there is room again */
    rig_run();
    ck_assert_int_eq(rig_validate(node, &session), ERR_OK);
    ck_assert_uint_eq(asked(), 1);
}
END_TEST

START_TEST(the_end_of_nothing_is_nothing)
{
    struct session_service *service = NULL;
    struct session_worker *worker = NULL;
    session_worker_close(&worker);
    session_service_stop(&service);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("refresher");
    TCase *tcase = rig_case(suite, "refresher", set_up);
    tcase_add_test(tcase, of_a_user_who_changed_the_refresher_reads_what_memory_has);
    tcase_add_test(tcase, of_a_change_of_its_own_the_refresher_reads_what_came_of_it);
    tcase_add_test(tcase, a_key_that_names_nobody_is_not_heard);
    tcase_add_test(tcase, whoever_changes_all_the_time_is_not_read_for_ever);
    tcase_add_test(tcase, no_more_reads_are_under_way_than_so_many_and_the_others_wait);
    tcase_add_loop_test(tcase, what_waits_to_be_read_ends_with_the_node, 0, 2);
    tcase_add_test(tcase, what_the_queue_has_no_room_for_is_read_by_whoever_asks);
    tcase_add_test(tcase, the_end_of_nothing_is_nothing);
    return support_run(suite);
}
