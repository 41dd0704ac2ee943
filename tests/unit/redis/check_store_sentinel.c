/* Sentinel mode: whom the sentinels name, who says of itself that it is the master, and changes. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "metrics.h"
#include "redis/state/store_state.h"
#include "support_run.h"
#include "support_store.h"

#define ASKED  "SENTINEL MASTER mymaster"
#define OLD    "SENTINEL get-master-addr-by-name mymaster"
#define DENIED "-NOPERM User default has no permissions to run the 'sentinel|master' command\r\n"
#define MASTER "*3\r\n$6\r\nmaster\r\n:1\r\n*0\r\n"
#define SLAVE  "*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:1\r\n$9\r\nconnected\r\n:1\r\n"
#define NOBODY "*-1\r\n"

enum { SENTINELS = 3 };

static struct store_rig rig;
static struct redis_node *sentinels[SENTINELS], *first, *second;
static struct store_probe probe;

static void name_master(struct redis_node *sentinel, struct redis_node *master, unsigned epoch)
{
    char reply[192], port[8], digits[8];
    snprintf(port, sizeof(port), "%u", redis_node_port(master));
    snprintf(digits, sizeof(digits), "%u", epoch);
    snprintf(reply, sizeof(reply),
             "*8\r\n$4\r\nname\r\n$8\r\nmymaster\r\n$2\r\nip\r\n$9\r\n127.0.0.1\r\n"
             "$4\r\nport\r\n$%zu\r\n%s\r\n$12\r\nconfig-epoch\r\n$%zu\r\n%s\r\n",
             strlen(port), port, strlen(digits), digits);
    redis_node_answer(sentinel, ASKED, reply);
}

static void name_master_everywhere(struct redis_node *master, unsigned epoch)
{
    for (int i = 0; i < SENTINELS; i++)
        name_master(sentinels[i], master, epoch);
}

/* Two servers of which the first is the master, and says so. */
static void prepare(void)
{
    uint16_t ports[SENTINELS];
    for (int i = 0; i < SENTINELS; i++) {
        sentinels[i] = redis_node_start(0);
        ports[i] = redis_node_port(sentinels[i]);
    }
    first = redis_node_start(0);
    second = redis_node_start(0);
    redis_node_answer(first, "ROLE", MASTER);
    redis_node_answer(second, "ROLE", SLAVE);
    name_master_everywhere(first, 2);
    rig_configure(&rig, REDIS_SENTINEL, ports, SENTINELS);
}

static void stop(void)
{
    rig_close(&rig);
    for (int i = 0; i < SENTINELS; i++)
        redis_node_stop(&sentinels[i]);
    redis_node_stop(&first);
    redis_node_stop(&second);
}

static void expect_answer(struct redis_node *node)
{
    redis_node_script(node, SCRIPT(EXPECT("GET foo"), SEND("+OK\r\n")));
    rig_call(&rig, &probe, "GET foo", STORE_REPEATABLE, 3000);
    ck_assert_int_eq(probe.err, ERR_OK);
}

START_TEST(calls_go_to_the_master_that_the_sentinels_name)
{
    prepare();
    rig_open(&rig);
    expect_answer(first);
    struct store_health health;
    store_health(rig.store, &health);
    ck_assert_uint_eq(health.masters, 1);
    ck_assert_uint_eq(health.slots_covered, 16384);
    for (int i = 0; i < SENTINELS; i++)
        ck_assert_uint_ge(redis_node_answered(sentinels[i], ASKED), 1);
    stop();
}
END_TEST

static const char *const useless_rows[] = {
    NOBODY,
    "-ERR No such master with that name\r\n",
    "*1\r\n$1\r\na\r\n",
    "*4\r\n$2\r\nip\r\n$9\r\n127.0.0.1\r\n$4\r\nport\r\n$1\r\n1\r\n",
    "*6\r\n$2\r\nip\r\n$0\r\n\r\n$4\r\nport\r\n$1\r\n1\r\n$12\r\nconfig-epoch\r\n$1\r\n9\r\n",
    "*6\r\n$2\r\nip\r\n$1\r\na\r\n$4\r\nport\r\n$1\r\n1\r\n$12\r\nconfig-epoch\r\n$2\r\n-1\r\n",
    "+OK\r\n",
};

START_TEST(a_sentinel_that_cannot_say_is_passed_over)
{
    prepare();
    redis_node_answer(sentinels[0], ASKED, useless_rows[_i]);
    redis_node_answer(sentinels[1], ASKED, useless_rows[_i]);
    rig_open(&rig);
    expect_answer(first);
    stop();
}
END_TEST

/* By sentinel: 1 or 2 for the server that it names, 0 if it names none; and the epoch. */
static const struct {
    unsigned named[SENTINELS], epochs[SENTINELS], right;
} word_rows[] = {
    {{2, 1, 1}, {1, 2, 2}, 1}, /* one was left behind */
    {{2, 1, 1}, {9, 2, 2}, 1}, /* one is of other servers */
    {{2, 1, 0}, {1, 2, 0}, 1}, /* no majority: the newest epoch */
    {{0, 0, 2}, {0, 0, 1}, 2}, {{1, 2, 2}, {5, 5, 5}, 2},
};

START_TEST(the_word_of_most_sentinels_counts_then_the_newest_epoch)
{
    prepare();
    redis_node_answer(second, "ROLE", MASTER);
    for (int i = 0; i < SENTINELS; i++) {
        unsigned named = word_rows[_i].named[i];
        if (named)
            name_master(sentinels[i], named == 1 ? first : second, word_rows[_i].epochs[i]);
        else
            redis_node_answer(sentinels[i], ASKED, NOBODY);
    }
    rig_open(&rig);
    expect_answer(word_rows[_i].right == 1 ? first : second);
    ck_assert_uint_eq(redis_node_accepted(word_rows[_i].right == 1 ? second : first), 0);
    stop();
}
END_TEST

static void name_without_epoch(struct redis_node *sentinel, struct redis_node *master)
{
    char reply[64], port[8];
    snprintf(port, sizeof(port), "%u", redis_node_port(master));
    snprintf(reply, sizeof(reply), "*2\r\n$9\r\n127.0.0.1\r\n$%zu\r\n%s\r\n", strlen(port), port);
    redis_node_answer(sentinel, ASKED, DENIED);
    redis_node_answer(sentinel, OLD, reply);
}

/* Users of sentinels as they were granted before. */
START_TEST(sentinels_that_do_not_tell_the_epoch_lead_to_the_master_and_to_the_next)
{
    prepare();
    for (int i = 0; i < SENTINELS; i++)
        name_without_epoch(sentinels[i], first);
    rig_open(&rig);
    expect_answer(first);
    redis_node_answer(first, "ROLE", SLAVE);
    redis_node_answer(second, "ROLE", MASTER);
    for (int i = 0; i < SENTINELS; i++)
        name_without_epoch(sentinels[i], second);
    for (int i = 0; i < 500 && redis_node_accepted(second) == 0; i++) {
        store_state_want_refresh(rig.store);
        rig_run(&rig, 10);
    }
    rig_run(&rig, 400);
    expect_answer(second);
    ck_assert_uint_le(redis_node_accepted(sentinels[0]), 1);
    stop();
}
END_TEST

/* By then one sentinel alone can be asked. */
START_TEST(a_single_sentinel_is_believed_only_with_a_newer_epoch)
{
    unsigned epoch = 1 + (unsigned)_i;
    prepare();
    redis_node_answer(second, "ROLE", MASTER);
    rig_open(&rig);
    expect_answer(first);
    name_master(sentinels[0], second, epoch);
    redis_node_answer(sentinels[1], ASKED, NOBODY);
    redis_node_answer(sentinels[2], ASKED, NOBODY);
    unsigned asked = redis_node_answered(sentinels[0], ASKED);
    for (int i = 0; i < 500 && redis_node_answered(sentinels[0], ASKED) < asked + 4; i++) {
        store_state_want_refresh(rig.store);
        rig_run(&rig, 10);
    }
    ck_assert_uint_ge(redis_node_answered(sentinels[0], ASKED), asked + 4);
    expect_answer(epoch > 2 ? second : first);
    ck_assert_uint_eq(redis_node_accepted(second) > 0, epoch > 2);
    stop();
}
END_TEST

/* Sentinels that were created again begin with epoch 0; of those that are listed most are gone. */
START_TEST(a_reload_forgets_the_epoch)
{
    struct buffer error = {0};
    prepare();
    rig_open(&rig);
    expect_answer(first);
    redis_node_answer(second, "ROLE", MASTER);
    name_master(sentinels[0], second, 0);
    redis_node_answer(sentinels[1], ASKED, NOBODY);
    redis_node_answer(sentinels[2], ASKED, NOBODY);
    rig_run(&rig, 400);
    ck_assert_uint_eq(redis_node_accepted(second), 0);
    ck_assert(store_reload(rig.store, rig.conf, &error));
    for (int i = 0; i < 500 && redis_node_accepted(second) == 0; i++)
        rig_run(&rig, 10);
    rig_run(&rig, 400);
    expect_answer(second);
    stop();
}
END_TEST

START_TEST(sentinels_that_are_dead_or_hang_are_passed_over)
{
    prepare();
    uint16_t port = redis_node_port(sentinels[0]);
    redis_node_stop(&sentinels[0]);
    redis_node_freeze(sentinels[1], true);
    rig_open(&rig);
    expect_answer(first);
    ck_assert_uint_ge(redis_node_answered(sentinels[2], ASKED), 1);
    redis_node_freeze(sentinels[1], false);
    sentinels[0] = redis_node_start(port);
    stop();
}
END_TEST

/* A failover that most sentinels have not heard of yet; and one that has been undone. */
START_TEST(a_named_server_that_is_no_master_gives_way_to_a_newer_epoch_alone)
{
    unsigned epoch = _i == 0 ? 3 : 1;
    prepare();
    name_master_everywhere(second, 2);
    name_master(sentinels[2], first, epoch);
    rig_open(&rig);
    if (_i == 0) {
        expect_answer(first);
    } else {
        rig_call(&rig, &probe, "GET foo", 0, 3000);
        ck_assert_int_eq(probe.err, ERR_STORE_UNAVAILABLE);
        ck_assert_uint_eq(redis_node_accepted(first), 0);
    }
    ck_assert_uint_ge(redis_node_answered(second, "ROLE"), 1);
    ck_assert_uint_eq(redis_node_commands(second), 0);
    stop();
}
END_TEST

START_TEST(without_a_master_calls_end_at_once_until_there_is_one)
{
    prepare();
    redis_node_answer(first, "ROLE", SLAVE);
    rig_open(&rig);
    rig_call(&rig, &probe, "GET foo", 0, 3000);
    ck_assert_int_eq(probe.err, ERR_STORE_UNAVAILABLE);
    ck_assert_int_lt(probe.own_ms, 1000);
    redis_node_answer(first, "ROLE", MASTER);
    rig_run(&rig, 400);
    expect_answer(first);
    stop();
}
END_TEST

/* The old master says so itself, or its connections break, or nothing at all happens. */
START_TEST(calls_follow_the_master_to_where_it_moves)
{
    prepare();
    rig_open(&rig);
    expect_answer(first);
    redis_node_answer(first, "ROLE", SLAVE);
    redis_node_answer(second, "ROLE", MASTER);
    name_master_everywhere(second, 3);
    if (_i == 0) {
        redis_node_script(first, SCRIPT(ALWAYS("-READONLY You can't write against a replica\r\n")));
        redis_node_script(second, SCRIPT(EXPECT("SET foo 1"), SEND("+OK\r\n")));
        rig_call(&rig, &probe, "SET foo 1", 0, 3000);
        ck_assert_int_eq(probe.err, ERR_OK);
    } else {
        if (_i == 1)
            redis_node_script(first, SCRIPT(EXPECT("SET foo 1"), CLOSE()));
        if (_i == 1)
            rig_call(&rig, &probe, "SET foo 1", 0, 3000);
        rig_run(&rig, _i == 1 ? 400 : 1500);
        expect_answer(second);
    }
    struct store_node_health health;
    ck_assert_uint_eq(store_nodes(rig.store, &health, 1), 1);
    ck_assert_uint_eq(health.port, redis_node_port(second));
    stop();
}
END_TEST

static void ignore_change(void *user, struct text key)
{
    (void)user;
    (void)key;
}

static void ignore_doubt(void *user, const uint8_t slots[16384 / 8], bool owner_changed)
{
    (void)user;
    (void)slots;
    (void)owner_changed;
}

START_TEST(a_master_that_was_demoted_is_not_watched)
{
    static const struct store_listener watcher = {NULL, ignore_change, ignore_doubt};
    prepare();
    redis_node_allow_watch(first);
    rig_open(&rig);
    store_listen(rig.store, &watcher);
    for (int i = 0; i < 200 && !store_generation(rig.store, 0); i++)
        rig_run(&rig, 10);
    ck_assert_uint_ne(store_generation(rig.store, 0), 0);
    redis_node_answer(first, "ROLE", SLAVE);
    for (int i = 0; i < 200 && store_generation(rig.store, 0); i++)
        rig_run(&rig, 10);
    ck_assert_uint_eq(store_generation(rig.store, 0), 0);
    redis_node_answer(first, "ROLE", MASTER);
    for (int i = 0; i < 200 && !store_generation(rig.store, 0); i++)
        rig_run(&rig, 10);
    ck_assert_uint_ne(store_generation(rig.store, 0), 0);
    stop();
}
END_TEST

static char paths[2][64];

static void write_password(int which, const char *password)
{
    snprintf(paths[which], sizeof(paths[which]), "/tmp/check-sentinel-%d-%d", getpid(), which);
    int fd = open(paths[which], O_WRONLY | O_CREAT | O_EXCL, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, password, strlen(password)), (ssize_t)strlen(password));
    close(fd);
}

START_TEST(sentinels_and_servers_have_credentials_of_their_own)
{
    prepare();
    write_password(0, "of-servers");
    write_password(1, "of-sentinels");
    rig_set_text(&rig.conf->redis_user, "sessiond");
    rig_set_text(&rig.conf->redis_password_file, paths[0]);
    rig_set_text(&rig.conf->redis_sentinel_user, "asker");
    rig_set_text(&rig.conf->redis_sentinel_password_file, paths[1]);
    for (int i = 0; i < SENTINELS; i++)
        redis_node_require(sentinels[i], "AUTH asker of-sentinels");
    redis_node_require(first, "AUTH sessiond of-servers");
    rig_open(&rig);
    expect_answer(first);
    unlink(paths[0]);
    unlink(paths[1]);
    stop();
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

static TCase *sentinel_case(void)
{
    TCase *sentinel = tcase_create("sentinel");
    tcase_set_timeout(sentinel, 15);
    tcase_add_test(sentinel, calls_go_to_the_master_that_the_sentinels_name);
    tcase_add_loop_test(sentinel, a_sentinel_that_cannot_say_is_passed_over, 0, ROWS(useless_rows));
    tcase_add_loop_test(sentinel, the_word_of_most_sentinels_counts_then_the_newest_epoch, 0,
                        ROWS(word_rows));
    tcase_add_test(sentinel,
                   sentinels_that_do_not_tell_the_epoch_lead_to_the_master_and_to_the_next);
    tcase_add_loop_test(sentinel, a_single_sentinel_is_believed_only_with_a_newer_epoch, 0, 3);
    tcase_add_test(sentinel, a_reload_forgets_the_epoch);
    tcase_add_test(sentinel, sentinels_that_are_dead_or_hang_are_passed_over);
    tcase_add_loop_test(sentinel, a_named_server_that_is_no_master_gives_way_to_a_newer_epoch_alone,
                        0, 2);
    tcase_add_test(sentinel, without_a_master_calls_end_at_once_until_there_is_one);
    tcase_add_loop_test(sentinel, calls_follow_the_master_to_where_it_moves, 0, 3);
    tcase_add_test(sentinel, a_master_that_was_demoted_is_not_watched);
    tcase_add_test(sentinel, sentinels_and_servers_have_credentials_of_their_own);
    return sentinel;
}

int main(void)
{
    Suite *suite = suite_create("store_sentinel");
    suite_add_tcase(suite, sentinel_case());
    return support_run(suite);
}
