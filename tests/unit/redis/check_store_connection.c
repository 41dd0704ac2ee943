/* The life of a connection: it breaks, hangs, is refused, comes back. */
#include <check.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "breaker.h"
#include "metrics.h"
#include "support_run.h"
#include "support_store.h"

static struct store_rig rig;
static struct redis_node *node;
static struct store_probe probe, probes[8];

static void start(void)
{
    node = redis_node_start(0);
    rig_open_standalone(&rig, node);
}

/* So that short deadlines that follow do not have to hold a new connection, too. */
static void start_warm(void)
{
    start();
    redis_node_script(node, SCRIPT(EXPECT("GET warm"), SEND("$-1\r\n")));
    rig_call(&rig, &probe, "GET warm", 0, 3000);
    ck_assert_int_eq(probe.err, ERR_OK);
    rig_wait_for_pings(&rig);
}

static void stop(void)
{
    rig_close(&rig);
    redis_node_stop(&node);
}

/* --- breaks --- */

/* Failures of a node. */
static const struct {
    struct redis_step steps[2];
    size_t count;
} break_rows[] = {
    {{CLOSE()}, 1},
    {{SEND("$100\r\nhalf a rep"), CLOSE()}, 2},
    {{SEND("*2\r\n$1\r\na\r\n"), CLOSE()}, 2},
    {{SEND("HTTP/1.1 400 Bad Request\r\n")}, 1},
    {{SEND("\x80garbage\r\n")}, 1},
    {{SEND("*2000000000\r\n")}, 1},
};

static void script_break(const char *command, int row)
{
    redis_node_script(node, SCRIPT(EXPECT(command)));
    redis_node_script(node, break_rows[row].steps, break_rows[row].count);
}

START_TEST(a_repeatable_call_is_sent_again_on_a_fresh_connection)
{
    start();
    script_break("GET foo", _i);
    redis_node_script(node, SCRIPT(EXPECT("GET foo"), SEND("$2\r\nhi\r\n")));
    rig_call(&rig, &probe, "GET foo", STORE_REPEATABLE, 1000);
    ck_assert_int_eq(probe.err, ERR_OK);
    ck_assert_str_eq(probe.text, "hi");
    stop();
}
END_TEST

START_TEST(a_write_of_unknown_fate_is_not_sent_again)
{
    start();
    script_break("INCR foo", _i);
    rig_call(&rig, &probe, "INCR foo", 0, 3000);
    ck_assert_int_eq(probe.err, ERR_STORE_UNAVAILABLE);
    ck_assert_int_lt(probe.own_ms, 2000);
    rig_run(&rig, 100);
    ck_assert_uint_eq(redis_node_commands(node), 1);
    stop();
}
END_TEST

START_TEST(answers_before_the_break_count)
{
    start();
    redis_node_script(
        node, SCRIPT(EXPECT("INCR a"), SEND(":1\r\n"), EXPECT("INCR b"), SEND(":2"), CLOSE()));
    rig_send(&rig, &probes[0], "INCR a", 0, 1000);
    rig_send(&rig, &probes[1], "INCR b", 0, 1000);
    rig_send(&rig, &probes[2], "GET c", STORE_REPEATABLE, 1000);
    redis_node_script(node, SCRIPT(EXPECT("GET c"), SEND("$1\r\nc\r\n")));
    rig_wait(&rig, probes, 3);
    ck_assert_int_eq(probes[0].integer, 1);
    ck_assert_int_eq(probes[1].err, ERR_STORE_UNAVAILABLE);
    ck_assert_str_eq(probes[2].text, "c");
    stop();
}
END_TEST

START_TEST(an_answer_nobody_asked_for_ends_the_connection)
{
    start();
    redis_node_script(node, SCRIPT(EXPECT("GET a"), SEND("+one\r\n+two\r\n"), EXPECT("GET b"),
                                   SEND("+three\r\n")));
    rig_call(&rig, &probe, "GET a", 0, 2000);
    ck_assert_str_eq(probe.text, "one");
    rig_call(&rig, &probe, "GET b", 0, 2000);
    ck_assert_str_eq(probe.text, "three");
    stop();
}
END_TEST

START_TEST(a_node_that_is_always_broken_gets_few_attempts)
{
    start();
    for (int i = 0; i < 40; i++)
        redis_node_script(node, SCRIPT(EXPECT("GET foo"), CLOSE()));
    rig_call(&rig, &probe, "GET foo", STORE_REPEATABLE, 400);
    ck_assert_int_eq(probe.err, ERR_STORE_UNAVAILABLE);
    ck_assert_uint_ge(redis_node_commands(node), 2);
    ck_assert_uint_le(redis_node_commands(node), 12);
    rig_close(&rig);
    /* Steps are left over on purpose. */
    _exit(0);
}
END_TEST

/* --- deadlines --- */

START_TEST(a_hung_node_costs_the_deadline_and_its_late_answer_is_nobodys)
{
    start_warm();
    redis_node_script(node, SCRIPT(EXPECT("GET a"), SLEEP(800), SEND("+late\r\n")));
    rig_call(&rig, &probe, "GET a", STORE_REPEATABLE, 100);
    ck_assert_int_eq(probe.err, ERR_STORE_TIMEOUT);
    ck_assert_int_ge(probe.took_ms, 100);
    ck_assert_int_lt(probe.own_ms, 700);
    redis_node_script(node, SCRIPT(EXPECT("GET b"), SEND("+right\r\n")));
    rig_call(&rig, &probe, "GET b", 0, 3000);
    ck_assert_int_eq(probe.err, ERR_OK);
    ck_assert_str_eq(probe.text, "right");
    rig_run(&rig, 50);
    ck_assert_uint_eq(probe.ended, 1);
    stop();
}
END_TEST

START_TEST(a_node_that_hangs_is_entrusted_with_nothing_more)
{
    start_warm();
    redis_node_script(node, SCRIPT(EXPECT("GET a"), SLEEP(400)));
    rig_call(&rig, &probe, "GET a", 0, 100);
    ck_assert_int_eq(probe.err, ERR_STORE_TIMEOUT);
    /* The kernel still accepts connections for it. */
    rig_call(&rig, &probe, "INCR b", 0, 150);
    ck_assert_int_eq(probe.err, ERR_STORE_UNAVAILABLE);
    rig_run(&rig, 400);
    ck_assert_uint_eq(redis_node_commands(node), 2);
    redis_node_script(node, SCRIPT(EXPECT("INCR c"), SEND(":1\r\n")));
    rig_call(&rig, &probe, "INCR c", 0, 2000);
    ck_assert_int_eq(probe.err, ERR_OK);
    stop();
}
END_TEST

START_TEST(one_late_answer_moves_the_others_to_a_fresh_connection)
{
    start_warm();
    redis_node_script(node, SCRIPT(EXPECT("GET a"), SLEEP(200), EXPECT("GET b"), EXPECT("INCR c"),
                                   EXPECT("GET b"), SEND("+b\r\n")));
    rig_send(&rig, &probes[0], "GET a", STORE_REPEATABLE, 80);
    rig_send(&rig, &probes[1], "GET b", STORE_REPEATABLE, 3000);
    rig_send(&rig, &probes[2], "INCR c", 0, 3000);
    rig_wait(&rig, probes, 3);
    ck_assert_int_eq(probes[0].err, ERR_STORE_TIMEOUT);
    ck_assert_int_eq(probes[1].err, ERR_OK);
    ck_assert_str_eq(probes[1].text, "b");
    ck_assert_int_eq(probes[2].err, ERR_STORE_UNAVAILABLE);
    ck_assert_int_lt(probes[2].own_ms, 2000);
    stop();
}
END_TEST

START_TEST(a_later_call_with_an_earlier_deadline_is_not_forgotten)
{
    start_warm();
    redis_node_script(node, SCRIPT(EXPECT("GET a"), SLEEP(1200), EXPECT("GET b")));
    rig_send(&rig, &probes[0], "GET a", 0, 1000);
    rig_send(&rig, &probes[1], "GET b", 0, 60);
    rig_wait(&rig, &probes[1], 1);
    ck_assert_int_eq(probes[1].err, ERR_STORE_TIMEOUT);
    ck_assert_int_lt(probes[1].own_ms, 800);
    rig_wait(&rig, probes, 2);
    rig_run(&rig, 500);
    stop();
}
END_TEST

/* --- down and up --- */

static uint16_t dead_port(void)
{
    struct redis_node *gone = redis_node_start(0);
    uint16_t port = redis_node_port(gone);
    redis_node_stop(&gone);
    return port;
}

START_TEST(a_call_waits_for_a_node_that_comes_back_in_time)
{
    uint16_t port = dead_port();
    rig_configure(&rig, REDIS_STANDALONE, &port, 1);
    rig_open(&rig);
    rig_send(&rig, &probe, "INCR foo", 0, 4000);
    /* Some attempts fail, but not as many as open the breaker, which would end the call. */
    while (metrics_read(METRIC_STORE_CONNECTS) < BREAKER_FAILURES - 2)
        rig_run(&rig, 1);
    ck_assert_uint_eq(probe.ended, 0);
    node = redis_node_start(port);
    redis_node_script(node, SCRIPT(EXPECT("INCR foo"), SEND(":1\r\n")));
    rig_wait(&rig, &probe, 1);
    ck_assert_int_eq(probe.err, ERR_OK);
    stop();
}
END_TEST

START_TEST(a_dead_node_fails_calls_that_cannot_wait_at_once)
{
    uint16_t port = dead_port();
    rig_configure(&rig, REDIS_STANDALONE, &port, 1);
    rig.conf->redis_reconnect_max = 60000;
    rig_open(&rig);
    /* Pauses double: after this one the next attempt is more than 300 ms away. */
    rig_call(&rig, &probe, "GET foo", STORE_REPEATABLE, 1500);
    ck_assert_int_eq(probe.err, ERR_STORE_UNAVAILABLE);
    rig_call(&rig, &probe, "GET foo", STORE_REPEATABLE, 200);
    ck_assert_int_eq(probe.err, ERR_STORE_UNAVAILABLE);
    ck_assert_int_lt(probe.own_ms, 150);
    rig_close(&rig);
}
END_TEST

START_TEST(a_node_that_never_answers_is_given_up_after_the_connect_timeout)
{
    /* The kernel accepts for a listener without a server. */
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, length), 0);
    ck_assert_int_eq(listen(listener, 16), 0);
    getsockname(listener, (struct sockaddr *)&address, &length);
    uint16_t port = ntohs(address.sin_port);
    rig_configure(&rig, REDIS_STANDALONE, &port, 1);
    rig.conf->redis_connect_timeout = 100;
    rig_open(&rig);
    rig_call(&rig, &probe, "INCR foo", 0, 800);
    ck_assert_int_eq(probe.err, ERR_STORE_UNAVAILABLE);
    ck_assert_int_ge(metrics_read(METRIC_STORE_CONNECTS), 3);
    ck_assert_int_le(metrics_read(METRIC_STORE_CONNECTS), 8);
    rig_close(&rig);
    close(listener);
}
END_TEST

START_TEST(a_named_node_is_resolved)
{
    node = redis_node_start(0);
    char address[32];
    snprintf(address, sizeof(address), "localhost:%u", redis_node_port(node));
    uint16_t port = redis_node_port(node);
    rig_configure(&rig, REDIS_STANDALONE, &port, 1);
    rig_set_text(&rig.conf->redis_nodes.items[0], address);
    rig_open(&rig);
    redis_node_script(node, SCRIPT(EXPECT("GET foo"), SEND("+OK\r\n")));
    rig_call(&rig, &probe, "GET foo", 0, 1000);
    ck_assert_int_eq(probe.err, ERR_OK);
    stop();
}
END_TEST

START_TEST(closing_the_link_ends_every_call)
{
    start();
    redis_node_script(node, SCRIPT(EXPECT("GET a"), SLEEP(200)));
    rig_send(&rig, &probes[0], "GET a", 0, 60000);
    while (redis_node_commands(node) == 0)
        rig_run(&rig, 10);
    rig_send(&rig, &probes[1], "GET b", 0, 60000);
    rig_close(&rig);
    ck_assert_int_eq(probes[0].err, ERR_SHUTTING_DOWN);
    ck_assert_int_eq(probes[1].err, ERR_SHUTTING_DOWN);
    ck_assert_uint_eq(probes[0].ended + probes[1].ended, 2);
    redis_node_stop(&node);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

static TCase *breaks_case(void)
{
    TCase *breaks = tcase_create("breaks");
    tcase_add_loop_test(breaks, a_repeatable_call_is_sent_again_on_a_fresh_connection, 0,
                        ROWS(break_rows));
    tcase_add_loop_test(breaks, a_write_of_unknown_fate_is_not_sent_again, 0, ROWS(break_rows));
    tcase_add_test(breaks, answers_before_the_break_count);
    tcase_add_test(breaks, an_answer_nobody_asked_for_ends_the_connection);
    tcase_add_test(breaks, a_node_that_is_always_broken_gets_few_attempts);
    tcase_add_test(breaks, a_hung_node_costs_the_deadline_and_its_late_answer_is_nobodys);
    tcase_add_test(breaks, a_node_that_hangs_is_entrusted_with_nothing_more);
    tcase_add_test(breaks, one_late_answer_moves_the_others_to_a_fresh_connection);
    tcase_add_test(breaks, a_later_call_with_an_earlier_deadline_is_not_forgotten);
    tcase_add_test(breaks, a_call_waits_for_a_node_that_comes_back_in_time);
    tcase_add_test(breaks, a_dead_node_fails_calls_that_cannot_wait_at_once);
    tcase_add_test(breaks, a_node_that_never_answers_is_given_up_after_the_connect_timeout);
    tcase_add_test(breaks, a_named_node_is_resolved);
    tcase_add_test(breaks, closing_the_link_ends_every_call);
    return breaks;
}

int main(void)
{
    Suite *suite = suite_create("store_connection");
    suite_add_tcase(suite, breaks_case());
    return support_run(suite);
}
