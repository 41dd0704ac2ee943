/* The queue of alerts on disk: order, restarts, torn and damaged lines, bounds, rewriting. */
#include "services/alerts/alerts_file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "crypto.h"
#include "support_run.h"

static char directory[64], path[80], fresh[96];
static struct alerts_file file;
static struct alerts_file_findings findings;
static struct queued_alert queued;

enum { PLENTY = 1 << 20 };

static int sync_error; /* what fdatasync() fails with, 0: it works */

int fdatasync(int fd)
{
    if (sync_error == 0)
        return (int)syscall(SYS_fdatasync, fd);
    errno = sync_error;
    return -1;
}

static void open_file(void)
{
    struct buffer error = {0};
    alerts_file_init(&file, path);
    bool opened = alerts_file_open(&file, &findings, &error);
    ck_assert_msg(opened, "%.*s", (int)error.length, error.data);
}

static void close_file(void)
{
    alerts_file_fini(&file);
}

static void reopen(void)
{
    close_file();
    open_file();
}

static void setup(void)
{
    crypto_init();
    snprintf(directory, sizeof(directory), "/tmp/check_alerts.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/alerts", directory);
    snprintf(fresh, sizeof(fresh), "%s.new", path);
    open_file();
}

static void teardown(void)
{
    close_file();
    buffer_free(&queued.id);
    buffer_free(&queued.json);
    unlink(path);
    ck_assert_int_eq(rmdir(directory), 0);
}

static enum alerts_added add_up_to(int number, int64_t max_bytes)
{
    char id[16], json[64];
    snprintf(id, sizeof(id), "alert_%d", number);
    snprintf(json, sizeof(json), "{\"number\":%d,\"text\":\"delivered 7 alert 9\"}", number);
    return alerts_file_add(&file, text_of(id), text_of(json), max_bytes);
}

static void add(int number)
{
    ck_assert_int_eq(add_up_to(number, PLENTY), ALERTS_ADDED);
}

static void add_many(int from, int to)
{
    for (int i = from; i <= to; i++)
        add(i);
    ck_assert(alerts_file_sync(&file));
}

/* The first that is not delivered is this one. */
static void assert_first(int number)
{
    char id[16], json[64];
    int length = snprintf(id, sizeof(id), "alert_%d", number);
    int body = snprintf(json, sizeof(json), "{\"number\":%d,", number);
    ck_assert(alerts_file_first(&file, &queued));
    ck_assert(text_equal(buffer_text(&queued.id), (struct text){id, (size_t)length}));
    ck_assert_mem_eq(queued.json.data, json, (size_t)body);
    ck_assert_int_eq(queued.json.data[queued.json.length - 1], '}');
}

static void deliver(int number)
{
    assert_first(number);
    ck_assert(alerts_file_delivered(&file, &queued));
}

static void deliver_many(int from, int to)
{
    for (int i = from; i <= to; i++)
        deliver(i);
}

static void assert_queued(int from, int to)
{
    ck_assert_int_eq(file.queued, to - from + 1);
    deliver_many(from, to);
    ck_assert_int_eq(file.queued, 0);
    ck_assert(!alerts_file_first(&file, &queued));
}

static int64_t size_on_disk(void)
{
    struct stat status;
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_uint_eq(status.st_mode & 07777, 0600);
    return status.st_size;
}

static struct buffer read_file(void)
{
    struct buffer bytes = {0};
    int64_t size = size_on_disk();
    int fd = open(path, O_RDONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(read(fd, buffer_reserve(&bytes, (size_t)size), (size_t)size), size);
    bytes.length = (size_t)size;
    close(fd);
    return bytes;
}

static void write_file(const char *data, size_t length)
{
    int fd = open(path, O_WRONLY | O_TRUNC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, data, length), (ssize_t)length);
    close(fd);
}

/* --- order and restarts --- */

START_TEST(alerts_come_in_order_and_once)
{
    ck_assert(!alerts_file_first(&file, &queued));
    add_many(1, 3);
    deliver(1);
    assert_first(2);
    assert_first(2);
    add(4);
    assert_queued(2, 4);
}
END_TEST

START_TEST(a_restart_forgets_neither_alerts_nor_deliveries)
{
    add_many(1, 5);
    deliver_many(1, 2);
    reopen();
    ck_assert_int_eq(findings.torn + findings.damaged, 0);
    add(6);
    assert_queued(3, 6);
    reopen();
    ck_assert_int_eq(file.queued, 0);
    ck_assert_uint_eq(file.next_number, 7);
}
END_TEST

START_TEST(numbers_go_on_after_everything_was_forgotten)
{
    for (int i = 1; i <= 2000; i++) {
        add(i);
        deliver(i);
    }
    ck_assert_int_lt(size_on_disk(), 2 * 65536);
    reopen();
    ck_assert_uint_eq(file.next_number, 2001);
    add(2001);
    assert_queued(2001, 2001);
}
END_TEST

START_TEST(the_file_is_the_owners_alone)
{
    add(1);
    close_file();
    ck_assert_int_eq(chmod(path, 0644), 0);
    open_file();
    size_on_disk(); /* checks the mode */
}
END_TEST

START_TEST(a_file_of_others_is_refused_and_left_alone)
{
    static const char others[] = "root:x:0:0:root:/root:/bin/bash\n";
    struct buffer error = {0};
    close_file();
    write_file(others, sizeof(others) - 1);
    alerts_file_init(&file, path);
    ck_assert(!alerts_file_open(&file, &findings, &error));
    buffer_add_char(&error, '\0');
    ck_assert_ptr_nonnull(strstr(error.data, "is not a queue of alerts"));
    buffer_free(&error);
    ck_assert_int_eq(size_on_disk(), sizeof(others) - 1);
}
END_TEST

/* --- torn and damaged --- */

/* The sums are those of hashlib.blake2b in Python. */
static const char of_an_older_version[] =
    "86e1ff50300951bc sessiond-alerts 1 next 7\n"
    "8ccc46e8e0af1027 alert 7 alert_7 {\"number\":7,\"x\":1}\n"
    "ccb9f6ca8632f768 alert 8 alert_8 {\"number\":8,\"x\":1}\n"
    "ddb5774a0d6ebae8 delivered 7\n"
    "7cf0fb4557ee0f84 alert 9 alert_9 {\"number\":9,\"x\":1}\n";

START_TEST(a_file_of_an_older_version_is_read_and_gone_on_with)
{
    const size_t length = sizeof(of_an_older_version) - 1;
    close_file();
    int fd = open(path, O_WRONLY | O_TRUNC);
    ck_assert_int_eq(write(fd, of_an_older_version, length), (ssize_t)length);
    close(fd);
    open_file();
    ck_assert_int_eq(findings.torn + findings.damaged, 0);
    ck_assert_uint_eq(file.next_number, 10);
    ck_assert_int_eq(size_on_disk(), (int64_t)length);
    add_many(10, 10);
    assert_queued(8, 10);
}
END_TEST

START_TEST(wherever_the_last_line_is_torn_the_others_stay)
{
    add_many(1, 3);
    int64_t whole = file.records.size;
    add(4);
    struct buffer bytes = read_file();
    for (size_t cut = (size_t)whole; cut < bytes.length; cut++) {
        close_file();
        write_file(bytes.data, cut);
        open_file();
        ck_assert_int_eq(findings.torn, (int64_t)cut - whole);
        ck_assert_int_eq(findings.damaged, 0);
        ck_assert_int_eq(size_on_disk(), whole);
        add(4);
        reopen();
        assert_queued(1, 4);
    }
    buffer_free(&bytes);
}
END_TEST

START_TEST(a_damaged_line_costs_itself_only)
{
    add(1);
    int64_t start = file.records.size;
    add_many(2, 3);
    struct buffer bytes = read_file();
    const char *end = memchr(bytes.data + start, '\n', bytes.length - (size_t)start);
    for (char *at = bytes.data + start; at < end; at++) {
        *at ^= 1;
        close_file();
        write_file(bytes.data, bytes.length);
        *at ^= 1;
        open_file();
        /* A newline that was not there makes two bad lines of one. */
        ck_assert_int_ge(findings.damaged, 1);
        ck_assert_int_eq(file.queued, 2);
        deliver(1);
        deliver(3);
        reopen();
        ck_assert_int_eq(findings.damaged, 0);
        ck_assert_uint_eq(file.next_number, 4);
    }
    buffer_free(&bytes);
}
END_TEST

START_TEST(a_lost_note_of_delivery_repeats_no_more_than_that)
{
    add_many(1, 4);
    deliver(1);
    int64_t size = file.records.size;
    deliver_many(2, 3);
    ck_assert_int_eq(truncate(path, size + 5), 0);
    reopen();
    assert_queued(2, 4);
}
END_TEST

/* --- bounds --- */

START_TEST(a_full_file_takes_no_more_and_loses_none)
{
    enum { MAX = 65536 };
    int count = 0;
    while (add_up_to(count + 1, MAX) == ALERTS_ADDED)
        count++;
    ck_assert_int_gt(count, 100);
    ck_assert_int_eq(add_up_to(count + 1, MAX), ALERTS_FULL);
    ck_assert_int_le(size_on_disk(), MAX);
    /* Delivered alerts make room, when there are enough of them. */
    deliver(1);
    ck_assert_int_eq(add_up_to(count + 1, MAX), ALERTS_FULL);
    deliver_many(2, count / 2);
    add_up_to(count + 1, MAX);
    ck_assert_int_lt(size_on_disk(), MAX * 3 / 4);
    assert_queued(count / 2 + 1, count + 1);
}
END_TEST

START_TEST(a_disk_that_takes_half_a_line_does_not_spoil_the_next)
{
    add_many(1, 3);
    struct rlimit before, small = {(rlim_t)file.records.size + 30, RLIM_INFINITY};
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    small.rlim_max = before.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    ck_assert_int_eq(add_up_to(4, PLENTY), ALERTS_FAILED);
    ck_assert_int_eq(add_up_to(4, PLENTY), ALERTS_FAILED);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    add(4);
    reopen();
    ck_assert_int_eq(findings.torn + findings.damaged, 0);
    assert_queued(1, 4);
}
END_TEST

START_TEST(what_could_not_be_synced_is_not_in_the_queue)
{
    add_many(1, 3);
    deliver(1);
    add(4);
    sync_error = EIO;
    ck_assert(!alerts_file_sync(&file));
    ck_assert_int_eq(errno, EIO);
    ck_assert_int_eq(file.queued, 2);
    assert_first(2);
    ck_assert_int_eq(add_up_to(4, PLENTY), ALERTS_FAILED);
    assert_first(2);
    ck_assert(!alerts_file_delivered(&file, &queued));
    sync_error = 0;
    add(4);
    ck_assert(alerts_file_sync(&file));
    assert_queued(3, 4);
    reopen();
    ck_assert_int_eq(findings.torn + findings.damaged, 0);
    ck_assert_int_eq(file.queued, 0);
}
END_TEST

START_TEST(what_could_not_be_trusted_is_written_anew)
{
    add_many(1, 3);
    deliver(1);
    file.broken = true; /* as after a sync that failed */
    struct stat before, after;
    ck_assert_int_eq(stat(path, &before), 0);
    add(4);
    ck_assert_int_eq(stat(path, &after), 0);
    ck_assert_uint_ne(before.st_ino, after.st_ino);
    reopen();
    assert_queued(2, 4);
}
END_TEST

START_TEST(what_a_crash_left_of_a_rewriting_is_no_hindrance)
{
    int fd = open(fresh, O_WRONLY | O_CREAT, 0644);
    ck_assert_int_ge(fd, 0);
    close(fd);
    add_many(1, 2);
    file.broken = true;
    add(3);
    assert_queued(1, 3);
    ck_assert_int_ne(access(fresh, F_OK), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("alerts_file");
    TCase *tests = tcase_create("file");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, alerts_come_in_order_and_once);
    tcase_add_test(tests, a_restart_forgets_neither_alerts_nor_deliveries);
    tcase_add_test(tests, numbers_go_on_after_everything_was_forgotten);
    tcase_add_test(tests, the_file_is_the_owners_alone);
    tcase_add_test(tests, a_file_of_others_is_refused_and_left_alone);
    tcase_add_test(tests, a_file_of_an_older_version_is_read_and_gone_on_with);
    tcase_add_test(tests, wherever_the_last_line_is_torn_the_others_stay);
    tcase_add_test(tests, a_damaged_line_costs_itself_only);
    tcase_add_test(tests, a_lost_note_of_delivery_repeats_no_more_than_that);
    tcase_add_test(tests, a_full_file_takes_no_more_and_loses_none);
    tcase_add_test(tests, a_disk_that_takes_half_a_line_does_not_spoil_the_next);
    tcase_add_test(tests, what_could_not_be_synced_is_not_in_the_queue);
    tcase_add_test(tests, what_could_not_be_trusted_is_written_anew);
    tcase_add_test(tests, what_a_crash_left_of_a_rewriting_is_no_hindrance);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    return support_run(suite());
}
