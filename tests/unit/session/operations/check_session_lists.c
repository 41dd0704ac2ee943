/* Lists of sessions: a user's, and those of a tenant page by page. */
#include <check.h>
#include <stdio.h>
#include <string.h>

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
    session = rig_login(other, "alice");
    clock_fake_pass(1000);
    second = rig_login(other, "alice");
    clock_fake_pass(1000);
}

static const struct list_devices *list(void)
{
    struct act *act = act_list(node, "alice");
    ck_assert_act(act, ERR_OK);
    return &act->list;
}

static struct act *list_own(struct text token)
{
    struct act *act = act_of(node);
    act->list.token = token;
    session_list(&act->list);
    return act;
}

/* --- a user's --- */

START_TEST(living_sessions_are_listed_newest_first)
{
    const struct list_devices *told = list();
    ck_assert_uint_eq(told->count, 2);
    ck_assert(text_equal(told->sessions[0].session_id, rig_id(&second)));
    ck_assert(text_equal(told->sessions[1].session_id, rig_id(&session)));
    ck_assert(!told->sessions[0].current && !told->sessions[1].current);
    ck_assert_uint_eq(told->over_count, 0);
    ck_assert_int_eq(told->limit, rig.conf->policy_max_devices);
    ck_assert(!told->user.frozen);
}
END_TEST

START_TEST(a_user_is_shown_which_one_is_his_own)
{
    struct act *act = list_own(rig_access(&session));
    ck_assert_act(act, ERR_OK);
    ck_assert(!act->list.sessions[0].current && act->list.sessions[1].current);
}
END_TEST

START_TEST(ended_ones_are_listed_the_last_to_end_first)
{
    ck_assert_act(act_kick(other, "alice", rig_id(&second)), ERR_OK);
    clock_fake_pass(1000);
    ck_assert_act(act_kick(other, "alice", rig_id(&session)), ERR_OK);
    const struct list_devices *told = list();
    ck_assert_uint_eq(told->count, 0);
    ck_assert_uint_eq(told->over_count, 2);
    ck_assert(text_equal(told->over[0].session_id, rig_id(&session)));
    ck_assert_text_eq(told->over[0].reason, REASON_KICKED);
    ck_assert_int_eq(told->over[0].created_s, RIG_NOW / 1000);
    ck_assert_int_eq(told->over[0].ended_s, told->over[1].ended_s + 1);
}
END_TEST

START_TEST(those_that_ended_in_one_second_are_listed_newest_first)
{
    ck_assert_act(act_logout_all(other, "alice"), ERR_OK);
    const struct list_devices *told = list();
    ck_assert_uint_eq(told->over_count, 2);
    ck_assert(text_equal(told->over[0].session_id, rig_id(&second)));
    ck_assert_int_eq(told->user.not_before_s, RIG_NOW / 1000 + 2);
}
END_TEST

/* Nothing has tidied them up yet. */
START_TEST(those_whose_time_is_over_are_listed_as_ended)
{
    static const char *const reasons[] = {REASON_IDLE, REASON_EXPIRED};
    int64_t after_s = _i ? 604800 : 1800;
    if (_i)
        rig.conf->policy_idle_timeout = 604800;
    clock_fake_pass(after_s / 2 * 1000);
    (void)rig_login(other, "alice"); /* with whom Redis remembers them */
    clock_fake_pass((after_s / 2 + 200) * 1000);
    const struct list_devices *told = list();
    ck_assert_uint_eq(told->count, 1);
    ck_assert_uint_eq(told->over_count, 2);
    ck_assert_text_eq(told->over[0].reason, reasons[_i]);
    ck_assert_int_ge(told->over[0].ended_s, RIG_NOW / 1000 + after_s);
    ck_assert_int_le(told->over[0].ended_s, RIG_NOW / 1000 + after_s + 200);
}
END_TEST

START_TEST(of_a_frozen_user_is_shown_why)
{
    ck_assert_act(act_freeze(other, "alice", false), ERR_OK);
    const struct list_devices *told = list();
    ck_assert(told->user.frozen);
    ck_assert_uint_eq(told->count, 0);
    ck_assert_uint_eq(told->over_count, 2);
}
END_TEST

/* It may have said that they are dead. */
START_TEST(a_user_record_that_does_not_open_ends_all_sessions)
{
    redis_model_set_field(rig.redis, rig_user_key("alice", 'u'), TEXT(STATE_FIELD_USER),
                          TEXT("nothing of the kind"));
    int64_t unreadable = metrics_read(METRIC_RECORDS_UNREADABLE);
    const struct list_devices *told = list();
    ck_assert_uint_eq(told->count, 0);
    ck_assert_uint_eq(told->over_count, 2);
    ck_assert_int_gt(metrics_read(METRIC_RECORDS_UNREADABLE), unreadable);
}
END_TEST

START_TEST(a_user_without_a_good_token_is_shown_nothing)
{
    ck_assert_act(list_own(TEXT("no token")), ERR_TOKEN_INVALID);
    ck_assert_act(act_kick(other, "alice", rig_id(&session)), ERR_OK);
    ck_assert_act(list_own(rig_access(&session)), ERR_TOKEN_INVALID);
    rig.fate = FATE_AWAY;
    ck_assert_act(act_kick(node, "alice", rig_id(&second)), ERR_OK);
    ck_assert_act(list_own(rig_access(&second)), ERR_TOKEN_INVALID);
}
END_TEST

START_TEST(a_list_needs_redis)
{
    static const struct {
        const char *step;
        enum fate fate;
        enum err err;
    } rows[] = {{"HGETALL", FATE_AWAY, ERR_STORE_UNAVAILABLE},
                {"HGETALL", FATE_STRANGE, ERR_STORE_PROTOCOL},
                {"HGETALL", FATE_LATE_BEFORE, ERR_STORE_TIMEOUT},
                {"GET", FATE_AWAY, ERR_STORE_UNAVAILABLE}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        rig_plan(rows[i].step, rows[i].fate);
        ck_assert_act(act_list(node, "alice"), rows[i].err);
        rig_forget_plans();
        rig_stop(node);
        node = rig_start(0);
    }
}
END_TEST

/* --- a tenant's --- */

static struct act *page(struct text token, int64_t size)
{
    struct act *act = act_of(node);
    act->users.tenant = RIG_TENANT;
    act->users.page_size = size;
    act->users.page_token = token;
    session_list_tenant(&act->users);
    return act;
}

static void log_in_many(int count)
{
    for (int i = 0; i < count; i++) {
        char user[16];
        snprintf(user, sizeof(user), "user%d", i);
        (void)rig_login(other, user);
        clock_fake_pass(10);
    }
}

/* All pages, one after the other: how many users they show. */
static size_t walk(int64_t size, int *pages)
{
    size_t count = 0;
    struct text token = {0};
    *pages = 0;
    do {
        struct act *act = page(token, size);
        ck_assert_act(act, ERR_OK);
        for (size_t i = 0; i < act->users.count; i++)
            ck_assert_uint_gt(act->users.users[i].count, 0);
        count += act->users.count;
        token = act->users.next_page_token;
        ++*pages;
        ck_assert_int_lt(*pages, 50);
    } while (token.data);
    return count;
}

START_TEST(users_are_shown_page_by_page_each_once)
{
    int pages;
    log_in_many(24);
    struct act *act = page((struct text){0}, 10);
    ck_assert_act(act, ERR_OK);
    ck_assert_uint_eq(act->users.count, 10);
    ck_assert_int_eq(act->users.total, 25);
    ck_assert_int_eq(act->users.total_error, 0);
    ck_assert_uint_eq(walk(10, &pages), 25);
    ck_assert_int_eq(pages, 3);
    ck_assert_uint_eq(walk(25, &pages), 25);
    ck_assert_int_eq(pages, 1);
}
END_TEST

/* The index has outgrown its root. */
START_TEST(of_many_users_none_is_missed)
{
    int pages;
    log_in_many(120);
    rig_pass(1000);
    ck_assert_uint_eq(walk(50, &pages), 121);
    ck_assert_uint_eq(walk(7, &pages), 121);
}
END_TEST

START_TEST(users_without_a_session_are_passed_over_and_taken_out)
{
    int pages;
    log_in_many(12);
    for (int i = 0; i < 11; i++) {
        char user[16];
        snprintf(user, sizeof(user), "user%d", i);
        ck_assert_act(act_logout_all(other, user), ERR_OK);
    }
    ck_assert_uint_eq(walk(5, &pages), 2);
    rig_run();
    struct act *act = page((struct text){0}, 10);
    ck_assert_act(act, ERR_OK);
    ck_assert_int_eq(act->users.total, 2);
}
END_TEST

START_TEST(who_may_have_been_idle_for_too_long_is_counted_as_doubtful)
{
    log_in_many(3);
    clock_fake_pass(1810000);
    struct act *act = page((struct text){0}, 10);
    ck_assert_act(act, ERR_OK);
    ck_assert_int_le(act->users.total_error, act->users.total);
    clock_fake_pass(3600000);
    act = page((struct text){0}, 10);
    ck_assert_act(act, ERR_OK);
    ck_assert_uint_eq(act->users.count, 0);
    ck_assert_ptr_null(act->users.next_page_token.data);
}
END_TEST

START_TEST(after_the_end_of_all_nobody_is_listed)
{
    log_in_many(3);
    ck_assert_act(act_end_tenant(node), ERR_OK);
    struct act *act = page((struct text){0}, 10);
    ck_assert_act(act, ERR_OK);
    ck_assert_uint_eq(act->users.count, 0);
}
END_TEST

START_TEST(a_page_token_is_of_its_tenant)
{
    ck_assert_act(page(TEXT("made up"), 10), ERR_QUERY_INVALID);
    log_in_many(3);
    struct act *act = page((struct text){0}, 2);
    ck_assert_act(act, ERR_OK);
    struct act *foreign = act_of(node);
    foreign->users.tenant = TEXT("another");
    foreign->users.page_size = 2;
    foreign->users.page_token = act->users.next_page_token;
    session_list_tenant(&foreign->users);
    ck_assert_act(foreign, ERR_QUERY_INVALID);
}
END_TEST

static const struct {
    const char *step;
    enum fate fate;
    enum err err;
} page_rows[] = {
    {"GET", FATE_AWAY, ERR_STORE_UNAVAILABLE},        {"ZCOUNT", FATE_AWAY, ERR_STORE_UNAVAILABLE},
    {"ZCOUNT", FATE_STRANGE, ERR_STORE_PROTOCOL},     {"ZRANGE", FATE_AWAY, ERR_STORE_UNAVAILABLE},
    {"ZRANGE", FATE_TWO_NUMBERS, ERR_STORE_PROTOCOL}, {"HGETALL", FATE_AWAY, ERR_STORE_UNAVAILABLE},
    {"HGETALL", FATE_STRANGE, ERR_STORE_PROTOCOL},
};

START_TEST(a_page_needs_redis_at_each_step)
{
    log_in_many(3);
    rig_plan(page_rows[_i].step, page_rows[_i].fate);
    ck_assert_act(page((struct text){0}, 10), page_rows[_i].err);
    ck_assert_act(page((struct text){0}, 10), ERR_OK);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("session_lists");
    TCase *tcase = rig_case(suite, "user", set_up);
    tcase_add_test(tcase, living_sessions_are_listed_newest_first);
    tcase_add_test(tcase, a_user_is_shown_which_one_is_his_own);
    tcase_add_test(tcase, ended_ones_are_listed_the_last_to_end_first);
    tcase_add_test(tcase, those_that_ended_in_one_second_are_listed_newest_first);
    tcase_add_loop_test(tcase, those_whose_time_is_over_are_listed_as_ended, 0, 2);
    tcase_add_test(tcase, of_a_frozen_user_is_shown_why);
    tcase_add_test(tcase, a_user_record_that_does_not_open_ends_all_sessions);
    tcase_add_test(tcase, a_user_without_a_good_token_is_shown_nothing);
    tcase_add_test(tcase, a_list_needs_redis);
    tcase = rig_case(suite, "tenant", set_up);
    tcase_add_test(tcase, users_are_shown_page_by_page_each_once);
    tcase_add_test(tcase, of_many_users_none_is_missed);
    tcase_add_test(tcase, users_without_a_session_are_passed_over_and_taken_out);
    tcase_add_test(tcase, who_may_have_been_idle_for_too_long_is_counted_as_doubtful);
    tcase_add_test(tcase, after_the_end_of_all_nobody_is_listed);
    tcase_add_test(tcase, a_page_token_is_of_its_tenant);
    tcase_add_loop_test(tcase, a_page_needs_redis_at_each_step, 0,
                        sizeof(page_rows) / sizeof(page_rows[0]));
    return support_run(suite);
}
