/* The audit file under pressure: budgets and exact numbers of unauthenticated calls, changes that
 * overtake waiting lines, the reserve of the disk.
 *
 * write() is replaced by one that can be held up, fstatvfs() by one that says how much is free. */
#include <check.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "memory.h"
#include "metrics.h"

#include "support_run.h"
#include "support_trail.h"

enum { MEBIBYTE = 1 << 20 };
static const int64_t noon_ms = 1795348800000; /* 2026-11-22T12:00:00Z */

static _Atomic bool write_held;    /* write() does not return while this is set */
static _Atomic bool write_waits;   /* one does wait */
static _Atomic int64_t free_bytes; /* 0: as it is */

ssize_t write(int fd, const void *data, size_t length)
{
    while (atomic_load(&write_held)) {
        atomic_store(&write_waits, true);
        nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
    }
    return syscall(SYS_write, fd, data, length);
}

int fstatvfs(int fd, struct statvfs *ret)
{
    (void)fd;
    int64_t free_now = atomic_load(&free_bytes);
    *ret = (struct statvfs){.f_frsize = 1,
                            .f_blocks = 64 * MEBIBYTE,
                            .f_bavail = free_now ? (fsblkcnt_t)free_now : 64 * MEBIBYTE};
    return 0;
}

/* An unauthenticated call as http makes it; true if it got a line. */
static bool call_from(const char *address)
{
    struct ip_address parsed;
    bool known = ip_parse(text_of(address), &parsed);
    const struct audit_record record = {.event = AUDIT_REFUSED,
                                        .wall_ms = clock_wall_ms(),
                                        .status = 404,
                                        .source_ip = text_of(address)};
    struct buffer line = {0};
    audit_format(&line, &record);
    bool taken = audit_admits_unauthenticated(trail.lane, known ? &parsed : NULL) &&
                 audit_write(trail.lane, AUDIT_CLASS_UNAUTHENTICATED, buffer_text(&line), NULL);
    buffer_free(&line);
    if (!taken)
        audit_count_unauthenticated(trail.lane, record.wall_ms);
    return taken;
}

static int lines_of(const char *address, int calls)
{
    int lines = 0;
    for (int i = 0; i < calls; i++)
        lines += call_from(address);
    return lines;
}

/* Sum of the numbers that lines carry for those that are not there. */
static int64_t counted_in(const json_t *lines)
{
    int64_t calls = 0;
    for (size_t i = 0; i < json_array_size(lines); i++)
        calls += trail_number_at(lines, i, "sessiond.calls");
    return calls;
}

/* --- budgets --- */

START_TEST(a_network_has_a_budget_and_no_other_pays_for_it)
{
    clock_fake(noon_ms);
    trail.conf.audit_strangers_per_address = 10;
    trail_start();
    ck_assert_int_eq(lines_of("192.0.2.1", 100), 50); /* what was left over of five minutes */
    ck_assert_int_eq(lines_of("192.0.2.2", 100), 50);
    ck_assert_int_eq(lines_of("2001:db8:0:1::1", 100), 50);
    ck_assert_int_eq(lines_of("2001:db8:0:1:ffff::9", 100), 0);
    ck_assert_int_eq(lines_of("2001:db8:0:2::1", 100), 50);
    ck_assert_int_eq(lines_of("unix", 100), 100);
    clock_fake(noon_ms + MINUTE_MS);
    ck_assert_int_eq(lines_of("192.0.2.1", 100), 10);
    trail_stop();
}
END_TEST

START_TEST(the_node_has_a_budget_however_many_networks_there_are)
{
    int lines = 0;
    clock_fake(noon_ms);
    trail.conf.audit_strangers_per_minute = 100;
    trail.conf.audit_strangers_per_address = 10;
    trail_start();
    for (int i = 0; i < 256; i++) {
        char address[32];
        snprintf(address, sizeof(address), "198.51.100.%d", i);
        lines += lines_of(address, 10);
    }
    ck_assert_int_eq(lines, 500);
    trail_stop();
}
END_TEST

START_TEST(without_a_budget_every_stranger_has_a_line)
{
    trail_start();
    ck_assert_int_eq(lines_of("192.0.2.1", 1000), 1000);
    trail_stop();
    json_t *lines = trail_read(trail.path, NULL);
    ck_assert_uint_eq(json_array_size(lines), 1000);
    json_decref(lines);
}
END_TEST

/* --- numbers --- */

START_TEST(lines_and_numbers_together_are_the_calls)
{
    trail.conf.audit_strangers_per_address = 1000; /* several chunks wait at the stop */
    trail_start();
    atomic_store(&write_held, true);
    for (int i = 0; i < 70; i++) {
        lines_of("192.0.2.1", 100);
        audit_flush(trail.lane);
    }
    atomic_store(&write_held, false);
    trail_stop();
    json_t *lines = trail_read(trail.path, NULL);
    int written = trail_count_of(lines, "event.action", "refused-request");
    ck_assert_int_ge(written, 5000);
    ck_assert_int_eq(written + counted_in(lines), 7000);
    ck_assert_int_eq(metrics_read(METRIC_AUDIT_UNAUTHENTICATED), 7000 - written);
    ck_assert_int_eq(trail_count_of(lines, "event.action", "strangers-counted"), 1);
    trail_assert_sequence(lines, 1);
    json_decref(lines);
}
END_TEST

START_TEST(the_number_is_told_once_a_minute_with_its_span)
{
    clock_fake(noon_ms);
    trail.conf.audit_strangers_per_address = 1;
    trail_start();
    lines_of("192.0.2.1", 6); /* one too many */
    trail_put_barrier();
    clock_fake(noon_ms + 1500);
    lines_of("192.0.2.1", 3);
    trail_put_barrier();
    clock_fake(noon_ms + MINUTE_MS + 1);
    trail_put_barrier();
    trail_put_barrier(); /* the line is written after those of its turn */
    json_t *lines = trail_read(trail.path, NULL);
    size_t at = trail_index_of(lines, "event.action", "strangers-counted");
    ck_assert_int_eq(trail_number_at(lines, at, "sessiond.calls"), 4);
    ck_assert_str_eq(trail_text_at(lines, at, "event.start"), "2026-11-22T12:00:00.000Z");
    ck_assert_str_eq(trail_text_at(lines, at, "event.end"), "2026-11-22T12:00:01.500Z");
    ck_assert_int_eq(counted_in(lines), 4);
    json_decref(lines);
    trail_stop();
}
END_TEST

static void assert_whole(const char *name, const char *file, void *user)
{
    (void)name;
    json_t *lines = trail_read(file, NULL);
    int written = trail_count_of(lines, "event.action", "refused-request");
    *(int *)user += written > 0 ? written + (int)counted_in(lines) : 0;
    json_decref(lines);
}

START_TEST(a_rotated_file_has_the_numbers_of_its_own_lines)
{
    int calls = 0;
    trail.conf.audit_strangers_per_address = 1;
    trail_start();
    lines_of("192.0.2.1", 100);
    trail_put_barrier();
    trail.conf.audit_max_bytes = 1;
    audit_reload(trail.audit, &trail.conf);
    trail_put_barrier();
    trail_stop();
    trail_for_each_file(assert_whole, &calls);
    ck_assert_int_eq(calls, 100);
}
END_TEST

START_TEST(more_strangers_than_the_node_has_lines_for_are_told_of_once)
{
    struct audit_pressure pressure;
    trail.conf.audit_strangers_per_minute = 10;
    trail_start();
    ck_assert(!audit_take_pressure(trail.audit, &pressure));
    lines_of("192.0.2.1", 50 + 10);
    trail_put_barrier();
    ck_assert(!audit_take_pressure(trail.audit, &pressure));
    lines_of("192.0.2.1", 1);
    trail_put_barrier();
    ck_assert(audit_take_pressure(trail.audit, &pressure));
    ck_assert_int_eq(pressure.unauthenticated, 11);
    ck_assert(!pressure.space_low);
    lines_of("192.0.2.1", 100);
    trail_put_barrier();
    ck_assert(!audit_take_pressure(trail.audit, &pressure));
    trail_stop();
}
END_TEST

/* --- lanes --- */

enum { CHUNK = 262144 };

static bool put_read(void)
{
    return trail_put("filler", false);
}

static bool put_stranger(void)
{
    return call_from("192.0.2.1");
}

/* A change that comes while the thread is at the first chunk of much more is the next to be
 * written.
 */
static void assert_overtakes(bool (*put_one)(void), const char *filler)
{
    enum { LINES = 8 * CHUNK / 256, ONE_CHUNK = CHUNK / 256 };
    trail.conf.audit_queue_bytes = 32 * MEBIBYTE;
    trail_start();
    atomic_store(&write_held, true);
    for (int i = 0; i < LINES; i++)
        ck_assert(put_one());
    audit_flush(trail.lane);
    while (!atomic_load(&write_waits))
        trail_nap();
    trail_put("change", true);
    audit_flush(trail.lane);
    atomic_store(&write_held, false);
    trail_wait_for_tickets(1);
    trail_stop();
    json_t *all = trail_read(trail.path, NULL);
    ck_assert_int_eq(trail_count_of(all, "event.action", filler), LINES);
    ck_assert_uint_le(trail_index_of(all, "user.id", "change"), ONE_CHUNK);
    trail_assert_sequence(all, 1);
    json_decref(all);
}

START_TEST(a_change_overtakes_lines_of_strangers)
{
    assert_overtakes(put_stranger, "refused-request");
}
END_TEST

START_TEST(a_change_overtakes_lines_of_reads)
{
    assert_overtakes(put_read, "validate");
}
END_TEST

START_TEST(strangers_fill_a_quarter_of_the_queue_and_are_counted_beyond)
{
    int lines = 0;
    trail.conf.audit_queue_bytes = 65536;
    trail_start();
    while (call_from("192.0.2.1"))
        lines++;
    ck_assert_int_lt(lines, 65536 / 4 / 200);
    ck_assert_int_gt(lines, 65536 / 4 / 1000);
    ck_assert(trail_put("read", false));
    trail_stop();
    json_t *all = trail_read(trail.path, NULL);
    ck_assert_int_eq(counted_in(all), 1);
    ck_assert_int_eq(trail_count_of(all, "event.action", "refused-request"), lines);
    json_decref(all);
}
END_TEST

/* --- the reserve --- */

/* Lets the thread see how much is free. */
static void set_free(int64_t bytes)
{
    atomic_store(&free_bytes, bytes);
    trail_put_barrier();
}

START_TEST(below_the_reserve_strangers_are_counted_then_reads_wait_and_changes_go_on)
{
    trail.conf.audit_reserve = 8 * MEBIBYTE;
    trail_start();
    set_free(16 * MEBIBYTE);
    ck_assert(call_from("192.0.2.1") && trail_put("read", false));
    set_free(8 * MEBIBYTE - 1);
    ck_assert(!call_from("192.0.2.1"));
    ck_assert(trail_put("read", false));
    set_free(4 * MEBIBYTE - 1);
    ck_assert(!call_from("192.0.2.1"));
    ck_assert(!trail_put("no", false));
    trail_put_barrier();
    ck_assert_int_eq(metrics_read(METRIC_AUDIT_FREE_BYTES), 4 * MEBIBYTE - 1);
    set_free(40 * MEBIBYTE);
    ck_assert(call_from("192.0.2.1") && trail_put("read", false));
    trail_stop();
    json_t *lines = trail_read(trail.path, NULL);
    ck_assert_int_eq(trail_count_of(lines, "event.action", "refused-request"), 2);
    ck_assert_int_eq(counted_in(lines), 2);
    ck_assert_int_eq(trail_count_of(lines, "user.id", "read"), 3);
    ck_assert_int_eq(trail_count_of(lines, "user.id", "no"), 0);
    json_decref(lines);
}
END_TEST

START_TEST(lines_that_wait_when_the_room_ends_are_kept_or_counted_and_none_is_lost_silently)
{
    trail.conf.audit_reserve = 8 * MEBIBYTE;
    trail_start();
    trail_put_barrier();
    atomic_store(&free_bytes, MEBIBYTE);
    trail_put("read", false);
    call_from("192.0.2.1");
    trail_put_barrier();
    trail_stop();
    json_t *lines = trail_read(trail.path, NULL);
    int64_t lost = 0;
    for (size_t i = 0; i < json_array_size(lines); i++)
        lost += trail_number_at(lines, i, "sessiond.lines_lost");
    ck_assert_int_eq(trail_count_of(lines, "user.id", "read") + lost, 1);
    ck_assert_int_eq(trail_count_of(lines, "event.action", "refused-request") + counted_in(lines),
                     1);
    json_decref(lines);
}
END_TEST

START_TEST(of_a_small_disk_the_reserve_is_a_quarter)
{
    trail.conf.audit_reserve = 1024 * (int64_t)MEBIBYTE;
    trail_start();
    set_free(33 * MEBIBYTE);
    ck_assert(call_from("192.0.2.1"));
    set_free(16 * MEBIBYTE);
    ck_assert(call_from("192.0.2.1"));
    set_free(16 * MEBIBYTE - 1);
    ck_assert(!call_from("192.0.2.1"));
    trail_stop();
}
END_TEST

START_TEST(a_disk_that_fills_is_told_of_at_each_stage_and_does_not_flap)
{
    struct audit_pressure pressure;
    trail.conf.audit_reserve = 8 * MEBIBYTE;
    trail_start();
    const struct {
        int64_t free_bytes;
        bool told;
    } steps[] = {
        {16 * MEBIBYTE, false},     {16 * MEBIBYTE - 1, true}, {17 * MEBIBYTE, false},
        {16 * MEBIBYTE - 1, false}, {8 * MEBIBYTE - 1, true},  {4 * MEBIBYTE - 1, true},
        {40 * MEBIBYTE, false},     {16 * MEBIBYTE - 1, true},
    };
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        set_free(steps[i].free_bytes);
        ck_assert_int_eq(audit_take_pressure(trail.audit, &pressure), steps[i].told);
        ck_assert(!steps[i].told || pressure.free_bytes == steps[i].free_bytes);
    }
    trail_stop();
}
END_TEST

static TCase *add_case(Suite *suite, const char *name)
{
    TCase *tests = tcase_create(name);
    tcase_add_checked_fixture(tests, trail_set_up, trail_tear_down);
    tcase_set_timeout(tests, 60);
    suite_add_tcase(suite, tests);
    return tests;
}

static void add_strangers(Suite *suite)
{
    TCase *tests = add_case(suite, "strangers");
    tcase_add_test(tests, a_network_has_a_budget_and_no_other_pays_for_it);
    tcase_add_test(tests, the_node_has_a_budget_however_many_networks_there_are);
    tcase_add_test(tests, without_a_budget_every_stranger_has_a_line);
    tcase_add_test(tests, lines_and_numbers_together_are_the_calls);
    tcase_add_test(tests, the_number_is_told_once_a_minute_with_its_span);
    tcase_add_test(tests, a_rotated_file_has_the_numbers_of_its_own_lines);
    tcase_add_test(tests, more_strangers_than_the_node_has_lines_for_are_told_of_once);
}

static void add_lanes(Suite *suite)
{
    TCase *tests = add_case(suite, "lanes");
    tcase_add_test(tests, a_change_overtakes_lines_of_strangers);
    tcase_add_test(tests, a_change_overtakes_lines_of_reads);
    tcase_add_test(tests, strangers_fill_a_quarter_of_the_queue_and_are_counted_beyond);
}

static void add_reserve(Suite *suite)
{
    TCase *tests = add_case(suite, "reserve");
    tcase_add_test(tests,
                   below_the_reserve_strangers_are_counted_then_reads_wait_and_changes_go_on);
    tcase_add_test(
        tests, lines_that_wait_when_the_room_ends_are_kept_or_counted_and_none_is_lost_silently);
    tcase_add_test(tests, of_a_small_disk_the_reserve_is_a_quarter);
    tcase_add_test(tests, a_disk_that_fills_is_told_of_at_each_stage_and_does_not_flap);
}

int main(void)
{
    Suite *suite = suite_create("audit_pressure");
    add_strangers(suite);
    add_lanes(suite);
    add_reserve(suite);
    return support_run(suite);
}
