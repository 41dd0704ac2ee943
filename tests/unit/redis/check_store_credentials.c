/* Passwords: sent first, refused, replaced. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support_run.h"
#include "support_store.h"

static struct store_rig rig;
static struct redis_node *node;
static struct store_probe probe;

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
    ck_assert_int_lt(probe.own_ms, 2000);
    rig_call(&rig, &probe, "GET foo", STORE_REPEATABLE, 3000);
    ck_assert_int_eq(probe.err, ERR_STORE_DENIED);
    ck_assert_int_lt(probe.own_ms, 2000);
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

/* The control thread has a connection of its own, which is made after the first map. */
static unsigned accepted_in_all(void)
{
    for (int i = 0; redis_node_accepted(node) < 2 && i < 500; i++)
        rig_run(&rig, 10);
    return redis_node_accepted(node);
}

START_TEST(a_connection_that_is_no_longer_welcome_is_made_anew)
{
    start();
    redis_node_script(node, SCRIPT(EXPECT("GET a"), SEND("-NOAUTH Authentication required.\r\n")));
    rig_call(&rig, &probe, "GET a", 0, 2000);
    ck_assert_int_eq(probe.err, ERR_STORE_DENIED);
    unsigned accepted = accepted_in_all();
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
    write_password("s3cret", 0604);
    ck_assert_ptr_null(store_start(rig.conf, &rig_keys, &error));
    ck_assert_ptr_nonnull(memmem(error.data, error.length, password_path, strlen(password_path)));
    ck_assert_ptr_null(memmem(error.data, error.length, "s3cret", 6));
    buffer_free(&error);
    unlink(password_path);
    ck_assert_ptr_null(store_start(rig.conf, &rig_keys, &error));
    buffer_free(&error);
    conf_unref(&rig.conf);
    redis_node_stop(&node);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

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

int main(void)
{
    Suite *suite = suite_create("store_credentials");
    suite_add_tcase(suite, credentials_case());
    return support_run(suite);
}
