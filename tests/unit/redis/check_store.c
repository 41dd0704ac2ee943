/* Every outcome of a call that a reply can have: answers, redirections, passing and lasting errors;
 * and the slot map. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "metrics.h"
#include "support_run.h"
#include "support_store.h"

static struct store_rig rig;
static struct redis_node *first, *second;
static struct store_probe probe;

static void start_one(void)
{
    first = redis_node_start(0);
    rig_open_standalone(&rig, first);
}

static void stop_one(void)
{
    rig_close(&rig);
    redis_node_stop(&first);
}

/* Two nodes of which the first owns every slot. */
static void start_two(void)
{
    char map[128];
    first = redis_node_start(0);
    second = redis_node_start(0);
    redis_node_range(map, 0, 16383, redis_node_port(first));
    redis_node_slots(first, map);
    redis_node_slots(second, map);
    rig_open_cluster(&rig, (struct redis_node *[]){first, second}, 2);
}

static void stop_two(void)
{
    rig_close(&rig);
    redis_node_stop(&first);
    redis_node_stop(&second);
}

static char formatted[256];
static const char *with_port(const char *format, struct redis_node *node)
{
    const char *at = strstr(format, "PORT");
    snprintf(formatted, sizeof(formatted), "%.*s%u%s", (int)(at - format), format,
             redis_node_port(node), at + 4);
    return formatted;
}

/* Maps fetched since the process began; runs the loop until there are that many. */
static int64_t refreshes(void)
{
    return metrics_read(METRIC_STORE_MAP_REFRESHES);
}

static void wait_for_refresh(int64_t number)
{
    for (int i = 0; i < 500 && refreshes() < number; i++)
        rig_run(&rig, 10);
    ck_assert_int_ge(refreshes(), number);
    /* The link hears of it on its next turn. */
    rig_run(&rig, 20);
}

/* --- answers --- */

START_TEST(an_answer_is_handed_over)
{
    start_one();
    redis_node_script(first, SCRIPT(EXPECT("HMGET foo a b"), SEND("*2\r\n$3\r\nbar\r\n$-1\r\n")));
    rig_call(&rig, &probe, "HMGET foo a b", STORE_REPEATABLE, 2000);
    ck_assert_int_eq(probe.err, ERR_OK);
    ck_assert_int_eq(probe.type, STORE_ARRAY);
    ck_assert_str_eq(probe.text, "bar");
    ck_assert_int_eq(probe.call.replicas, 0);
    stop_one();
}
END_TEST

START_TEST(an_answer_in_single_bytes_is_the_same_answer)
{
    start_one();
    redis_node_script(
        first, SCRIPT(EXPECT("HMGET foo a b"), SEND_SLICED("*2\r\n$8\r\nb\r\nar\r\nx\r\n$-1\r\n")));
    rig_call(&rig, &probe, "HMGET foo a b", STORE_REPEATABLE, 2000);
    ck_assert_int_eq(probe.err, ERR_OK);
    ck_assert_str_eq(probe.text, "b\r\nar\r\nx");
    stop_one();
}
END_TEST

START_TEST(calls_of_one_turn_leave_in_one_write_and_are_answered_in_order)
{
    enum { CALLS = 40 };
    static struct store_probe probes[CALLS];
    start_one();
    redis_node_script(first, SCRIPT(EXPECT("GET warm"), SEND("$-1\r\n")));
    rig_call(&rig, &probe, "GET warm", 0, 2000);
    for (int i = 0; i < CALLS; i++) {
        char command[32], answer[32];
        snprintf(command, sizeof(command), "GET k%02d", i);
        snprintf(answer, sizeof(answer), "$3\r\nv%02d\r\n", i);
        redis_node_script(first, SCRIPT(EXPECT(command), SEND(answer)));
        rig_send(&rig, &probes[i], command, 0, 2000);
    }
    ck_assert_uint_eq(store_link_pending(rig.link), CALLS);
    rig_wait(&rig, probes, CALLS);
    for (int i = 0; i < CALLS; i++) {
        char value[8];
        snprintf(value, sizeof(value), "v%02d", i);
        ck_assert_str_eq(probes[i].text, value);
    }
    ck_assert_uint_eq(redis_node_most_at_once(first), CALLS);
    ck_assert_uint_eq(store_link_pending(rig.link), 0);
    stop_one();
}
END_TEST

/* --- lasting errors --- */

static const struct {
    const char *reply;
    enum err err;
} lasting_rows[] = {
    {"-NOAUTH Authentication required.\r\n", ERR_STORE_DENIED},
    {"-WRONGPASS invalid username-password pair\r\n", ERR_STORE_DENIED},
    {"-NOPERM this user has no permissions\r\n", ERR_STORE_DENIED},
    {"-OOM command not allowed when used memory > 'maxmemory'.\r\n", ERR_STORE_REFUSED},
    {"-MISCONF Redis is configured to save RDB snapshots\r\n", ERR_STORE_REFUSED},
    {"-NOREPLICAS Not enough good replicas to write.\r\n", ERR_STORE_REFUSED},
    {"-ERR unknown command\r\n", ERR_STORE_PROTOCOL},
    {"-WRONGTYPE Operation against a key\r\n", ERR_STORE_PROTOCOL},
    {"-NOSCRIPT No matching script\r\n", ERR_STORE_PROTOCOL}, /* for what is no script */
    /* Only a cluster redirects. */
    {"-MOVED 12182 nowhere\r\n", ERR_STORE_UNFIT},
    {"-ASK\r\n", ERR_STORE_UNFIT},
    {"-DENIED Redis is running in protected mode\r\n", ERR_STORE_DENIED},
};

START_TEST(a_lasting_error_ends_the_call_and_is_not_tried_again)
{
    start_one();
    redis_node_script(first, SCRIPT(EXPECT("GET foo"), SEND(lasting_rows[_i].reply)));
    rig_call(&rig, &probe, "GET foo", STORE_REPEATABLE, 3000);
    ck_assert_int_eq(probe.err, lasting_rows[_i].err);
    ck_assert_int_lt(probe.own_ms, 2000);
    ck_assert_uint_eq(redis_node_commands(first), 1);
    stop_one();
}
END_TEST

/* --- passing errors --- */

static const struct {
    const char *error;
    bool failure; /* for the breaker */
} passing_rows[] = {
    {"-TRYAGAIN Multiple keys request during rehashing of slot\r\n", false},
    {"-CLUSTERDOWN The cluster is down\r\n", true},
    {"-LOADING Redis is loading the dataset in memory\r\n", true},
    {"-MASTERDOWN Link with MASTER is down\r\n", true},
    {"-BUSY Redis is busy running a script.\r\n", true},
    {"-READONLY You can't write against a read only replica.\r\n", false},
};

START_TEST(a_passing_error_is_tried_again_after_a_pause)
{
    start_one();
    const char *error = passing_rows[_i].error;
    redis_node_script(first, SCRIPT(EXPECT("SET foo 1"), SEND(error), EXPECT("SET foo 1"),
                                    SEND(error), EXPECT("SET foo 1"), SEND("+OK\r\n")));
    rig_call(&rig, &probe, "SET foo 1", 0, 3000);
    ck_assert_int_eq(probe.err, ERR_OK);
    ck_assert_int_ge(probe.took_ms, 10);
    stop_one();
}
END_TEST

/* Errors that speak against the server open its breaker before. */
START_TEST(a_passing_error_that_stays_ends_at_the_deadline_at_the_latest)
{
    start_one();
    redis_node_script(first, SCRIPT(ALWAYS(passing_rows[_i].error)));
    rig_call(&rig, &probe, "SET foo 1", 0, 200);
    ck_assert_int_eq(probe.err, ERR_STORE_UNAVAILABLE);
    if (!passing_rows[_i].failure)
        ck_assert_int_ge(probe.took_ms, 190);
    ck_assert_int_lt(probe.own_ms, 1000);
    ck_assert_uint_lt(redis_node_commands(first), 20);
    stop_one();
}
END_TEST

/* --- scripts --- */

/* Sent, and answered while the host slept. */
static void sleep_over(const char *command, unsigned flags)
{
    redis_node_freeze(first, true);
    rig_send(&rig, &probe, command, flags, 5000);
    rig_run(&rig, 20);
    clock_fake_sleep(20 * 60 * 1000);
    redis_node_freeze(first, false);
    rig_wait(&rig, &probe, 1);
}

START_TEST(what_was_read_before_the_host_slept_is_read_again)
{
    start_one();
    redis_node_script(first, SCRIPT(EXPECT("GET foo"), SEND("$3\r\nold\r\n"), EXPECT("GET foo"),
                                    SEND("$3\r\nnew\r\n")));
    sleep_over("GET foo", STORE_REPEATABLE);
    ck_assert_int_eq(probe.err, ERR_OK);
    ck_assert_str_eq(probe.text, "new");
    stop_one();
}
END_TEST

START_TEST(what_was_written_before_the_host_slept_is_written)
{
    start_one();
    redis_node_script(first, SCRIPT(EXPECT("SET foo 1"), SEND("+OK\r\n")));
    sleep_over("SET foo 1", 0);
    ck_assert_int_eq(probe.err, ERR_OK);
    stop_one();
}
END_TEST

START_TEST(an_unknown_script_is_sent_by_its_source_once)
{
    struct store_script script = {.source = "return ARGV[1]"};
    store_script_prepare(&script);
    ck_assert_str_eq(script.sha1, "098e0f0d1448c0a81dafe820f66d460eb09263da");
    start_one();
    redis_node_script(first,
                      SCRIPT(EXPECT("EVALSHA 098e0f0d1448c0a81dafe820f66d460eb09263da 1 "
                                    "foo one two"),
                             SEND("-NOSCRIPT No matching script.\r\n"),
                             EXPECT("EVAL return ARGV\\[1] 1 foo one two"), SEND("$3\r\none\r\n")));
    rig_send_script(&rig, &probe, &script, 2000);
    rig_wait(&rig, &probe, 1);
    ck_assert_int_eq(probe.err, ERR_OK);
    ck_assert_str_eq(probe.text, "one");
    stop_one();
}
END_TEST

START_TEST(a_source_that_is_unknown_too_is_a_breach_of_protocol)
{
    struct store_script script = {.source = "return 1"};
    store_script_prepare(&script);
    start_one();
    redis_node_script(first, SCRIPT(EXPECT("EVALSHA *"), SEND("-NOSCRIPT a\r\n"), EXPECT("EVAL *"),
                                    SEND("-NOSCRIPT b\r\n")));
    rig_send_script(&rig, &probe, &script, 2000);
    rig_wait(&rig, &probe, 1);
    ck_assert_int_eq(probe.err, ERR_STORE_PROTOCOL);
    stop_one();
}
END_TEST

/* --- redirections --- */

START_TEST(moved_is_followed_and_the_map_fetched_anew)
{
    start_two();
    redis_node_script(first, SCRIPT(EXPECT("GET foo"), SEND(with_port(_i ? "-MOVED 12182 :PORT\r\n"
                                                                         : "-MOVED 12182 "
                                                                           "127.0.0.1:PORT\r\n",
                                                                      second))));
    redis_node_script(second, SCRIPT(EXPECT("GET foo"), SEND("$2\r\nhi\r\n")));
    wait_for_refresh(1);
    rig_call(&rig, &probe, "GET foo", 0, 2000);
    ck_assert_int_eq(probe.err, ERR_OK);
    ck_assert_str_eq(probe.text, "hi");
    wait_for_refresh(2);
    rig_run(&rig, 150);
    ck_assert_int_eq(refreshes(), 2);
    stop_two();
}
END_TEST

START_TEST(the_new_map_routes_later_calls)
{
    char map[128];
    start_two();
    redis_node_script(first, SCRIPT(EXPECT("GET foo"),
                                    SEND(with_port("-MOVED 12182 127.0.0.1:PORT\r\n", second))));
    redis_node_script(second, SCRIPT(EXPECT("GET foo"), SEND("$1\r\na\r\n"), EXPECT("GET foo"),
                                     SEND("$1\r\nb\r\n")));
    wait_for_refresh(1);
    redis_node_range(map, 0, 16383, redis_node_port(second));
    redis_node_slots(first, map);
    redis_node_slots(second, map);
    rig_call(&rig, &probe, "GET foo", 0, 2000);
    wait_for_refresh(2);
    rig_call(&rig, &probe, "GET foo", 0, 2000);
    ck_assert_str_eq(probe.text, "b");
    stop_two();
}
END_TEST

START_TEST(refreshes_are_coalesced_and_rate_limited)
{
    enum { CALLS = 30 };
    static struct store_probe probes[CALLS];
    start_two();
    wait_for_refresh(1);
    int64_t began_ms = clock_monotonic_ms();
    redis_node_script(first, SCRIPT(ALWAYS(with_port("-MOVED 1 127.0.0.1:PORT\r\n", second))));
    redis_node_script(second, SCRIPT(ALWAYS("+OK\r\n")));
    for (int i = 0; i < CALLS; i++) {
        rig_send(&rig, &probes[i], "GET foo", 0, 2000);
        rig_run(&rig, 5);
    }
    rig_wait(&rig, probes, CALLS);
    wait_for_refresh(2);
    int64_t intervals = (clock_monotonic_ms() - began_ms) / 100;
    ck_assert_int_le(refreshes() - 1, intervals + 1);
    stop_two();
}
END_TEST

START_TEST(ask_is_followed_once_behind_asking_and_the_map_stays)
{
    start_two();
    redis_node_script(first, SCRIPT(EXPECT("GET foo"),
                                    SEND(with_port("-ASK 12182 127.0.0.1:PORT\r\n", second)),
                                    EXPECT("GET foo"), SEND("$3\r\nold\r\n")));
    redis_node_script(second, SCRIPT(EXPECT("ASKING"), SEND("+OK\r\n"), EXPECT("GET foo"),
                                     SEND("$3\r\nnew\r\n")));
    wait_for_refresh(1);
    rig_call(&rig, &probe, "GET foo", 0, 2000);
    ck_assert_str_eq(probe.text, "new");
    rig_call(&rig, &probe, "GET foo", 0, 2000);
    ck_assert_str_eq(probe.text, "old");
    rig_run(&rig, 150);
    ck_assert_int_eq(refreshes(), 1);
    stop_two();
}
END_TEST

START_TEST(a_call_that_must_try_again_behind_ask_starts_over_without_asking)
{
    start_two();
    redis_node_script(first, SCRIPT(EXPECT("GET foo"),
                                    SEND(with_port("-ASK 12182 127.0.0.1:PORT\r\n", second)),
                                    EXPECT("GET foo"), SEND("+back\r\n")));
    redis_node_script(second, SCRIPT(EXPECT("ASKING"), SEND("+OK\r\n"), EXPECT("GET foo"),
                                     SEND("-TRYAGAIN x\r\n")));
    rig_call(&rig, &probe, "GET foo", 0, 2000);
    ck_assert_str_eq(probe.text, "back");
    stop_two();
}
END_TEST

static const char *const stale_rows[] = {
    "-READONLY You can't write against a read only replica.\r\n",
    "-CLUSTERDOWN The cluster is down\r\n",
    "-MASTERDOWN Link with MASTER is down\r\n",
};

START_TEST(an_error_that_hints_at_an_old_map_brings_a_new_one_and_follows_it)
{
    char map[128];
    start_two();
    wait_for_refresh(1);
    redis_node_range(map, 0, 16383, redis_node_port(second));
    redis_node_slots(first, map);
    redis_node_slots(second, map);
    redis_node_script(first, SCRIPT(ALWAYS(stale_rows[_i])));
    redis_node_script(second, SCRIPT(EXPECT("SET foo 1"), SEND("+OK\r\n")));
    rig_call(&rig, &probe, "SET foo 1", 0, 3000);
    ck_assert_int_eq(probe.err, ERR_OK);
    stop_two();
}
END_TEST

START_TEST(a_script_unknown_behind_ask_is_sent_by_source_behind_asking)
{
    struct store_script script = {.source = "return 1"};
    store_script_prepare(&script);
    start_two();
    redis_node_script(first, SCRIPT(EXPECT("EVALSHA *"),
                                    SEND(with_port("-ASK 12182 127.0.0.1:PORT\r\n", second))));
    redis_node_script(second, SCRIPT(EXPECT("ASKING"), SEND("+OK\r\n"), EXPECT("EVALSHA *"),
                                     SEND("-NOSCRIPT x\r\n"), EXPECT("ASKING"), SEND("+OK\r\n"),
                                     EXPECT("EVAL return 1 1 foo one two"), SEND(":1\r\n")));
    rig_send_script(&rig, &probe, &script, 2000);
    rig_wait(&rig, &probe, 1);
    ck_assert_int_eq(probe.err, ERR_OK);
    ck_assert_int_eq(probe.integer, 1);
    stop_two();
}
END_TEST

START_TEST(redirections_in_a_circle_end)
{
    start_two();
    redis_node_script(first, SCRIPT(ALWAYS(with_port("-MOVED 1 127.0.0.1:PORT\r\n", second))));
    redis_node_script(second, SCRIPT(ALWAYS(with_port("-MOVED 1 127.0.0.1:PORT\r\n", first))));
    rig_call(&rig, &probe, "GET foo", 0, 2000);
    ck_assert_int_eq(probe.err, ERR_STORE_UNAVAILABLE);
    unsigned commands = redis_node_commands(first) + redis_node_commands(second);
    ck_assert_uint_ge(commands, 10);
    ck_assert_uint_le(commands, 20);
    stop_two();
}
END_TEST

/* --- map --- */

START_TEST(without_a_map_calls_end_once_it_is_known_that_none_can_be_had)
{
    first = redis_node_start(0);
    redis_node_freeze(first, true);
    rig_open_cluster(&rig, &first, 1);
    rig_send(&rig, &probe, "GET foo", 0, 3000);
    rig_run(&rig, 50);
    ck_assert_uint_eq(probe.ended, 0);
    redis_node_freeze(first, false);
    rig_wait(&rig, &probe, 1);
    /* It says that it is no cluster. */
    ck_assert_int_eq(probe.err, ERR_STORE_UNFIT);
    ck_assert_int_lt(probe.own_ms, 1000);
    rig_call(&rig, &probe, "GET foo", 0, 3000);
    ck_assert_int_eq(probe.err, ERR_STORE_UNFIT);
    ck_assert_int_lt(probe.own_ms, 50);
    struct store_health health;
    store_health(rig.store, &health);
    ck_assert(!health.map_known);
    ck_assert(!health.serving);
    stop_one();
}
END_TEST

START_TEST(calls_that_wait_for_the_map_go_out_when_it_comes)
{
    char map[128];
    first = redis_node_start(0);
    redis_node_freeze(first, true);
    rig_open_cluster(&rig, &first, 1);
    rig_send(&rig, &probe, "GET foo", 0, 2000);
    rig_run(&rig, 50);
    redis_node_script(first, SCRIPT(EXPECT("GET foo"), SEND("+OK\r\n")));
    redis_node_slots(first, redis_node_range(map, 0, 16383, redis_node_port(first)));
    redis_node_freeze(first, false);
    rig_wait(&rig, &probe, 1);
    ck_assert_int_eq(probe.err, ERR_OK);
    stop_one();
}
END_TEST

START_TEST(a_slot_without_an_owner_hurts_only_its_own_calls)
{
    char map[128];
    static struct store_probe probes[2];
    first = redis_node_start(0);
    redis_node_slots(first, redis_node_range(map, 12000, 16383, redis_node_port(first)));
    redis_node_script(first, SCRIPT(EXPECT("GET foo"), SEND("+OK\r\n")));
    rig_open_cluster(&rig, &first, 1);
    rig_send(&rig, &probes[0], "GET {hash_tag}", 0, 2000); /* slot 2515 */
    rig_send(&rig, &probes[1], "GET foo", 0, 2000);        /* slot 12182 */
    rig_wait(&rig, probes, 2);
    ck_assert_int_eq(probes[0].err, ERR_STORE_UNAVAILABLE);
    ck_assert_int_lt(probes[0].own_ms, 1000);
    ck_assert_int_eq(probes[1].err, ERR_OK);
    struct store_health health;
    store_health(rig.store, &health);
    ck_assert(health.map_known);
    ck_assert_uint_eq(health.masters, 1);
    ck_assert_uint_eq(health.slots_covered, 4384);
    stop_one();
}
END_TEST

START_TEST(one_living_seed_suffices)
{
    char map[128];
    struct redis_node *dead = redis_node_start(0);
    uint16_t dead_port = redis_node_port(dead);
    redis_node_stop(&dead);
    first = redis_node_start(0);
    redis_node_slots(first, redis_node_range(map, 0, 16383, redis_node_port(first)));
    redis_node_script(first, SCRIPT(EXPECT("GET foo"), SEND("+OK\r\n")));
    uint16_t ports[] = {dead_port, redis_node_port(first)};
    rig_configure(&rig, REDIS_CLUSTER, ports, 2);
    rig_open(&rig);
    rig_call(&rig, &probe, "GET foo", 0, 1000);
    ck_assert_int_eq(probe.err, ERR_OK);
    stop_one();
}
END_TEST

START_TEST(a_reload_with_another_server_sends_calls_there)
{
    struct buffer error = {0};
    start_one();
    second = redis_node_start(0);
    wait_for_refresh(1);
    char address[32];
    snprintf(address, sizeof(address), "127.0.0.1:%u", redis_node_port(second));
    rig_set_text(&rig.conf->redis_nodes.items[0], address);
    redis_node_script(second, SCRIPT(EXPECT("GET foo"), SEND("+there\r\n")));
    ck_assert(store_reload(rig.store, rig.conf, &error));
    wait_for_refresh(2);
    rig_call(&rig, &probe, "GET foo", 0, 2000);
    ck_assert_str_eq(probe.text, "there");
    rig_close(&rig);
    redis_node_stop(&first);
    redis_node_stop(&second);
}
END_TEST

/* --- health --- */

START_TEST(health_is_true_without_calls_and_false_when_nobody_answers)
{
    struct store_health health;
    start_one();
    rig_run(&rig, 50);
    store_health(rig.store, &health);
    ck_assert(health.map_known);
    ck_assert(health.serving);
    ck_assert_uint_eq(health.slots_covered, 16384);
    redis_node_stop(&first);
    for (int i = 0; i < 100 && health.serving; i++) {
        rig_run(&rig, 50);
        store_health(rig.store, &health);
    }
    ck_assert(!health.serving);
    rig_close(&rig);
}
END_TEST

START_TEST(health_follows_the_latest_call)
{
    struct store_health health;
    start_one();
    redis_node_script(first,
                      SCRIPT(EXPECT("GET foo"), SLEEP(150), EXPECT("GET foo"), SEND("+OK\r\n")));
    rig_call(&rig, &probe, "GET foo", 0, 60);
    store_health(rig.store, &health);
    ck_assert(!health.serving);
    rig_call(&rig, &probe, "GET foo", 0, 2000);
    store_health(rig.store, &health);
    ck_assert(health.serving);
    stop_one();
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

int main(void)
{
    Suite *suite = suite_create("store");
    TCase *answers = tcase_create("answers");
    tcase_add_test(answers, an_answer_is_handed_over);
    tcase_add_test(answers, an_answer_in_single_bytes_is_the_same_answer);
    tcase_add_test(answers, calls_of_one_turn_leave_in_one_write_and_are_answered_in_order);
    tcase_add_loop_test(answers, a_lasting_error_ends_the_call_and_is_not_tried_again, 0,
                        ROWS(lasting_rows));
    tcase_add_loop_test(answers, a_passing_error_is_tried_again_after_a_pause, 0,
                        ROWS(passing_rows));
    tcase_add_loop_test(answers, a_passing_error_that_stays_ends_at_the_deadline_at_the_latest, 0,
                        ROWS(passing_rows));
    tcase_add_test(answers, what_was_read_before_the_host_slept_is_read_again);
    tcase_add_test(answers, what_was_written_before_the_host_slept_is_written);
    tcase_add_test(answers, an_unknown_script_is_sent_by_its_source_once);
    tcase_add_test(answers, a_source_that_is_unknown_too_is_a_breach_of_protocol);
    suite_add_tcase(suite, answers);

    TCase *redirections = tcase_create("redirections");
    tcase_add_loop_test(redirections, moved_is_followed_and_the_map_fetched_anew, 0, 2);
    tcase_add_test(redirections, the_new_map_routes_later_calls);
    tcase_add_test(redirections, refreshes_are_coalesced_and_rate_limited);
    tcase_add_test(redirections, ask_is_followed_once_behind_asking_and_the_map_stays);
    tcase_add_test(redirections, a_script_unknown_behind_ask_is_sent_by_source_behind_asking);
    tcase_add_test(redirections, a_call_that_must_try_again_behind_ask_starts_over_without_asking);
    tcase_add_loop_test(redirections,
                        an_error_that_hints_at_an_old_map_brings_a_new_one_and_follows_it, 0,
                        ROWS(stale_rows));
    tcase_add_test(redirections, redirections_in_a_circle_end);
    suite_add_tcase(suite, redirections);

    TCase *map = tcase_create("map");
    tcase_add_test(map, without_a_map_calls_end_once_it_is_known_that_none_can_be_had);
    tcase_add_test(map, calls_that_wait_for_the_map_go_out_when_it_comes);
    tcase_add_test(map, a_slot_without_an_owner_hurts_only_its_own_calls);
    tcase_add_test(map, one_living_seed_suffices);
    tcase_add_test(map, a_reload_with_another_server_sends_calls_there);
    tcase_add_test(map, health_is_true_without_calls_and_false_when_nobody_answers);
    tcase_add_test(map, health_follows_the_latest_call);
    suite_add_tcase(suite, map);

    return support_run(suite);
}
