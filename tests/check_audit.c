/* The audit file as a whole: order and numbers, group commit, tickets, a full queue, rotation,
 * retention, and what happens when the disk fails or the process is killed.
 *
 * fdatasync() is replaced by one that can fail, and that marks the open file it failed for: a
 * second sync of that one is a defect, since the kernel would report success for pages it dropped.
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "audit.h"
#include "clock.h"
#include "memory.h"
#include "metrics.h"

#include "support_run.h"

static _Atomic int sync_error;    /* what fdatasync() fails with, 0: it works */
static _Atomic bool sync_hangs;   /* fdatasync() does not return while this is set */
static _Atomic int synced_failed; /* syncs of a file whose sync had failed */

int fdatasync(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags & O_NOATIME)
        atomic_fetch_add(&synced_failed, 1);
    while (atomic_load(&sync_hangs))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    if (atomic_load(&sync_error) != 0) {
        fcntl(fd, F_SETFL, flags | O_NOATIME);
        errno = atomic_load(&sync_error);
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

/* --- the service under test --- */

static char directory[] = "/tmp/check_audit.XXXXXX";
static char path[64];
static struct conf conf;
static struct audit *audit;
static struct audit_producer *producer;
static int written, refused; /* decided tickets */

static void start(void)
{
    struct buffer error = {0};
    audit = audit_start(&conf, "node-1", &error);
    ck_assert_msg(audit != NULL, "%.*s", (int)error.length, error.data);
    producer = audit_producer_create(audit, NULL, NULL);
}

static void stop(void)
{
    audit_producer_destroy(&producer);
    audit_stop(&audit);
    ck_assert_ptr_null(audit);
    ck_assert_ptr_null(producer);
}

static void set_up(void)
{
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/audit.log", directory);
    conf.audit_file = path;
    conf.audit_max_bytes = 1 << 28;
    conf.audit_retention = 180 * 86400;
    conf.audit_queue_bytes = 1 << 24;
}

static void for_each_file(void (*visit)(const char *name, const char *file, void *user), void *user)
{
    struct dirent **names;
    int count = scandir(directory, &names, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        char file[512];
        snprintf(file, sizeof(file), "%s/%s", directory, names[i]->d_name);
        if (names[i]->d_name[0] != '.')
            visit(names[i]->d_name, file, user);
        free(names[i]);
    }
    free(names);
}

static void remove_file(const char *name, const char *file, void *user)
{
    (void)name;
    (void)user;
    unlink(file);
}

static void tear_down(void)
{
    for_each_file(remove_file, NULL);
    rmdir(directory);
}

static void note_decision(struct audit_ticket *ticket, bool is_written)
{
    *(is_written ? &written : &refused) += 1;
    free(ticket);
}

static struct audit_ticket *new_ticket(void)
{
    struct audit_ticket *ticket = xcalloc(1, sizeof(*ticket));
    ticket->done = note_decision;
    return ticket;
}

/* Writes one line whose user.id is `id`. */
static bool put_by(struct audit_producer *by, const char *id, struct audit_ticket *ticket)
{
    const struct audit_record record = {.event = ticket ? AUDIT_LOGIN : AUDIT_VALIDATE,
                                        .wall_ms = clock_wall_ms(),
                                        .status = 200,
                                        .user_id = text_of(id),
                                        .tenant = TEXT("acme")};
    struct buffer line = {0};
    audit_format(&line, &record);
    bool taken = audit_write(by, buffer_text(&line), ticket);
    buffer_free(&line);
    return taken;
}

static bool put(const char *id, bool durable)
{
    return put_by(producer, id, durable ? new_ticket() : NULL);
}

static bool put_number(const char *prefix, int number, bool durable)
{
    char id[64];
    snprintf(id, sizeof(id), "%s%d", prefix, number);
    return put(id, durable);
}

/* --- waiting --- */

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void wait_for_tickets(int count)
{
    double until = seconds() + 10;
    while (written + refused < count && seconds() < until) {
        audit_collect(producer);
        nap();
    }
    ck_assert_int_eq(written + refused, count);
}

static void wait_until_healthy(bool healthy)
{
    double until = seconds() + 10;
    while (audit_healthy(audit) != healthy && seconds() < until)
        nap();
    ck_assert_int_eq(audit_healthy(audit), healthy);
}

static void wait_for_lines(int64_t count)
{
    double until = seconds() + 10;
    while (metrics_read(METRIC_AUDIT_LINES) < count && seconds() < until)
        nap();
    ck_assert_int_ge(metrics_read(METRIC_AUDIT_LINES), count);
}

/* A durable line that must have been written: what was handed over before is in the file too. */
static void put_barrier(void)
{
    int before = written;
    put("barrier", true);
    audit_flush(producer);
    wait_for_tickets(written + refused + 1);
    ck_assert_int_eq(written, before + 1);
}

/* --- reading the file --- */

/* Every line as an object; a line that is none counts in *torn, and fails the test without it. */
static json_t *read_lines(const char *file, int *torn)
{
    json_t *lines = json_array();
    FILE *stream = fopen(file, "r");
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    ck_assert_msg(stream != NULL, "%s: %s", file, strerror(errno));
    while ((length = getline(&line, &capacity, stream)) > 0) {
        json_t *json = json_loadb(line, (size_t)length, JSON_REJECT_DUPLICATES, NULL);
        if (json && line[length - 1] == '\n') {
            json_array_append_new(lines, json);
        } else if (torn) {
            json_decref(json);
            *torn += 1;
        } else {
            ck_abort_msg("not a line: %s", line);
        }
    }
    free(line);
    fclose(stream);
    return lines;
}

static const char *text_at(const json_t *lines, size_t index, const char *name)
{
    const char *text = json_string_value(json_object_get(json_array_get(lines, index), name));
    return text ? text : "";
}

static int64_t number_at(const json_t *lines, size_t index, const char *name)
{
    return json_integer_value(json_object_get(json_array_get(lines, index), name));
}

static int count_of(const json_t *lines, const char *name, const char *value)
{
    int count = 0;
    for (size_t i = 0; i < json_array_size(lines); i++)
        count += strcmp(text_at(lines, i, name), value) == 0;
    return count;
}

static size_t index_of(const json_t *lines, const char *name, const char *value)
{
    size_t i = 0;
    while (i < json_array_size(lines) && strcmp(text_at(lines, i, name), value) != 0)
        i++;
    ck_assert_msg(i < json_array_size(lines), "no line with %s %s", name, value);
    return i;
}

/* First line that is out of sequence; the count of lines if none is. */
static size_t first_gap(const json_t *lines, int64_t first)
{
    size_t i = 0;
    while (i < json_array_size(lines) &&
           number_at(lines, i, "event.sequence") == first + (int64_t)i)
        i++;
    return i;
}

static void assert_sequence(const json_t *lines, int64_t first)
{
    ck_assert_uint_eq(first_gap(lines, first), json_array_size(lines));
}

/* True if the `count` ids follow each other in the file, from line `at` on. */
static bool has_ids(const json_t *lines, size_t at, const char *prefix, int count)
{
    for (int i = 0; i < count; i++) {
        char id[64];
        snprintf(id, sizeof(id), "%s%d", prefix, i);
        if (strcmp(text_at(lines, at + (size_t)i, "user.id"), id) != 0)
            return false;
    }
    return true;
}

static void write_file(const char *file, const char *content)
{
    FILE *stream = fopen(file, "w");
    ck_assert_ptr_nonnull(stream);
    fputs(content, stream);
    fclose(stream);
}

/* --- order, numbers, tickets --- */

START_TEST(lines_are_written_in_order_and_numbered_from_one)
{
    start();
    for (int i = 0; i < 1000; i++) {
        put_number("user-", i, false);
        if (i % 7 == 0)
            audit_flush(producer);
    }
    stop();
    json_t *lines = read_lines(path, NULL);
    ck_assert_uint_eq(json_array_size(lines), 1000);
    assert_sequence(lines, 1);
    ck_assert(has_ids(lines, 0, "user-", 1000));
    ck_assert_str_eq(text_at(lines, 0, "service.node.name"), "node-1");
    json_decref(lines);
}
END_TEST

START_TEST(a_line_without_a_ticket_is_written_soon_without_another_call)
{
    start();
    put("alone", false);
    audit_flush(producer);
    wait_for_lines(1);
    ck_assert_int_eq(metrics_read(METRIC_AUDIT_SYNCS), 0);
    json_t *lines = read_lines(path, NULL);
    ck_assert_uint_eq(json_array_size(lines), 1);
    json_decref(lines);
    stop();
}
END_TEST

START_TEST(numbers_go_on_after_a_restart)
{
    for (int round = 0; round < 3; round++) {
        start();
        put("a", false);
        put("b", false);
        stop();
    }
    json_t *lines = read_lines(path, NULL);
    ck_assert_uint_eq(json_array_size(lines), 6);
    assert_sequence(lines, 1);
    json_decref(lines);
}
END_TEST

static struct audit_ticket *checked_ticket;
static int found_at_done;

static void look_into_the_file(struct audit_ticket *ticket, bool is_written)
{
    json_t *lines = read_lines(path, NULL);
    found_at_done = is_written ? count_of(lines, "user.id", "durable") : -1;
    json_decref(lines);
    note_decision(ticket, is_written);
}

START_TEST(a_line_is_in_the_file_when_its_ticket_says_so)
{
    start();
    checked_ticket = new_ticket();
    checked_ticket->done = look_into_the_file;
    put_by(producer, "durable", checked_ticket);
    audit_flush(producer);
    wait_for_tickets(1);
    ck_assert_int_eq(found_at_done, 1);
    ck_assert_int_eq(metrics_read(METRIC_AUDIT_SYNCS), 1);
    stop();
}
END_TEST

START_TEST(nothing_is_decided_before_the_batch_is_handed_over)
{
    start();
    put("a", true);
    nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
    audit_collect(producer);
    ck_assert_int_eq(written + refused, 0);
    audit_flush(producer);
    wait_for_tickets(1);
    stop();
}
END_TEST

START_TEST(one_sync_serves_many_durable_lines)
{
    start();
    for (int i = 0; i < 200; i++)
        put_number("user-", i, true);
    audit_flush(producer);
    wait_for_tickets(200);
    ck_assert_int_eq(written, 200);
    ck_assert_int_eq(metrics_read(METRIC_AUDIT_LINES), 200);
    ck_assert_int_eq(metrics_read(METRIC_AUDIT_SYNCS), 1);
    stop();
}
END_TEST

static _Atomic int wakes;

static void count_wake(void *user)
{
    ck_assert_ptr_eq(user, &wakes);
    atomic_fetch_add(&wakes, 1);
}

START_TEST(the_worker_is_woken_for_tickets_only)
{
    start();
    audit_producer_destroy(&producer);
    producer = audit_producer_create(audit, count_wake, &wakes);
    put("a", false);
    audit_flush(producer);
    wait_for_lines(1);
    ck_assert_int_eq(atomic_load(&wakes), 0);
    put("b", true);
    audit_flush(producer);
    wait_for_tickets(1);
    ck_assert_int_eq(atomic_load(&wakes), 1);
    stop();
}
END_TEST

START_TEST(destroying_a_producer_waits_for_its_tickets)
{
    start();
    for (int i = 0; i < 10; i++)
        put_number("user-", i, true);
    audit_producer_destroy(&producer);
    ck_assert_int_eq(written, 10);
    audit_stop(&audit);
}
END_TEST

START_TEST(a_producer_may_be_destroyed_after_the_stop)
{
    start();
    put("a", false);
    audit_flush(producer);
    audit_stop(&audit);
    audit_producer_destroy(&producer);
    json_t *lines = read_lines(path, NULL);
    ck_assert_uint_eq(json_array_size(lines), 1);
    json_decref(lines);
}
END_TEST

/* --- many producers --- */

enum { PRODUCERS = 4, LINES_EACH = 10000 };

struct writer_thread {
    pthread_t thread;
    int number;
    int decided;
};

struct thread_ticket {
    struct audit_ticket ticket;
    struct writer_thread *owner;
};

static void note_thread_decision(struct audit_ticket *ticket, bool is_written)
{
    struct thread_ticket *own = (struct thread_ticket *)ticket;
    own->owner->decided += is_written;
    free(own);
}

static void *write_many(void *user)
{
    struct writer_thread *self = user;
    struct audit_producer *own = audit_producer_create(audit, NULL, NULL);
    for (int i = 0; i < LINES_EACH; i++) {
        char id[64];
        struct thread_ticket *ticket = NULL;
        snprintf(id, sizeof(id), "%d-%d", self->number, i);
        if (i % 100 == 0) {
            ticket = xcalloc(1, sizeof(*ticket));
            *ticket = (struct thread_ticket){{.done = note_thread_decision}, self};
        }
        put_by(own, id, ticket ? &ticket->ticket : NULL);
        if (i % 10 == 9) {
            audit_flush(own);
            audit_collect(own);
        }
    }
    audit_producer_destroy(&own);
    return NULL;
}

START_TEST(many_producers_keep_their_order_and_share_one_sequence)
{
    struct writer_thread threads[PRODUCERS] = {0};
    int next[PRODUCERS] = {0};
    int out_of_order = 0;
    conf.audit_queue_bytes = 1 << 28;
    start();
    for (int i = 0; i < PRODUCERS; i++) {
        threads[i].number = i;
        pthread_create(&threads[i].thread, NULL, write_many, &threads[i]);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        pthread_join(threads[i].thread, NULL);
        ck_assert_int_eq(threads[i].decided, LINES_EACH / 100);
    }
    stop();
    json_t *lines = read_lines(path, NULL);
    ck_assert_uint_eq(json_array_size(lines), PRODUCERS * LINES_EACH);
    assert_sequence(lines, 1);
    for (size_t i = 0; i < json_array_size(lines); i++) {
        int number = -1, index = -1;
        sscanf(text_at(lines, i, "user.id"), "%d-%d", &number, &index);
        out_of_order += number < 0 || number >= PRODUCERS || index != next[number]++;
    }
    ck_assert_int_eq(out_of_order, 0);
    ck_assert_int_lt(metrics_read(METRIC_AUDIT_SYNCS), PRODUCERS * LINES_EACH / 100 + 1);
    json_decref(lines);
}
END_TEST

/* --- the bound of the queue, and what is lost --- */

START_TEST(a_full_queue_refuses_lines_without_tickets_only)
{
    int taken = 0;
    conf.audit_queue_bytes = 65536;
    conf.audit_file = "/dev/full";
    start();
    while (taken < 10000 && put_number("user-", taken, false)) {
        taken++;
        audit_flush(producer);
    }
    ck_assert_int_gt(taken, 65536 / 1000);
    ck_assert_int_lt(taken, 65536 / 300);
    ck_assert(put("durable", true));
    audit_flush(producer);
    wait_for_tickets(1);
    ck_assert_int_eq(refused, 1);
    ck_assert(!put("more", false));
    stop();
}
END_TEST

START_TEST(the_queue_takes_lines_again_once_they_are_written)
{
    conf.audit_queue_bytes = 65536;
    start();
    while (put("filler", false)) {
    }
    put_barrier();
    ck_assert(put("again", false));
    put_barrier();
    stop();
}
END_TEST

START_TEST(the_number_of_lost_lines_is_told_exactly_and_once)
{
    start();
    put_barrier(); /* from here on the thread sleeps until the next one */
    for (int i = 0; i < 17; i++)
        audit_count_lost(producer);
    put_barrier();
    put_barrier();
    stop();
    json_t *lines = read_lines(path, NULL);
    int64_t told = 0;
    for (size_t i = 0; i < json_array_size(lines); i++)
        told += number_at(lines, i, "sessiond.lines_lost");
    ck_assert_int_eq(told, 17);
    assert_sequence(lines, 1);
    ck_assert_str_eq(text_at(lines, 1, "event.action"), "lines-lost");
    ck_assert_int_eq(metrics_read(METRIC_AUDIT_LOST), 17);
    json_decref(lines);
}
END_TEST

/* --- rotation, retention, reopening --- */

struct collected {
    json_t *lines;
    int files;
};

static int by_sequence(const void *a, const void *b)
{
    const json_t *const *left = a, *const *right = b;
    int64_t x = json_integer_value(json_object_get(*left, "event.sequence"));
    int64_t y = json_integer_value(json_object_get(*right, "event.sequence"));
    return x < y ? -1 : x > y;
}

static void collect_lines(const char *name, const char *file, void *user)
{
    struct collected *all = user;
    json_t *lines = read_lines(file, NULL);
    (void)name;
    json_array_extend(all->lines, lines);
    all->files++;
    json_decref(lines);
}

/* All lines of all files, by number. */
static struct collected collect(void)
{
    struct collected all = {json_array(), 0};
    for_each_file(collect_lines, &all);
    size_t count = json_array_size(all.lines);
    json_t **items = xcalloc(count + 1, sizeof(*items));
    json_t *sorted = json_array();
    for (size_t i = 0; i < count; i++)
        items[i] = json_array_get(all.lines, i);
    qsort(items, count, sizeof(*items), by_sequence);
    for (size_t i = 0; i < count; i++)
        json_array_append(sorted, items[i]);
    free(items);
    json_decref(all.lines);
    all.lines = sorted;
    return all;
}

START_TEST(a_file_that_has_grown_is_rotated_without_losing_a_line)
{
    conf.audit_max_bytes = 65536;
    start();
    for (int i = 0; i < 600; i++) {
        put_number("user-", i, false);
        if (i % 20 == 19) {
            audit_flush(producer);
            wait_for_lines(i + 1);
        }
    }
    stop();
    struct collected all = collect();
    ck_assert_int_ge(all.files, 3);
    ck_assert_uint_eq(json_array_size(all.lines), 600);
    assert_sequence(all.lines, 1);
    ck_assert(has_ids(all.lines, 0, "user-", 600));
    json_decref(all.lines);
}
END_TEST

static void find_rotated(const char *name, const char *file, void *user)
{
    if (strcmp(name, "audit.log") != 0)
        snprintf(user, 512, "%s", file);
}

START_TEST(a_new_day_begins_a_new_file)
{
    char rotated[512] = "", expected[512];
    clock_fake(1795391999000); /* 2026-11-22T23:59:59Z */
    start();
    put("evening", false);
    put_barrier();
    clock_fake(1795392001000);
    put("morning", false);
    put_barrier();
    stop();
    for_each_file(find_rotated, rotated);
    snprintf(expected, sizeof(expected), "%s.20261123T000001Z-2", path);
    ck_assert_str_eq(rotated, expected);
    json_t *before = read_lines(rotated, NULL);
    json_t *after = read_lines(path, NULL);
    ck_assert_uint_eq(json_array_size(before), 2);
    assert_sequence(before, 1);
    assert_sequence(after, 3);
    ck_assert_str_eq(text_at(after, 0, "user.id"), "morning");
    json_decref(before);
    json_decref(after);
}
END_TEST

START_TEST(a_file_of_yesterday_is_rotated_after_a_restart)
{
    start();
    put("yesterday", false);
    stop();
    struct timespec times[2] = {{.tv_sec = time(NULL) - 86400}, {.tv_sec = time(NULL) - 86400}};
    ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
    start();
    put("today", false);
    stop();
    struct collected all = collect();
    ck_assert_int_eq(all.files, 2);
    assert_sequence(all.lines, 1);
    json_decref(all.lines);
}
END_TEST

START_TEST(numbers_go_on_when_only_rotated_files_are_left)
{
    char rotated[512];
    start();
    put("a", false);
    put("b", false);
    stop();
    snprintf(rotated, sizeof(rotated), "%s.20990101T000000Z-2", path);
    ck_assert_int_eq(rename(path, rotated), 0);
    start();
    put("c", false);
    stop();
    json_t *lines = read_lines(path, NULL);
    assert_sequence(lines, 3);
    json_decref(lines);
}
END_TEST

static const struct aged_file {
    const char *name;
    bool expired;
} aged_files[] = {
    {"audit.log.20200101T000000Z-10", true},   {"audit.log.20200102T000000Z-20.gz", true},
    {"audit.log.20990101T000000Z-30", false},  {"audit.log.20200101T000000Z-", false},
    {"audit.log.20200101T000000Z-10x", false}, {"audit.log.1.gz", false},
    {"audit.logs.20200101T000000Z-10", false}, {"other.20200101T000000Z-10", false},
};

START_TEST(old_rotated_files_are_deleted_and_each_deletion_is_on_record)
{
    enum { COUNT = sizeof(aged_files) / sizeof(*aged_files) };
    char file[COUNT][512];
    for (int i = 0; i < COUNT; i++) {
        snprintf(file[i], sizeof(file[i]), "%s/%s", directory, aged_files[i].name);
        write_file(file[i], "");
    }
    start();
    put_barrier();
    stop();
    json_t *lines = read_lines(path, NULL);
    ck_assert_int_eq(count_of(lines, "event.action", "delete-audit-file"), 2);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_msg((access(file[i], F_OK) != 0) == aged_files[i].expired, "%s", file[i]);
        ck_assert_int_eq(count_of(lines, "file.path", file[i]), aged_files[i].expired);
    }
    assert_sequence(lines, 31);
    json_decref(lines);
}
END_TEST

START_TEST(retention_is_looked_at_once_an_hour)
{
    char file[512];
    int64_t now_ms = 1795340109000;
    clock_fake(now_ms);
    start();
    put_barrier();
    snprintf(file, sizeof(file), "%s.20200101T000000Z-1", path);
    write_file(file, "");
    put_barrier();
    ck_assert_int_eq(access(file, F_OK), 0);
    clock_fake(now_ms + 3600 * 1000);
    put_barrier();
    ck_assert_int_ne(access(file, F_OK), 0);
    stop();
}
END_TEST

START_TEST(reopening_after_a_rename_loses_no_line)
{
    char moved[128];
    snprintf(moved, sizeof(moved), "%s.1", path);
    start();
    for (int i = 0; i < 100; i++) {
        put_number("user-", i, false);
        audit_flush(producer);
        if (i == 50) {
            ck_assert_int_eq(rename(path, moved), 0);
            audit_reopen(audit);
        }
    }
    double until = seconds() + 10;
    while (access(path, F_OK) != 0 && seconds() < until)
        nap();
    put("new", false);
    stop();
    struct collected all = collect();
    ck_assert_int_eq(all.files, 2);
    ck_assert_uint_eq(json_array_size(all.lines), 101);
    assert_sequence(all.lines, 1);
    ck_assert(has_ids(all.lines, 0, "user-", 100));
    json_t *after = read_lines(path, NULL);
    ck_assert_int_eq(count_of(after, "user.id", "new"), 1);
    json_decref(after);
    json_decref(all.lines);
}
END_TEST

START_TEST(a_size_that_was_reloaded_holds_at_once)
{
    start();
    for (int i = 0; i < 300; i++)
        put_number("user-", i, false);
    put_barrier();
    conf.audit_max_bytes = 65536;
    audit_reload(audit, &conf);
    put_barrier();
    stop();
    struct collected all = collect();
    ck_assert_int_eq(all.files, 2);
    assert_sequence(all.lines, 1);
    json_decref(all.lines);
}
END_TEST

/* --- start --- */

static const struct start_case {
    const char *what, *file;
    int error;
} start_cases[] = {
    {"no directory", "/tmp/check_audit.none/audit.log", ENOENT},
    {"a directory", "/tmp", EISDIR},
    {"not a directory", "/dev/null/audit.log", ENOTDIR},
};

START_TEST(a_file_that_cannot_be_opened_is_an_error_that_names_it)
{
    struct buffer error = {0};
    conf.audit_file = (char *)start_cases[_i].file;
    ck_assert_ptr_null(audit_start(&conf, "node-1", &error));
    buffer_add_char(&error, '\0');
    ck_assert_ptr_nonnull(strstr(error.data, start_cases[_i].file));
    ck_assert_ptr_nonnull(strstr(error.data, strerror(start_cases[_i].error)));
    buffer_free(&error);
}
END_TEST

START_TEST(a_pipe_is_not_taken_for_a_file)
{
    struct buffer error = {0};
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_ptr_null(audit_start(&conf, "node-1", &error));
    ck_assert_uint_gt(error.length, 0);
    buffer_free(&error);
}
END_TEST

START_TEST(the_file_is_readable_by_owner_and_group_whatever_the_umask)
{
    struct stat status;
    umask(_i == 0 ? 0 : 077);
    start();
    stop();
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_uint_eq(status.st_mode & 0777, 0640);
}
END_TEST

START_TEST(a_torn_last_line_is_ended_and_told_of)
{
    write_file(path, "{\"user.id\":\"whole\",\"event.sequence\":41}\n{\"user.id\":\"torn");
    start();
    put("next", false);
    stop();
    int torn = 0;
    json_t *lines = read_lines(path, &torn);
    ck_assert_int_eq(torn, 1);
    ck_assert_uint_eq(json_array_size(lines), 3);
    assert_sequence(lines, 41);
    ck_assert_str_eq(text_at(lines, 1, "event.action"), "recovered");
    ck_assert_int_eq(number_at(lines, 1, "sessiond.torn_bytes"), 16);
    ck_assert_str_eq(text_at(lines, 2, "user.id"), "next");
    json_decref(lines);
}
END_TEST

START_TEST(a_file_of_one_torn_line_is_mended_too)
{
    write_file(path, "{\"event.sequence\":41");
    start();
    stop();
    int torn = 0;
    json_t *lines = read_lines(path, &torn);
    ck_assert_int_eq(torn, 1);
    ck_assert_uint_eq(json_array_size(lines), 1);
    assert_sequence(lines, 1);
    ck_assert_int_eq(number_at(lines, 0, "sessiond.torn_bytes"), 20);
    json_decref(lines);
}
END_TEST

/* --- when the disk fails --- */

START_TEST(a_full_device_refuses_tickets_and_stops_cleanly)
{
    conf.audit_file = "/dev/full";
    start();
    put("durable", true);
    put("kept", false);
    audit_flush(producer);
    wait_for_tickets(1);
    ck_assert_int_eq(refused, 1);
    ck_assert(!audit_healthy(audit));
    put("durable", true);
    audit_flush(producer);
    wait_for_tickets(2);
    ck_assert_int_eq(refused, 2);
    stop();
}
END_TEST

static void limit_file_size(rlim_t limit)
{
    struct rlimit now;
    getrlimit(RLIMIT_FSIZE, &now);
    now.rlim_cur = limit;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &now), 0);
}

static rlim_t size_of_file(void)
{
    struct stat status;
    ck_assert_int_eq(stat(path, &status), 0);
    return (rlim_t)status.st_size;
}

/* 40 lines without tickets and one with; the space ends in the middle of them. */
static void write_into_a_full_disk(void)
{
    put("before", false);
    put_barrier();
    rlim_t unlimited = RLIM_INFINITY;
    limit_file_size(size_of_file() + 5000);
    for (int i = 0; i < 20; i++)
        put_number("kept-", i, false);
    put("refused", true);
    for (int i = 20; i < 40; i++)
        put_number("kept-", i, false);
    audit_flush(producer);
    wait_until_healthy(false);
    wait_for_tickets(2);
    limit_file_size(unlimited);
}

START_TEST(a_full_disk_tears_one_line_and_loses_none_without_a_ticket)
{
    start();
    write_into_a_full_disk();
    ck_assert_int_eq(refused, 1);
    wait_until_healthy(true);
    put_barrier();
    stop();
    int torn = 0;
    json_t *lines = read_lines(path, &torn);
    ck_assert_int_eq(torn, 1);
    assert_sequence(lines, 1);
    ck_assert_int_eq(count_of(lines, "event.action", "recovered"), 1);
    ck_assert_int_eq(count_of(lines, "user.id", "refused"), 0);
    ck_assert_int_eq(
        number_at(lines, index_of(lines, "event.action", "recovered"), "sessiond.lines_refused"),
        1);
    for (int i = 0; i < 40; i++) {
        char id[64];
        snprintf(id, sizeof(id), "kept-%d", i);
        ck_assert_int_eq(count_of(lines, "user.id", id), 1);
    }
    ck_assert_int_eq(metrics_read(METRIC_AUDIT_QUEUE_BYTES), 0);
    json_decref(lines);
}
END_TEST

START_TEST(a_small_file_system_that_is_full_is_survived)
{
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", directory, "tmpfs", 0, "size=64k") != 0)
        return; /* needs root */
    char ballast[128];
    snprintf(ballast, sizeof(ballast), "%s/ballast", directory);
    start();
    put_barrier();
    int fd = open(ballast, O_WRONLY | O_CREAT, 0600);
    char block[4096] = {0};
    while (write(fd, block, sizeof(block)) > 0) {
    }
    for (int i = 0; i < 50; i++)
        put_number("kept-", i, false);
    put("refused", true);
    audit_flush(producer);
    wait_until_healthy(false);
    wait_for_tickets(2);
    ck_assert_int_eq(refused, 1);
    close(fd);
    unlink(ballast);
    wait_until_healthy(true);
    put_barrier();
    stop();
    int torn = 0;
    json_t *lines = read_lines(path, &torn);
    ck_assert_int_le(torn, 1);
    assert_sequence(lines, 1);
    for (int i = 0; i < 50; i++) {
        char id[64];
        snprintf(id, sizeof(id), "kept-%d", i);
        ck_assert_int_eq(count_of(lines, "user.id", id), 1);
    }
    json_decref(lines);
    unlink(path);
    umount(directory);
}
END_TEST

START_TEST(a_file_whose_sync_failed_is_not_synced_again_and_not_gone_on_with)
{
    start();
    put_barrier();
    atomic_store(&sync_error, EIO);
    put("kept", false);
    put("refused", true);
    audit_flush(producer);
    wait_for_tickets(2);
    ck_assert_int_eq(refused, 1);
    ck_assert(!audit_healthy(audit));
    nanosleep(&(struct timespec){.tv_nsec = 600000000}, NULL);
    ck_assert(!audit_healthy(audit));
    atomic_store(&sync_error, 0);
    wait_until_healthy(true);
    put_barrier();
    stop();
    ck_assert_int_eq(atomic_load(&synced_failed), 0);
    /* The file that may lack pages ends there, and is kept. */
    char rotated[512] = "";
    for_each_file(find_rotated, rotated);
    json_t *doubtful = read_lines(rotated, NULL);
    int64_t count = (int64_t)json_array_size(doubtful);
    assert_sequence(doubtful, 1);
    ck_assert_str_eq(text_at(doubtful, (size_t)count - 1, "event.action"), "recovered");
    ck_assert_int_eq(count_of(doubtful, "user.id", "refused"), 1);
    json_t *lines = read_lines(path, NULL);
    assert_sequence(lines, count + 1);
    ck_assert_str_eq(text_at(lines, 0, "user.id"), "kept");
    json_decref(doubtful);
    json_decref(lines);
}
END_TEST

START_TEST(a_disk_that_hangs_is_not_healthy_and_recovers_by_itself)
{
    start();
    put_barrier();
    atomic_store(&sync_hangs, true);
    put("slow", true);
    audit_flush(producer);
    wait_until_healthy(false);
    ck_assert_int_eq(written + refused, 1);
    atomic_store(&sync_hangs, false);
    wait_for_tickets(2);
    ck_assert_int_eq(refused, 0);
    wait_until_healthy(true);
    stop();
}
END_TEST

START_TEST(lines_lost_in_an_outage_are_told_after_it)
{
    start();
    put_barrier();
    atomic_store(&sync_error, ENOSPC);
    put("refused", true);
    audit_flush(producer);
    wait_until_healthy(false);
    wait_for_tickets(2);
    audit_count_lost(producer);
    audit_count_lost(producer);
    put("kept", false);
    audit_flush(producer);
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
    atomic_store(&sync_error, 0);
    wait_until_healthy(true);
    put_barrier();
    stop();
    json_t *lines = read_lines(path, NULL);
    ck_assert_int_eq(count_of(lines, "event.action", "lines-lost"), 1);
    ck_assert_int_eq(
        number_at(lines, index_of(lines, "event.action", "lines-lost"), "sessiond.lines_lost"), 2);
    ck_assert_int_eq(count_of(lines, "user.id", "kept"), 1);
    json_decref(lines);
}
END_TEST

START_TEST(a_directory_that_went_away_is_waited_for)
{
    char moved[64];
    snprintf(moved, sizeof(moved), "%s.away", directory);
    start();
    put_barrier();
    ck_assert_int_eq(rename(directory, moved), 0);
    audit_reopen(audit);
    wait_until_healthy(false);
    put("kept", false);
    audit_flush(producer);
    ck_assert_int_eq(rename(moved, directory), 0);
    wait_until_healthy(true);
    put_barrier();
    stop();
    json_t *lines = read_lines(path, NULL);
    assert_sequence(lines, 1);
    ck_assert_int_eq(count_of(lines, "user.id", "kept"), 1);
    json_decref(lines);
}
END_TEST

START_TEST(asking_for_a_reopen_while_the_file_is_broken_does_not_spin)
{
    conf.audit_file = "/dev/full";
    start();
    put("refused", true);
    audit_flush(producer);
    wait_for_tickets(1);
    audit_reopen(audit);
    clock_t before = clock();
    nanosleep(&(struct timespec){.tv_nsec = 400000000}, NULL);
    ck_assert_int_lt(clock() - before, CLOCKS_PER_SEC / 5);
    stop();
}
END_TEST

/* --- kill -9 --- */

static int told; /* where the child tells which lines it was promised */

struct promise {
    struct audit_ticket ticket;
    int id;
};

static void tell_promise(struct audit_ticket *ticket, bool is_written)
{
    struct promise *promise = (struct promise *)ticket;
    if (is_written && write(told, &promise->id, sizeof(promise->id)) < 0)
        _exit(1);
    free(promise);
}

static void write_until_killed(void)
{
    start();
    for (int id = 0;; id++) {
        char user[32];
        struct promise *promise = xcalloc(1, sizeof(*promise));
        *promise = (struct promise){{.done = tell_promise}, id};
        snprintf(user, sizeof(user), "%d", id);
        put_by(producer, user, &promise->ticket);
        put("undurable", false);
        if (id % 3 == 0) {
            audit_flush(producer);
            audit_collect(producer);
        }
    }
}

/* Returns how many promised lines the file lacks; `id` is the first promise. */
static int count_broken_promises(int from, int id)
{
    int torn = 0, broken = 0;
    json_t *lines = read_lines(path, &torn);
    json_t *found = json_object();
    ck_assert_int_le(torn, 1);
    for (size_t i = 0; i < json_array_size(lines); i++)
        json_object_set_new(found, text_at(lines, i, "user.id"), json_true());
    do {
        char user[32];
        snprintf(user, sizeof(user), "%d", id);
        broken += json_object_get(found, user) == NULL;
    } while (read(from, &id, sizeof(id)) == sizeof(id));
    json_decref(found);
    json_decref(lines);
    return broken;
}

START_TEST(every_line_that_was_promised_outlives_kill_9)
{
    int ends[2], first;
    ck_assert_int_eq(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        told = ends[1];
        write_until_killed();
    }
    close(ends[1]);
    ck_assert_int_eq(read(ends[0], &first, sizeof(first)), sizeof(first));
    nanosleep(&(struct timespec){.tv_nsec = _i * 17000000}, NULL);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    ck_assert_int_eq(count_broken_promises(ends[0], first), 0);
    start();
    stop();
    int torn = 0;
    json_t *lines = read_lines(path, &torn);
    assert_sequence(lines, 1);
    json_decref(lines);
}
END_TEST

#define ROWS(table) (int)(sizeof(table) / sizeof(*(table)))

static TCase *add_case(Suite *suite, const char *name)
{
    TCase *tests = tcase_create(name);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 60);
    suite_add_tcase(suite, tests);
    return tests;
}

static void add_writing(Suite *suite)
{
    TCase *tests = add_case(suite, "writing");
    tcase_add_test(tests, lines_are_written_in_order_and_numbered_from_one);
    tcase_add_test(tests, a_line_without_a_ticket_is_written_soon_without_another_call);
    tcase_add_test(tests, numbers_go_on_after_a_restart);
    tcase_add_test(tests, a_line_is_in_the_file_when_its_ticket_says_so);
    tcase_add_test(tests, nothing_is_decided_before_the_batch_is_handed_over);
    tcase_add_test(tests, one_sync_serves_many_durable_lines);
    tcase_add_test(tests, the_worker_is_woken_for_tickets_only);
    tcase_add_test(tests, destroying_a_producer_waits_for_its_tickets);
    tcase_add_test(tests, a_producer_may_be_destroyed_after_the_stop);
    tcase_add_test(tests, many_producers_keep_their_order_and_share_one_sequence);
    tcase_add_test(tests, a_full_queue_refuses_lines_without_tickets_only);
    tcase_add_test(tests, the_queue_takes_lines_again_once_they_are_written);
    tcase_add_test(tests, the_number_of_lost_lines_is_told_exactly_and_once);
}

static void add_files(Suite *suite)
{
    TCase *tests = add_case(suite, "files");
    tcase_add_test(tests, a_file_that_has_grown_is_rotated_without_losing_a_line);
    tcase_add_test(tests, a_new_day_begins_a_new_file);
    tcase_add_test(tests, a_file_of_yesterday_is_rotated_after_a_restart);
    tcase_add_test(tests, numbers_go_on_when_only_rotated_files_are_left);
    tcase_add_test(tests, old_rotated_files_are_deleted_and_each_deletion_is_on_record);
    tcase_add_test(tests, retention_is_looked_at_once_an_hour);
    tcase_add_test(tests, reopening_after_a_rename_loses_no_line);
    tcase_add_test(tests, a_size_that_was_reloaded_holds_at_once);
    tcase_add_loop_test(tests, a_file_that_cannot_be_opened_is_an_error_that_names_it, 0,
                        ROWS(start_cases));
    tcase_add_test(tests, a_pipe_is_not_taken_for_a_file);
    tcase_add_loop_test(tests, the_file_is_readable_by_owner_and_group_whatever_the_umask, 0, 2);
    tcase_add_test(tests, a_torn_last_line_is_ended_and_told_of);
    tcase_add_test(tests, a_file_of_one_torn_line_is_mended_too);
}

static void add_failures(Suite *suite)
{
    TCase *tests = add_case(suite, "failures");
    tcase_add_test(tests, a_full_device_refuses_tickets_and_stops_cleanly);
    tcase_add_test(tests, a_full_disk_tears_one_line_and_loses_none_without_a_ticket);
    tcase_add_test(tests, a_small_file_system_that_is_full_is_survived);
    tcase_add_test(tests, a_file_whose_sync_failed_is_not_synced_again_and_not_gone_on_with);
    tcase_add_test(tests, a_disk_that_hangs_is_not_healthy_and_recovers_by_itself);
    tcase_add_test(tests, lines_lost_in_an_outage_are_told_after_it);
    tcase_add_test(tests, a_directory_that_went_away_is_waited_for);
    tcase_add_test(tests, asking_for_a_reopen_while_the_file_is_broken_does_not_spin);
    tcase_add_loop_test(tests, every_line_that_was_promised_outlives_kill_9, 0, 5);
}

int main(void)
{
    Suite *suite = suite_create("audit");
    add_writing(suite);
    add_files(suite);
    add_failures(suite);
    return support_run(suite);
}
