/* The breakers of the store: what opens one, what does not, and how the load comes back. */
#include <check.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "metrics.h"
#include "redis/state/store_state.h"
#include "support_run.h"
#include "support_store.h"

static struct store_rig rig;
static struct redis_node *node;
static struct store_probe probe, probes[64];

static void start(void)
{
    node = redis_node_start(0);
    rig_open_standalone(&rig, node);
    redis_node_script(node, SCRIPT(EXPECT("GET warm"), SEND("$-1\r\n")));
    rig_call(&rig, &probe, "GET warm", 0, 3000);
    ck_assert_int_eq(probe.err, ERR_OK);
}

static struct breaker *breaker_of_node(void)
{
    struct endpoint endpoint = {"127.0.0.1", redis_node_port(node)};
    return &breakers_find(rig.store, &endpoint)->breaker;
}

/* Nothing that passed is forgotten, however it ended. */
static void stop(void)
{
    ck_assert_uint_eq(atomic_load(&breaker_of_node()->in_flight), 0);
    rig_close(&rig);
    redis_node_stop(&node);
    ck_assert_int_eq(metrics_read(METRIC_BREAKERS_OPEN), 0);
}

static enum breaker_state state(void)
{
    struct store_node_health health;
    ck_assert_uint_eq(store_nodes(rig.store, &health, 1), 1);
    ck_assert_uint_eq(health.port, redis_node_port(node));
    ck_assert_str_eq(health.host, "127.0.0.1");
    return health.breaker;
}

static void wait_for_state(enum breaker_state wanted, int64_t most_ms)
{
    for (int64_t waited_ms = 0; state() != wanted && waited_ms < most_ms; waited_ms += 5)
        rig_run(&rig, 5);
    ck_assert_int_eq(state(), wanted);
}

static void expect_rejection(void)
{
    int64_t before = metrics_read(METRIC_STORE_REJECTED);
    rig_call(&rig, &probe, "GET foo", STORE_REPEATABLE, 3000);
    ck_assert_int_eq(probe.err, ERR_STORE_UNAVAILABLE);
    ck_assert_int_le(probe.own_ms, 5);
    ck_assert_int_eq(metrics_read(METRIC_STORE_REJECTED), before + 1);
}

/* --- what opens it --- */

START_TEST(a_node_that_hangs_costs_a_few_deadlines_then_nothing)
{
    start();
    redis_node_freeze(node, true);
    for (int i = 0; i < BREAKER_FAILURES && state() == BREAKER_CLOSED; i++) {
        rig_call(&rig, &probe, "GET foo", 0, 60);
        ck_assert_int_ne(probe.err, ERR_OK);
    }
    wait_for_state(BREAKER_OPEN, 1000);
    expect_rejection();
    ck_assert_int_eq(metrics_read(METRIC_BREAKERS_OPEN), 1);
    ck_assert_int_ge(metrics_read(METRIC_BREAKER_OPENED), 1);
    rig_close(&rig);
    _exit(0); /* the frozen node has unexpected commands */
}
END_TEST

START_TEST(a_dead_node_fails_calls_at_once_also_those_that_waited)
{
    start();
    redis_node_stop(&node);
    rig_run(&rig, 20);
    rig_call(&rig, &probe, "GET foo", STORE_REPEATABLE, 4000);
    ck_assert_int_eq(probe.err, ERR_STORE_UNAVAILABLE);
    ck_assert_int_lt(probe.own_ms, 1000);
    struct store_node_health health;
    ck_assert_uint_eq(store_nodes(rig.store, &health, 1), 1);
    ck_assert_int_eq(health.breaker, BREAKER_OPEN);
    expect_rejection();
    rig_close(&rig);
}
END_TEST

static const struct {
    const char *reply;
    bool failure;
} reply_rows[] = {
    {"-LOADING Redis is loading the dataset in memory\r\n", true},
    {"-BUSY Redis is busy running a script.\r\n", true},
    {"-CLUSTERDOWN The cluster is down\r\n", true},
    {"-MASTERDOWN Link with MASTER is down\r\n", true},
    {"-ERR max number of clients reached\r\n", true},
    {"-OOM command not allowed when used memory > 'maxmemory'.\r\n", false},
    {"-MISCONF Redis is configured to save RDB snapshots\r\n", false},
    {"-NOREPLICAS Not enough good replicas to write.\r\n", false},
    {"-ERR unknown command\r\n", false},
    {"-TRYAGAIN Multiple keys request during rehashing of slot\r\n", false},
    {"-READONLY You can't write against a read only replica.\r\n", false},
    {"$-1\r\n", false},
};

START_TEST(errors_of_the_server_open_it_and_errors_of_the_call_do_not)
{
    start();
    redis_node_script(node, SCRIPT(ALWAYS(reply_rows[_i].reply)));
    for (int i = 0; i < 2 * BREAKER_FAILURES; i++)
        rig_send(&rig, &probes[i], "GET foo", 0, 300);
    rig_wait(&rig, probes, 2 * BREAKER_FAILURES);
    bool opened = metrics_read(METRIC_BREAKER_OPENED) > 0;
    ck_assert_int_eq(opened, reply_rows[_i].failure);
    stop();
}
END_TEST

START_TEST(credentials_that_are_refused_do_not_open_it)
{
    start();
    for (int i = 0; i < 2 * BREAKER_FAILURES; i++)
        redis_node_script(node,
                          SCRIPT(EXPECT("GET foo"), SEND("-NOAUTH Authentication required.\r\n")));
    for (int i = 0; i < 2 * BREAKER_FAILURES; i++)
        rig_send(&rig, &probes[i], "GET foo", 0, 300);
    rig_wait(&rig, probes, 2 * BREAKER_FAILURES);
    ck_assert_int_eq(probes[0].err, ERR_STORE_DENIED);
    ck_assert_int_eq(state(), BREAKER_CLOSED);
    stop();
}
END_TEST

/* Durable calls may take long: a replica has to answer, too. */
START_TEST(slow_answers_open_it_unless_they_are_durable)
{
    bool durable = _i == 1;
    node = redis_node_start(0);
    uint16_t port = redis_node_port(node);
    rig_configure(&rig, REDIS_STANDALONE, &port, 1);
    rig.conf->redis_timeout = 100;
    rig.conf->redis_wait_timeout = 50;
    rig_open(&rig);
    redis_node_script(node, SCRIPT(EXPECT("GET warm"), SEND("$-1\r\n")));
    rig_call(&rig, &probe, "GET warm", 0, 3000);
    rig_wait_for_pings(&rig);
    for (int i = 0; i < BREAKER_FAILURES; i++) {
        redis_node_script(node, SCRIPT(EXPECT("GET foo"), SLEEP(90), SEND("$-1\r\n")));
        if (durable)
            redis_node_script(node, SCRIPT(EXPECT("WAIT 1 *"), SEND(":1\r\n")));
        rig_call(&rig, &probe, "GET foo", durable ? STORE_DURABLE : 0, 3000);
        ck_assert_int_eq(probe.err, ERR_OK);
    }
    ck_assert_int_eq(metrics_read(METRIC_BREAKER_OPENED), durable ? 0 : 1);
    stop();
}
END_TEST

START_TEST(a_connection_that_is_cut_once_is_one_failure_whatever_was_under_way)
{
    enum { CALLS = 20 };
    start();
    redis_node_script(node, SCRIPT(EXPECT("GET foo"), CLOSE(), ALWAYS("$-1\r\n")));
    for (int i = 0; i < CALLS; i++)
        rig_send(&rig, &probes[i], "GET foo", STORE_REPEATABLE, 2000);
    rig_wait(&rig, probes, CALLS);
    for (int i = 0; i < CALLS; i++)
        ck_assert_int_eq(probes[i].err, ERR_OK);
    ck_assert_int_eq(state(), BREAKER_CLOSED);
    ck_assert_int_eq(metrics_read(METRIC_BREAKER_OPENED), 0);
    stop();
}
END_TEST

/* --- who is kept away --- */

START_TEST(the_calls_of_other_nodes_pass)
{
    char map[256];
    node = redis_node_start(0);
    struct redis_node *hung = redis_node_start(0);
    snprintf(map, sizeof(map),
             "*2\r\n*3\r\n:0\r\n:9999\r\n*2\r\n$9\r\n127.0.0.1\r\n:%u\r\n"
             "*3\r\n:10000\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%u\r\n",
             redis_node_port(hung), redis_node_port(node));
    redis_node_slots(node, map);
    rig_open_cluster(&rig, &node, 1);
    redis_node_script(node, SCRIPT(ALWAYS("+OK\r\n")));
    redis_node_stop(&hung);
    rig_call(&rig, &probe, "GET {hash_tag}", 0, 4000); /* slot 2515 */
    ck_assert_int_eq(probe.err, ERR_STORE_UNAVAILABLE);
    rig_call(&rig, &probe, "GET {hash_tag}", 0, 4000);
    ck_assert_int_eq(probe.err, ERR_STORE_UNAVAILABLE);
    ck_assert_int_le(probe.own_ms, 5);
    rig_call(&rig, &probe, "GET foo", 0, 4000); /* slot 12182 */
    ck_assert_int_eq(probe.err, ERR_OK);
    struct store_node_health nodes[4];
    ck_assert_uint_eq(store_nodes(rig.store, nodes, 4), 2);
    ck_assert_int_eq(nodes[0].breaker, BREAKER_OPEN);
    ck_assert_int_eq(nodes[1].breaker, BREAKER_CLOSED);
    stop();
}
END_TEST

START_TEST(what_one_link_learns_holds_for_the_others)
{
    start();
    struct store_rig other;
    rig_open_link(&other, rig.store);
    redis_node_stop(&node);
    rig_run(&rig, 20);
    rig_call(&rig, &probe, "GET foo", 0, 4000);
    ck_assert_int_eq(probe.err, ERR_STORE_UNAVAILABLE);
    rig_call(&other, &probe, "GET foo", 0, 4000);
    ck_assert_int_eq(probe.err, ERR_STORE_UNAVAILABLE);
    ck_assert_int_le(probe.own_ms, 5);
    rig_close_link(&other);
    rig_close(&rig);
}
END_TEST

/* --- coming back --- */

START_TEST(a_node_that_is_back_is_found_by_few_calls_then_serves_all)
{
    enum { CALLS = 64 };
    start();
    uint16_t port = redis_node_port(node);
    redis_node_stop(&node);
    rig_run(&rig, 20);
    rig_call(&rig, &probe, "GET foo", 0, 4000);
    ck_assert_int_eq(probe.err, ERR_STORE_UNAVAILABLE);
    node = redis_node_start(port);
    redis_node_script(node, SCRIPT(ALWAYS("+OK\r\n")));
    rig_run(&rig, 150);
    unsigned answered = 0;
    for (int i = 0; i < CALLS; i++)
        rig_send(&rig, &probes[i], "GET foo", 0, 2000);
    rig_wait(&rig, probes, CALLS);
    for (int i = 0; i < CALLS; i++)
        answered += probes[i].err == ERR_OK;
    ck_assert_uint_ge(answered, 1);
    ck_assert_uint_le(answered, BREAKER_PROBES);
    for (int i = 0; i < 400 && state() != BREAKER_CLOSED; i++) {
        rig_call(&rig, &probe, "GET foo", 0, 2000);
        rig_run(&rig, 5);
    }
    ck_assert_int_eq(state(), BREAKER_CLOSED);
    rig_call(&rig, &probe, "GET foo", 0, 2000);
    ck_assert_int_eq(probe.err, ERR_OK);
    stop();
}
END_TEST

START_TEST(without_any_call_pings_close_it)
{
    start();
    uint16_t port = redis_node_port(node);
    redis_node_stop(&node);
    rig_run(&rig, 20);
    rig_call(&rig, &probe, "GET foo", 0, 4000);
    ck_assert_int_eq(probe.err, ERR_STORE_UNAVAILABLE);
    node = redis_node_start(port);
    redis_node_script(node, SCRIPT(ALWAYS("+OK\r\n")));
    wait_for_state(BREAKER_CLOSED, 8000);
    stop();
}
END_TEST

/* --- calls that leave --- */

START_TEST(calls_that_end_with_their_link_free_their_places)
{
    start();
    struct store_rig other;
    rig_open_link(&other, rig.store);
    redis_node_script(node, SCRIPT(EXPECT("GET a"), SLEEP(100)));
    rig_send(&other, &probes[0], "GET a", 0, 3000);
    rig_run(&other, 30);
    ck_assert_uint_gt(atomic_load(&breaker_of_node()->in_flight), 0);
    rig_close_link(&other);
    ck_assert_int_eq(probes[0].err, ERR_SHUTTING_DOWN);
    rig_run(&rig, 150);
    stop();
}
END_TEST

START_TEST(calls_that_leave_with_the_map_free_their_places)
{
    char map[128];
    node = redis_node_start(0);
    struct redis_node *hung = redis_node_start(0);
    redis_node_slots(node, redis_node_range(map, 0, 16383, redis_node_port(hung)));
    rig_open_cluster(&rig, &node, 1);
    rig_run(&rig, 50);
    redis_node_freeze(hung, true);
    redis_node_script(node, SCRIPT(ALWAYS("+OK\r\n")));
    for (int i = 0; i < 4; i++)
        rig_send(&rig, &probes[i], "GET foo", 0, 3000);
    rig_run(&rig, 30);
    redis_node_slots(node, redis_node_range(map, 0, 16383, redis_node_port(node)));
    store_state_want_refresh(rig.store);
    rig_wait(&rig, probes, 4);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(probes[i].err, ERR_OK);
    redis_node_freeze(hung, false);
    rig_run(&rig, 20);
    stop();
    redis_node_stop(&hung);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

static TCase *breaker_case(void)
{
    TCase *breakers = tcase_create("breakers");
    tcase_set_timeout(breakers, 15);
    tcase_add_test(breakers, a_node_that_hangs_costs_a_few_deadlines_then_nothing);
    tcase_add_test(breakers, a_dead_node_fails_calls_at_once_also_those_that_waited);
    tcase_add_loop_test(breakers, errors_of_the_server_open_it_and_errors_of_the_call_do_not, 0,
                        ROWS(reply_rows));
    tcase_add_test(breakers, credentials_that_are_refused_do_not_open_it);
    tcase_add_loop_test(breakers, slow_answers_open_it_unless_they_are_durable, 0, 2);
    tcase_add_test(breakers, a_connection_that_is_cut_once_is_one_failure_whatever_was_under_way);
    tcase_add_test(breakers, the_calls_of_other_nodes_pass);
    tcase_add_test(breakers, what_one_link_learns_holds_for_the_others);
    tcase_add_test(breakers, a_node_that_is_back_is_found_by_few_calls_then_serves_all);
    tcase_add_test(breakers, without_any_call_pings_close_it);
    tcase_add_test(breakers, calls_that_end_with_their_link_free_their_places);
    tcase_add_test(breakers, calls_that_leave_with_the_map_free_their_places);
    return breakers;
}

int main(void)
{
    Suite *suite = suite_create("store_breaker");
    suite_add_tcase(suite, breaker_case());
    return support_run(suite);
}
