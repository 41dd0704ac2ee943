/* Calls that a replica of the own zone may answer: it does, or the master does. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "memory.h"
#include "metrics.h"
#include "support_run.h"
#include "support_store.h"

enum { MASTER, REPLICA };

static struct store_rig rig;
static struct redis_node *nodes[2];
static struct store_probe probe, probes[8];

static void say_slots(void)
{
    char slots[256];
    snprintf(slots, sizeof(slots),
             "*1\r\n*4\r\n:0\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:%u\r\n$1\r\nm\r\n"
             "*3\r\n$9\r\n127.0.0.1\r\n:%u\r\n$1\r\nr\r\n",
             redis_node_port(nodes[MASTER]), redis_node_port(nodes[REPLICA]));
    redis_node_slots(nodes[MASTER], slots);
    redis_node_slots(nodes[REPLICA], slots);
}

static void start(const char *network)
{
    for (int i = 0; i < 2; i++)
        nodes[i] = redis_node_start(0);
    say_slots();
    uint16_t port = redis_node_port(nodes[MASTER]);
    rig_configure(&rig, REDIS_CLUSTER, &port, 1);
    if (network) {
        rig.conf->redis_near_replicas.items = xcalloc(1, sizeof(char *));
        rig.conf->redis_near_replicas.items[0] = xstrdup(network);
        rig.conf->redis_near_replicas.count = 1;
    }
    rig_open(&rig);
    /* Until the map is known. */
    redis_node_script(nodes[MASTER], SCRIPT(EXPECT("GET warm"), SEND("$-1\r\n")));
    rig_call(&rig, &probe, "GET warm", 0, 3000);
    ck_assert_int_eq(probe.err, ERR_OK);
}

static void stop(void)
{
    rig_close(&rig);
    for (int i = 0; i < 2; i++)
        if (nodes[i])
            redis_node_stop(&nodes[i]);
}

START_TEST(a_near_call_is_the_replicas_and_no_other_is)
{
    start("127.0.0.0/8");
    redis_node_script(nodes[REPLICA], SCRIPT(EXPECT("READONLY"), SEND("+OK\r\n"), EXPECT("GET a"),
                                             SEND("$7\r\nreplica\r\n"), EXPECT("GET c"),
                                             SEND("$7\r\nreplica\r\n")));
    redis_node_script(nodes[MASTER], SCRIPT(EXPECT("GET b"), SEND("$6\r\nmaster\r\n")));
    rig_call(&rig, &probe, "GET a", STORE_REPLICA_READ, 2000);
    ck_assert_str_eq(probe.text, "replica");
    rig_call(&rig, &probe, "GET b", STORE_REPEATABLE, 2000);
    ck_assert_str_eq(probe.text, "master");
    rig_call(&rig, &probe, "GET c", STORE_REPLICA_READ, 2000);
    ck_assert_str_eq(probe.text, "replica");
    stop();
}
END_TEST

static const char *const far_rows[] = {NULL, "10.0.0.0/8", "::/0"};

START_TEST(a_replica_outside_of_the_networks_is_not_asked)
{
    start(far_rows[_i]);
    redis_node_script(nodes[MASTER], SCRIPT(EXPECT("GET a"), SEND("$6\r\nmaster\r\n")));
    rig_call(&rig, &probe, "GET a", STORE_REPLICA_READ, 2000);
    ck_assert_str_eq(probe.text, "master");
    stop();
}
END_TEST

/* Failures of a replica. */
static const struct {
    struct redis_step steps[4];
    size_t count;
} trouble_rows[] = {
    {{EXPECT("READONLY"), SEND("+OK\r\n"), EXPECT("GET a"), SEND("-MOVED 1 127.0.0.1:1\r\n")}, 4},
    {{EXPECT("READONLY"), SEND("+OK\r\n"), EXPECT("GET a"), SEND("-LOADING dataset\r\n")}, 4},
    {{EXPECT("READONLY"), SEND("+OK\r\n"), EXPECT("GET a"), SEND("-MASTERDOWN Link\r\n")}, 4},
    {{EXPECT("READONLY"), SEND("+OK\r\n"), EXPECT("GET a"), SEND("-NOPERM no\r\n")}, 4},
    {{EXPECT("READONLY"), SEND("+OK\r\n"), EXPECT("GET a"), SEND("-ERR surprise\r\n")}, 4},
    {{EXPECT("READONLY"), SEND("+OK\r\n"), EXPECT("GET a"), CLOSE()}, 4},
    {{EXPECT("READONLY"), SEND("+OK\r\n"), EXPECT("GET a"), SEND("garbage\r\n")}, 4},
    {{EXPECT("READONLY"), SEND("-ERR no cluster\r\n")}, 2},
    {{EXPECT("READONLY"), SEND("-NOPERM no\r\n")}, 2},
    {{EXPECT("READONLY"), CLOSE()}, 2},
};

START_TEST(the_master_answers_what_the_replica_does_not)
{
    start("127.0.0.0/8");
    redis_node_script(nodes[REPLICA], trouble_rows[_i].steps, trouble_rows[_i].count);
    redis_node_script(nodes[MASTER], SCRIPT(EXPECT("GET a"), SEND("$6\r\nmaster\r\n")));
    rig_call(&rig, &probe, "GET a", STORE_REPLICA_READ, 2000);
    ck_assert_int_eq(probe.err, ERR_OK);
    ck_assert_str_eq(probe.text, "master");
    ck_assert_int_lt(probe.own_ms, 400);
    stop();
}
END_TEST

START_TEST(a_replica_that_hangs_takes_a_part_of_the_time_alone)
{
    start("127.0.0.0/8");
    redis_node_script(nodes[REPLICA], SCRIPT(EXPECT("READONLY"), SEND("+OK\r\n"), EXPECT("GET a"),
                                             SLEEP(600), EXPECT("GET b")));
    for (int i = 0; i < 3; i++)
        redis_node_script(nodes[MASTER], SCRIPT(EXPECT("GET [abc]"), SEND("$6\r\nmaster\r\n")));
    rig_send(&rig, &probes[0], "GET a", STORE_REPLICA_READ, 800);
    rig_run(&rig, 20);
    /* One that waits behind it, and one whose deadline alone would be the first. */
    rig_send(&rig, &probes[1], "GET b", STORE_REPLICA_READ, 2000);
    rig_wait(&rig, probes, 2);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(probes[i].err, ERR_OK);
        ck_assert_str_eq(probes[i].text, "master");
        ck_assert_int_ge(probes[i].took_ms, 150);
        ck_assert_int_lt(probes[i].own_ms, 500);
    }
    /* While it pauses no call waits for it. */
    rig_call(&rig, &probe, "GET c", STORE_REPLICA_READ, 800);
    ck_assert_str_eq(probe.text, "master");
    ck_assert_int_lt(probe.own_ms, 150);
    rig_run(&rig, 500);
    stop();
}
END_TEST

START_TEST(calls_keep_their_deadline_on_the_way_to_the_master)
{
    start("127.0.0.0/8");
    redis_node_script(nodes[REPLICA],
                      SCRIPT(EXPECT("READONLY"), SEND("+OK\r\n"), EXPECT("GET a"), SLEEP(400)));
    redis_node_script(nodes[MASTER], SCRIPT(EXPECT("GET a"), SLEEP(700)));
    rig_call(&rig, &probe, "GET a", STORE_REPLICA_READ, 400);
    ck_assert_int_eq(probe.err, ERR_STORE_TIMEOUT);
    ck_assert_int_ge(probe.took_ms, 400);
    ck_assert_int_lt(probe.own_ms, 600);
    rig_run(&rig, 500);
    stop();
}
END_TEST

START_TEST(a_replica_that_is_gone_costs_nothing_and_comes_back)
{
    start("127.0.0.0/8");
    uint16_t port = redis_node_port(nodes[REPLICA]);
    redis_node_stop(&nodes[REPLICA]);
    for (int i = 0; i < 8; i++)
        redis_node_script(nodes[MASTER], SCRIPT(EXPECT("GET a"), SEND("$6\r\nmaster\r\n")));
    for (int i = 0; i < 8; i++) {
        rig_call(&rig, &probe, "GET a", STORE_REPLICA_READ, 2000);
        ck_assert_str_eq(probe.text, "master");
        ck_assert_int_lt(probe.own_ms, 150);
    }
    nodes[REPLICA] = redis_node_start(port);
    say_slots();
    redis_node_script(nodes[REPLICA], SCRIPT(EXPECT("READONLY"), SEND("+OK\r\n"), EXPECT("GET b"),
                                             SEND("$7\r\nreplica\r\n")));
    rig_run(&rig, 1500);
    rig_call(&rig, &probe, "GET b", STORE_REPLICA_READ, 2000);
    ck_assert_str_eq(probe.text, "replica");
    stop();
}
END_TEST

START_TEST(a_reload_takes_the_networks_over)
{
    struct buffer error = {0};
    start("10.0.0.0/8");
    redis_node_script(nodes[MASTER], SCRIPT(EXPECT("GET a"), SEND("$6\r\nmaster\r\n")));
    rig_call(&rig, &probe, "GET a", STORE_REPLICA_READ, 2000);
    ck_assert_str_eq(probe.text, "master");
    rig_set_text(&rig.conf->redis_near_replicas.items[0], "127.0.0.1");
    ck_assert(store_reload(rig.store, rig.conf, &error));
    rig_run(&rig, 50);
    redis_node_script(nodes[REPLICA], SCRIPT(EXPECT("READONLY"), SEND("+OK\r\n"), EXPECT("GET b"),
                                             SEND("$7\r\nreplica\r\n")));
    rig_call(&rig, &probe, "GET b", STORE_REPLICA_READ, 2000);
    ck_assert_str_eq(probe.text, "replica");
    stop();
}
END_TEST

START_TEST(closing_ends_near_calls_too)
{
    start("127.0.0.0/8");
    redis_node_script(nodes[REPLICA],
                      SCRIPT(EXPECT("READONLY"), SEND("+OK\r\n"), EXPECT("GET a"), SLEEP(200)));
    rig_send(&rig, &probes[0], "GET a", STORE_REPLICA_READ, 4000);
    rig_run(&rig, 50);
    rig_send(&rig, &probes[1], "GET b", STORE_REPLICA_READ, 4000);
    rig_close(&rig);
    ck_assert_int_eq(probes[0].err, ERR_SHUTTING_DOWN);
    ck_assert_int_eq(probes[1].err, ERR_SHUTTING_DOWN);
    ck_assert_uint_eq(probes[0].ended + probes[1].ended, 2);
    for (int i = 0; i < 2; i++)
        redis_node_stop(&nodes[i]);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

static TCase *near_case(void)
{
    TCase *near = tcase_create("near");
    tcase_set_timeout(near, 20);
    tcase_add_test(near, a_near_call_is_the_replicas_and_no_other_is);
    tcase_add_loop_test(near, a_replica_outside_of_the_networks_is_not_asked, 0, ROWS(far_rows));
    tcase_add_loop_test(near, the_master_answers_what_the_replica_does_not, 0, ROWS(trouble_rows));
    tcase_add_test(near, a_replica_that_hangs_takes_a_part_of_the_time_alone);
    tcase_add_test(near, calls_keep_their_deadline_on_the_way_to_the_master);
    tcase_add_test(near, a_replica_that_is_gone_costs_nothing_and_comes_back);
    tcase_add_test(near, a_reload_takes_the_networks_over);
    tcase_add_test(near, closing_ends_near_calls_too);
    return near;
}

int main(void)
{
    Suite *suite = suite_create("store_near");
    suite_add_tcase(suite, near_case());
    return support_run(suite);
}
