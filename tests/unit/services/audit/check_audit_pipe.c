/* An audit file that is a pipe, as standard output is in a container: with and without a reader. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support_run.h"
#include "support_trail.h"

static int ends[2];
static char file[64]; /* the name of the writing end */
static pthread_t reader;

static void name_descriptor(int fd)
{
    snprintf(file, sizeof(file), "/proc/self/fd/%d", fd);
    trail.conf.audit_file = file;
}

static void setup(void)
{
    trail_set_up();
    signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    ck_assert_int_gt(fcntl(ends[1], F_SETPIPE_SZ, 65536), 0);
    name_descriptor(ends[1]);
}

static void teardown(void)
{
    trail_tear_down();
}

/* Copies what comes out of the pipe to trail.path, until its end. */
static void *copy(void *user)
{
    char bytes[4096];
    ssize_t count;
    FILE *out = fopen(trail.path, "w");
    while (out && (count = read(ends[0], bytes, sizeof(bytes))) > 0)
        fwrite(bytes, 1, (size_t)count, out);
    if (out)
        fclose(out);
    return user;
}

static void begin_reading(void)
{
    ck_assert_int_eq(pthread_create(&reader, NULL, copy, NULL), 0);
}

/* After the service was stopped: all of its lines. */
static json_t *end_reading(int *torn)
{
    close(ends[1]);
    pthread_join(reader, NULL);
    return trail_read(trail.path, torn);
}

START_TEST(lines_come_out_of_the_pipe_in_order)
{
    enum { LINES = 400 }; /* more than the pipe holds, less than one write */
    begin_reading();
    trail_start();
    for (int i = 0; i < LINES; i++)
        trail_put_number("read-", i, false);
    trail_put_barrier();
    audit_reopen(trail.audit);
    trail_put_barrier();
    trail_stop();
    json_t *lines = end_reading(NULL);
    trail_assert_sequence(lines, 1);
    ck_assert(trail_has_ids(lines, 0, "read-", LINES));
    ck_assert_uint_eq(json_array_size(lines), LINES + 2);
    json_decref(lines);
}
END_TEST

/* More than the pipe holds. */
static int fill(void)
{
    int put = 0;
    for (; put < 400; put++)
        ck_assert(trail_put_number("kept-", put, false));
    return put;
}

START_TEST(a_reader_who_falls_behind_holds_nobody_up_and_gets_every_line_in_the_end)
{
    trail_start();
    int put = fill();
    trail_put("refused", true);
    audit_flush(trail.lane);
    trail_wait_for_tickets(1);
    ck_assert_int_eq(trail.refused, 1);
    ck_assert(!audit_healthy(trail.audit));
    begin_reading();
    trail_wait_until_healthy(true);
    trail_put_barrier();
    trail_stop();
    int torn = 0;
    json_t *lines = end_reading(&torn);
    ck_assert_int_eq(torn, 1);
    trail_assert_sequence(lines, 1);
    size_t recovered = trail_index_of(lines, "event.action", "recovered");
    ck_assert_int_gt(trail_number_at(lines, recovered, "sessiond.torn_bytes"), 0);
    ck_assert_int_eq(trail_number_at(lines, recovered, "sessiond.lines_refused"), 1);
    for (int i = 0; i < put; i++) {
        char id[64];
        snprintf(id, sizeof(id), "kept-%d", i);
        ck_assert_int_eq(trail_count_of(lines, "user.id", id), 1);
    }
    json_decref(lines);
}
END_TEST

START_TEST(a_reader_who_does_not_come_back_does_not_hold_up_the_stop)
{
    trail_start();
    fill();
    double begun = trail_seconds();
    trail_stop();
    ck_assert_double_lt(trail_seconds() - begun, 10);
}
END_TEST

START_TEST(without_a_reader_nothing_is_taken)
{
    trail_start();
    close(ends[0]);
    trail_put("refused", true);
    audit_flush(trail.lane);
    trail_wait_for_tickets(1);
    ck_assert_int_eq(trail.refused, 1);
    ck_assert(!audit_healthy(trail.audit));
    trail_stop();
}
END_TEST

static void assert_refused(const char *why)
{
    struct buffer error = {0};
    ck_assert_ptr_null(audit_start(&trail.conf, "node-1", &error));
    buffer_add_char(&error, '\0');
    ck_assert_ptr_nonnull(strstr(error.data, trail.conf.audit_file));
    ck_assert_msg(strstr(error.data, why) != NULL, "%s", error.data);
    buffer_free(&error);
}

START_TEST(a_named_pipe_needs_a_reader)
{
    trail.conf.audit_file = trail.path;
    ck_assert_int_eq(mkfifo(trail.path, 0600), 0);
    assert_refused("nobody reads the pipe");
    int end = open(trail.path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    trail_start();
    trail_put_barrier();
    char line[1024];
    ck_assert_int_gt(read(end, line, sizeof(line)), 0);
    trail_stop();
    close(end);
}
END_TEST

START_TEST(a_socket_is_refused)
{
    int sockets[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    name_descriptor(sockets[1]);
    assert_refused("it is a socket");
}
END_TEST

/* It would be renamed under a name that is not its own. */
START_TEST(a_file_behind_a_descriptor_is_refused)
{
    int fd = open(trail.path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    name_descriptor(fd);
    assert_refused("what is behind it is a file");
    close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("audit_pipe");
    TCase *tests = tcase_create("pipes");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, lines_come_out_of_the_pipe_in_order);
    tcase_add_test(tests, a_reader_who_falls_behind_holds_nobody_up_and_gets_every_line_in_the_end);
    tcase_add_test(tests, a_reader_who_does_not_come_back_does_not_hold_up_the_stop);
    tcase_add_test(tests, without_a_reader_nothing_is_taken);
    tcase_add_test(tests, a_named_pipe_needs_a_reader);
    tcase_add_test(tests, a_socket_is_refused);
    tcase_add_test(tests, a_file_behind_a_descriptor_is_refused);
    suite_add_tcase(suite, tests);
    return support_run(suite);
}
