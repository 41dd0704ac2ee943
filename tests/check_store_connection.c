/* What can happen to a connection: it breaks, hangs, is refused, comes back; and what the durable
 * one does besides. */
#include <check.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "metrics.h"
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
}

static void stop(void)
{
    rig_close(&rig);
    redis_node_stop(&node);
}

/* --- breaks --- */

/* What a node may do instead of answering. */
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
    ck_assert_int_lt(probe.took_ms, 2000);
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
    for (int i = 0; i < 40; i++) {
        redis_node_script(node, SCRIPT(EXPECT("GET foo"), CLOSE()));
    }
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
    ck_assert_int_lt(probe.took_ms, 700);
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
    ck_assert_int_lt(probes[2].took_ms, 2000);
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
    ck_assert_int_lt(probes[1].took_ms, 800);
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
    rig_run(&rig, 100);
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
    ck_assert_int_lt(probe.took_ms, 150);
    rig_close(&rig);
}
END_TEST

START_TEST(a_node_that_never_answers_is_given_up_after_the_connect_timeout)
{
    /* The kernel accepts for a listener that nobody serves. */
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
    rig_send(&rig, &probes[0], "GET a", 0, 1000);
    rig_run(&rig, 50);
    rig_send(&rig, &probes[1], "GET b", 0, 1000);
    rig_close(&rig);
    ck_assert_int_eq(probes[0].err, ERR_SHUTTING_DOWN);
    ck_assert_int_eq(probes[1].err, ERR_SHUTTING_DOWN);
    ck_assert_uint_eq(probes[0].ended + probes[1].ended, 2);
    redis_node_stop(&node);
}
END_TEST

/* --- credentials --- */

static char password_path[64];

static void write_password(const char *password, mode_t mode)
{
    snprintf(password_path, sizeof(password_path), "/tmp/check-store-%d", getpid());
    unlink(password_path);
    int fd = open(password_path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, password, strlen(password)), (ssize_t)strlen(password));
    fchmod(fd, mode);
    close(fd);
}

static void start_with_password(const char *user, const char *password)
{
    node = redis_node_start(0);
    uint16_t port = redis_node_port(node);
    rig_configure(&rig, REDIS_STANDALONE, &port, 1);
    write_password(password, 0600);
    rig_set_text(&rig.conf->redis_password_file, password_path);
    rig_set_text(&rig.conf->redis_user, user);
}

static const struct {
    const char *user, *file, *auth;
} password_rows[] = {
    {"", "s3cret\n", "AUTH s3cret"},
    {"", "s3cret", "AUTH s3cret"},
    {"sessiond", "s3 cret\r\n", "AUTH sessiond s3 cret"},
};

START_TEST(credentials_are_sent_before_everything_else)
{
    start_with_password(password_rows[_i].user, password_rows[_i].file);
    redis_node_require(node, password_rows[_i].auth);
    redis_node_script(node, SCRIPT(EXPECT("GET foo"), SEND("+yes\r\n")));
    rig_open(&rig);
    rig_call(&rig, &probe, "GET foo", 0, 2000);
    ck_assert_str_eq(probe.text, "yes");
    unlink(password_path);
    stop();
}
END_TEST

START_TEST(a_wrong_password_denies_at_once_and_is_not_tried_in_a_loop)
{
    start_with_password("", "wrong");
    redis_node_require(node, "AUTH right");
    rig.conf->redis_reconnect_max = 60000;
    rig_open(&rig);
    rig_call(&rig, &probe, "GET foo", STORE_REPEATABLE, 3000);
    ck_assert_int_eq(probe.err, ERR_STORE_DENIED);
    ck_assert_int_lt(probe.took_ms, 2000);
    rig_call(&rig, &probe, "GET foo", STORE_REPEATABLE, 3000);
    ck_assert_int_eq(probe.err, ERR_STORE_DENIED);
    ck_assert_int_lt(probe.took_ms, 2000);
    /* Once for the link, maybe once for the control thread. */
    ck_assert_uint_le(redis_node_auths(node), 2);
    struct store_health health;
    store_health(rig.store, &health);
    ck_assert(!health.serving);
    unlink(password_path);
    stop();
}
END_TEST

START_TEST(reload_with_the_right_password_heals_at_once)
{
    struct buffer error = {0};
    start_with_password("", "wrong");
    redis_node_require(node, "AUTH right");
    rig.conf->redis_reconnect_max = 60000;
    rig_open(&rig);
    rig_call(&rig, &probe, "GET foo", 0, 2000);
    ck_assert_int_eq(probe.err, ERR_STORE_DENIED);
    write_password("right", 0600);
    redis_node_script(node, SCRIPT(EXPECT("GET foo"), SEND("+yes\r\n")));
    ck_assert(store_reload(rig.store, rig.conf, &error));
    rig_run(&rig, 20);
    rig_call(&rig, &probe, "GET foo", 0, 2000);
    ck_assert_int_eq(probe.err, ERR_OK);
    unlink(password_path);
    stop();
}
END_TEST

START_TEST(a_reload_that_cannot_be_read_changes_nothing)
{
    struct buffer error = {0};
    start();
    rig_set_text(&rig.conf->redis_password_file, "/nonexistent/password");
    ck_assert(!store_reload(rig.store, rig.conf, &error));
    ck_assert_uint_gt(error.length, 0);
    buffer_free(&error);
    redis_node_script(node, SCRIPT(EXPECT("GET foo"), SEND("+yes\r\n")));
    rig_call(&rig, &probe, "GET foo", 0, 2000);
    ck_assert_int_eq(probe.err, ERR_OK);
    stop();
}
END_TEST

START_TEST(a_connection_that_is_no_longer_welcome_is_made_anew)
{
    start();
    redis_node_script(node, SCRIPT(EXPECT("GET a"), SEND("-NOAUTH Authentication required.\r\n")));
    rig_call(&rig, &probe, "GET a", 0, 2000);
    ck_assert_int_eq(probe.err, ERR_STORE_DENIED);
    unsigned accepted = redis_node_accepted(node);
    redis_node_script(node, SCRIPT(EXPECT("GET b"), SEND("+yes\r\n")));
    rig_run(&rig, 150);
    rig_call(&rig, &probe, "GET b", 0, 2000);
    ck_assert_int_eq(probe.err, ERR_OK);
    ck_assert_uint_eq(redis_node_accepted(node), accepted + 1);
    stop();
}
END_TEST

START_TEST(a_password_file_that_others_may_read_is_refused)
{
    struct buffer error = {0};
    start_with_password("", "s3cret");
    write_password("s3cret", 0640);
    ck_assert_ptr_null(store_start(rig.conf, &error));
    ck_assert_ptr_nonnull(memmem(error.data, error.length, password_path, strlen(password_path)));
    ck_assert_ptr_null(memmem(error.data, error.length, "s3cret", 6));
    buffer_free(&error);
    unlink(password_path);
    ck_assert_ptr_null(store_start(rig.conf, &error));
    buffer_free(&error);
    conf_unref(&rig.conf);
    redis_node_stop(&node);
}
END_TEST

/* --- durable --- */

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
    rig_send(&rig, &probes[0], "SET a 1", STORE_DURABLE, 300);
    rig_run(&rig, 20);
    rig_call(&rig, &probes[1], "GET b", 0, 250);
    ck_assert_int_eq(probes[1].err, ERR_OK);
    ck_assert_uint_eq(probes[0].ended, 0);
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
    ck_assert_int_lt(probe.took_ms, 390);
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
    ck_assert_int_lt(probe.took_ms, 550);
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

static TCase *credentials_case(void)
{
    TCase *credentials = tcase_create("credentials");
    tcase_add_loop_test(credentials, credentials_are_sent_before_everything_else, 0,
                        ROWS(password_rows));
    tcase_add_test(credentials, a_wrong_password_denies_at_once_and_is_not_tried_in_a_loop);
    tcase_add_test(credentials, reload_with_the_right_password_heals_at_once);
    tcase_add_test(credentials, a_reload_that_cannot_be_read_changes_nothing);
    tcase_add_test(credentials, a_connection_that_is_no_longer_welcome_is_made_anew);
    tcase_add_test(credentials, a_password_file_that_others_may_read_is_refused);
    return credentials;
}

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
    Suite *suite = suite_create("store_connection");
    suite_add_tcase(suite, breaks_case());
    suite_add_tcase(suite, credentials_case());
    suite_add_tcase(suite, durable_case());
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
