/* The journal on a disk that fails: full, broken, hanging, or with the file taken away.
 *
 * fdatasync() is replaced by one that can fail, and that marks the open file it failed for: a
 * second sync of that one is a defect, since the kernel would report success for pages it dropped.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "metrics.h"

#include "support_journal.h"
#include "support_run.h"

static _Atomic int sync_error;    /* what fdatasync() fails with, 0: it works */
static _Atomic int name_error;    /* the same for fsync() of a directory */
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

int fsync(int fd)
{
    struct stat status;
    if (atomic_load(&name_error) != 0 && fstat(fd, &status) == 0 && S_ISDIR(status.st_mode)) {
        errno = atomic_load(&name_error);
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

/* Adds one for which the disk is not there. */
static void add_refused(unsigned owner)
{
    int refused = trial.refused;
    trial_add(trial_session(owner, owner), true);
    trial_collect(trial.written + refused + 1);
    ck_assert_int_eq(trial.refused, refused + 1);
}

/* Owners first to last have their session revoked. */
static void assert_revoked(unsigned first, unsigned last)
{
    for (unsigned owner = first; owner <= last; owner++)
        ck_assert(trial_finds(owner, owner, 0));
}

static void assert_revoked_after_restart(unsigned first, unsigned last, unsigned others)
{
    trial_stop();
    trial_start();
    assert_revoked(first, last);
    ck_assert_uint_eq(trial_usage().records, last - first + 1 + others);
    trial_stop();
    ck_assert_int_eq(trial_files("", NULL), 1);
}

enum { FILLED = 1000 };

/* So many large revocations of owner 0, because the limit of the tests holds for whatever this
 * process writes, its assertions too. */
static void fill_file(void)
{
    char texts[255];
    struct revocation revocation = trial_session(0, 0);
    memset(texts, 'x', sizeof(texts));
    revocation.reason = revocation.actor = (struct text){texts, sizeof(texts)};
    for (unsigned i = 1; i <= FILLED; i++) {
        memcpy(revocation.session, &i, sizeof(i));
        journal_add(trial.lane, &revocation, NULL, NULL);
    }
    trial_write(trial_session(1, 1));
}

static rlim_t size_of_file(void)
{
    struct stat status;
    ck_assert_int_eq(stat(trial.path, &status), 0);
    return (rlim_t)status.st_size;
}

static void limit_file_size(rlim_t limit)
{
    struct rlimit now;
    getrlimit(RLIMIT_FSIZE, &now);
    now.rlim_cur = limit;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &now), 0);
}

START_TEST(a_full_disk_refuses_tickets_and_loses_nothing_when_there_is_room_again)
{
    trial_start();
    fill_file();
    limit_file_size(size_of_file() + 30);
    for (unsigned owner = 2; owner < 10; owner++)
        add_refused(owner);
    ck_assert(!journal_healthy(trial.journal));
    assert_revoked(1, 9);
    ck_assert_uint_eq(trial_usage().unconfirmed, FILLED + 9);
    limit_file_size(RLIM_INFINITY);
    trial_wait_until(journal_healthy(trial.journal));
    trial_write(trial_session(10, 10));
    assert_revoked_after_restart(1, 10, FILLED);
}
END_TEST

START_TEST(a_process_that_ends_on_a_full_disk_leaves_a_file_that_can_be_read)
{
    trial_start();
    fill_file();
    limit_file_size(size_of_file() + 30);
    add_refused(2);
    trial_stop();
    trial_start();
    assert_revoked(1, 1);
    ck_assert(!trial_finds(2, 2, 0));
    ck_assert_int_eq(trial_files("damaged", NULL), 0);
    limit_file_size(RLIM_INFINITY);
    trial_write(trial_session(2, 2));
    assert_revoked_after_restart(1, 2, FILLED);
}
END_TEST

START_TEST(a_stop_tries_once_more)
{
    trial_start();
    trial_write(trial_session(1, 1));
    atomic_store(&sync_error, ENOSPC);
    add_refused(2);
    atomic_store(&sync_error, 0);
    assert_revoked_after_restart(1, 2, 0);
}
END_TEST

START_TEST(a_small_file_system_that_is_full_is_survived)
{
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", trial.directory, "tmpfs", 0, "size=64k") != 0)
        return; /* needs root */
    char ballast[128], block[4096] = {0};
    snprintf(ballast, sizeof(ballast), "%s/ballast", trial.directory);
    trial_start();
    trial_write(trial_session(1, 1));
    int fd = open(ballast, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    while (write(fd, block, sizeof(block)) > 0) {
    }
    close(fd);
    unsigned owner = 1;
    while (journal_healthy(trial.journal)) {
        trial_add(trial_session(owner + 1, owner + 1), true);
        owner++;
        trial_collect((int)owner);
    }
    ck_assert_int_eq(trial.refused, 1);
    add_refused(++owner);
    ck_assert_int_eq(unlink(ballast), 0);
    trial_wait_until(journal_healthy(trial.journal));
    trial_write(trial_session(owner + 1, owner + 1));
    assert_revoked_after_restart(1, owner + 1, 0);
    umount(trial.directory);
}
END_TEST

START_TEST(a_failed_sync_is_never_tried_again_on_the_same_file)
{
    trial_start();
    trial_write(trial_session(1, 1));
    atomic_store(&sync_error, EIO);
    add_refused(2);
    ck_assert(!journal_healthy(trial.journal));
    int64_t errors = metrics_read(METRIC_JOURNAL_ERRORS);
    ck_assert_int_gt(errors, 0);
    trial_wait_until(metrics_read(METRIC_JOURNAL_ERRORS) >= errors + 2);
    add_refused(3);
    assert_revoked(1, 3);
    atomic_store(&sync_error, 0);
    trial_wait_until(journal_healthy(trial.journal));
    trial_write(trial_session(4, 4));
    assert_revoked_after_restart(1, 4, 0);
    ck_assert_int_eq(atomic_load(&synced_failed), 0);
}
END_TEST

START_TEST(while_it_fails_it_is_tried_about_once_a_second)
{
    trial_start();
    trial_write(trial_session(1, 1));
    atomic_store(&sync_error, EIO);
    double until = trial_seconds() + 2.5;
    for (unsigned owner = 2; trial_seconds() < until; owner++)
        add_refused(owner);
    ck_assert_int_le(metrics_read(METRIC_JOURNAL_ERRORS), 4);
    ck_assert_int_ge(metrics_read(METRIC_JOURNAL_ERRORS), 2);
    atomic_store(&sync_error, 0);
    trial_wait_until(journal_healthy(trial.journal));
    trial_stop();
}
END_TEST

START_TEST(what_is_on_disk_already_is_told_so_even_when_the_disk_has_failed)
{
    trial_start();
    struct revocation first = trial_session(1, 1);
    uint64_t number = trial_write(first);
    atomic_store(&sync_error, EIO);
    add_refused(2);
    ck_assert_uint_eq(trial_write(first), number);
    atomic_store(&sync_error, 0);
    trial_wait_until(journal_healthy(trial.journal));
    assert_revoked_after_restart(1, 2, 0);
}
END_TEST

START_TEST(what_was_confirmed_in_an_outage_of_the_disk_stays_confirmed)
{
    trial_start();
    uint64_t number = trial_write(trial_session(1, 1));
    atomic_store(&sync_error, EIO);
    add_refused(2);
    journal_confirm(trial.journal, number);
    journal_confirm(trial.journal, number + 1);
    trial_wait_until(metrics_read(METRIC_JOURNAL_ERRORS) >= 3);
    atomic_store(&sync_error, 0);
    trial_wait_until(journal_healthy(trial.journal));
    trial_stop();
    trial_start();
    ck_assert_uint_eq(trial_usage().records, 2);
    ck_assert_uint_eq(trial_usage().unconfirmed, 0);
    trial_stop();
}
END_TEST

START_TEST(a_disk_that_hangs_is_not_healthy_and_recovers_by_itself)
{
    trial_start();
    trial_write(trial_session(1, 1));
    atomic_store(&sync_hangs, true);
    trial_add(trial_session(2, 2), true);
    journal_flush(trial.lane);
    trial_wait_until(!journal_healthy(trial.journal));
    ck_assert_int_eq(trial.written + trial.refused, 1);
    trial_add(trial_session(3, 3), false);
    assert_revoked(1, 3);
    atomic_store(&sync_hangs, false);
    trial_collect(2);
    ck_assert_int_eq(trial.refused, 0);
    trial_wait_until(journal_healthy(trial.journal));
    assert_revoked_after_restart(1, 3, 0);
}
END_TEST

/* Records that gather while the disk is at work are one group. */
START_TEST(a_slow_disk_makes_larger_groups)
{
    trial_start();
    trial_write(trial_session(1, 1));
    atomic_store(&sync_hangs, true);
    for (unsigned owner = 2; owner <= 200; owner++) {
        trial_add(trial_session(owner, owner), true);
        journal_flush(trial.lane);
        usleep(100);
    }
    atomic_store(&sync_hangs, false);
    trial_collect(200);
    ck_assert_int_eq(trial.written, 200);
    ck_assert_int_le(metrics_read(METRIC_JOURNAL_SYNCS), 4);
    trial_stop();
}
END_TEST

START_TEST(a_file_that_was_removed_or_moved_is_written_anew)
{
    char moved[128];
    snprintf(moved, sizeof(moved), "%s.away", trial.path);
    trial_start();
    trial_write(trial_session(1, 1));
    ck_assert_int_eq(_i == 0 ? unlink(trial.path) : rename(trial.path, moved), 0);
    trial_write(trial_session(2, 2));
    if (_i == 1)
        ck_assert_int_eq(unlink(moved), 0);
    assert_revoked_after_restart(1, 2, 0);
}
END_TEST

/* After a crash the file might have its name no more. */
START_TEST(nothing_is_written_before_the_name_is_durable)
{
    trial_start();
    trial_write(trial_session(1, 1));
    atomic_store(&name_error, EIO);
    ck_assert_int_eq(unlink(trial.path), 0);
    add_refused(2);
    ck_assert(!journal_healthy(trial.journal));
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_COMPACTIONS), 0);
    atomic_store(&name_error, 0);
    trial_wait_until(journal_healthy(trial.journal));
    assert_revoked_after_restart(1, 2, 0);
}
END_TEST

START_TEST(a_directory_that_went_away_is_waited_for)
{
    char moved[96];
    snprintf(moved, sizeof(moved), "%s.away", trial.directory);
    trial_start();
    trial_write(trial_session(1, 1));
    ck_assert_int_eq(rename(trial.directory, moved), 0);
    add_refused(2);
    ck_assert(!journal_healthy(trial.journal));
    ck_assert_int_eq(rename(moved, trial.directory), 0);
    trial_wait_until(journal_healthy(trial.journal));
    assert_revoked_after_restart(1, 2, 0);
}
END_TEST

/* The old file is whole, and goes on being appended to. */
START_TEST(a_rewriting_that_fails_does_not_stop_the_journal)
{
    char fresh[128];
    snprintf(fresh, sizeof(fresh), "%s.new", trial.path);
    clock_fake(1795340109000);
    trial_start();
    for (unsigned i = 0; i < 1000; i++)
        trial_add(trial_session(1000 + i, i), false);
    trial_write(trial_session(1000, 0));
    for (uint64_t number = 1; number <= 1000; number++)
        journal_confirm(trial.journal, number);
    ck_assert_int_eq(mkdir(fresh, 0700), 0);
    clock_fake(1795340109000 + 3601 * 1000);
    trial_wait_until(metrics_read(METRIC_JOURNAL_ERRORS) == 1);
    trial_write(trial_session(1, 1));
    ck_assert(journal_healthy(trial.journal));
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_COMPACTIONS), 0);
    ck_assert_int_eq(rmdir(fresh), 0);
    trial_stop();
    trial_start();
    trial_wait_until(metrics_read(METRIC_JOURNAL_COMPACTIONS) == 1);
    assert_revoked_after_restart(1, 1, 0);
}
END_TEST

START_TEST(what_a_crash_left_of_a_rewriting_is_no_harm)
{
    char fresh[128];
    snprintf(fresh, sizeof(fresh), "%s.new", trial.path);
    trial_start();
    trial_write(trial_session(1, 1));
    trial_stop();
    trial_overwrite(fresh, "piece", 5);
    trial_start();
    ck_assert_int_eq(unlink(trial.path), 0);
    trial_write(trial_session(2, 2));
    assert_revoked_after_restart(1, 2, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("journal_disk");
    TCase *disk = tcase_create("disk");
    tcase_add_checked_fixture(disk, trial_set_up, trial_tear_down);
    tcase_set_timeout(disk, 30);
    tcase_add_test(disk, a_full_disk_refuses_tickets_and_loses_nothing_when_there_is_room_again);
    tcase_add_test(disk, a_process_that_ends_on_a_full_disk_leaves_a_file_that_can_be_read);
    tcase_add_test(disk, a_stop_tries_once_more);
    tcase_add_test(disk, a_small_file_system_that_is_full_is_survived);
    tcase_add_test(disk, a_failed_sync_is_never_tried_again_on_the_same_file);
    tcase_add_test(disk, while_it_fails_it_is_tried_about_once_a_second);
    tcase_add_test(disk, what_is_on_disk_already_is_told_so_even_when_the_disk_has_failed);
    tcase_add_test(disk, what_was_confirmed_in_an_outage_of_the_disk_stays_confirmed);
    tcase_add_test(disk, a_disk_that_hangs_is_not_healthy_and_recovers_by_itself);
    tcase_add_test(disk, a_slow_disk_makes_larger_groups);
    tcase_add_loop_test(disk, a_file_that_was_removed_or_moved_is_written_anew, 0, 2);
    tcase_add_test(disk, nothing_is_written_before_the_name_is_durable);
    tcase_add_test(disk, a_directory_that_went_away_is_waited_for);
    tcase_add_test(disk, a_rewriting_that_fails_does_not_stop_the_journal);
    tcase_add_test(disk, what_a_crash_left_of_a_rewriting_is_no_harm);
    suite_add_tcase(suite, disk);
    return support_run(suite);
}
