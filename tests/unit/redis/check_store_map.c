/* Servers that are believed about the cluster, and servers that never get calls. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "metrics.h"
#include "redis/state/store_state.h"
#include "support_run.h"
#include "support_store.h"

static struct store_rig rig;
static struct redis_node *nodes[4];
static struct store_probe probe;

static void say_owner(int node, int owner)
{
    char map[128];
    redis_node_slots(nodes[node], redis_node_range(map, 0, 16383, redis_node_port(nodes[owner])));
}

/* The first `seeds` of `count` nodes are configured; at first all say that node 0 owns every slot.
 */
static void start(int count, size_t seeds)
{
    for (int i = 0; i < count; i++) {
        nodes[i] = redis_node_start(0);
        say_owner(i, 0);
    }
    rig_open_cluster(&rig, nodes, seeds);
    redis_node_script(nodes[0], SCRIPT(EXPECT("GET warm"), SEND("$-1\r\n")));
    rig_call(&rig, &probe, "GET warm", 0, 3000);
    ck_assert_int_eq(probe.err, ERR_OK);
}

static void stop(void)
{
    rig_close(&rig);
    for (int i = 0; i < 4; i++)
        if (nodes[i])
            redis_node_stop(&nodes[i]);
}

static const char *redirection(const char *word, int node)
{
    static char text[64];
    snprintf(text, sizeof(text), "-%s 12182 127.0.0.1:%u\r\n", word, redis_node_port(nodes[node]));
    return text;
}

static const char *const words[] = {"MOVED", "ASK"};

START_TEST(a_redirection_to_a_stranger_is_not_followed)
{
    start(2, 1);
    redis_node_script(nodes[0], SCRIPT(ALWAYS(redirection(words[_i], 1))));
    int64_t refreshes = metrics_read(METRIC_STORE_MAP_REFRESHES);
    rig_call(&rig, &probe, "GET foo", STORE_REPEATABLE, 600);
    ck_assert_int_eq(probe.err, ERR_STORE_UNAVAILABLE);
    ck_assert_uint_eq(redis_node_accepted(nodes[1]), 0);
    ck_assert_uint_le(redis_node_commands(nodes[0]), 40);
    ck_assert_int_gt(metrics_read(METRIC_STORE_MAP_REFRESHES), refreshes);
    ck_assert_int_eq(metrics_read(METRIC_STORE_REDIRECTS), 0);
    ck_assert_int_gt(metrics_read(METRIC_STORE_REDIRECTS_REFUSED), 0);
    stop();
}
END_TEST

START_TEST(a_call_sent_to_a_stranger_goes_where_the_fresh_map_says)
{
    start(2, 1);
    redis_node_script(nodes[0], SCRIPT(ALWAYS(redirection(words[_i], 1))));
    redis_node_script(nodes[1], SCRIPT(EXPECT("GET foo"), SEND("$3\r\nnew\r\n")));
    say_owner(0, 1);
    rig_call(&rig, &probe, "GET foo", 0, 3000);
    ck_assert_int_eq(probe.err, ERR_OK);
    ck_assert_str_eq(probe.text, "new");
    stop();
}
END_TEST

/* "?" is the host of an owner whose name the server lacks. */
START_TEST(a_redirection_to_the_server_itself_waits_for_the_next_map)
{
    start(2, 1);
    char itself[64];
    snprintf(itself, sizeof(itself), "-MOVED 12182 ?:%u\r\n", redis_node_port(nodes[0]));
    redis_node_script(nodes[0], SCRIPT(ALWAYS(itself)));
    redis_node_script(nodes[1], SCRIPT(EXPECT("GET foo"), SEND("$3\r\nnew\r\n")));
    say_owner(0, 1);
    rig_call(&rig, &probe, "GET foo", 0, 3000);
    ck_assert_int_eq(probe.err, ERR_OK);
    ck_assert_str_eq(probe.text, "new");
    stop();
}
END_TEST

/* A master that was just added has no slots, and ASK already leads there. */
START_TEST(ask_leads_to_a_member_that_only_cluster_nodes_lists)
{
    start(2, 1);
    char line[96], reply[128];
    snprintf(line, sizeof(line), "a 127.0.0.1:%u@1 master - 0 0 0 connected\n",
             redis_node_port(nodes[1]));
    snprintf(reply, sizeof(reply), "$%zu\r\n%s\r\n", strlen(line), line);
    redis_node_answer(nodes[0], "CLUSTER NODES", reply);
    redis_node_script(nodes[0], SCRIPT(ALWAYS(redirection("ASK", 1))));
    redis_node_script(nodes[1], SCRIPT(EXPECT("ASKING"), SEND("+OK\r\n"), EXPECT("GET foo"),
                                       SEND("$3\r\nnew\r\n")));
    rig_call(&rig, &probe, "GET foo", 0, 3000);
    ck_assert_int_eq(probe.err, ERR_OK);
    ck_assert_str_eq(probe.text, "new");
    stop();
}
END_TEST

START_TEST(without_a_cluster_no_redirection_is_followed)
{
    nodes[0] = redis_node_start(0);
    nodes[1] = redis_node_start(0);
    rig_open_standalone(&rig, nodes[0]);
    redis_node_script(nodes[0], SCRIPT(ALWAYS(redirection(words[_i], 1))));
    rig_call(&rig, &probe, "GET foo", 0, 3000);
    ck_assert_int_eq(probe.err, ERR_STORE_UNFIT);
    ck_assert_uint_eq(redis_node_accepted(nodes[1]), 0);
    stop();
}
END_TEST

/* Runs until a map was fetched that is newer than this. */
static void fetch_again(void)
{
    int64_t before = metrics_read(METRIC_STORE_MAP_REFRESHES);
    redis_node_script(nodes[0], SCRIPT(EXPECT("GET stale"), SEND("-CLUSTERDOWN x\r\n"),
                                       EXPECT("GET stale"), SEND("+OK\r\n")));
    rig_call(&rig, &probe, "GET stale", 0, 3000);
    for (int i = 0; i < 500 && metrics_read(METRIC_STORE_MAP_REFRESHES) == before; i++)
        rig_run(&rig, 10);
    ck_assert_int_gt(metrics_read(METRIC_STORE_MAP_REFRESHES), before);
}

START_TEST(one_node_with_another_map_is_outvoted)
{
    start(4, 3);
    redis_node_slots(nodes[_i], "*0\r\n");
    say_owner(_i, 3);
    for (int i = 0; i < 5; i++)
        fetch_again();
    /* The one that nobody else knows has not even been pinged. */
    ck_assert_uint_eq(redis_node_accepted(nodes[3]), 0);
    stop();
}
END_TEST

START_TEST(a_map_that_is_too_large_is_refused_and_the_present_one_stays)
{
    start(2, 1);
    struct buffer map = {0};
    buffer_add_literal(&map, "*16384\r\n");
    for (int i = 0; i < 16384; i++)
        buffer_addf(&map, "*3\r\n:%d\r\n:%d\r\n*2\r\n$9\r\n127.0.0.2\r\n:%d\r\n", i, i, 1024 + i);
    buffer_add_char(&map, '\0');
    redis_node_slots(nodes[0], map.data);
    buffer_free(&map);
    unsigned asked = redis_node_maps_asked(nodes[0]);
    redis_node_script(nodes[0],
                      SCRIPT(EXPECT("GET stale"), SEND("-CLUSTERDOWN x\r\n"), ALWAYS("+OK\r\n")));
    rig_call(&rig, &probe, "GET stale", 0, 3000);
    for (int i = 0; i < 500 && redis_node_maps_asked(nodes[0]) < asked + 3; i++)
        rig_run(&rig, 10);
    ck_assert_uint_ge(redis_node_maps_asked(nodes[0]), asked + 3);
    rig_call(&rig, &probe, "GET foo", 0, 3000);
    ck_assert_int_eq(probe.err, ERR_OK);
    struct store_health health;
    store_health(rig.store, &health);
    ck_assert_uint_eq(health.masters, 1);
    stop();
}
END_TEST

/* Its thousand masters answer nobody; the seed is asked first for the next map. */
START_TEST(a_link_that_was_led_astray_comes_back_with_the_next_map)
{
    start(1, 1);
    struct buffer map = {0};
    buffer_add_literal(&map, "*1000\r\n");
    for (int i = 0; i < 1000; i++)
        buffer_addf(&map, "*3\r\n:%d\r\n:%d\r\n*2\r\n$9\r\n127.0.0.2\r\n:%d\r\n", 16 * i,
                    16 * i + 15, 1 + i % 1000);
    buffer_add_char(&map, '\0');
    redis_node_slots(nodes[0], map.data);
    buffer_free(&map);
    redis_node_script(
        nodes[0], SCRIPT(EXPECT("GET {foo}stale"), SEND("-CLUSTERDOWN x\r\n"), ALWAYS("+OK\r\n")));
    rig_call(&rig, &probe, "GET {foo}stale", 0, 400);
    struct store_health health = {0};
    for (int i = 0; i < 300 && health.masters != 1000; i++) {
        rig_run(&rig, 10);
        store_health(rig.store, &health);
    }
    ck_assert_uint_eq(health.masters, 1000);
    say_owner(0, 0);
    probe.err = ERR_STORE_UNAVAILABLE;
    for (int i = 0; i < 50 && probe.err != ERR_OK; i++) {
        rig_call(&rig, &probe, "GET foo", STORE_REPEATABLE, 200);
        rig_run(&rig, 20);
    }
    ck_assert_int_eq(probe.err, ERR_OK);
    stop();
}
END_TEST

/* --- other clusters --- */

#define MARK_ASKED "HGET mark of"

static const struct store_mark mark = {"mark", "of", "00112233445566778899aabbccddeeff00112233"};

/* The node says that it is `id`, in forty digits, and that `owner`, which is `owner_id`, has all.
 */
static void say_ids(int node, char id, int owner, char owner_id)
{
    char ids[2][41] = {{0}}, text[192];
    memset(ids[0], id, 40);
    memset(ids[1], owner_id, 40);
    snprintf(text, sizeof(text), "$40\r\n%s\r\n", ids[0]);
    redis_node_answer(nodes[node], "CLUSTER MYID", text);
    snprintf(text, sizeof(text),
             "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:%u\r\n$40\r\n%s\r\n",
             redis_node_port(nodes[owner]), ids[1]);
    redis_node_slots(nodes[node], text);
}

/* Node 0 is `a` and has all; it is the only seed. Node 1 is `b`, of another cluster. */
static void start_apart(bool with_mark)
{
    for (int i = 0; i < 2; i++) {
        nodes[i] = redis_node_start(0);
        say_ids(i, i == 0 ? 'a' : 'b', i, i == 0 ? 'a' : 'b');
    }
    rig_open_cluster(&rig, nodes, 1);
    redis_node_script(nodes[0], SCRIPT(EXPECT("GET warm"), SEND("$-1\r\n"), ALWAYS("+old\r\n")));
    rig_call(&rig, &probe, "GET warm", 0, 3000);
    ck_assert_int_eq(probe.err, ERR_OK);
    if (with_mark)
        store_set_mark(rig.store, &mark);
}

static void expect_text(const char *text)
{
    rig_call(&rig, &probe, "GET foo", 0, 3000);
    ck_assert_int_eq(probe.err, ERR_OK);
    ck_assert_str_eq(probe.text, text);
}

static void wait_for_maps(unsigned more)
{
    unsigned asked = redis_node_maps_asked(nodes[0]);
    for (int i = 0; i < 500 && redis_node_maps_asked(nodes[0]) < asked + more; i++) {
        store_state_want_refresh(rig.store);
        rig_run(&rig, 10);
    }
    ck_assert_uint_ge(redis_node_maps_asked(nodes[0]), asked + more);
}

static const char *const other_marks[] = {
    "$-1\r\n",
    "$40\r\n99112233445566778899aabbccddeeff00112233\r\n",
    "-ERR no\r\n",
};

START_TEST(the_map_of_another_cluster_is_not_taken_over)
{
    struct store_health health;
    start_apart(true);
    redis_node_answer(nodes[1], MARK_ASKED, other_marks[_i]);
    say_ids(0, 'a', 1, 'b');
    wait_for_maps(3);
    ck_assert_uint_ge(redis_node_answered(nodes[1], MARK_ASKED), 1);
    expect_text("old");
    ck_assert_uint_eq(redis_node_commands(nodes[1]), 0);
    store_health(rig.store, &health);
    ck_assert_msg(strstr(health.foreign, "another Redis Cluster"), "%s", health.foreign);
    say_ids(0, 'a', 0, 'a');
    for (int i = 0; i < 500 && health.foreign[0]; i++) {
        wait_for_maps(1);
        store_health(rig.store, &health);
    }
    ck_assert_str_eq(health.foreign, "");
    stop();
}
END_TEST

START_TEST(a_copy_of_the_cluster_is_taken_over_by_its_mark)
{
    start_apart(true);
    redis_node_answer(nodes[1], MARK_ASKED, "$40\r\n00112233445566778899AABBCCDDEEFF00112233\r\n");
    redis_node_script(nodes[1], SCRIPT(ALWAYS("+copy\r\n")));
    say_ids(0, 'b', 1, 'b');
    wait_for_maps(2);
    expect_text("copy");
    stop();
}
END_TEST

/* The cluster that was left goes on. */
START_TEST(a_reload_leads_on_to_a_copy_alone)
{
    struct buffer error = {0};
    char address[32];
    bool is_copy = _i == 0;
    start_apart(true);
    redis_node_answer(nodes[1], MARK_ASKED,
                      is_copy ? "$40\r\n00112233445566778899aabbccddeeff00112233\r\n" : "$-1\r\n");
    redis_node_script(nodes[1], SCRIPT(ALWAYS("+copy\r\n")));
    snprintf(address, sizeof(address), "127.0.0.1:%u", redis_node_port(nodes[1]));
    rig_set_text(&rig.conf->redis_nodes.items[0], address);
    ck_assert(store_reload(rig.store, rig.conf, &error));
    struct store_node_health health = {0};
    for (int i = 0; i < 500 && redis_node_answered(nodes[1], MARK_ASKED) < 2 &&
                    health.port != redis_node_port(nodes[1]);
         i++) {
        store_state_want_refresh(rig.store);
        rig_run(&rig, 10);
        store_nodes(rig.store, &health, 1);
    }
    expect_text(is_copy ? "copy" : "old");
    stop();
}
END_TEST

static void reload_to(const char *address)
{
    struct buffer error = {0};
    rig_set_text(&rig.conf->redis_nodes.items[0], address);
    ck_assert(store_reload(rig.store, rig.conf, &error));
}

/* A typing error first: the settings after it may lie where those of the start lay. */
START_TEST(a_reload_leads_on_to_a_copy_whatever_was_loaded_before)
{
    char address[32];
    start_apart(true);
    redis_node_answer(nodes[1], MARK_ASKED, "$40\r\n00112233445566778899aabbccddeeff00112233\r\n");
    redis_node_script(nodes[1], SCRIPT(ALWAYS("+copy\r\n")));
    snprintf(address, sizeof(address), "127.0.0.1:%u", redis_node_port(nodes[1]));
    reload_to("127.0.0.1:1");
    wait_for_maps(3);
    reload_to(address);
    for (int i = 0; i < 500 && redis_node_answered(nodes[1], MARK_ASKED) == 0; i++) {
        store_state_want_refresh(rig.store);
        rig_run(&rig, 10);
    }
    rig_run(&rig, 300);
    expect_text("copy");
    stop();
}
END_TEST

/* As ever: nothing is known of the first. */
START_TEST(without_a_mark_every_map_is_taken_over)
{
    start_apart(false);
    redis_node_script(nodes[1], SCRIPT(ALWAYS("+other\r\n")));
    say_ids(0, 'a', 1, 'b');
    wait_for_maps(2);
    expect_text("other");
    stop();
}
END_TEST

/* Its own map is the right one. */
START_TEST(a_server_that_is_not_the_one_that_the_map_names_gets_no_calls)
{
    struct store_health health;
    nodes[0] = redis_node_start(0);
    say_ids(0, 'b', 0, 'a');
    redis_node_script(nodes[0], SCRIPT(ALWAYS("+of another\r\n")));
    rig_open_cluster(&rig, nodes, 1);
    rig_call(&rig, &probe, "GET foo", STORE_REPEATABLE, 3000);
    ck_assert_int_eq(probe.err, ERR_STORE_UNAVAILABLE);
    ck_assert_int_lt(probe.own_ms, 2000);
    ck_assert_uint_eq(redis_node_commands(nodes[0]), 0);
    store_health(rig.store, &health);
    ck_assert_msg(strstr(health.foreign, "is another node"), "%s", health.foreign);
    say_ids(0, 'b', 0, 'b');
    wait_for_maps(2);
    expect_text("of another");
    store_health(rig.store, &health);
    ck_assert_str_eq(health.foreign, "");
    stop();
}
END_TEST

static const struct {
    const char *answer;
    bool good;
} mark_rows[] = {
    {"$40\r\n00112233445566778899aabbccddeeff00112233\r\n", true},
    {"$44\r\n00112233445566778899aabbccddeeff00112233 1 2\r\n", true},
    {"$-1\r\n", true},
    {"-NOPERM no\r\n", true},
    {"$40\r\n99112233445566778899aabbccddeeff00112233\r\n", false},
};

START_TEST(without_a_cluster_a_server_with_another_mark_gets_no_calls)
{
    nodes[0] = redis_node_start(0);
    rig_open_standalone(&rig, nodes[0]);
    redis_node_answer(nodes[0], MARK_ASKED, mark_rows[_i].answer);
    redis_node_script(nodes[0], SCRIPT(ALWAYS("+old\r\n")));
    store_set_mark(rig.store, &mark);
    rig_call(&rig, &probe, "GET foo", 0, 3000);
    ck_assert_int_eq(probe.err, mark_rows[_i].good ? ERR_OK : ERR_STORE_UNAVAILABLE);
    ck_assert_uint_eq(redis_node_commands(nodes[0]), mark_rows[_i].good);
    stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store_map");
    TCase *strangers = tcase_create("strangers");
    tcase_add_loop_test(strangers, a_redirection_to_a_stranger_is_not_followed, 0, 2);
    tcase_add_loop_test(strangers, a_call_sent_to_a_stranger_goes_where_the_fresh_map_says, 0, 2);
    tcase_add_test(strangers, a_redirection_to_the_server_itself_waits_for_the_next_map);
    tcase_add_test(strangers, ask_leads_to_a_member_that_only_cluster_nodes_lists);
    tcase_add_loop_test(strangers, without_a_cluster_no_redirection_is_followed, 0, 2);
    suite_add_tcase(suite, strangers);

    TCase *maps = tcase_create("maps");
    tcase_set_timeout(maps, 20);
    tcase_add_loop_test(maps, one_node_with_another_map_is_outvoted, 0, 3);
    tcase_add_test(maps, a_map_that_is_too_large_is_refused_and_the_present_one_stays);
    tcase_add_test(maps, a_link_that_was_led_astray_comes_back_with_the_next_map);
    suite_add_tcase(suite, maps);

    TCase *others = tcase_create("other clusters");
    tcase_set_timeout(others, 20);
    tcase_add_loop_test(others, the_map_of_another_cluster_is_not_taken_over, 0, 3);
    tcase_add_test(others, a_copy_of_the_cluster_is_taken_over_by_its_mark);
    tcase_add_loop_test(others, a_reload_leads_on_to_a_copy_alone, 0, 2);
    tcase_add_test(others, a_reload_leads_on_to_a_copy_whatever_was_loaded_before);
    tcase_add_test(others, without_a_mark_every_map_is_taken_over);
    tcase_add_test(others, a_server_that_is_not_the_one_that_the_map_names_gets_no_calls);
    tcase_add_loop_test(others, without_a_cluster_a_server_with_another_mark_gets_no_calls, 0,
                        sizeof(mark_rows) / sizeof(mark_rows[0]));
    suite_add_tcase(suite, others);
    return support_run(suite);
}
