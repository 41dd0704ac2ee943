/* The journal as workers see it: what is revoked and what is not, numbers, settling, tickets, group
 * commit, the bound, expiry, writing anew, and threads. */
#include <check.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "memory.h"
#include "metrics.h"

#include "support_journal.h"
#include "support_run.h"

static const int64_t now_ms = 1795340109000;

/* --- what is revoked --- */

START_TEST(a_session_is_revoked_at_once_and_no_other)
{
    rig_start();
    ck_assert(!rig_finds(1, 7, 0));
    rig_add(rig_session(1, 7), false);
    ck_assert(rig_finds(1, 7, 0));
    ck_assert(rig_finds(1, 7, INT64_MAX));
    ck_assert(!rig_finds(1, 8, 0));
    ck_assert(!rig_finds(2, 7, 0));
    rig_stop();
}
END_TEST

START_TEST(sessions_created_before_are_revoked_and_later_ones_are_not)
{
    rig_start();
    rig_add(rig_before(1, now_ms), false);
    ck_assert(rig_finds(1, 7, now_ms - 1));
    ck_assert(!rig_finds(1, 7, now_ms));
    ck_assert(!rig_finds(2, 7, now_ms - 1));
    rig_stop();
}
END_TEST

START_TEST(an_exempt_session_is_spared_by_its_revocation_only)
{
    rig_start();
    rig_add(rig_before_but(1, now_ms, 7), false);
    ck_assert(!rig_finds(1, 7, now_ms - 1));
    ck_assert(rig_finds(1, 8, now_ms - 1));
    rig_add(rig_before(1, now_ms - 100), false);
    ck_assert(!rig_finds(1, 7, now_ms - 100));
    ck_assert(rig_finds(1, 7, now_ms - 101));
    rig_add(rig_session(1, 7), false);
    ck_assert(rig_finds(1, 7, now_ms));
    rig_stop();
}
END_TEST

START_TEST(a_session_number_of_zeros_is_not_exempt_unless_it_is_said)
{
    rig_start();
    rig_add(rig_before(1, now_ms), false);
    ck_assert(rig_finds(1, 0, now_ms - 1));
    rig_stop();
}
END_TEST

START_TEST(the_reserved_kind_is_kept_and_kills_nothing)
{
    struct revocation freeze = rig_before(1, now_ms), got;
    freeze.kind = REVOKE_FREEZE;
    rig_start();
    rig_add(freeze, false);
    ck_assert(!rig_finds(1, 0, now_ms - 1));
    rig_stop();
    rig_start();
    ck_assert_uint_eq(journal_list(rig.journal, UINT64_MAX, true, &rig.arena, &got, 1), 1);
    ck_assert_int_eq(got.kind, REVOKE_FREEZE);
    rig_stop();
}
END_TEST

START_TEST(what_was_found_is_told_with_its_texts)
{
    struct revocation put = rig_before_but(1, now_ms, 9), got;
    rig_start();
    uint64_t number = rig_add(put, false);
    ck_assert(journal_find(rig.journal, put.owner, rig_session(1, 7).session, 0, &rig.arena, &got));
    ck_assert_int_eq(got.kind, REVOKE_BEFORE);
    ck_assert_mem_eq(got.owner, put.owner, JOURNAL_OWNER);
    ck_assert_mem_eq(got.session, put.session, JOURNAL_SESSION);
    ck_assert(got.has_exempt);
    ck_assert_int_eq(got.before_ms, now_ms);
    ck_assert_int_eq(got.at_ms, put.at_ms);
    ck_assert_int_eq(got.forget_s, put.forget_s);
    ck_assert(text_equal(got.reason, TEXT("kicked")));
    ck_assert(text_equal(got.actor, TEXT("alice")));
    ck_assert_uint_eq(got.number, number);
    ck_assert(!got.settled);
    rig_stop();
}
END_TEST

START_TEST(long_texts_are_cut_and_no_character_is_split)
{
    char longest[1024];
    struct revocation put = rig_session(1, 1), got;
    memset(longest, 'x', sizeof(longest));
    memcpy(longest + 254, "\xc3\xa9", 2);
    put.reason = (struct text){longest, sizeof(longest)};
    put.actor = (struct text){longest, 254};
    rig_start();
    rig_add(put, false);
    rig_stop();
    rig_start();
    ck_assert(journal_find(rig.journal, put.owner, put.session, 0, &rig.arena, &got));
    ck_assert_uint_eq(got.reason.length, 254);
    ck_assert_uint_eq(got.actor.length, 254);
    ck_assert_mem_eq(got.reason.data, longest, 254);
    rig_stop();
}
END_TEST

START_TEST(all_of_an_owner_are_told_and_nothing_of_others)
{
    size_t count = 99;
    rig_start();
    for (unsigned i = 0; i < 50; i++)
        rig_add(rig_session(i % 2, i), false);
    struct revocation *of =
        journal_of_owner(rig.journal, rig_session(1, 0).owner, &rig.arena, &count);
    ck_assert_uint_eq(count, 25);
    for (size_t i = 0; i < count; i++)
        ck_assert_mem_eq(of[i].owner, rig_session(1, 0).owner, JOURNAL_OWNER);
    ck_assert_ptr_null(journal_of_owner(rig.journal, rig_session(3, 0).owner, &rig.arena, &count));
    ck_assert_uint_eq(count, 0);
    rig_stop();
}
END_TEST

/* A hundred thousand owners in 65,536 buckets: many share one. */
START_TEST(owners_that_share_a_bucket_are_not_confused)
{
    enum { OWNERS = 100000 };
    unsigned wrong = 0;
    rig_start();
    for (unsigned i = 0; i < OWNERS; i += 2)
        rig_add(rig_session(i, 1), false);
    for (unsigned i = 0; i < OWNERS; i++)
        wrong += rig_finds(i, 1, 0) != (i % 2 == 0);
    ck_assert_uint_eq(wrong, 0);
    rig_stop();
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
    struct revocation first = rig_before_but(1, now_ms, 7);
    struct revocation second = rig_before_but(1, now_ms + row->before_ms, row->exempt);
    second.has_exempt = row->exempt != 0;
    second.forget_s = first.forget_s + row->forget_s;
    rig_start();
    uint64_t number = rig_write(first);
    ck_assert_msg((rig_write(second) == number) == row->known, "%s", row->what);
    ck_assert_uint_eq(rig_usage().records, row->known ? 1 : 2);
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_APPENDS), row->known ? 1 : 2);
    rig_stop();
}
END_TEST

START_TEST(one_without_exemption_says_more_than_one_with)
{
    rig_start();
    uint64_t number = rig_add(rig_before(1, now_ms), false);
    ck_assert_uint_eq(rig_add(rig_before_but(1, now_ms, 7), false), number);
    rig_stop();
}
END_TEST

START_TEST(the_same_session_is_taken_once_and_of_another_owner_again)
{
    rig_start();
    uint64_t number = rig_add(rig_session(1, 7), false);
    ck_assert_uint_eq(rig_add(rig_session(1, 7), true), number);
    ck_assert_uint_eq(rig_add(rig_session(2, 7), false), number + 1);
    ck_assert_uint_eq(rig_add(rig_session(1, 8), false), number + 2);
    rig_collect(1);
    ck_assert_int_eq(rig.written, 1);
    rig_stop();
    rig_start();
    ck_assert_uint_eq(rig_usage().records, 3);
    rig_stop();
}
END_TEST

START_TEST(one_that_is_settled_does_not_stand_for_another)
{
    rig_start();
    uint64_t number = rig_write(rig_session(1, 7));
    journal_settle(rig.journal, number);
    ck_assert_uint_gt(rig_write(rig_session(1, 7)), number);
    ck_assert_uint_eq(rig_usage().unsettled, 1);
    rig_stop();
}
END_TEST

/* The first one's batch is never handed over before the second one's ticket is done. */
START_TEST(one_that_says_no_more_is_on_disk_when_its_ticket_says_so)
{
    rig_start();
    struct journal_writer *other = journal_writer_create(rig.journal, NULL, NULL);
    struct revocation first = rig_session(1, 7);
    ck_assert(journal_add(other, &first, NULL, NULL));
    rig_write(first);
    char copy[128];
    struct buffer bytes = rig_read(rig.path);
    snprintf(copy, sizeof(copy), "%s/copy", rig.directory);
    rig_overwrite(copy, bytes.data, bytes.length);
    buffer_free(&bytes);
    journal_writer_destroy(&other);
    rig_stop();
    rig.conf.journal_file = copy;
    rig_start();
    ck_assert(rig_finds(1, 7, 0));
    rig_stop();
}
END_TEST

/* --- settling, listing, counting --- */

static void assert_gauges(void)
{
    struct journal_usage usage = rig_usage();
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_RECORDS), (int64_t)usage.records);
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_UNSETTLED), (int64_t)usage.unsettled);
}

START_TEST(settling_counts_once_and_unknown_numbers_are_ignored)
{
    rig_start();
    uint64_t number = rig_write(rig_session(1, 1));
    rig_write(rig_session(1, 2));
    assert_gauges();
    for (int i = 0; i < 2; i++) {
        journal_settle(rig.journal, number);
        ck_assert_uint_eq(rig_usage().unsettled, 1);
        ck_assert_uint_eq(rig_usage().records, 2);
    }
    journal_settle(rig.journal, 0);
    journal_settle(rig.journal, 77);
    journal_settle(rig.journal, UINT64_MAX);
    ck_assert_uint_eq(rig_usage().unsettled, 1);
    ck_assert(rig_finds(1, 1, 0));
    assert_gauges();
    rig_stop();
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_RECORDS), 0);
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_UNSETTLED), 0);
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_BYTES), 0);
    rig_start();
    ck_assert_uint_eq(rig_usage().unsettled, 1);
    assert_gauges();
    rig_stop();
}
END_TEST

START_TEST(the_list_is_newest_first_and_goes_on_below_a_number)
{
    enum { COUNT = 2000, PAGE = 7 };
    static struct revocation page[PAGE];
    rig_start();
    for (unsigned i = 0; i < COUNT; i++)
        rig_add(rig_session(i, 1), false);
    for (unsigned i = 1; i <= COUNT; i++)
        if (i % 10 != 0)
            journal_settle(rig.journal, i);
    for (int unsettled_only = 0; unsettled_only < 2; unsettled_only++) {
        uint64_t step = unsettled_only ? 10 : 1, expected = COUNT, before = UINT64_MAX;
        size_t count;
        while ((count = journal_list(rig.journal, before, unsettled_only, &rig.arena, page, PAGE)))
            for (size_t i = 0; i < count; i++, expected -= step) {
                ck_assert_uint_eq(page[i].number, expected);
                ck_assert_int_eq(page[i].settled, expected % 10 != 0);
                before = page[i].number;
            }
        ck_assert_uint_eq(expected, 0);
    }
    ck_assert_uint_eq(journal_list(rig.journal, 0, false, &rig.arena, page, PAGE), 0);
    ck_assert_uint_eq(journal_list(rig.journal, 1, false, &rig.arena, page, PAGE), 0);
    ck_assert_uint_eq(journal_list(rig.journal, 50, false, &rig.arena, page, 0), 0);
    rig_stop();
}
END_TEST

START_TEST(the_size_that_is_told_is_the_size_of_the_file)
{
    rig_start();
    for (unsigned i = 0; i < 100; i++)
        rig_add(rig_session(1, i), true);
    rig_collect(100);
    rig_wait_until(metrics_read(METRIC_JOURNAL_BYTES) == rig_usage().bytes);
    struct buffer bytes = rig_read(rig.path);
    ck_assert_int_eq(rig_usage().bytes, (int64_t)bytes.length);
    buffer_free(&bytes);
    rig_stop();
}
END_TEST

/* --- tickets and group commit --- */

START_TEST(nothing_is_decided_before_the_batch_is_handed_over)
{
    rig_start();
    rig_add(rig_session(1, 1), true);
    usleep(30000);
    journal_collect(rig.writer);
    ck_assert_int_eq(rig.written + rig.refused, 0);
    ck_assert(rig_finds(1, 1, 0));
    rig_collect(1);
    ck_assert_int_eq(rig.written, 1);
    rig_stop();
}
END_TEST

START_TEST(one_sync_serves_many)
{
    rig_start();
    for (unsigned i = 0; i < 500; i++)
        rig_add(rig_session(1, i), true);
    rig_collect(500);
    ck_assert_int_eq(rig.written, 500);
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_SYNCS), 1);
    rig_stop();
}
END_TEST

START_TEST(marks_are_written_soon_and_without_a_sync)
{
    rig_start();
    uint64_t number = rig_write(rig_session(1, 1));
    int64_t bytes = rig_usage().bytes;
    journal_settle(rig.journal, number);
    rig_wait_until(rig_usage().bytes > bytes);
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_SYNCS), 1);
    rig_stop();
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
    rig_start();
    struct journal_writer *own = rig.writer;
    rig.writer = journal_writer_create(rig.journal, count_wake, &wakes);
    struct revocation other = rig_session(2, 2);
    ck_assert(journal_add(own, &other, rig_ticket(), NULL));
    journal_writer_destroy(&own);
    ck_assert_int_eq(rig.written, 1);
    ck_assert_int_eq(atomic_load(&wakes), 0);
    rig_write(rig_session(1, 1));
    ck_assert_int_eq(atomic_load(&wakes), 1);
    rig_stop();
}
END_TEST

START_TEST(destroying_a_writer_waits_for_its_tickets)
{
    rig_start();
    for (unsigned i = 0; i < 10; i++)
        rig_add(rig_session(1, i), true);
    journal_writer_destroy(&rig.writer);
    ck_assert_int_eq(rig.written, 10);
    journal_close(&rig.journal);
    struct journal_writer *none = NULL;
    journal_writer_destroy(&none);
    journal_close(&rig.journal);
}
END_TEST

START_TEST(closing_writes_what_nobody_waits_for)
{
    rig_start();
    rig_add(rig_session(1, 1), false);
    rig_stop();
    rig_start();
    ck_assert(rig_finds(1, 1, 0));
    rig_stop();
}
END_TEST

/* --- the bound --- */

/* Adds until it is refused, or `most`; how many were taken. */
static unsigned fill(unsigned owner, unsigned most)
{
    unsigned count = 0;
    struct revocation revocation = rig_session(owner, 0);
    while (count < most && journal_add(rig.writer, &revocation, NULL, NULL))
        revocation = rig_session(owner, ++count);
    return count;
}

START_TEST(a_full_journal_refuses_and_forgets_nothing_unsettled)
{
    rig.conf.journal_max_bytes = 65536;
    rig_start();
    unsigned taken = fill(1, 100000);
    ck_assert_uint_gt(taken, 65536 / 100);
    ck_assert_uint_lt(taken, 65536 / 60);
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_REFUSED), 1);
    struct revocation another = rig_session(2, 2);
    struct journal_ticket *ticket = rig_ticket();
    ck_assert(!journal_add(rig.writer, &another, ticket, NULL));
    free(ticket);
    ck_assert(!rig_finds(2, 2, 0));
    ck_assert_uint_eq(rig_write(rig_session(1, 0)), 1);
    for (unsigned i = 0; i < taken; i++)
        ck_assert(rig_finds(1, i, 0));
    ck_assert_int_le(rig_usage().bytes, 65536);
    rig_stop();
    rig_start();
    ck_assert_uint_eq(rig_usage().unsettled, taken);
    rig_stop();
}
END_TEST

START_TEST(settled_ones_make_room_oldest_first)
{
    rig.conf.journal_max_bytes = 65536;
    rig_start();
    unsigned taken = fill(1, 100000);
    for (unsigned number = 11; number <= 210; number++)
        journal_settle(rig.journal, number);
    rig_write(rig_session(2, 2));
    unsigned gone = 0;
    for (unsigned i = 10; i < 210; i++)
        gone += !rig_finds(1, i, 0);
    ck_assert_uint_gt(gone, 0);
    ck_assert_uint_lt(gone, 200);
    for (unsigned i = 0; i < taken; i++)
        ck_assert_int_eq(rig_finds(1, i, 0), i < 10 || i >= 10 + gone);
    assert_gauges();
    rig_stop();
}
END_TEST

/* Ten times more than fits goes through; the file stays within its bound all the time. */
START_TEST(the_file_never_grows_beyond_its_bound)
{
    int64_t largest = 0;
    rig.conf.journal_max_bytes = 65536;
    rig_start();
    for (unsigned i = 0; i < 8000; i++) {
        uint64_t number = rig_add(rig_session(i, 1), false);
        if (i % 16 == 15)
            rig_write(rig_session(i, 2));
        if (i % 3 != 0 || i > 300)
            journal_settle(rig.journal, number);
        largest = rig_usage().bytes > largest ? rig_usage().bytes : largest;
    }
    ck_assert_int_le(largest, 65536);
    ck_assert_int_gt(largest, 50000);
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_REFUSED), 0);
    ck_assert_int_lt(metrics_read(METRIC_JOURNAL_COMPACTIONS), 600);
    for (unsigned i = 0; i <= 300; i += 3)
        ck_assert(rig_finds(i, 1, 0));
    rig_stop();
}
END_TEST

START_TEST(a_bound_that_was_reloaded_holds_at_once)
{
    rig.conf.journal_max_bytes = 65536;
    rig_start();
    unsigned taken = fill(1, 100000);
    rig.conf.journal_max_bytes = 131072;
    journal_reload(rig.journal, &rig.conf);
    ck_assert_uint_gt(fill(2, 100000), taken / 2);
    rig.conf.journal_max_bytes = 65536;
    journal_reload(rig.journal, &rig.conf);
    ck_assert_uint_eq(fill(3, 100000), 0);
    ck_assert(rig_finds(1, 0, 0));
    rig_stop();
    rig_start();
    ck_assert_uint_gt(rig_usage().unsettled, taken);
    rig_stop();
}
END_TEST

/* --- expiry and writing anew --- */

START_TEST(what_can_kill_nothing_any_more_is_forgotten)
{
    clock_fake(now_ms);
    rig_start();
    for (unsigned i = 0; i < 3000; i++) {
        struct revocation revocation = rig_session(i, 1);
        revocation.forget_s = now_ms / 1000 + 10 * (1 + i % 3);
        rig_add(revocation, false);
    }
    journal_flush(rig.writer);
    for (int left = 3; left > 0; left--) {
        clock_fake(now_ms + (4 - left) * 10000 + 999);
        usleep(1200000);
        ck_assert_uint_eq(rig_usage().records, (size_t)left * 1000);
        clock_fake(now_ms + (4 - left) * 10000 + 1000);
        rig_wait_until(rig_usage().records == ((size_t)left - 1) * 1000);
        for (unsigned i = 0; i < 3000; i++)
            ck_assert_int_eq(rig_finds(i, 1, 0), (int)(i % 3) > 3 - left);
    }
    assert_gauges();
    rig_stop();
}
END_TEST

START_TEST(what_expired_while_it_was_closed_is_forgotten_at_start)
{
    clock_fake(now_ms);
    rig_start();
    struct revocation shorter = rig_session(1, 1);
    shorter.forget_s = now_ms / 1000 + 5;
    rig_add(shorter, false);
    rig_add(rig_session(2, 2), false);
    rig_stop();
    clock_fake(now_ms + 6000);
    rig_start();
    ck_assert(!rig_finds(1, 1, 0));
    ck_assert(rig_finds(2, 2, 0));
    ck_assert_uint_eq(rig_usage().records, 1);
    rig_stop();
}
END_TEST

START_TEST(a_file_that_is_mostly_of_no_use_is_written_anew)
{
    clock_fake(now_ms);
    rig_start();
    for (unsigned i = 0; i < 2000; i++) {
        struct revocation revocation = rig_session(i, 1);
        revocation.forget_s += i % 10 == 0 ? 3600 : 0;
        rig_add(revocation, false);
    }
    uint64_t settled = rig_write(rig_before(0, 1));
    journal_settle(rig.journal, 1);
    journal_settle(rig.journal, settled);
    int64_t before = rig_usage().bytes;
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_COMPACTIONS), 0);
    clock_fake(now_ms + 3601 * 1000);
    rig_wait_until(rig_usage().bytes < before / 8);
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_COMPACTIONS), 1);
    rig_write(rig_session(5000, 1));
    rig_stop();
    rig_start();
    ck_assert_uint_eq(rig_usage().records, 201);
    ck_assert_uint_eq(rig_usage().unsettled, 200);
    for (unsigned i = 0; i < 2000; i++)
        ck_assert_int_eq(rig_finds(i, 1, 0), i % 10 == 0);
    ck_assert(rig_finds(5000, 1, 0));
    ck_assert_int_eq(rig_files("", NULL), 1);
    rig_stop();
}
END_TEST

START_TEST(a_start_writes_a_wasteful_file_anew)
{
    clock_fake(now_ms);
    rig_start();
    for (unsigned i = 0; i < 1000; i++)
        rig_add(rig_session(i, 1), false);
    rig_stop();
    clock_fake(now_ms + 3601 * 1000);
    rig_start();
    rig_wait_until(rig_usage().bytes < 100);
    rig_stop();
}
END_TEST

/* --- threads --- */

enum { WRITERS = 4, EACH = 5000 };

struct adder {
    pthread_t thread;
    unsigned number;
    unsigned done, wrong;
};

struct adder_ticket {
    struct journal_ticket ticket;
    struct adder *owner;
};

static void note_adder(struct journal_ticket *ticket, bool written)
{
    struct adder_ticket *own = (struct adder_ticket *)ticket;
    own->owner->done += written;
    free(own);
}

static void *add_many(void *user)
{
    struct adder *self = user;
    struct journal_writer *own = journal_writer_create(rig.journal, NULL, NULL);
    struct arena arena = {0};
    metrics_attach();
    for (unsigned i = 0; i < EACH; i++) {
        struct adder_ticket *ticket = xcalloc(1, sizeof(*ticket));
        struct revocation revocation = rig_session(self->number * EACH + i, i), got;
        uint64_t number;
        *ticket = (struct adder_ticket){{.done = note_adder}, self};
        if (!journal_add(own, &revocation, &ticket->ticket, &number))
            self->wrong++;
        if (!journal_find(rig.journal, revocation.owner, revocation.session, 0, &arena, &got))
            self->wrong++;
        if (i % 2 == 0)
            journal_settle(rig.journal, number);
        if (i % 10 == 9) {
            journal_flush(own);
            journal_collect(own);
        }
        if (i % 250 == 249) {
            struct revocation page[20];
            journal_list(rig.journal, number, i % 500 == 499, &arena, page, 20);
            arena_reset(&arena);
            while (self->done < i) {
                rig_nap();
                journal_collect(own);
            }
        }
    }
    journal_writer_destroy(&own);
    arena_free(&arena);
    return NULL;
}

static void run_adders(struct adder adders[WRITERS])
{
    for (unsigned i = 0; i < WRITERS; i++) {
        adders[i].number = i;
        pthread_create(&adders[i].thread, NULL, add_many, &adders[i]);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        pthread_join(adders[i].thread, NULL);
        ck_assert_uint_eq(adders[i].done, EACH);
        ck_assert_uint_eq(adders[i].wrong, 0);
    }
}

START_TEST(many_writers_share_few_syncs_and_lose_nothing)
{
    struct adder adders[WRITERS] = {0};
    unsigned missing = 0;
    rig_start();
    run_adders(adders);
    int64_t syncs = metrics_read(METRIC_JOURNAL_SYNCS);
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_APPENDS), WRITERS * EACH);
    ck_assert_int_lt(syncs, WRITERS * EACH / 10);
    assert_gauges();
    rig_stop();
    rig_start();
    ck_assert_uint_eq(rig_usage().records, WRITERS * EACH);
    ck_assert_uint_eq(rig_usage().unsettled, WRITERS * EACH / 2);
    for (unsigned i = 0; i < WRITERS * EACH; i++)
        missing += !rig_finds(i, i % EACH, 0);
    ck_assert_uint_eq(missing, 0);
    rig_stop();
    printf("%d adds by %d writers: %lld syncs\n", WRITERS * EACH, WRITERS, (long long)syncs);
}
END_TEST

/* Half are settled, so that in a small journal they go, and the file is written anew again and
 * again while four writers add. */
START_TEST(writing_anew_under_load_loses_nothing_unsettled)
{
    struct adder adders[WRITERS] = {0};
    unsigned missing = 0;
    rig.conf.journal_max_bytes = 1200000;
    rig_start();
    run_adders(adders);
    ck_assert_int_gt(metrics_read(METRIC_JOURNAL_COMPACTIONS), 1);
    ck_assert_int_le(rig_usage().bytes, 1200000);
    assert_gauges();
    rig_stop();
    rig_start();
    ck_assert_uint_eq(rig_usage().unsettled, WRITERS * EACH / 2);
    for (unsigned i = 0; i < WRITERS * EACH; i++)
        missing += i % 2 == 1 && !rig_finds(i, i % EACH, 0);
    ck_assert_uint_eq(missing, 0);
    rig_stop();
}
END_TEST

/* --- size --- */

START_TEST(a_hundred_thousand_unsettled_fit)
{
    enum { COUNT = 100000 };
    rig_start();
    size_t before = mallinfo2().uordblks;
    double begun = rig_seconds();
    for (unsigned i = 0; i < COUNT; i++) {
        rig_add(rig_session(i, i), i == COUNT - 1);
        if (i % 100 == 99)
            journal_flush(rig.writer);
    }
    double added = rig_seconds();
    rig_collect(1);
    double written = rig_seconds();
    ck_assert_int_eq(rig.written, 1);
    ck_assert_uint_eq(rig_usage().unsettled, COUNT);
    size_t memory = mallinfo2().uordblks;
    ck_assert_int_lt(rig_usage().bytes, 67108864);
    printf("%d adds in %.0f ms, on disk after %.0f ms; %lld bytes each on disk", COUNT,
           1000 * (added - begun), 1000 * (written - begun), (long long)rig_usage().bytes / COUNT);
    if (memory > before) { /* sanitizers have an allocator of their own */
        printf(", %zu in memory", (memory - before) / COUNT);
        ck_assert_uint_le((memory - before) / COUNT, 200);
    }
    rig_stop();
    begun = rig_seconds();
    rig_start();
    printf("; read in %.0f ms\n", 1000 * (rig_seconds() - begun));
    ck_assert_uint_eq(rig_usage().unsettled, COUNT);
    rig_stop();
}
END_TEST

static void add_revoked(Suite *suite)
{
    TCase *revoked = tcase_create("revoked");
    tcase_add_checked_fixture(revoked, rig_set_up, rig_tear_down);
    tcase_add_test(revoked, a_session_is_revoked_at_once_and_no_other);
    tcase_add_test(revoked, sessions_created_before_are_revoked_and_later_ones_are_not);
    tcase_add_test(revoked, an_exempt_session_is_spared_by_its_revocation_only);
    tcase_add_test(revoked, a_session_number_of_zeros_is_not_exempt_unless_it_is_said);
    tcase_add_test(revoked, the_reserved_kind_is_kept_and_kills_nothing);
    tcase_add_test(revoked, what_was_found_is_told_with_its_texts);
    tcase_add_test(revoked, long_texts_are_cut_and_no_character_is_split);
    tcase_add_test(revoked, all_of_an_owner_are_told_and_nothing_of_others);
    tcase_add_test(revoked, owners_that_share_a_bucket_are_not_confused);
    tcase_add_loop_test(revoked, one_that_says_no_more_gets_the_number_that_is_there, 0,
                        sizeof(known_cases) / sizeof(*known_cases));
    tcase_add_test(revoked, one_without_exemption_says_more_than_one_with);
    tcase_add_test(revoked, the_same_session_is_taken_once_and_of_another_owner_again);
    tcase_add_test(revoked, one_that_is_settled_does_not_stand_for_another);
    tcase_add_test(revoked, one_that_says_no_more_is_on_disk_when_its_ticket_says_so);
    suite_add_tcase(suite, revoked);
}

static void add_work(Suite *suite)
{
    TCase *work = tcase_create("work");
    tcase_add_checked_fixture(work, rig_set_up, rig_tear_down);
    tcase_add_test(work, settling_counts_once_and_unknown_numbers_are_ignored);
    tcase_add_test(work, the_list_is_newest_first_and_goes_on_below_a_number);
    tcase_add_test(work, the_size_that_is_told_is_the_size_of_the_file);
    tcase_add_test(work, nothing_is_decided_before_the_batch_is_handed_over);
    tcase_add_test(work, one_sync_serves_many);
    tcase_add_test(work, marks_are_written_soon_and_without_a_sync);
    tcase_add_test(work, the_worker_is_woken_for_its_tickets_only);
    tcase_add_test(work, destroying_a_writer_waits_for_its_tickets);
    tcase_add_test(work, closing_writes_what_nobody_waits_for);
    suite_add_tcase(suite, work);
}

static void add_bounds(Suite *suite)
{
    TCase *bounds = tcase_create("bounds");
    tcase_add_checked_fixture(bounds, rig_set_up, rig_tear_down);
    tcase_set_timeout(bounds, 30);
    tcase_add_test(bounds, a_full_journal_refuses_and_forgets_nothing_unsettled);
    tcase_add_test(bounds, settled_ones_make_room_oldest_first);
    tcase_add_test(bounds, the_file_never_grows_beyond_its_bound);
    tcase_add_test(bounds, a_bound_that_was_reloaded_holds_at_once);
    tcase_add_test(bounds, what_can_kill_nothing_any_more_is_forgotten);
    tcase_add_test(bounds, what_expired_while_it_was_closed_is_forgotten_at_start);
    tcase_add_test(bounds, a_file_that_is_mostly_of_no_use_is_written_anew);
    tcase_add_test(bounds, a_start_writes_a_wasteful_file_anew);
    tcase_add_test(bounds, many_writers_share_few_syncs_and_lose_nothing);
    tcase_add_test(bounds, writing_anew_under_load_loses_nothing_unsettled);
    tcase_add_test(bounds, a_hundred_thousand_unsettled_fit);
    suite_add_tcase(suite, bounds);
}

int main(void)
{
    Suite *suite = suite_create("journal");
    add_revoked(suite);
    add_work(suite);
    add_bounds(suite);
    return support_run(suite);
}
