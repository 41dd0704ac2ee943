/* Durable calls: the WAIT after them, its reply, and when none comes. */
#include <check.h>
#include <stdlib.h>

#include "support_run.h"
#include "support_store.h"

static struct store_rig rig;
static struct redis_node *node;
static struct store_probe probe, probes[4];

static void start(void)
{
    node = redis_node_start(0);
    rig_open_standalone(&rig, node);
}

static void stop(void)
{
    rig_close(&rig);
    redis_node_stop(&node);
}

static const struct {
    const char *reply;
    int64_t replicas;
} wait_rows[] = {
    {":1\r\n", 1},
    {":2\r\n", 2},
    {":0\r\n", 0},
    {"-ERR WAIT cannot be used with replica instances.\r\n", 0},
};

START_TEST(a_durable_call_tells_what_wait_said)
{
    start();
    redis_node_script(node, SCRIPT(EXPECT("SET foo 1"), SEND("+OK\r\n"), EXPECT("WAIT 1 100"),
                                   SEND(wait_rows[_i].reply)));
    rig_call(&rig, &probe, "SET foo 1", STORE_DURABLE, 2000);
    ck_assert_int_eq(probe.err, ERR_OK);
    ck_assert_str_eq(probe.text, "OK");
    ck_assert_int_eq(probe.call.replicas, wait_rows[_i].replicas);
    stop();
}
END_TEST

START_TEST(writes_of_one_flush_share_one_wait_and_keep_their_answers)
{
    start();
    /* The connection is up before, so that the first three leave before the fourth comes. */
    redis_node_script(
        node, SCRIPT(EXPECT("GET warm"), SEND("$-1\r\n"), EXPECT("WAIT 1 *"), SEND(":1\r\n")));
    rig_call(&rig, &probe, "GET warm", STORE_DURABLE, 2000);
    redis_node_script(node,
                      SCRIPT(EXPECT("INCR a"), SEND(":11\r\n"), EXPECT("INCR b"), SEND(":12\r\n"),
                             EXPECT("INCR c"), SEND(":13\r\n"), EXPECT("WAIT 1 100"), SLEEP(30),
                             SEND(":1\r\n"), EXPECT("INCR d"), SEND(":14\r\n"), EXPECT("WAIT 1 *"),
                             SEND(":2\r\n")));
    rig_send(&rig, &probes[0], "INCR a", STORE_DURABLE, 2000);
    rig_send(&rig, &probes[1], "INCR b", STORE_DURABLE, 2000);
    rig_send(&rig, &probes[2], "INCR c", STORE_DURABLE, 2000);
    rig_run(&rig, 15);
    rig_send(&rig, &probes[3], "INCR d", STORE_DURABLE, 2000);
    rig_wait(&rig, probes, 4);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(probes[i].integer, 11 + i);
        ck_assert_int_eq(probes[i].call.replicas, i < 3 ? 1 : 2);
    }
    stop();
}
END_TEST

START_TEST(waiting_holds_up_no_read)
{
    start();
    redis_node_script(node, SCRIPT(EXPECT("SET a 1"), SEND("+OK\r\n"), EXPECT("WAIT *"),
                                   EXPECT("GET b"), SEND("+b\r\n")));
    rig_send(&rig, &probes[0], "SET a 1", STORE_DURABLE, 60000);
    while (redis_node_commands(node) < 2)
        rig_run(&rig, 10);
    rig_call(&rig, &probes[1], "GET b", 0, 60000);
    ck_assert_int_eq(probes[1].err, ERR_OK);
    ck_assert_int_lt(probes[1].own_ms, 100); /* WAIT takes as long, and is not answered */
    rig_wait(&rig, probes, 1);
    stop();
}
END_TEST

START_TEST(a_wait_that_does_not_come_back_leaves_the_write_known_but_on_no_replica)
{
    start();
    redis_node_script(node, SCRIPT(EXPECT("SET a 1"), SEND("+OK\r\n"), EXPECT("WAIT 1 *")));
    rig_call(&rig, &probe, "SET a 1", STORE_DURABLE, 150);
    ck_assert_int_eq(probe.err, ERR_OK);
    ck_assert_str_eq(probe.text, "OK");
    ck_assert_int_eq(probe.call.replicas, 0);
    ck_assert_int_lt(probe.own_ms, 390);
    /* The connection that owes the answer to WAIT is given up, and the next write gets through. */
    redis_node_script(
        node, SCRIPT(EXPECT("SET b 1"), SEND("+OK\r\n"), EXPECT("WAIT 1 *"), SEND(":1\r\n")));
    rig_call(&rig, &probe, "SET b 1", STORE_DURABLE, 4000);
    ck_assert_int_eq(probe.err, ERR_OK);
    ck_assert_int_eq(probe.call.replicas, 1);
    stop();
}
END_TEST

START_TEST(wait_takes_no_longer_than_the_call_has)
{
    start();
    redis_node_script(node, SCRIPT(EXPECT("SET a 1"), SEND("+OK\r\n"), EXPECT("WAIT 1 @(?|?[0-9])"),
                                   SEND(":1\r\n")));
    rig_call(&rig, &probe, "SET a 1", STORE_DURABLE, 95);
    ck_assert_int_eq(probe.err, ERR_OK);
    stop();
}
END_TEST

START_TEST(an_error_does_not_wait_for_replicas)
{
    start();
    redis_node_script(node, SCRIPT(EXPECT("SET a 1"), SEND("-OOM no\r\n"), EXPECT("WAIT 1 *"),
                                   SLEEP(600), SEND(":1\r\n")));
    rig_call(&rig, &probe, "SET a 1", STORE_DURABLE, 2000);
    ck_assert_int_eq(probe.err, ERR_STORE_REFUSED);
    ck_assert_int_lt(probe.own_ms, 550);
    stop();
}
END_TEST

START_TEST(a_write_tried_again_gets_a_wait_of_its_own)
{
    start();
    redis_node_script(node, SCRIPT(EXPECT("SET a 1"), SEND("-TRYAGAIN x\r\n"), EXPECT("WAIT 1 *"),
                                   SEND(":1\r\n"), EXPECT("SET a 1"), SEND("+OK\r\n"),
                                   EXPECT("WAIT 1 *"), SEND(":0\r\n")));
    rig_call(&rig, &probe, "SET a 1", STORE_DURABLE, 2000);
    ck_assert_int_eq(probe.err, ERR_OK);
    ck_assert_int_eq(probe.call.replicas, 0);
    stop();
}
END_TEST

START_TEST(with_wait_timeout_0_nobody_waits)
{
    node = redis_node_start(0);
    uint16_t port = redis_node_port(node);
    rig_configure(&rig, REDIS_STANDALONE, &port, 1);
    rig.conf->redis_wait_timeout = 0;
    rig_open(&rig);
    redis_node_script(node, SCRIPT(EXPECT("SET a 1"), SEND("+OK\r\n")));
    rig_call(&rig, &probe, "SET a 1", STORE_DURABLE, 2000);
    ck_assert_int_eq(probe.err, ERR_OK);
    ck_assert_int_eq(probe.call.replicas, 0);
    stop();
}
END_TEST

START_TEST(a_durable_connection_that_breaks_during_wait_keeps_the_answer)
{
    start();
    redis_node_script(node,
                      SCRIPT(EXPECT("SET a 1"), SEND("+OK\r\n"), EXPECT("WAIT 1 *"), CLOSE()));
    rig_call(&rig, &probe, "SET a 1", STORE_DURABLE, 2000);
    ck_assert_int_eq(probe.err, ERR_OK);
    ck_assert_str_eq(probe.text, "OK");
    ck_assert_int_eq(probe.call.replicas, 0);
    stop();
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

static TCase *durable_case(void)
{
    TCase *durable = tcase_create("durable");
    tcase_add_loop_test(durable, a_durable_call_tells_what_wait_said, 0, ROWS(wait_rows));
    tcase_add_test(durable, writes_of_one_flush_share_one_wait_and_keep_their_answers);
    tcase_add_test(durable, waiting_holds_up_no_read);
    tcase_add_test(durable,
                   a_wait_that_does_not_come_back_leaves_the_write_known_but_on_no_replica);
    tcase_add_test(durable, wait_takes_no_longer_than_the_call_has);
    tcase_add_test(durable, an_error_does_not_wait_for_replicas);
    tcase_add_test(durable, a_write_tried_again_gets_a_wait_of_its_own);
    tcase_add_test(durable, with_wait_timeout_0_nobody_waits);
    tcase_add_test(durable, a_durable_connection_that_breaks_during_wait_keeps_the_answer);
    return durable;
}

int main(void)
{
    Suite *suite = suite_create("store_durable");
    suite_add_tcase(suite, durable_case());
    return support_run(suite);
}
