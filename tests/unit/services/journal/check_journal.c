/* The journal as workers see it: revocations, numbers, confirming, tickets, group commit. */
#include <check.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "metrics.h"

#include "support_journal.h"
#include "support_run.h"

static const int64_t now_ms = 1795340109000;

static struct revocation trial_freeze(unsigned owner, int64_t before_ms, int64_t until_s)
{
    struct revocation freeze = trial_before(owner, before_ms);
    freeze.kind = REVOKE_FREEZE;
    freeze.until_s = until_s;
    return freeze;
}

/* --- what is revoked --- */

START_TEST(a_session_is_revoked_at_once_and_no_other)
{
    trial_start();
    ck_assert(!trial_finds(1, 7, 0));
    trial_add(trial_session(1, 7), false);
    ck_assert(trial_finds(1, 7, 0));
    ck_assert(trial_finds(1, 7, INT64_MAX));
    ck_assert(!trial_finds(1, 8, 0));
    ck_assert(!trial_finds(2, 7, 0));
    trial_stop();
}
END_TEST

START_TEST(sessions_created_before_are_revoked_and_later_ones_are_not)
{
    trial_start();
    trial_add(trial_before(1, now_ms), false);
    ck_assert(trial_finds(1, 7, now_ms - 1));
    ck_assert(!trial_finds(1, 7, now_ms));
    ck_assert(!trial_finds(2, 7, now_ms - 1));
    trial_stop();
}
END_TEST

START_TEST(an_exempt_session_is_spared_by_its_revocation_only)
{
    trial_start();
    trial_add(trial_before_but(1, now_ms, 7), false);
    ck_assert(!trial_finds(1, 7, now_ms - 1));
    ck_assert(trial_finds(1, 8, now_ms - 1));
    trial_add(trial_before(1, now_ms - 100), false);
    ck_assert(!trial_finds(1, 7, now_ms - 100));
    ck_assert(trial_finds(1, 7, now_ms - 101));
    trial_add(trial_session(1, 7), false);
    ck_assert(trial_finds(1, 7, now_ms));
    trial_stop();
}
END_TEST

START_TEST(a_session_number_of_zeros_is_not_exempt_unless_it_is_said)
{
    trial_start();
    trial_add(trial_before(1, now_ms), false);
    ck_assert(trial_finds(1, 0, now_ms - 1));
    trial_stop();
}
END_TEST

START_TEST(a_freeze_kills_what_was_created_before_and_keeps_its_end)
{
    struct revocation freeze = trial_freeze(1, now_ms, 1800000000), got;
    trial_start();
    trial_add(freeze, false);
    trial_stop();
    trial_start();
    ck_assert(trial_finds(1, 0, now_ms - 1));
    ck_assert(!trial_finds(1, 0, now_ms));
    ck_assert(!trial_finds(2, 0, now_ms - 1));
    ck_assert_uint_eq(journal_list(trial.journal, UINT64_MAX, true, &trial.arena, &got, 1), 1);
    ck_assert_int_eq(got.kind, REVOKE_FREEZE);
    ck_assert_int_eq(got.until_s, 1800000000);
    ck_assert_int_eq(got.before_ms, now_ms);
    trial_stop();
}
END_TEST

START_TEST(a_lift_is_kept_and_kills_nothing)
{
    struct revocation lift = trial_before(1, now_ms), got;
    lift.kind = REVOKE_LIFT;
    trial_start();
    trial_add(lift, false);
    trial_stop();
    trial_start();
    ck_assert(!trial_finds(1, 0, now_ms - 1));
    ck_assert_uint_eq(journal_list(trial.journal, UINT64_MAX, true, &trial.arena, &got, 1), 1);
    ck_assert_int_eq(got.kind, REVOKE_LIFT);
    trial_stop();
}
END_TEST

START_TEST(an_older_freeze_does_not_stand_for_a_newer_one)
{
    trial_start();
    uint64_t first = trial_add(trial_freeze(1, now_ms, 0), false);
    ck_assert_uint_eq(trial_add(trial_freeze(1, now_ms, 0), false), first);
    ck_assert_uint_gt(trial_add(trial_freeze(1, now_ms - 1, 0), false), first);
    ck_assert_uint_gt(trial_add(trial_freeze(1, now_ms, 1800000000), false), first);
    ck_assert_uint_eq(trial_usage().unconfirmed, 3);
    trial_stop();
}
END_TEST

START_TEST(what_was_found_is_told_with_its_texts)
{
    struct revocation put = trial_before_but(1, now_ms, 9), got;
    trial_start();
    uint64_t number = trial_add(put, false);
    ck_assert(
        journal_find(trial.journal, put.owner, trial_session(1, 7).session, 0, &trial.arena, &got));
    ck_assert_int_eq(got.kind, REVOKE_BEFORE);
    ck_assert_mem_eq(got.owner, put.owner, OWNER_TAG);
    ck_assert_mem_eq(got.session, put.session, SESSION_ID);
    ck_assert(got.has_exempt);
    ck_assert_int_eq(got.before_ms, now_ms);
    ck_assert_int_eq(got.at_ms, put.at_ms);
    ck_assert_int_eq(got.forget_s, put.forget_s);
    ck_assert(text_equal(got.reason, TEXT("kicked")));
    ck_assert(text_equal(got.actor, TEXT("alice")));
    ck_assert_uint_eq(got.number, number);
    ck_assert(!got.confirmed);
    trial_stop();
}
END_TEST

START_TEST(long_texts_are_cut_and_no_character_is_split)
{
    char longest[1024];
    struct revocation put = trial_session(1, 1), got;
    memset(longest, 'x', sizeof(longest));
    memcpy(longest + 254, "\xc3\xa9", 2);
    put.reason = (struct text){longest, sizeof(longest)};
    put.actor = (struct text){longest, 254};
    trial_start();
    trial_add(put, false);
    trial_stop();
    trial_start();
    ck_assert(journal_find(trial.journal, put.owner, put.session, 0, &trial.arena, &got));
    ck_assert_uint_eq(got.reason.length, 254);
    ck_assert_uint_eq(got.actor.length, 254);
    ck_assert_mem_eq(got.reason.data, longest, 254);
    trial_stop();
}
END_TEST

START_TEST(all_of_an_owner_are_told_and_nothing_of_others)
{
    size_t count = 99;
    trial_start();
    for (unsigned i = 0; i < 50; i++)
        trial_add(trial_session(i % 2, i), false);
    struct revocation *of =
        journal_of_owner(trial.journal, trial_session(1, 0).owner, &trial.arena, &count);
    ck_assert_uint_eq(count, 25);
    for (size_t i = 0; i < count; i++)
        ck_assert_mem_eq(of[i].owner, trial_session(1, 0).owner, OWNER_TAG);
    ck_assert_ptr_null(
        journal_of_owner(trial.journal, trial_session(3, 0).owner, &trial.arena, &count));
    ck_assert_uint_eq(count, 0);
    trial_stop();
}
END_TEST

/* A hundred thousand owners in 65,536 buckets: many share one. */
START_TEST(owners_that_share_a_bucket_are_not_confused)
{
    enum { OWNERS = 100000 };
    unsigned wrong = 0;
    trial_start();
    for (unsigned i = 0; i < OWNERS; i += 2)
        trial_add(trial_session(i, 1), false);
    for (unsigned i = 0; i < OWNERS; i++)
        wrong += trial_finds(i, 1, 0) != (i % 2 == 0);
    ck_assert_uint_eq(wrong, 0);
    trial_stop();
}
END_TEST

/* --- one that says no more --- */

static const struct known_case {
    const char *what;
    int64_t before_ms, forget_s; /* added to what the first one has */
    unsigned exempt;             /* 0: none; the first one's is 7 */
    bool known;
} known_cases[] = {
    {"the same", 0, 0, 7, true},
    {"an earlier time", -1, 0, 7, true},
    {"a later time", 1, 0, 7, false},
    {"another exempt session", 0, 0, 8, false},
    {"no exempt session", 0, 0, 0, false},
    {"kept for less time", 0, -1, 7, true},
    {"kept for more time", 0, 1, 7, false},
};

START_TEST(one_that_says_no_more_gets_the_number_that_is_there)
{
    const struct known_case *row = &known_cases[_i];
    struct revocation first = trial_before_but(1, now_ms, 7);
    struct revocation second = trial_before_but(1, now_ms + row->before_ms, row->exempt);
    second.has_exempt = row->exempt != 0;
    second.forget_s = first.forget_s + row->forget_s;
    trial_start();
    uint64_t number = trial_write(first);
    ck_assert_msg((trial_write(second) == number) == row->known, "%s", row->what);
    ck_assert_uint_eq(trial_usage().records, row->known ? 1 : 2);
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_APPENDS), row->known ? 1 : 2);
    trial_stop();
}
END_TEST

START_TEST(one_without_exemption_says_more_than_one_with)
{
    trial_start();
    uint64_t number = trial_add(trial_before(1, now_ms), false);
    ck_assert_uint_eq(trial_add(trial_before_but(1, now_ms, 7), false), number);
    trial_stop();
}
END_TEST

START_TEST(the_same_session_is_taken_once_and_of_another_owner_again)
{
    trial_start();
    uint64_t number = trial_add(trial_session(1, 7), false);
    ck_assert_uint_eq(trial_add(trial_session(1, 7), true), number);
    ck_assert_uint_eq(trial_add(trial_session(2, 7), false), number + 1);
    ck_assert_uint_eq(trial_add(trial_session(1, 8), false), number + 2);
    trial_collect(1);
    ck_assert_int_eq(trial.written, 1);
    trial_stop();
    trial_start();
    ck_assert_uint_eq(trial_usage().records, 3);
    trial_stop();
}
END_TEST

START_TEST(one_that_is_confirmed_does_not_stand_for_another)
{
    trial_start();
    uint64_t number = trial_write(trial_session(1, 7));
    journal_confirm(trial.journal, number);
    ck_assert_uint_gt(trial_write(trial_session(1, 7)), number);
    ck_assert_uint_eq(trial_usage().unconfirmed, 1);
    trial_stop();
}
END_TEST

/* The first one's batch is never handed over before the second one's ticket is done. */
START_TEST(one_that_says_no_more_is_on_disk_when_its_ticket_says_so)
{
    trial_start();
    struct journal_lane *other = journal_lane_create(trial.journal, NULL, NULL);
    struct revocation first = trial_session(1, 7);
    ck_assert(journal_add(other, &first, NULL, NULL));
    trial_write(first);
    char copy[128];
    struct buffer bytes = trial_read(trial.path);
    snprintf(copy, sizeof(copy), "%s/copy", trial.directory);
    trial_overwrite(copy, bytes.data, bytes.length);
    buffer_free(&bytes);
    journal_lane_destroy(&other);
    trial_stop();
    trial.conf.journal_file = copy;
    trial_start();
    ck_assert(trial_finds(1, 7, 0));
    trial_stop();
}
END_TEST

/* --- settling, listing, counting --- */

START_TEST(confirming_counts_once_and_unknown_numbers_are_ignored)
{
    trial_start();
    uint64_t number = trial_write(trial_session(1, 1));
    trial_write(trial_session(1, 2));
    trial_assert_gauges();
    for (int i = 0; i < 2; i++) {
        journal_confirm(trial.journal, number);
        ck_assert_uint_eq(trial_usage().unconfirmed, 1);
        ck_assert_uint_eq(trial_usage().records, 2);
    }
    journal_confirm(trial.journal, 0);
    journal_confirm(trial.journal, 77);
    journal_confirm(trial.journal, UINT64_MAX);
    ck_assert_uint_eq(trial_usage().unconfirmed, 1);
    ck_assert(trial_finds(1, 1, 0));
    trial_assert_gauges();
    trial_stop();
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_RECORDS), 0);
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_UNCONFIRMED), 0);
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_BYTES), 0);
    trial_start();
    ck_assert_uint_eq(trial_usage().unconfirmed, 1);
    trial_assert_gauges();
    trial_stop();
}
END_TEST

START_TEST(the_list_is_newest_first_and_goes_on_below_a_number)
{
    enum { COUNT = 2000, PAGE = 7 };
    static struct revocation page[PAGE];
    trial_start();
    for (unsigned i = 0; i < COUNT; i++)
        trial_add(trial_session(i, 1), false);
    for (unsigned i = 1; i <= COUNT; i++)
        if (i % 10 != 0)
            journal_confirm(trial.journal, i);
    for (int unconfirmed_only = 0; unconfirmed_only < 2; unconfirmed_only++) {
        uint64_t step = unconfirmed_only ? 10 : 1, expected = COUNT, before = UINT64_MAX;
        size_t count;
        while ((count = journal_list(trial.journal, before, unconfirmed_only, &trial.arena, page,
                                     PAGE)))
            for (size_t i = 0; i < count; i++, expected -= step) {
                ck_assert_uint_eq(page[i].number, expected);
                ck_assert_int_eq(page[i].confirmed, expected % 10 != 0);
                before = page[i].number;
            }
        ck_assert_uint_eq(expected, 0);
    }
    ck_assert_uint_eq(journal_list(trial.journal, 0, false, &trial.arena, page, PAGE), 0);
    ck_assert_uint_eq(journal_list(trial.journal, 1, false, &trial.arena, page, PAGE), 0);
    ck_assert_uint_eq(journal_list(trial.journal, 50, false, &trial.arena, page, 0), 0);
    trial_stop();
}
END_TEST

START_TEST(the_size_that_is_told_is_the_size_of_the_file)
{
    trial_start();
    for (unsigned i = 0; i < 100; i++)
        trial_add(trial_session(1, i), true);
    trial_collect(100);
    trial_wait_until(metrics_read(METRIC_JOURNAL_BYTES) == trial_usage().bytes);
    struct buffer bytes = trial_read(trial.path);
    ck_assert_int_eq(trial_usage().bytes, (int64_t)bytes.length);
    buffer_free(&bytes);
    trial_stop();
}
END_TEST

/* --- tickets and group commit --- */

START_TEST(nothing_is_decided_before_the_batch_is_handed_over)
{
    trial_start();
    struct journal_lane *other = journal_lane_create(trial.journal, NULL, NULL);
    struct revocation revocation = trial_session(2, 2);
    trial_add(trial_session(1, 1), true);
    ck_assert(journal_add(other, &revocation, trial_ticket(), NULL));
    journal_flush(other);
    trial_wait_until((journal_collect(other), trial.written == 1));
    journal_collect(trial.lane);
    ck_assert_int_eq(trial.written + trial.refused, 1);
    ck_assert(trial_finds(1, 1, 0));
    trial_collect(2);
    ck_assert_int_eq(trial.written, 2);
    journal_lane_destroy(&other);
    trial_stop();
}
END_TEST

START_TEST(one_sync_serves_many)
{
    trial_start();
    for (unsigned i = 0; i < 500; i++)
        trial_add(trial_session(1, i), true);
    trial_collect(500);
    ck_assert_int_eq(trial.written, 500);
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_SYNCS), 1);
    trial_stop();
}
END_TEST

START_TEST(marks_are_written_soon_and_without_a_sync)
{
    trial_start();
    uint64_t number = trial_write(trial_session(1, 1));
    int64_t bytes = trial_usage().bytes;
    journal_confirm(trial.journal, number);
    trial_wait_until(trial_usage().bytes > bytes);
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_SYNCS), 1);
    trial_stop();
}
END_TEST

static _Atomic int wakes;

static void count_wake(void *user)
{
    ck_assert_ptr_eq(user, &wakes);
    atomic_fetch_add(&wakes, 1);
}

START_TEST(the_worker_is_woken_for_its_tickets_only)
{
    trial_start();
    struct journal_lane *own = trial.lane;
    trial.lane = journal_lane_create(trial.journal, count_wake, &wakes);
    struct revocation other = trial_session(2, 2);
    ck_assert(journal_add(own, &other, trial_ticket(), NULL));
    journal_lane_destroy(&own);
    ck_assert_int_eq(trial.written, 1);
    ck_assert_int_eq(atomic_load(&wakes), 0);
    trial_write(trial_session(1, 1));
    ck_assert_int_eq(atomic_load(&wakes), 1);
    trial_stop();
}
END_TEST

START_TEST(destroying_a_lane_waits_for_its_tickets)
{
    trial_start();
    for (unsigned i = 0; i < 10; i++)
        trial_add(trial_session(1, i), true);
    journal_lane_destroy(&trial.lane);
    ck_assert_int_eq(trial.written, 10);
    journal_close(&trial.journal);
    struct journal_lane *none = NULL;
    journal_lane_destroy(&none);
    journal_close(&trial.journal);
}
END_TEST

START_TEST(closing_writes_what_nobody_waits_for)
{
    trial_start();
    trial_add(trial_session(1, 1), false);
    trial_stop();
    trial_start();
    ck_assert(trial_finds(1, 1, 0));
    trial_stop();
}
END_TEST

static void add_revoked(Suite *suite)
{
    TCase *revoked = tcase_create("revoked");
    tcase_set_timeout(revoked, 60);
    tcase_add_checked_fixture(revoked, trial_set_up, trial_tear_down);
    tcase_add_test(revoked, a_session_is_revoked_at_once_and_no_other);
    tcase_add_test(revoked, sessions_created_before_are_revoked_and_later_ones_are_not);
    tcase_add_test(revoked, an_exempt_session_is_spared_by_its_revocation_only);
    tcase_add_test(revoked, a_session_number_of_zeros_is_not_exempt_unless_it_is_said);
    tcase_add_test(revoked, a_freeze_kills_what_was_created_before_and_keeps_its_end);
    tcase_add_test(revoked, a_lift_is_kept_and_kills_nothing);
    tcase_add_test(revoked, an_older_freeze_does_not_stand_for_a_newer_one);
    tcase_add_test(revoked, what_was_found_is_told_with_its_texts);
    tcase_add_test(revoked, long_texts_are_cut_and_no_character_is_split);
    tcase_add_test(revoked, all_of_an_owner_are_told_and_nothing_of_others);
    tcase_add_test(revoked, owners_that_share_a_bucket_are_not_confused);
    tcase_add_loop_test(revoked, one_that_says_no_more_gets_the_number_that_is_there, 0,
                        sizeof(known_cases) / sizeof(*known_cases));
    tcase_add_test(revoked, one_without_exemption_says_more_than_one_with);
    tcase_add_test(revoked, the_same_session_is_taken_once_and_of_another_owner_again);
    tcase_add_test(revoked, one_that_is_confirmed_does_not_stand_for_another);
    tcase_add_test(revoked, one_that_says_no_more_is_on_disk_when_its_ticket_says_so);
    suite_add_tcase(suite, revoked);
}

static void add_work(Suite *suite)
{
    TCase *work = tcase_create("work");
    tcase_add_checked_fixture(work, trial_set_up, trial_tear_down);
    tcase_add_test(work, confirming_counts_once_and_unknown_numbers_are_ignored);
    tcase_add_test(work, the_list_is_newest_first_and_goes_on_below_a_number);
    tcase_add_test(work, the_size_that_is_told_is_the_size_of_the_file);
    tcase_add_test(work, nothing_is_decided_before_the_batch_is_handed_over);
    tcase_add_test(work, one_sync_serves_many);
    tcase_add_test(work, marks_are_written_soon_and_without_a_sync);
    tcase_add_test(work, the_worker_is_woken_for_its_tickets_only);
    tcase_add_test(work, destroying_a_lane_waits_for_its_tickets);
    tcase_add_test(work, closing_writes_what_nobody_waits_for);
    suite_add_tcase(suite, work);
}

int main(void)
{
    Suite *suite = suite_create("journal");
    add_revoked(suite);
    add_work(suite);
    return support_run(suite);
}
