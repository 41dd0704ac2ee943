/* The journal's file: what is in it after a restart, and what becomes of one that is torn, damaged,
 * cut, foreign or in use. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "metrics.h"

#include "services/journal/journal_record.h"
#include "support_journal.h"
#include "support_keys.h"
#include "support_run.h"

enum { HEAD = JOURNAL_HEAD };

/* --- what a restart finds --- */

static void assert_same(const struct revocation *a, const struct revocation *b)
{
    ck_assert_int_eq(a->kind, b->kind);
    ck_assert_mem_eq(a->owner, b->owner, OWNER_TAG);
    ck_assert_mem_eq(a->session, b->session, SESSION_ID);
    ck_assert_int_eq(a->has_exempt, b->has_exempt);
    ck_assert_int_eq(a->before_ms, b->before_ms);
    ck_assert_int_eq(a->at_ms, b->at_ms);
    ck_assert_int_eq(a->forget_s, b->forget_s);
    ck_assert(text_equal(a->reason, b->reason));
    ck_assert(text_equal(a->actor, b->actor));
}

START_TEST(a_revocation_is_the_same_after_a_restart)
{
    const struct revocation put[] = {trial_session(1, 7), trial_before(2, 123456789),
                                     trial_before_but(3, -5, 9)};
    struct revocation got[4];
    trial_start();
    for (int i = 0; i < 3; i++)
        trial_add(put[i], false);
    trial_stop();
    for (int restart = 0; restart < 2; restart++) {
        trial_start();
        ck_assert_uint_eq(journal_list(trial.journal, UINT64_MAX, false, &trial.arena, got, 4), 3);
        for (int i = 0; i < 3; i++) {
            assert_same(&got[2 - i], &put[i]);
            ck_assert_uint_eq(got[2 - i].number, (uint64_t)i + 1);
            ck_assert(!got[2 - i].confirmed);
        }
        trial_stop();
    }
}
END_TEST

START_TEST(what_was_confirmed_stays_confirmed)
{
    trial_start();
    uint64_t first = trial_write(trial_session(1, 1));
    trial_write(trial_session(1, 2));
    journal_confirm(trial.journal, first);
    trial_stop();
    trial_start();
    ck_assert_uint_eq(trial_usage().records, 2);
    ck_assert_uint_eq(trial_usage().unconfirmed, 1);
    struct revocation got[2];
    ck_assert_uint_eq(journal_list(trial.journal, UINT64_MAX, false, &trial.arena, got, 2), 2);
    ck_assert(!got[0].confirmed);
    ck_assert(got[1].confirmed);
    ck_assert(trial_finds(1, 1, 0));
    trial_stop();
}
END_TEST

START_TEST(numbers_grow_over_restarts_even_when_all_are_forgotten)
{
    clock_fake(1795340109000);
    trial_start();
    for (unsigned i = 0; i < 400; i++)
        trial_add(trial_session(1, i), false);
    uint64_t last = trial_write(trial_session(1, 999));
    for (uint64_t number = 1; number <= last; number++)
        journal_confirm(trial.journal, number);
    clock_fake(1795340109000 + 3601 * 1000);
    trial_wait_until(trial_usage().records == 0);
    trial_stop();
    trial_start();
    trial_stop();
    trial_start();
    ck_assert_uint_gt(trial_write(trial_session(1, 1)), last);
    trial_stop();
}
END_TEST

START_TEST(the_file_is_readable_by_the_owner_only_whatever_the_umask)
{
    struct stat status;
    umask(0);
    trial_start();
    trial_stop();
    ck_assert_int_eq(stat(trial.path, &status), 0);
    ck_assert_uint_eq(status.st_mode & 07777, 0600);
    ck_assert_int_eq(chmod(trial.path, 0644), 0);
    trial_start();
    trial_stop();
    ck_assert_int_eq(stat(trial.path, &status), 0);
    ck_assert_uint_eq(status.st_mode & 07777, 0600);
    ck_assert_int_eq(trial_files("", NULL), 1);
}
END_TEST

START_TEST(an_empty_file_is_a_new_one)
{
    trial_overwrite(trial.path, "", 0);
    trial_start();
    trial_write(trial_session(1, 1));
    trial_stop();
    trial_start();
    ck_assert(trial_finds(1, 1, 0));
    trial_stop();
}
END_TEST

/* --- a file of five records, and where each of them begins --- */

enum { RECORDS = 5 };

static struct buffer made;
static size_t starts[RECORDS + 2]; /* the last: the end of the file */

static void make_file(void)
{
    trial_start();
    for (unsigned i = 0; i < RECORDS; i++)
        trial_write(trial_session(1, i));
    journal_confirm(trial.journal, 2);
    trial_stop();
    made = trial_read(trial.path);
    size_t at = HEAD;
    for (int i = 0; i <= RECORDS; i++) {
        starts[i] = at;
        at += journal_record_length(made.data + at);
    }
    starts[RECORDS + 1] = at;
    ck_assert_uint_eq(at, made.length);
}

/* Sessions 0 to count - 1 are revoked, the others are not. */
static void assert_in_force(unsigned count)
{
    for (unsigned i = 0; i < RECORDS; i++)
        ck_assert_int_eq(trial_finds(1, i, 0), i < count);
    ck_assert_uint_eq(trial_usage().records, count);
}

/* Records before this position, not counting the mark. */
static unsigned whole_before(size_t place)
{
    unsigned count = 0;
    while (count < RECORDS && starts[count + 1] <= place)
        count++;
    return count;
}

static void remove_damaged(void)
{
    char found[512];
    while (trial_files("damaged", found) > 0)
        ck_assert_int_eq(unlink(found), 0);
}

/* --- torn and cut --- */

START_TEST(a_torn_last_record_is_cut_off_at_every_length)
{
    make_file();
    for (size_t length = starts[RECORDS - 1] + 1; length < starts[RECORDS + 1]; length++) {
        trial_overwrite(trial.path, made.data, length);
        trial_start();
        assert_in_force(whole_before(length));
        ck_assert_int_eq(trial_files("damaged", NULL), 0);
        uint64_t number = trial_write(trial_session(2, 1));
        ck_assert_uint_ge(number, RECORDS);
        trial_stop();
        trial_start();
        ck_assert(trial_finds(2, 1, 0));
        ck_assert_uint_eq(trial_usage().records, whole_before(length) + 1);
        trial_stop();
    }
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_ERRORS), 0);
    buffer_free(&made);
}
END_TEST

START_TEST(a_file_that_was_cut_anywhere_keeps_what_is_whole)
{
    make_file();
    for (size_t length = 1; length < made.length; length++) {
        trial_overwrite(trial.path, made.data, length);
        if (length < HEAD) {
            ck_assert_ptr_nonnull(strstr(trial_start_refused(), trial.path));
            continue;
        }
        trial_start();
        assert_in_force(whole_before(length));
        trial_stop();
        struct buffer mended = trial_read(trial.path);
        size_t end = length;
        for (int i = 0; i <= RECORDS; i++)
            if (starts[i] <= length)
                end = starts[i];
        ck_assert_uint_eq(mended.length, end);
        ck_assert_mem_eq(mended.data, made.data, end);
        buffer_free(&mended);
    }
    buffer_free(&made);
}
END_TEST

/* --- damaged --- */

/* The damaged part is kept, byte for byte, and the rest appended to. */
static void assert_kept_aside(const struct buffer *damaged, size_t offset)
{
    char found[512];
    ck_assert_int_eq(trial_files("journal.damaged-2", found), 1);
    struct buffer kept = trial_read(found);
    ck_assert_uint_eq(kept.length, damaged->length - offset);
    ck_assert_mem_eq(kept.data, damaged->data + offset, kept.length);
    buffer_free(&kept);
    remove_damaged();
}

START_TEST(no_flipped_bit_is_ever_taken_for_a_revocation)
{
    make_file();
    int64_t errors = 0;
    for (size_t at = HEAD; at < made.length; at++) {
        unsigned whole = whole_before(at);
        made.data[at] = (char)(made.data[at] ^ 1 << (at + (size_t)_i) % 8);
        trial_overwrite(trial.path, made.data, made.length);
        trial_start();
        assert_in_force(whole);
        ck_assert_int_eq(metrics_read(METRIC_JOURNAL_ERRORS), ++errors);
        trial_stop();
        assert_kept_aside(&made, at < starts[RECORDS] ? starts[whole] : starts[RECORDS]);
        made.data[at] = (char)(made.data[at] ^ 1 << (at + (size_t)_i) % 8);
    }
    buffer_free(&made);
}
END_TEST

START_TEST(a_flipped_bit_in_the_head_refuses_the_start_and_changes_nothing)
{
    make_file();
    for (size_t at = 0; at < HEAD; at++) {
        made.data[at] = (char)(made.data[at] ^ 1 << at % 8);
        trial_overwrite(trial.path, made.data, made.length);
        const char *error = trial_start_refused();
        ck_assert_ptr_nonnull(strstr(error, trial.path));
        ck_assert_ptr_nonnull(strstr(error, "move"));
        struct buffer after = trial_read(trial.path);
        ck_assert_uint_eq(after.length, made.length);
        ck_assert_mem_eq(after.data, made.data, made.length);
        buffer_free(&after);
        made.data[at] = (char)(made.data[at] ^ 1 << at % 8);
    }
    trial_overwrite(trial.path, made.data, made.length);
    trial_start();
    assert_in_force(RECORDS);
    trial_stop();
    buffer_free(&made);
}
END_TEST

/* Records of the same length, so that only their positions differ. */
START_TEST(records_that_were_swapped_repeated_or_left_out_are_not_taken)
{
    make_file();
    size_t length = starts[2] - starts[1];
    char changed[4096];
    ck_assert_uint_lt(made.length, sizeof(changed));
    for (int way = 0; way < 3; way++) {
        memcpy(changed, made.data, made.length);
        if (way == 0)
            memcpy(changed + starts[1], made.data + starts[2], length);
        if (way == 1)
            memmove(changed + starts[1], made.data + starts[2], made.length - starts[2]);
        memcpy(changed + starts[2], made.data + starts[1], way == 2 ? length : 0);
        trial_overwrite(trial.path, changed, made.length);
        trial_start();
        assert_in_force(way == 2 ? 2 : 1);
        trial_stop();
        ck_assert_int_eq(trial_files("damaged", NULL), 1);
        remove_damaged();
    }
    buffer_free(&made);
}
END_TEST

START_TEST(records_of_another_journal_are_not_taken)
{
    make_file();
    struct buffer first = made;
    made = (struct buffer){0};
    ck_assert_int_eq(unlink(trial.path), 0);
    make_file();
    memcpy(made.data + starts[1], first.data + starts[1], starts[2] - starts[1]);
    trial_overwrite(trial.path, made.data, made.length);
    trial_start();
    assert_in_force(1);
    trial_stop();
    buffer_free(&first);
    buffer_free(&made);
}
END_TEST

START_TEST(zeros_or_noise_behind_the_records_are_kept_aside)
{
    uint64_t random = (uint64_t)_i;
    make_file();
    for (int i = 0; i < 5000; i++)
        buffer_add_char(&made, _i == 0 ? '\0' : (char)support_next(&random));
    trial_overwrite(trial.path, made.data, made.length);
    trial_start();
    assert_in_force(RECORDS);
    trial_stop();
    assert_kept_aside(&made, starts[RECORDS + 1]);
    buffer_free(&made);
}
END_TEST

START_TEST(two_damages_in_one_second_are_both_kept)
{
    clock_fake(1795340109000);
    make_file();
    for (int round = 0; round < 2; round++) {
        made.data[starts[1] + 10] = (char)(made.data[starts[1] + 10] ^ 1);
        trial_overwrite(trial.path, made.data, made.length);
        made.data[starts[1] + 10] = (char)(made.data[starts[1] + 10] ^ 1);
        trial_start();
        trial_stop();
    }
    ck_assert_int_eq(trial_files("damaged-20261122T", NULL), 2);
    buffer_free(&made);
}
END_TEST

/* Any bytes after a good header: never a crash, never a revocation that was not made. */
START_TEST(random_changes_never_invent_a_revocation)
{
    uint64_t random = 20261122;
    make_file();
    for (int round = 0; round < 300; round++) {
        struct buffer changed = {0};
        buffer_add(&changed, made.data, made.length);
        for (int i = 0; i < 3; i++)
            changed.data[HEAD + support_next(&random) % (made.length - HEAD)] =
                (char)support_next(&random);
        changed.length = HEAD + support_next(&random) % (made.length - HEAD + 1);
        trial_overwrite(trial.path, changed.data, changed.length);
        trial_start();
        assert_in_force((unsigned)trial_usage().records);
        ck_assert_uint_le(trial_usage().records, RECORDS);
        trial_stop();
        remove_damaged();
        buffer_free(&changed);
    }
    buffer_free(&made);
}
END_TEST

/* --- refused --- */

START_TEST(a_journal_under_another_names_secret_is_refused_and_left_alone)
{
    make_file();
    keyring_unref(&trial.keyring);
    trial.keyring = support_keyring(
        "names ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n" SUPPORT_KEY_1);
    const char *error = trial_start_refused();
    ck_assert_ptr_nonnull(strstr(error, trial.path));
    ck_assert_ptr_nonnull(strstr(error, "names secret"));
    ck_assert_ptr_nonnull(strstr(error, "move the file away"));
    struct buffer after = trial_read(trial.path);
    ck_assert_uint_eq(after.length, made.length);
    ck_assert_mem_eq(after.data, made.data, made.length);
    buffer_free(&after);
    buffer_free(&made);
}
END_TEST

START_TEST(new_numbered_keys_do_not_matter)
{
    make_file();
    keyring_unref(&trial.keyring);
    trial.keyring = support_keyring(SUPPORT_NAMES SUPPORT_KEY_2);
    trial_start();
    assert_in_force(RECORDS);
    trial_stop();
    buffer_free(&made);
}
END_TEST

static const struct start_case {
    const char *file, *expected;
} start_cases[] = {
    {"/tmp/check_journal.none/journal", "No such file or directory"},
    {"/tmp", "Is a directory"},
    {"/dev/null/journal", "Not a directory"},
    {"/dev/full", "is not a regular file"},
};

START_TEST(a_file_that_cannot_be_opened_is_an_error_that_names_it)
{
    trial.conf.journal_file = (char *)start_cases[_i].file;
    const char *error = trial_start_refused();
    ck_assert_ptr_nonnull(strstr(error, start_cases[_i].file));
    ck_assert_msg(strstr(error, start_cases[_i].expected) != NULL, "%s", error);
}
END_TEST

START_TEST(a_file_that_is_no_journal_is_left_alone)
{
    char text[200];
    memset(text, 'x', sizeof(text));
    trial_overwrite(trial.path, text, sizeof(text));
    ck_assert_ptr_nonnull(strstr(trial_start_refused(), "is not a journal"));
    struct buffer after = trial_read(trial.path);
    ck_assert_uint_eq(after.length, sizeof(text));
    ck_assert_mem_eq(after.data, text, sizeof(text));
    buffer_free(&after);
}
END_TEST

START_TEST(a_pipe_is_not_taken_for_a_journal)
{
    ck_assert_int_eq(mkfifo(trial.path, 0600), 0);
    ck_assert_ptr_nonnull(strstr(trial_start_refused(), "is not a regular file"));
}
END_TEST

/* --- killed --- */

/* The child reports each number whose ticket was done, written. */
static void add_for_ever(int pipe_end, unsigned round)
{
    uint64_t told = 0, last = 0;
    trial_start();
    for (unsigned i = 0;; i++) {
        last = trial_add(trial_session(round, i), true);
        if (i % 3 == 0)
            journal_confirm(trial.journal, last - i % 7);
        trial_collect(trial.written + trial.refused + 1);
        told = trial.refused == 0 ? i + 1 : told;
        if (write(pipe_end, &told, sizeof(told)) != sizeof(told))
            _exit(1);
    }
}

START_TEST(what_was_told_to_be_written_is_there_after_a_kill)
{
    for (unsigned round = 0; round < 15; round++) {
        int ends[2];
        uint64_t told = 0, read_one;
        ck_assert_int_eq(pipe(ends), 0);
        pid_t child = fork();
        if (child == 0) {
            close(ends[0]);
            add_for_ever(ends[1], round);
        }
        close(ends[1]);
        for (unsigned i = 0; i < 1 + round * 7; i++)
            if (read(ends[0], &read_one, sizeof(read_one)) == sizeof(read_one))
                told = read_one;
        ck_assert_int_eq(kill(child, SIGKILL), 0);
        while (read(ends[0], &read_one, sizeof(read_one)) == sizeof(read_one))
            told = read_one;
        waitpid(child, NULL, 0);
        close(ends[0]);
        ck_assert_uint_gt(told, round * 7);
        trial_start();
        for (unsigned i = 0; i < told; i++)
            ck_assert(trial_finds(round, i, 0));
        trial_stop();
    }
    ck_assert_int_eq(trial_files("damaged", NULL), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("journal_file");
    TCase *restart = tcase_create("restart");
    tcase_add_checked_fixture(restart, trial_set_up, trial_tear_down);
    tcase_add_test(restart, a_revocation_is_the_same_after_a_restart);
    tcase_add_test(restart, what_was_confirmed_stays_confirmed);
    tcase_add_test(restart, numbers_grow_over_restarts_even_when_all_are_forgotten);
    tcase_add_test(restart, the_file_is_readable_by_the_owner_only_whatever_the_umask);
    tcase_add_test(restart, an_empty_file_is_a_new_one);
    tcase_add_test(restart, what_was_told_to_be_written_is_there_after_a_kill);
    tcase_set_timeout(restart, 30);
    suite_add_tcase(suite, restart);

    TCase *damage = tcase_create("damage");
    tcase_add_checked_fixture(damage, trial_set_up, trial_tear_down);
    tcase_add_test(damage, a_torn_last_record_is_cut_off_at_every_length);
    tcase_add_test(damage, a_file_that_was_cut_anywhere_keeps_what_is_whole);
    tcase_add_loop_test(damage, no_flipped_bit_is_ever_taken_for_a_revocation, 0, 2);
    tcase_add_test(damage, a_flipped_bit_in_the_head_refuses_the_start_and_changes_nothing);
    tcase_add_test(damage, records_that_were_swapped_repeated_or_left_out_are_not_taken);
    tcase_add_test(damage, records_of_another_journal_are_not_taken);
    tcase_add_loop_test(damage, zeros_or_noise_behind_the_records_are_kept_aside, 0, 2);
    tcase_add_test(damage, two_damages_in_one_second_are_both_kept);
    tcase_add_test(damage, random_changes_never_invent_a_revocation);
    tcase_set_timeout(damage, 60);
    suite_add_tcase(suite, damage);

    TCase *refused = tcase_create("refused");
    tcase_add_checked_fixture(refused, trial_set_up, trial_tear_down);
    tcase_add_test(refused, a_journal_under_another_names_secret_is_refused_and_left_alone);
    tcase_add_test(refused, new_numbered_keys_do_not_matter);
    tcase_add_loop_test(refused, a_file_that_cannot_be_opened_is_an_error_that_names_it, 0,
                        sizeof(start_cases) / sizeof(*start_cases));
    tcase_add_test(refused, a_file_that_is_no_journal_is_left_alone);
    tcase_add_test(refused, a_pipe_is_not_taken_for_a_journal);
    suite_add_tcase(suite, refused);
    return support_run(suite);
}
