/* The audit file as a whole: order and numbers, group commit, tickets, a full queue, rotation,
 * retention, and what happens when the disk fails or the process is killed.
 *
 * fdatasync() is replaced by one that can fail, and that marks the open file it failed for: a
 * second sync of that one is a defect, since the kernel would report success for pages it dropped.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
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

#include "clock.h"
#include "memory.h"
#include "metrics.h"

#include "support_run.h"
#include "support_trail.h"

static _Atomic int sync_error;    /* what fdatasync() fails with, 0: it works */
static _Atomic bool sync_hangs;   /* fdatasync() does not return while this is set */
static _Atomic int synced_failed; /* syncs of a file whose sync had failed */
static _Atomic int syncs_failed;  /* syncs that failed by sync_error */

int fdatasync(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags & O_NOATIME)
        atomic_fetch_add(&synced_failed, 1);
    while (atomic_load(&sync_hangs))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    if (atomic_load(&sync_error) != 0) {
        fcntl(fd, F_SETFL, flags | O_NOATIME);
        atomic_fetch_add(&syncs_failed, 1);
        errno = atomic_load(&sync_error);
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
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
    trail_start();
    for (int i = 0; i < 1000; i++) {
        trail_put_number("user-", i, false);
        if (i % 7 == 0)
            audit_flush(trail.lane);
    }
    trail_stop();
    json_t *lines = trail_read(trail.path, NULL);
    ck_assert_uint_eq(json_array_size(lines), 1000);
    trail_assert_sequence(lines, 1);
    ck_assert(trail_has_ids(lines, 0, "user-", 1000));
    ck_assert_str_eq(trail_text_at(lines, 0, "service.node.name"), "node-1");
    json_decref(lines);
}
END_TEST

START_TEST(a_line_without_a_ticket_is_written_soon_without_another_call)
{
    trail_start();
    trail_put("alone", false);
    audit_flush(trail.lane);
    trail_wait_for_lines(1);
    ck_assert_int_eq(metrics_read(METRIC_AUDIT_SYNCS), 0);
    json_t *lines = trail_read(trail.path, NULL);
    ck_assert_uint_eq(json_array_size(lines), 1);
    json_decref(lines);
    trail_stop();
}
END_TEST

START_TEST(numbers_go_on_after_a_restart)
{
    for (int round = 0; round < 3; round++) {
        trail_start();
        trail_put("a", false);
        trail_put("b", false);
        trail_stop();
    }
    json_t *lines = trail_read(trail.path, NULL);
    ck_assert_uint_eq(json_array_size(lines), 6);
    trail_assert_sequence(lines, 1);
    json_decref(lines);
}
END_TEST

static struct commit_ticket *checked_ticket;
static int found_at_done;

static void look_into_the_file(struct commit_ticket *ticket, bool is_written)
{
    json_t *lines = trail_read(trail.path, NULL);
    found_at_done = is_written ? trail_count_of(lines, "user.id", "durable") : -1;
    json_decref(lines);
    trail_note_decision(ticket, is_written);
}

START_TEST(a_line_is_in_the_file_when_its_ticket_says_so)
{
    trail_start();
    checked_ticket = trail_new_ticket();
    checked_ticket->done = look_into_the_file;
    trail_put_by(trail.lane, "durable", checked_ticket);
    audit_flush(trail.lane);
    trail_wait_for_tickets(1);
    ck_assert_int_eq(found_at_done, 1);
    ck_assert_int_eq(metrics_read(METRIC_AUDIT_SYNCS), 1);
    trail_stop();
}
END_TEST

START_TEST(nothing_is_decided_before_the_batch_is_handed_over)
{
    trail_start();
    struct audit_lane *other = audit_lane_create(trail.audit, NULL, NULL);
    trail_put("a", true);
    trail_put_by(other, "b", trail_new_ticket());
    audit_flush(other);
    while (trail.written == 0) {
        audit_collect(other);
        trail_nap();
    }
    audit_collect(trail.lane);
    ck_assert_int_eq(trail.written + trail.refused, 1);
    audit_flush(trail.lane);
    trail_wait_for_tickets(2);
    audit_lane_destroy(&other);
    trail_stop();
}
END_TEST

START_TEST(one_sync_serves_many_durable_lines)
{
    trail_start();
    for (int i = 0; i < 200; i++)
        trail_put_number("user-", i, true);
    audit_flush(trail.lane);
    trail_wait_for_tickets(200);
    ck_assert_int_eq(trail.written, 200);
    ck_assert_int_eq(metrics_read(METRIC_AUDIT_LINES), 200);
    ck_assert_int_eq(metrics_read(METRIC_AUDIT_SYNCS), 1);
    trail_stop();
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
    trail_start();
    audit_lane_destroy(&trail.lane);
    trail.lane = audit_lane_create(trail.audit, count_wake, &wakes);
    trail_put("a", false);
    audit_flush(trail.lane);
    trail_wait_for_lines(1);
    ck_assert_int_eq(atomic_load(&wakes), 0);
    trail_put("b", true);
    audit_flush(trail.lane);
    trail_wait_for_tickets(1);
    ck_assert_int_eq(atomic_load(&wakes), 1);
    trail_stop();
}
END_TEST

START_TEST(destroying_a_lane_waits_for_its_tickets)
{
    trail_start();
    for (int i = 0; i < 10; i++)
        trail_put_number("user-", i, true);
    audit_lane_destroy(&trail.lane);
    ck_assert_int_eq(trail.written, 10);
    audit_stop(&trail.audit);
}
END_TEST

START_TEST(a_lane_may_be_destroyed_after_the_stop)
{
    trail_start();
    trail_put("a", false);
    audit_flush(trail.lane);
    audit_stop(&trail.audit);
    audit_lane_destroy(&trail.lane);
    json_t *lines = trail_read(trail.path, NULL);
    ck_assert_uint_eq(json_array_size(lines), 1);
    json_decref(lines);
}
END_TEST

/* --- many lanes --- */

enum { LANES = 4, LINES_EACH = 10000 };

struct writer_thread {
    pthread_t thread;
    int number;
    int decided;
};

struct thread_ticket {
    struct commit_ticket ticket;
    struct writer_thread *owner;
};

static void note_thread_decision(struct commit_ticket *ticket, bool is_written)
{
    struct thread_ticket *own = (struct thread_ticket *)ticket;
    own->owner->decided += is_written;
    free(own);
}

static void *write_many(void *user)
{
    struct writer_thread *self = user;
    struct audit_lane *own = audit_lane_create(trail.audit, NULL, NULL);
    for (int i = 0; i < LINES_EACH; i++) {
        char id[64];
        struct thread_ticket *ticket = NULL;
        snprintf(id, sizeof(id), "%d-%d", self->number, i);
        if (i % 100 == 0) {
            ticket = xcalloc(1, sizeof(*ticket));
            *ticket = (struct thread_ticket){{.done = note_thread_decision}, self};
        }
        trail_put_by(own, id, ticket ? &ticket->ticket : NULL);
        if (i % 10 == 9) {
            audit_flush(own);
            audit_collect(own);
        }
    }
    audit_lane_destroy(&own);
    return NULL;
}

/* The index at which the next line of a thread, durable or not, must go on. */
static int index_behind(int index)
{
    bool durable = index % 100 == 0;
    return durable ? index + 100 : index % 100 == 99 ? index + 2 : index + 1;
}

START_TEST(many_lanes_keep_the_order_of_each_kind_and_share_one_sequence)
{
    struct writer_thread threads[LANES] = {0};
    int next[LANES][2]; /* of durable lines, of the others */
    int out_of_order = 0;
    trail.conf.audit_queue_bytes = 1 << 28;
    trail_start();
    for (int i = 0; i < LANES; i++) {
        threads[i].number = i;
        next[i][0] = 0;
        next[i][1] = 1;
        pthread_create(&threads[i].thread, NULL, write_many, &threads[i]);
    }
    for (int i = 0; i < LANES; i++) {
        pthread_join(threads[i].thread, NULL);
        ck_assert_int_eq(threads[i].decided, LINES_EACH / 100);
    }
    trail_stop();
    json_t *lines = trail_read(trail.path, NULL);
    ck_assert_uint_eq(json_array_size(lines), LANES * LINES_EACH);
    trail_assert_sequence(lines, 1);
    for (size_t i = 0; i < json_array_size(lines); i++) {
        int number = -1, index = -1;
        sscanf(trail_text_at(lines, i, "user.id"), "%d-%d", &number, &index);
        ck_assert(number >= 0 && number < LANES);
        int *expected = &next[number][index % 100 != 0];
        out_of_order += index != *expected;
        *expected = index_behind(index);
    }
    ck_assert_int_eq(out_of_order, 0);
    ck_assert_int_lt(metrics_read(METRIC_AUDIT_SYNCS), LANES * LINES_EACH / 100 + 1);
    json_decref(lines);
}
END_TEST

/* --- the bound of the queue, and what is lost --- */

START_TEST(a_full_queue_refuses_lines_without_tickets_only)
{
    int taken = 0;
    trail.conf.audit_queue_bytes = 65536;
    trail.conf.audit_file = "/dev/full";
    trail_start();
    while (taken < 10000 && trail_put_number("user-", taken, false)) {
        taken++;
        audit_flush(trail.lane);
    }
    ck_assert_int_gt(taken, 65536 / 1000);
    ck_assert_int_lt(taken, 65536 / 300);
    ck_assert(trail_put("durable", true));
    audit_flush(trail.lane);
    trail_wait_for_tickets(1);
    ck_assert_int_eq(trail.refused, 1);
    ck_assert(!trail_put("more", false));
    trail_stop();
}
END_TEST

START_TEST(the_queue_takes_lines_again_once_they_are_written)
{
    trail.conf.audit_queue_bytes = 65536;
    trail_start();
    while (trail_put("filler", false)) {
    }
    trail_put_barrier();
    ck_assert(trail_put("again", false));
    trail_put_barrier();
    trail_stop();
}
END_TEST

START_TEST(the_number_of_lost_lines_is_told_exactly_and_once)
{
    trail_start();
    trail_put_barrier(); /* from here on the thread sleeps until the next one */
    for (int i = 0; i < 17; i++)
        audit_count_lost(trail.lane);
    trail_put_barrier();
    trail_put_barrier();
    trail_stop();
    json_t *lines = trail_read(trail.path, NULL);
    int64_t told = 0;
    for (size_t i = 0; i < json_array_size(lines); i++)
        told += trail_number_at(lines, i, "sessiond.lines_lost");
    ck_assert_int_eq(told, 17);
    trail_assert_sequence(lines, 1);
    ck_assert_str_eq(trail_text_at(lines, 1, "event.action"), "lines-lost");
    ck_assert_int_eq(metrics_read(METRIC_AUDIT_LOST), 17);
    json_decref(lines);
}
END_TEST

/* --- rotation, retention, reopening --- */

START_TEST(a_file_that_has_grown_is_rotated_without_losing_a_line)
{
    trail.conf.audit_max_bytes = 65536;
    trail_start();
    for (int i = 0; i < 600; i++) {
        trail_put_number("user-", i, false);
        if (i % 20 == 19) {
            audit_flush(trail.lane);
            trail_wait_for_lines(i + 1);
        }
    }
    trail_stop();
    struct collected all = trail_collect();
    ck_assert_int_ge(all.files, 3);
    ck_assert_uint_eq(json_array_size(all.lines), 600);
    trail_assert_sequence(all.lines, 1);
    ck_assert(trail_has_ids(all.lines, 0, "user-", 600));
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
    trail_start();
    trail_put("evening", false);
    trail_put_barrier();
    clock_fake(1795392001000);
    trail_put("morning", false);
    trail_put_barrier();
    trail_stop();
    trail_for_each_file(find_rotated, rotated);
    snprintf(expected, sizeof(expected), "%s.20261123T000001Z-2", trail.path);
    ck_assert_str_eq(rotated, expected);
    json_t *before = trail_read(rotated, NULL);
    json_t *after = trail_read(trail.path, NULL);
    ck_assert_uint_eq(json_array_size(before), 2);
    trail_assert_sequence(before, 1);
    trail_assert_sequence(after, 3);
    ck_assert_str_eq(trail_text_at(after, 0, "user.id"), "morning");
    json_decref(before);
    json_decref(after);
}
END_TEST

START_TEST(a_file_of_yesterday_is_rotated_after_a_restart)
{
    trail_start();
    trail_put("yesterday", false);
    trail_stop();
    struct timespec times[2] = {{.tv_sec = time(NULL) - 86400}, {.tv_sec = time(NULL) - 86400}};
    ck_assert_int_eq(utimensat(AT_FDCWD, trail.path, times, 0), 0);
    trail_start();
    trail_put("today", false);
    trail_stop();
    struct collected all = trail_collect();
    ck_assert_int_eq(all.files, 2);
    trail_assert_sequence(all.lines, 1);
    json_decref(all.lines);
}
END_TEST

START_TEST(numbers_go_on_when_only_rotated_files_are_left)
{
    char rotated[512];
    trail_start();
    trail_put("a", false);
    trail_put("b", false);
    trail_stop();
    snprintf(rotated, sizeof(rotated), "%s.20990101T000000Z-2", trail.path);
    ck_assert_int_eq(rename(trail.path, rotated), 0);
    trail_start();
    trail_put("c", false);
    trail_stop();
    json_t *lines = trail_read(trail.path, NULL);
    trail_assert_sequence(lines, 3);
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
        snprintf(file[i], sizeof(file[i]), "%s/%s", trail.directory, aged_files[i].name);
        write_file(file[i], "");
    }
    clock_fake(1795340109000);
    trail_start();
    trail_put_barrier();
    trail_stop();
    json_t *lines = trail_read(trail.path, NULL);
    ck_assert_int_eq(trail_count_of(lines, "event.action", "delete-audit-file"), 2);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_msg((access(file[i], F_OK) != 0) == aged_files[i].expired, "%s", file[i]);
        ck_assert_int_eq(trail_count_of(lines, "file.path", file[i]), aged_files[i].expired);
    }
    trail_assert_sequence(lines, 31);
    json_decref(lines);
}
END_TEST

START_TEST(retention_is_looked_at_once_an_hour)
{
    char file[512];
    int64_t now_ms = 1795340109000;
    clock_fake(now_ms);
    trail_start();
    trail_put_barrier();
    snprintf(file, sizeof(file), "%s.20200101T000000Z-1", trail.path);
    write_file(file, "");
    trail_put_barrier();
    ck_assert_int_eq(access(file, F_OK), 0);
    clock_fake(now_ms + 3600 * 1000);
    trail_put_barrier();
    ck_assert_int_ne(access(file, F_OK), 0);
    trail_stop();
}
END_TEST

static const int64_t days_400_ms = INT64_C(86400) * 400 * 1000;

/* Before a server has reported its time, and for a day after a jump. */
START_TEST(a_wrong_clock_deletes_no_file)
{
    char file[512];
    int64_t now_ms = 1795340109000;
    snprintf(file, sizeof(file), "%s.20261101T000000Z-1", trail.path);
    write_file(file, "");
    clock_fake(now_ms);
    trail_start();
    trail_put("a line", false);
    trail_put_barrier();
    trail_stop();
    clock_fake_boot(days_400_ms);
    trail_start();
    trail_put_barrier();
    clock_fake_pass(3600 * 1000);
    trail_put_barrier();
    ck_assert_int_eq(access(file, F_OK), 0);
    clock_agree(days_400_ms);
    clock_fake_pass(3600 * 1000);
    trail_put_barrier();
    ck_assert_int_ne(access(file, F_OK), 0);
    trail_stop();
}
END_TEST

/* The lines that it has dated itself bear out nothing: of a start, and of a run that knew better.
 */
START_TEST(a_clock_that_stays_wrong_over_restarts_deletes_no_file)
{
    char file[512];
    snprintf(file, sizeof(file), "%s.20261101T000000Z-1", trail.path);
    write_file(file, "");
    clock_fake(1795340109000);
    trail_start();
    trail_put("a line", false);
    trail_put_barrier();
    if (_i == 1) {
        clock_fake_host(days_400_ms);
        trail_put("a wrong line", false);
        trail_put_barrier();
    }
    trail_stop();
    for (int starts = 0; starts < 3; starts++) {
        clock_fake_boot(days_400_ms);
        trail_start();
        trail_put("another one", false);
        trail_put_barrier();
        clock_fake_pass(3600 * 1000);
        trail_put_barrier();
        ck_assert_int_eq(access(file, F_OK), 0);
        trail_stop();
    }
}
END_TEST

START_TEST(a_jump_of_all_clocks_deletes_no_file_for_a_day)
{
    char file[512];
    int64_t now_ms = 1795340109000;
    snprintf(file, sizeof(file), "%s.20261101T000000Z-1", trail.path);
    write_file(file, "");
    clock_fake(now_ms);
    clock_agree(0);
    trail_start();
    trail_put_barrier();
    clock_fake_host(days_400_ms);
    clock_agree(days_400_ms);
    clock_look();
    clock_fake_pass(CLOCK_PUT_OFF_MS - 1000);
    trail_put_barrier();
    ck_assert_int_eq(access(file, F_OK), 0);
    clock_fake_pass(3600 * 1000);
    trail_put_barrier();
    ck_assert_int_ne(access(file, F_OK), 0);
    trail_stop();
}
END_TEST

/* By its name it would be old as soon as the clock is right. */
START_TEST(a_clock_that_is_behind_at_boot_names_no_file_earlier_than_its_lines)
{
    char rotated[512] = "", expected[512];
    clock_fake(1795340109000);
    trail_start();
    trail_put("before", false);
    trail_put_barrier();
    trail_stop();
    trail.conf.audit_max_bytes = 1;
    clock_fake_boot(-days_400_ms);
    trail_start();
    trail_put("after", false);
    trail_put_barrier();
    trail_stop();
    trail_for_each_file(find_rotated, rotated);
    snprintf(expected, sizeof(expected), "%s.20261122T0935", trail.path);
    ck_assert_msg(strncmp(rotated, expected, strlen(expected)) == 0, "%s", rotated);
}
END_TEST

START_TEST(reopening_after_a_rename_loses_no_line)
{
    char moved[128];
    snprintf(moved, sizeof(moved), "%s.1", trail.path);
    trail_start();
    for (int i = 0; i < 100; i++) {
        trail_put_number("user-", i, false);
        audit_flush(trail.lane);
        if (i == 50) {
            ck_assert_int_eq(rename(trail.path, moved), 0);
            audit_reopen(trail.audit);
        }
    }
    double until = trail_seconds() + 10;
    while (access(trail.path, F_OK) != 0 && trail_seconds() < until)
        trail_nap();
    trail_put("new", false);
    trail_stop();
    struct collected all = trail_collect();
    ck_assert_int_eq(all.files, 2);
    ck_assert_uint_eq(json_array_size(all.lines), 101);
    trail_assert_sequence(all.lines, 1);
    ck_assert(trail_has_ids(all.lines, 0, "user-", 100));
    json_t *after = trail_read(trail.path, NULL);
    ck_assert_int_eq(trail_count_of(after, "user.id", "new"), 1);
    json_decref(after);
    json_decref(all.lines);
}
END_TEST

START_TEST(a_size_that_was_reloaded_holds_at_once)
{
    trail_start();
    for (int i = 0; i < 300; i++)
        trail_put_number("user-", i, false);
    trail_put_barrier();
    trail.conf.audit_max_bytes = 65536;
    audit_reload(trail.audit, &trail.conf);
    trail_put_barrier();
    trail_stop();
    struct collected all = trail_collect();
    ck_assert_int_eq(all.files, 2);
    trail_assert_sequence(all.lines, 1);
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
    trail.conf.audit_file = (char *)start_cases[_i].file;
    ck_assert_ptr_null(audit_start(&trail.conf, "node-1", &error));
    buffer_add_char(&error, '\0');
    ck_assert_ptr_nonnull(strstr(error.data, start_cases[_i].file));
    ck_assert_ptr_nonnull(strstr(error.data, strerror(start_cases[_i].error)));
    buffer_free(&error);
}
END_TEST

START_TEST(the_file_is_readable_by_owner_and_group_whatever_the_umask)
{
    struct stat status;
    umask(_i == 0 ? 0 : 077);
    trail_start();
    trail_stop();
    ck_assert_int_eq(stat(trail.path, &status), 0);
    ck_assert_uint_eq(status.st_mode & 0777, 0640);
}
END_TEST

START_TEST(a_torn_last_line_is_ended_and_told_of)
{
    write_file(trail.path, "{\"user.id\":\"whole\",\"event.sequence\":41}\n{\"user.id\":\"torn");
    trail_start();
    trail_put("next", false);
    trail_stop();
    int torn = 0;
    json_t *lines = trail_read(trail.path, &torn);
    ck_assert_int_eq(torn, 1);
    ck_assert_uint_eq(json_array_size(lines), 3);
    trail_assert_sequence(lines, 41);
    ck_assert_str_eq(trail_text_at(lines, 1, "event.action"), "recovered");
    ck_assert_int_eq(trail_number_at(lines, 1, "sessiond.torn_bytes"), 16);
    ck_assert_str_eq(trail_text_at(lines, 2, "user.id"), "next");
    json_decref(lines);
}
END_TEST

START_TEST(a_file_of_one_torn_line_is_mended_too)
{
    write_file(trail.path, "{\"event.sequence\":41");
    trail_start();
    trail_stop();
    int torn = 0;
    json_t *lines = trail_read(trail.path, &torn);
    ck_assert_int_eq(torn, 1);
    ck_assert_uint_eq(json_array_size(lines), 1);
    trail_assert_sequence(lines, 1);
    ck_assert_int_eq(trail_number_at(lines, 0, "sessiond.torn_bytes"), 20);
    json_decref(lines);
}
END_TEST

/* --- when the disk fails --- */

START_TEST(a_full_device_refuses_tickets_and_stops_cleanly)
{
    trail.conf.audit_file = "/dev/full";
    trail_start();
    trail_put("durable", true);
    trail_put("kept", false);
    audit_flush(trail.lane);
    trail_wait_for_tickets(1);
    ck_assert_int_eq(trail.refused, 1);
    ck_assert(!audit_healthy(trail.audit));
    trail_put("durable", true);
    audit_flush(trail.lane);
    trail_wait_for_tickets(2);
    ck_assert_int_eq(trail.refused, 2);
    trail_stop();
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
    ck_assert_int_eq(stat(trail.path, &status), 0);
    return (rlim_t)status.st_size;
}

/* 40 lines without tickets and one with; the space ends in the middle of them. */
static void write_into_a_full_disk(void)
{
    trail_put("before", false);
    trail_put_barrier();
    rlim_t unlimited = RLIM_INFINITY;
    limit_file_size(size_of_file() + 5000);
    for (int i = 0; i < 20; i++)
        trail_put_number("kept-", i, false);
    trail_put("refused", true);
    for (int i = 20; i < 40; i++)
        trail_put_number("kept-", i, false);
    audit_flush(trail.lane);
    trail_wait_until_healthy(false);
    trail_wait_for_tickets(2);
    limit_file_size(unlimited);
}

START_TEST(a_full_disk_tears_one_line_and_loses_none_without_a_ticket)
{
    trail_start();
    write_into_a_full_disk();
    ck_assert_int_eq(trail.refused, 1);
    trail_wait_until_healthy(true);
    trail_put_barrier();
    trail_stop();
    int torn = 0;
    json_t *lines = trail_read(trail.path, &torn);
    ck_assert_int_eq(torn, 1);
    trail_assert_sequence(lines, 1);
    ck_assert_int_eq(trail_count_of(lines, "event.action", "recovered"), 1);
    ck_assert_int_eq(trail_count_of(lines, "user.id", "refused"), 0);
    ck_assert_int_eq(trail_number_at(lines, trail_index_of(lines, "event.action", "recovered"),
                                     "sessiond.lines_refused"),
                     1);
    for (int i = 0; i < 40; i++) {
        char id[64];
        snprintf(id, sizeof(id), "kept-%d", i);
        ck_assert_int_eq(trail_count_of(lines, "user.id", id), 1);
    }
    ck_assert_int_eq(metrics_read(METRIC_AUDIT_QUEUE_BYTES), 0);
    json_decref(lines);
}
END_TEST

START_TEST(a_small_file_system_that_is_full_is_survived)
{
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", trail.directory, "tmpfs", 0, "size=64k") != 0)
        return; /* needs root */
    char ballast[128];
    snprintf(ballast, sizeof(ballast), "%s/ballast", trail.directory);
    trail_start();
    trail_put_barrier();
    int fd = open(ballast, O_WRONLY | O_CREAT, 0600);
    char block[4096] = {0};
    while (write(fd, block, sizeof(block)) > 0) {
    }
    for (int i = 0; i < 50; i++)
        trail_put_number("kept-", i, false);
    trail_put("refused", true);
    audit_flush(trail.lane);
    trail_wait_until_healthy(false);
    trail_wait_for_tickets(2);
    ck_assert_int_eq(trail.refused, 1);
    close(fd);
    unlink(ballast);
    trail_wait_until_healthy(true);
    trail_put_barrier();
    trail_stop();
    int torn = 0;
    json_t *lines = trail_read(trail.path, &torn);
    ck_assert_int_le(torn, 1);
    trail_assert_sequence(lines, 1);
    for (int i = 0; i < 50; i++) {
        char id[64];
        snprintf(id, sizeof(id), "kept-%d", i);
        ck_assert_int_eq(trail_count_of(lines, "user.id", id), 1);
    }
    json_decref(lines);
    unlink(trail.path);
    umount(trail.directory);
}
END_TEST

/* A file that is broken is tried again, which fails, too. */
static void wait_for_another_try(void)
{
    for (int before = atomic_load(&syncs_failed); atomic_load(&syncs_failed) == before;)
        trail_nap();
}

START_TEST(a_file_whose_sync_failed_is_not_synced_again_and_not_gone_on_with)
{
    trail_start();
    trail_put_barrier();
    atomic_store(&sync_error, EIO);
    trail_put("kept", false);
    trail_put("refused", true);
    audit_flush(trail.lane);
    trail_wait_for_tickets(2);
    ck_assert_int_eq(trail.refused, 1);
    ck_assert(!audit_healthy(trail.audit));
    wait_for_another_try();
    ck_assert(!audit_healthy(trail.audit));
    atomic_store(&sync_error, 0);
    trail_wait_until_healthy(true);
    trail_put_barrier();
    trail_stop();
    ck_assert_int_eq(atomic_load(&synced_failed), 0);
    /* The file that may lack pages ends there, and is kept. */
    char rotated[512] = "";
    trail_for_each_file(find_rotated, rotated);
    json_t *doubtful = trail_read(rotated, NULL);
    int64_t count = (int64_t)json_array_size(doubtful);
    trail_assert_sequence(doubtful, 1);
    ck_assert_str_eq(trail_text_at(doubtful, (size_t)count - 1, "event.action"), "recovered");
    ck_assert_int_eq(trail_count_of(doubtful, "user.id", "refused"), 1);
    json_t *lines = trail_read(trail.path, NULL);
    trail_assert_sequence(lines, count + 1);
    ck_assert_str_eq(trail_text_at(lines, 0, "user.id"), "kept");
    json_decref(doubtful);
    json_decref(lines);
}
END_TEST

START_TEST(a_disk_that_hangs_is_not_healthy_and_recovers_by_itself)
{
    trail_start();
    trail_put_barrier();
    atomic_store(&sync_hangs, true);
    trail_put("slow", true);
    audit_flush(trail.lane);
    trail_wait_until_healthy(false);
    ck_assert_int_eq(trail.written + trail.refused, 1);
    atomic_store(&sync_hangs, false);
    trail_wait_for_tickets(2);
    ck_assert_int_eq(trail.refused, 0);
    trail_wait_until_healthy(true);
    trail_stop();
}
END_TEST

START_TEST(lines_lost_in_an_outage_are_told_after_it)
{
    trail_start();
    trail_put_barrier();
    atomic_store(&sync_error, ENOSPC);
    trail_put("refused", true);
    audit_flush(trail.lane);
    trail_wait_until_healthy(false);
    trail_wait_for_tickets(2);
    audit_count_lost(trail.lane);
    audit_count_lost(trail.lane);
    trail_put("kept", false);
    audit_flush(trail.lane);
    wait_for_another_try();
    atomic_store(&sync_error, 0);
    trail_wait_until_healthy(true);
    trail_put_barrier();
    trail_stop();
    json_t *lines = trail_read(trail.path, NULL);
    ck_assert_int_eq(trail_count_of(lines, "event.action", "lines-lost"), 1);
    ck_assert_int_eq(trail_number_at(lines, trail_index_of(lines, "event.action", "lines-lost"),
                                     "sessiond.lines_lost"),
                     2);
    ck_assert_int_eq(trail_count_of(lines, "user.id", "kept"), 1);
    json_decref(lines);
}
END_TEST

START_TEST(a_directory_that_went_away_is_waited_for)
{
    char moved[64];
    snprintf(moved, sizeof(moved), "%s.away", trail.directory);
    trail_start();
    trail_put_barrier();
    ck_assert_int_eq(rename(trail.directory, moved), 0);
    audit_reopen(trail.audit);
    trail_wait_until_healthy(false);
    trail_put("kept", false);
    audit_flush(trail.lane);
    ck_assert_int_eq(rename(moved, trail.directory), 0);
    trail_wait_until_healthy(true);
    trail_put_barrier();
    trail_stop();
    json_t *lines = trail_read(trail.path, NULL);
    trail_assert_sequence(lines, 1);
    ck_assert_int_eq(trail_count_of(lines, "user.id", "kept"), 1);
    json_decref(lines);
}
END_TEST

START_TEST(asking_for_a_reopen_while_the_file_is_broken_does_not_spin)
{
    trail.conf.audit_file = "/dev/full";
    trail_start();
    trail_put("refused", true);
    audit_flush(trail.lane);
    trail_wait_for_tickets(1);
    audit_reopen(trail.audit);
    clock_t before = clock();
    nanosleep(&(struct timespec){.tv_nsec = 400000000}, NULL);
    ck_assert_int_lt(clock() - before, CLOCKS_PER_SEC / 5);
    trail_stop();
}
END_TEST

/* --- kill -9 --- */

static int told; /* where the child reports the lines it was promised */

struct promise {
    struct commit_ticket ticket;
    int id;
};

static void tell_promise(struct commit_ticket *ticket, bool is_written)
{
    struct promise *promise = (struct promise *)ticket;
    if (is_written && write(told, &promise->id, sizeof(promise->id)) < 0)
        _exit(1);
    free(promise);
}

static void write_until_killed(void)
{
    trail_start();
    for (int id = 0;; id++) {
        char user[32];
        struct promise *promise = xcalloc(1, sizeof(*promise));
        *promise = (struct promise){{.done = tell_promise}, id};
        snprintf(user, sizeof(user), "%d", id);
        trail_put_by(trail.lane, user, &promise->ticket);
        trail_put("undurable", false);
        if (id % 3 == 0) {
            audit_flush(trail.lane);
            audit_collect(trail.lane);
        }
    }
}

/* Returns how many promised lines the file lacks; `id` is the first promise. */
static int count_broken_promises(int from, int id)
{
    int torn = 0, broken = 0;
    json_t *lines = trail_read(trail.path, &torn);
    json_t *found = json_object();
    ck_assert_int_le(torn, 1);
    for (size_t i = 0; i < json_array_size(lines); i++)
        json_object_set_new(found, trail_text_at(lines, i, "user.id"), json_true());
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
    trail_start();
    trail_stop();
    int torn = 0;
    json_t *lines = trail_read(trail.path, &torn);
    trail_assert_sequence(lines, 1);
    json_decref(lines);
}
END_TEST

#define ROWS(table) (int)(sizeof(table) / sizeof(*(table)))

static TCase *add_case(Suite *suite, const char *name)
{
    TCase *tests = tcase_create(name);
    tcase_add_checked_fixture(tests, trail_set_up, trail_tear_down);
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
    tcase_add_test(tests, destroying_a_lane_waits_for_its_tickets);
    tcase_add_test(tests, a_lane_may_be_destroyed_after_the_stop);
    tcase_add_test(tests, many_lanes_keep_the_order_of_each_kind_and_share_one_sequence);
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
    tcase_add_test(tests, a_wrong_clock_deletes_no_file);
    tcase_add_loop_test(tests, a_clock_that_stays_wrong_over_restarts_deletes_no_file, 0, 2);
    tcase_add_test(tests, a_jump_of_all_clocks_deletes_no_file_for_a_day);
    tcase_add_test(tests, a_clock_that_is_behind_at_boot_names_no_file_earlier_than_its_lines);
    tcase_add_test(tests, reopening_after_a_rename_loses_no_line);
    tcase_add_test(tests, a_size_that_was_reloaded_holds_at_once);
    tcase_add_loop_test(tests, a_file_that_cannot_be_opened_is_an_error_that_names_it, 0,
                        ROWS(start_cases));
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
