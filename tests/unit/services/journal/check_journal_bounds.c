/* The journal under load and over time: its bound, forgetting, rewriting, many lanes, and the cost
 * of a hundred thousand revocations. */
#include <check.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "clock.h"
#include "memory.h"
#include "metrics.h"

#include "support_journal.h"
#include "support_run.h"

static const int64_t now_ms = 1795340109000;

/* --- the bound --- */

static struct revocation of_tenant(unsigned tenant, struct revocation revocation)
{
    revocation.owner[0] = (uint8_t)tenant;
    return revocation;
}

/* Kicks the first session of each of `most` users of the tenant, or until it is refused; how many
 * were taken. */
static unsigned fill(unsigned tenant, unsigned most)
{
    unsigned count = 0;
    struct revocation revocation = of_tenant(tenant, trial_session(0, 1));
    while (count < most && journal_add(trial.lane, &revocation, NULL, NULL))
        revocation = of_tenant(tenant, trial_session(++count, 1));
    return count;
}

static void settle_all(uint64_t first, uint64_t last)
{
    for (uint64_t number = first; number <= last; number++)
        journal_confirm(trial.journal, number);
}

static bool is_kicked(unsigned tenant, unsigned user)
{
    struct revocation wanted = of_tenant(tenant, trial_session(user, 1));
    return journal_find(trial.journal, wanted.owner, wanted.session, 0, NULL, NULL);
}

static unsigned count_kicked(unsigned tenant, unsigned users)
{
    unsigned count = 0;
    for (unsigned user = 0; user < users; user++)
        count += is_kicked(tenant, user);
    return count;
}

START_TEST(a_full_journal_refuses_and_forgets_nothing_unconfirmed)
{
    clock_fake(now_ms); /* the same revocation a second later would live a second longer */
    trial.conf.journal_max_bytes = 65536;
    trial_start();
    unsigned taken = fill(1, 100000);
    ck_assert_uint_gt(taken, 65536 / 2 / 100);
    ck_assert_uint_lt(taken, 65536 / 2 / 60);
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_REFUSED), 1);
    struct revocation another = of_tenant(1, trial_session(taken + 1, 1));
    struct commit_ticket *ticket = trial_ticket();
    ck_assert(!journal_add(trial.lane, &another, ticket, NULL));
    free(ticket);
    ck_assert(!is_kicked(1, taken + 1));
    ck_assert_uint_eq(trial_write(of_tenant(1, trial_session(0, 1))), 1);
    ck_assert_uint_eq(count_kicked(1, taken), taken);
    ck_assert_int_le(trial_usage().bytes, 65536);
    trial_stop();
    trial_start();
    ck_assert_uint_eq(trial_usage().unconfirmed, taken);
    ck_assert_uint_eq(fill(1, 100000), taken); /* those that are there, and no other */
    trial_stop();
}
END_TEST

START_TEST(confirmed_ones_make_room_oldest_first)
{
    trial.conf.journal_max_bytes = 65536;
    trial_start();
    ck_assert_uint_eq(fill(0, 300), 300);
    settle_all(11, 210);
    for (unsigned user = 300; is_kicked(0, 10); user++)
        journal_confirm(trial.journal, trial_add(trial_session(user, 1), false));
    unsigned gone = 300 - count_kicked(0, 300);
    ck_assert_uint_gt(gone, 0);
    ck_assert_uint_lt(gone, 200);
    for (unsigned user = 0; user < 300; user++)
        ck_assert_int_eq(is_kicked(0, user), user < 10 || user >= 10 + gone);
    trial_assert_gauges();
    trial_stop();
}
END_TEST

/* --- the bound between tenants --- */

/* A `manage` key may freeze made-up users without end. */
START_TEST(a_tenant_that_floods_drives_out_only_its_own)
{
    trial.conf.journal_max_bytes = 65536;
    trial_start();
    ck_assert_uint_eq(fill(2, 50), 50);
    settle_all(1, 50);
    for (unsigned user = 0; user < 5000; user++)
        journal_confirm(trial.journal, trial_add(of_tenant(1, trial_session(user, 1)), false));
    ck_assert_uint_eq(count_kicked(2, 50), 50);
    ck_assert(!is_kicked(1, 0));
    ck_assert(is_kicked(1, 4999));
    ck_assert_uint_gt(count_kicked(1, 5000), 500);
    trial_assert_gauges();
    trial_stop();
}
END_TEST

START_TEST(two_tenants_that_flood_come_down_to_the_same)
{
    trial.conf.journal_max_bytes = 65536;
    trial_start();
    ck_assert_uint_eq(fill(2, 50), 50);
    settle_all(1, 50);
    for (unsigned user = 0; user < 500; user++)
        journal_confirm(trial.journal, trial_add(of_tenant(1, trial_session(user, 1)), false));
    for (unsigned user = 0; user < 5000; user++)
        journal_confirm(trial.journal, trial_add(of_tenant(3, trial_session(user, 1)), false));
    unsigned first = count_kicked(1, 500), second = count_kicked(3, 5000);
    ck_assert_uint_eq(count_kicked(2, 50), 50);
    ck_assert_uint_gt(first, 250);
    ck_assert_uint_gt(second, 250);
    ck_assert(is_kicked(1, 499) && is_kicked(3, 4999));
    trial_assert_gauges();
    trial_stop();
}
END_TEST

START_TEST(a_tenant_may_have_pending_what_is_left_for_the_others)
{
    trial.conf.journal_max_bytes = 65536;
    trial_start();
    unsigned first = fill(1, 100000), second = fill(2, 100000), third = fill(3, 100000);
    ck_assert_uint_ge(second, first / 2 - 1);
    ck_assert_uint_le(second, first / 2 + 1);
    ck_assert_uint_ge(third, first / 4 - 1);
    ck_assert_uint_le(third, first / 4 + 1);
    ck_assert_uint_gt(fill(4, 10), 0);
    ck_assert_uint_eq(trial_usage().unconfirmed, first + second + third + 10);
    trial_stop();
    trial_start();
    struct revocation more = of_tenant(1, trial_session(first + 1, 1));
    ck_assert(!journal_add(trial.lane, &more, NULL, NULL));
    ck_assert_uint_eq(fill(5, 10), 10);
    settle_all(1, first);
    ck_assert(journal_add(trial.lane, &more, NULL, NULL));
    trial_assert_gauges();
    trial_stop();
}
END_TEST

/* Pending entries of one tenant are not refused for confirmed ones of others. */
START_TEST(pending_ones_drive_out_confirmed_ones_of_whoever_has_most)
{
    trial.conf.journal_max_bytes = 65536;
    trial_start();
    ck_assert_uint_eq(fill(2, 100), 100);
    settle_all(1, 100);
    for (unsigned user = 0; user < 2000; user++)
        journal_confirm(trial.journal, trial_add(of_tenant(3, trial_session(user, 1)), false));
    unsigned before = count_kicked(3, 2000), pending = fill(1, 100000);
    ck_assert_uint_gt(pending, 65536 / 2 / 100);
    ck_assert_uint_eq(count_kicked(1, pending), pending);
    ck_assert_uint_eq(count_kicked(2, 100), 100);
    ck_assert_uint_lt(count_kicked(3, 2000), before);
    ck_assert(is_kicked(3, 1999));
    trial_stop();
}
END_TEST

/* --- the bound and the file --- */

START_TEST(one_owner_keeps_the_newest_confirmed_ones)
{
    trial_start();
    journal_confirm(trial.journal, trial_add(trial_session(2, 1), false));
    uint64_t unconfirmed = trial_add(trial_session(1, 1), false);
    for (unsigned session = 2; session <= 1001; session++)
        journal_confirm(trial.journal, trial_add(trial_session(1, session), false));
    ck_assert(trial_finds(2, 1, 0));
    ck_assert(trial_finds(1, 1, 0));
    ck_assert(!trial_finds(1, 2, 0));
    ck_assert(trial_finds(1, 1001 - 255, 0));
    ck_assert(trial_finds(1, 1001, 0));
    ck_assert_uint_le(trial_usage().records, 2 + 256 + 1);
    ck_assert_uint_eq(trial_usage().unconfirmed, 1);
    journal_confirm(trial.journal, unconfirmed);
    trial_assert_gauges();
    trial_stop();
}
END_TEST

/* Ten times more than fits goes through; the file stays within its bound all the time. */
START_TEST(the_file_never_grows_beyond_its_bound)
{
    int64_t largest = 0;
    trial.conf.journal_max_bytes = 65536;
    trial_start();
    for (unsigned i = 0; i < 8000; i++) {
        uint64_t number = trial_add(trial_session(i, 1), false);
        if (i % 16 == 15)
            trial_write(of_tenant(1 + i / 16 % 8, trial_session(i, 2)));
        if (i % 3 != 0 || i > 300)
            journal_confirm(trial.journal, number);
        largest = trial_usage().bytes > largest ? trial_usage().bytes : largest;
    }
    ck_assert_int_le(largest, 65536);
    ck_assert_int_gt(largest, 50000);
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_REFUSED), 0);
    ck_assert_int_lt(metrics_read(METRIC_JOURNAL_COMPACTIONS), 600);
    for (unsigned i = 0; i <= 300; i += 3)
        ck_assert(trial_finds(i, 1, 0));
    trial_stop();
}
END_TEST

START_TEST(a_bound_that_was_reloaded_holds_at_once)
{
    trial.conf.journal_max_bytes = 65536;
    trial_start();
    unsigned taken = fill(1, 100000);
    trial.conf.journal_max_bytes = 131072;
    journal_reload(trial.journal, &trial.conf);
    ck_assert_uint_gt(fill(2, 100000), taken / 2);
    trial.conf.journal_max_bytes = 65536;
    journal_reload(trial.journal, &trial.conf);
    ck_assert_uint_eq(fill(3, 100000), 0);
    ck_assert(is_kicked(1, 0));
    trial_stop();
    trial_start();
    ck_assert_uint_gt(trial_usage().unconfirmed, taken);
    trial_stop();
}
END_TEST

/* --- expiry and rewriting --- */

static void settle_up_to(uint64_t last)
{
    for (uint64_t number = 1; number <= last; number++)
        journal_confirm(trial.journal, number);
}

START_TEST(what_can_kill_nothing_any_more_is_forgotten)
{
    clock_fake(now_ms);
    trial_start();
    /* Each is over a second before others are: once it is forgotten, those were looked at. */
    for (unsigned i = 0; i < 3; i++) {
        struct revocation revocation = trial_session(3000 + i, 1);
        revocation.forget_s = now_ms / 1000 + 10 * (1 + i) - 1;
        trial_add(revocation, false);
    }
    for (unsigned i = 0; i < 3000; i++) {
        struct revocation revocation = trial_session(i, 1);
        revocation.forget_s = now_ms / 1000 + 10 * (1 + i % 3);
        trial_add(revocation, false);
    }
    journal_flush(trial.lane);
    settle_up_to(3003);
    for (int left = 3; left > 0; left--) {
        clock_fake(now_ms + (4 - left) * 10000 + 999);
        trial_wait_until(!trial_finds(3003 - (unsigned)left, 1, 0));
        ck_assert_uint_eq(trial_usage().records, (size_t)left * 1001 - 1);
        clock_fake(now_ms + (4 - left) * 10000 + 1000);
        trial_wait_until(trial_usage().records == ((size_t)left - 1) * 1001);
        for (unsigned i = 0; i < 3000; i++)
            ck_assert_int_eq(trial_finds(i, 1, 0), (int)(i % 3) > 3 - left);
    }
    trial_assert_gauges();
    trial_stop();
}
END_TEST

START_TEST(what_expired_while_it_was_closed_is_forgotten_at_start)
{
    clock_fake(now_ms);
    trial_start();
    struct revocation shorter = trial_session(1, 1);
    shorter.forget_s = now_ms / 1000 + 5;
    trial_add(shorter, false);
    trial_add(trial_session(2, 2), false);
    settle_up_to(2);
    trial_stop();
    clock_fake(now_ms + 6000);
    trial_start();
    ck_assert(!trial_finds(1, 1, 0));
    ck_assert(trial_finds(2, 2, 0));
    ck_assert_uint_eq(trial_usage().records, 1);
    trial_stop();
}
END_TEST

/* Redis may have been away all the time: no other node knows of it. */
START_TEST(what_is_unconfirmed_is_never_forgotten)
{
    clock_fake(now_ms);
    trial_start();
    trial_write(trial_session(1, 1));
    trial_write(trial_session(2, 2));
    journal_confirm(trial.journal, 2);
    clock_fake(now_ms + INT64_C(400) * 86400 * 1000);
    /* It is confirmed: once it is forgotten, the other was looked at. */
    trial_wait_until(!trial_finds(2, 2, 0));
    ck_assert(trial_finds(1, 1, 0));
    trial_stop();
    trial_start();
    ck_assert(trial_finds(1, 1, 0));
    settle_up_to(1);
    trial_wait_until(!trial_finds(1, 1, 0));
    trial_stop();
    trial_start();
    ck_assert(!trial_finds(1, 1, 0));
    trial_stop();
}
END_TEST

/* As it boots, before a server has reported its time: by the clock alone nothing is old. */
START_TEST(a_clock_that_nobody_bears_out_forgets_nothing)
{
    clock_fake(now_ms);
    trial_start();
    struct revocation shorter = trial_session(2, 2);
    shorter.forget_s = now_ms / 1000 + 5;
    trial_write(trial_session(1, 1));
    trial_write(shorter);
    settle_up_to(2);
    trial_stop();
    clock_fake_boot(INT64_C(400) * 86400 * 1000);
    trial_start();
    ck_assert(trial_finds(2, 2, 0));
    clock_bear_out(now_ms + 6000);
    trial_wait_until(!trial_finds(2, 2, 0));
    ck_assert(trial_finds(1, 1, 0));
    clock_bear_out(now_ms + 3601 * 1000);
    trial_wait_until(!trial_finds(1, 1, 0));
    trial_stop();
}
END_TEST

START_TEST(a_file_that_is_mostly_of_no_use_is_written_anew)
{
    clock_fake(now_ms);
    trial_start();
    for (unsigned i = 0; i < 2000; i++) {
        struct revocation revocation = trial_session(i, 1);
        revocation.forget_s += i % 10 == 0 ? 3600 : 0;
        trial_add(revocation, false);
    }
    trial_write(trial_before(0, 1));
    settle_up_to(2001);
    int64_t before = trial_usage().bytes;
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_COMPACTIONS), 0);
    clock_fake(now_ms + 3601 * 1000);
    trial_wait_until(trial_usage().bytes < before / 8);
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_COMPACTIONS), 1);
    trial_write(trial_session(5000, 1));
    trial_stop();
    trial_start();
    ck_assert_uint_eq(trial_usage().records, 201);
    ck_assert_uint_eq(trial_usage().unconfirmed, 1);
    for (unsigned i = 0; i < 2000; i++)
        ck_assert_int_eq(trial_finds(i, 1, 0), i % 10 == 0);
    ck_assert(trial_finds(5000, 1, 0));
    ck_assert_int_eq(trial_files("", NULL), 1);
    trial_stop();
}
END_TEST

START_TEST(a_start_writes_a_wasteful_file_anew)
{
    clock_fake(now_ms);
    trial_start();
    for (unsigned i = 0; i < 1000; i++)
        trial_add(trial_session(i, 1), false);
    settle_up_to(1000);
    trial_stop();
    clock_fake(now_ms + 3601 * 1000);
    trial_start();
    trial_wait_until(trial_usage().bytes < 100);
    trial_stop();
}
END_TEST

/* --- threads --- */

enum { LANES = 4, EACH = 5000 };

struct adder {
    pthread_t thread;
    unsigned number;
    unsigned done, wrong;
};

struct adder_ticket {
    struct commit_ticket ticket;
    struct adder *owner;
};

static void note_adder(struct commit_ticket *ticket, bool written)
{
    struct adder_ticket *own = (struct adder_ticket *)ticket;
    own->owner->done += written;
    free(own);
}

/* Each adder is a tenant. */
static struct revocation added(unsigned number)
{
    return of_tenant(number / EACH, trial_session(number, number % EACH));
}

/* How many of those that the adders left unconfirmed are not there, or of all. */
static unsigned count_missing(bool unconfirmed_only)
{
    unsigned missing = 0;
    for (unsigned i = unconfirmed_only; i < LANES * EACH; i += 1 + unconfirmed_only) {
        struct revocation wanted = added(i);
        missing += !journal_find(trial.journal, wanted.owner, wanted.session, 0, NULL, NULL);
    }
    return missing;
}

static void *add_many(void *user)
{
    struct adder *self = user;
    struct journal_lane *own = journal_lane_create(trial.journal, NULL, NULL);
    struct arena arena = {0};
    metrics_attach();
    for (unsigned i = 0; i < EACH; i++) {
        struct adder_ticket *ticket = xcalloc(1, sizeof(*ticket));
        struct revocation revocation = added(self->number * EACH + i), got;
        uint64_t number;
        *ticket = (struct adder_ticket){{.done = note_adder}, self};
        if (!journal_add(own, &revocation, &ticket->ticket, &number))
            self->wrong++;
        if (!journal_find(trial.journal, revocation.owner, revocation.session, 0, &arena, &got))
            self->wrong++;
        if (i % 2 == 0)
            journal_confirm(trial.journal, number);
        if (i % 10 == 9) {
            journal_flush(own);
            journal_collect(own);
        }
        if (i % 250 == 249) {
            struct revocation page[20];
            journal_list(trial.journal, number, i % 500 == 499, &arena, page, 20);
            arena_reset(&arena);
            while (self->done < i) {
                trial_nap();
                journal_collect(own);
            }
        }
    }
    journal_lane_destroy(&own);
    arena_free(&arena);
    return NULL;
}

static void run_adders(struct adder adders[LANES])
{
    for (unsigned i = 0; i < LANES; i++) {
        adders[i].number = i;
        pthread_create(&adders[i].thread, NULL, add_many, &adders[i]);
    }
    for (unsigned i = 0; i < LANES; i++) {
        pthread_join(adders[i].thread, NULL);
        ck_assert_uint_eq(adders[i].done, EACH);
        ck_assert_uint_eq(adders[i].wrong, 0);
    }
}

START_TEST(many_lanes_share_few_syncs_and_lose_nothing)
{
    struct adder adders[LANES] = {0};
    trial_start();
    run_adders(adders);
    int64_t syncs = metrics_read(METRIC_JOURNAL_SYNCS);
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_APPENDS), LANES * EACH);
    ck_assert_int_lt(syncs, LANES * EACH / 10);
    trial_assert_gauges();
    trial_stop();
    trial_start();
    ck_assert_uint_eq(trial_usage().records, LANES * EACH);
    ck_assert_uint_eq(trial_usage().unconfirmed, LANES * EACH / 2);
    ck_assert_uint_eq(count_missing(false), 0);
    trial_stop();
    printf("%d adds by %d lanes: %lld syncs\n", LANES * EACH, LANES, (long long)syncs);
}
END_TEST

/* Half are confirmed, so that in a small journal they go, and the file is rewritten again and again
 * while four lanes add. */
START_TEST(rewriting_under_load_loses_nothing_unconfirmed)
{
    struct adder adders[LANES] = {0};
    trial.conf.journal_max_bytes = 1200000;
    trial_start();
    run_adders(adders);
    ck_assert_int_gt(metrics_read(METRIC_JOURNAL_COMPACTIONS), 1);
    ck_assert_int_le(trial_usage().bytes, 1200000);
    trial_assert_gauges();
    trial_stop();
    trial_start();
    ck_assert_uint_eq(trial_usage().unconfirmed, LANES * EACH / 2);
    ck_assert_uint_eq(count_missing(true), 0);
    trial_stop();
}
END_TEST

/* --- size --- */

START_TEST(a_hundred_thousand_unconfirmed_fit)
{
    enum { COUNT = 100000 };
    trial_start();
    size_t before = mallinfo2().uordblks;
    double begun = trial_seconds();
    for (unsigned i = 0; i < COUNT; i++) {
        trial_add(trial_session(i, i), i == COUNT - 1);
        if (i % 100 == 99)
            journal_flush(trial.lane);
    }
    double added = trial_seconds();
    trial_collect(1);
    double written = trial_seconds();
    ck_assert_int_eq(trial.written, 1);
    ck_assert_uint_eq(trial_usage().unconfirmed, COUNT);
    size_t memory = mallinfo2().uordblks;
    ck_assert_int_lt(trial_usage().bytes, 67108864);
    printf("%d adds in %.0f ms, on disk after %.0f ms; %lld bytes each on disk", COUNT,
           1000 * (added - begun), 1000 * (written - begun),
           (long long)trial_usage().bytes / COUNT);
    if (memory > before) { /* sanitizers have an allocator of their own */
        printf(", %zu in memory", (memory - before) / COUNT);
        ck_assert_uint_le((memory - before) / COUNT, 200);
    }
    trial_stop();
    begun = trial_seconds();
    trial_start();
    printf("; read in %.0f ms\n", 1000 * (trial_seconds() - begun));
    ck_assert_uint_eq(trial_usage().unconfirmed, COUNT);
    trial_stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("journal_bounds");
    TCase *bounds = tcase_create("bounds");
    tcase_add_checked_fixture(bounds, trial_set_up, trial_tear_down);
    tcase_set_timeout(bounds, 30);
    tcase_add_test(bounds, a_full_journal_refuses_and_forgets_nothing_unconfirmed);
    tcase_add_test(bounds, confirmed_ones_make_room_oldest_first);
    tcase_add_test(bounds, a_tenant_that_floods_drives_out_only_its_own);
    tcase_add_test(bounds, two_tenants_that_flood_come_down_to_the_same);
    tcase_add_test(bounds, a_tenant_may_have_pending_what_is_left_for_the_others);
    tcase_add_test(bounds, pending_ones_drive_out_confirmed_ones_of_whoever_has_most);
    tcase_add_test(bounds, one_owner_keeps_the_newest_confirmed_ones);
    tcase_add_test(bounds, the_file_never_grows_beyond_its_bound);
    tcase_add_test(bounds, a_bound_that_was_reloaded_holds_at_once);
    tcase_add_test(bounds, what_can_kill_nothing_any_more_is_forgotten);
    tcase_add_test(bounds, what_expired_while_it_was_closed_is_forgotten_at_start);
    tcase_add_test(bounds, what_is_unconfirmed_is_never_forgotten);
    tcase_add_test(bounds, a_clock_that_nobody_bears_out_forgets_nothing);
    tcase_add_test(bounds, a_file_that_is_mostly_of_no_use_is_written_anew);
    tcase_add_test(bounds, a_start_writes_a_wasteful_file_anew);
    tcase_add_test(bounds, many_lanes_share_few_syncs_and_lose_nothing);
    tcase_add_test(bounds, rewriting_under_load_loses_nothing_unconfirmed);
    tcase_add_test(bounds, a_hundred_thousand_unconfirmed_fit);
    suite_add_tcase(suite, bounds);
    return support_run(suite);
}
