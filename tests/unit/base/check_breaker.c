/* Every transition of the breaker, the bounds of its pauses, its ramp, and threads that race. */
#include <check.h>
#include <pthread.h>

#include "breaker.h"
#include "support_run.h"

enum { MOST_MS = 1000, START_MS = 5000 };

static struct breaker breaker;
static int64_t now_ms;

static void setup(void)
{
    breaker_init(&breaker, MOST_MS);
    now_ms = START_MS;
}

/* One call from pass to note; true if it passed. */
static bool call(bool success)
{
    if (!breaker_pass(&breaker, now_ms))
        return false;
    (void)breaker_note(&breaker, now_ms, success);
    return true;
}

static void open_by_failures(void)
{
    for (int i = 0; i < BREAKER_FAILURES; i++)
        ck_assert(call(false));
    ck_assert_int_eq(breaker_state(&breaker), BREAKER_OPEN);
}

/* The time from now until a call passes. */
static int64_t measure_pause(void)
{
    int64_t began_ms = now_ms;
    while (!breaker_pass(&breaker, now_ms))
        now_ms++;
    breaker_forgo(&breaker);
    ck_assert_int_eq(breaker_state(&breaker), BREAKER_HALF_OPEN);
    return now_ms - began_ms;
}

/* --- closed --- */

START_TEST(it_opens_after_failures_in_a_row)
{
    for (int i = 1; i < BREAKER_FAILURES; i++) {
        ck_assert(breaker_pass(&breaker, now_ms));
        ck_assert(!breaker_note(&breaker, now_ms, false));
    }
    ck_assert_int_eq(breaker_state(&breaker), BREAKER_CLOSED);
    ck_assert(breaker_pass(&breaker, now_ms));
    ck_assert(breaker_note(&breaker, now_ms, false));
    ck_assert_int_eq(breaker_state(&breaker), BREAKER_OPEN);
    ck_assert(!breaker_pass(&breaker, now_ms));
}
END_TEST

START_TEST(a_success_in_between_begins_the_row_anew)
{
    for (int round = 0; round < 4; round++) {
        now_ms += 2000;
        for (int i = 1; i < BREAKER_FAILURES; i++)
            ck_assert(call(false));
        ck_assert(call(true));
    }
    ck_assert_int_eq(breaker_state(&breaker), BREAKER_CLOSED);
}
END_TEST

START_TEST(it_opens_when_half_of_a_sample_in_a_second_failed)
{
    int calls = 0;
    while (breaker_state(&breaker) == BREAKER_CLOSED && calls < 100)
        ck_assert(call(calls++ % 2 == 0));
    ck_assert_int_eq(calls, BREAKER_SAMPLE);
}
END_TEST

START_TEST(less_than_half_does_not_open_it)
{
    for (int i = 0; i < 1000; i++)
        ck_assert(call(i % 5 > 1));
    ck_assert_int_eq(breaker_state(&breaker), BREAKER_CLOSED);
}
END_TEST

START_TEST(failures_of_different_seconds_are_not_added_up)
{
    for (int i = 0; i < 10 * BREAKER_SAMPLE; i++) {
        if (i % (BREAKER_SAMPLE - 2) == 0)
            now_ms += 1000;
        ck_assert(call(i % 2 == 0));
    }
    ck_assert_int_eq(breaker_state(&breaker), BREAKER_CLOSED);
}
END_TEST

/* --- open --- */

START_TEST(pauses_double_up_to_the_most_and_have_jitter)
{
    int64_t pause_ms = BREAKER_FIRST_PAUSE_MS;
    open_by_failures();
    for (int round = 0; round < 8; round++) {
        int64_t measured_ms = measure_pause();
        ck_assert_int_ge(measured_ms, pause_ms / 2);
        ck_assert_int_le(measured_ms, pause_ms);
        ck_assert(breaker_pass(&breaker, now_ms));
        ck_assert(breaker_note(&breaker, now_ms, false));
        ck_assert_int_eq(breaker_state(&breaker), BREAKER_OPEN);
        pause_ms = pause_ms * 2 < MOST_MS ? pause_ms * 2 : MOST_MS;
    }
}
END_TEST

START_TEST(pauses_differ)
{
    int64_t least_ms = INT64_MAX, most_ms = 0;
    for (int round = 0; round < 200; round++) {
        setup();
        open_by_failures();
        int64_t measured_ms = measure_pause();
        least_ms = measured_ms < least_ms ? measured_ms : least_ms;
        most_ms = measured_ms > most_ms ? measured_ms : most_ms;
    }
    ck_assert_int_lt(least_ms, BREAKER_FIRST_PAUSE_MS * 6 / 10);
    ck_assert_int_gt(most_ms, BREAKER_FIRST_PAUSE_MS * 9 / 10);
}
END_TEST

START_TEST(calls_that_passed_before_change_nothing_while_it_is_open)
{
    ck_assert(breaker_pass(&breaker, now_ms));
    ck_assert(breaker_pass(&breaker, now_ms));
    open_by_failures();
    ck_assert(!breaker_note(&breaker, now_ms, true));
    ck_assert(!breaker_note(&breaker, now_ms, false));
    ck_assert_int_eq(breaker_state(&breaker), BREAKER_OPEN);
    ck_assert_int_le(measure_pause(), BREAKER_FIRST_PAUSE_MS);
}
END_TEST

START_TEST(what_was_seen_without_a_call_counts_the_same)
{
    for (int i = 1; i < BREAKER_FAILURES; i++)
        ck_assert(!breaker_witness(&breaker, now_ms, false));
    ck_assert(breaker_witness(&breaker, now_ms, false));
    ck_assert_int_eq(breaker_state(&breaker), BREAKER_OPEN);
    ck_assert(!breaker_witness(&breaker, now_ms, true));
    now_ms += BREAKER_FIRST_PAUSE_MS;
    ck_assert(!breaker_witness(&breaker, now_ms, false));
    ck_assert(breaker_witness(&breaker, now_ms, true));
    ck_assert_int_eq(breaker_state(&breaker), BREAKER_HALF_OPEN);
    now_ms += BREAKER_CALM_MS;
    ck_assert(breaker_witness(&breaker, now_ms, true));
    ck_assert_int_eq(breaker_state(&breaker), BREAKER_CLOSED);
    ck_assert_uint_eq(atomic_load(&breaker.in_flight), 0);
}
END_TEST

START_TEST(evidence_from_elsewhere_opens_it_once_from_any_state)
{
    ck_assert(breaker_trip(&breaker, now_ms));
    ck_assert(!breaker_trip(&breaker, now_ms));
    ck_assert_int_eq(breaker_state(&breaker), BREAKER_OPEN);
    measure_pause();
    ck_assert(breaker_trip(&breaker, now_ms));
    ck_assert_int_eq(breaker_state(&breaker), BREAKER_OPEN);
}
END_TEST

START_TEST(evidence_that_it_is_back_ends_the_pause)
{
    ck_assert(!breaker_probe(&breaker, now_ms));
    open_by_failures();
    ck_assert(!breaker_pass(&breaker, now_ms));
    ck_assert(breaker_probe(&breaker, now_ms));
    ck_assert(!breaker_probe(&breaker, now_ms));
    ck_assert_int_eq(breaker_state(&breaker), BREAKER_HALF_OPEN);
    ck_assert(breaker_pass(&breaker, now_ms));
}
END_TEST

/* --- half-open --- */

START_TEST(few_pass_at_once_and_each_success_lets_one_more)
{
    open_by_failures();
    measure_pause();
    unsigned under_way = 0, allowed = BREAKER_PROBES;
    while (breaker_state(&breaker) == BREAKER_HALF_OPEN) {
        while (under_way < allowed) {
            ck_assert(breaker_pass(&breaker, now_ms));
            under_way++;
        }
        ck_assert(!breaker_pass(&breaker, now_ms));
        bool changed = breaker_note(&breaker, now_ms, true);
        under_way--;
        allowed++;
        ck_assert_int_eq(changed, allowed == BREAKER_RAMP);
    }
    ck_assert_uint_eq(allowed, BREAKER_RAMP);
    ck_assert_int_eq(breaker_state(&breaker), BREAKER_CLOSED);
}
END_TEST

START_TEST(one_given_up_makes_room_and_says_nothing)
{
    open_by_failures();
    measure_pause();
    for (int i = 0; i < BREAKER_PROBES; i++)
        ck_assert(breaker_pass(&breaker, now_ms));
    ck_assert(!breaker_pass(&breaker, now_ms));
    breaker_forgo(&breaker);
    ck_assert(breaker_pass(&breaker, now_ms));
    ck_assert(!breaker_pass(&breaker, now_ms));
    ck_assert_int_eq(breaker_state(&breaker), BREAKER_HALF_OPEN);
}
END_TEST

START_TEST(a_little_load_closes_it_after_a_calm_time)
{
    open_by_failures();
    measure_pause();
    ck_assert(call(true));
    now_ms += BREAKER_CALM_MS - 1;
    ck_assert(call(true));
    ck_assert_int_eq(breaker_state(&breaker), BREAKER_HALF_OPEN);
    now_ms++;
    ck_assert(call(true));
    ck_assert_int_eq(breaker_state(&breaker), BREAKER_CLOSED);
}
END_TEST

START_TEST(it_is_not_calm_while_calls_are_turned_away)
{
    open_by_failures();
    measure_pause();
    for (int i = 0; i < 10; i++) {
        now_ms += BREAKER_CALM_MS / 2;
        while (breaker_pass(&breaker, now_ms)) {
        }
        (void)breaker_note(&breaker, now_ms, true);
        ck_assert_int_eq(breaker_state(&breaker), BREAKER_HALF_OPEN);
    }
}
END_TEST

START_TEST(after_it_was_closed_it_begins_with_the_first_pause_and_no_failures)
{
    open_by_failures();
    measure_pause();
    ck_assert(call(false));
    measure_pause();
    now_ms += BREAKER_CALM_MS;
    ck_assert(call(true));
    ck_assert_int_eq(breaker_state(&breaker), BREAKER_CLOSED);
    open_by_failures();
    ck_assert_int_le(measure_pause(), BREAKER_FIRST_PAUSE_MS);
}
END_TEST

/* --- threads --- */

enum { THREADS = 4, CALLS = 50000 };

/* A shared clock that every thread moves, so that all states come by; failures in bursts. */
static _Atomic int64_t shared_ms;
static _Atomic uint32_t changes;

static void *hammer(void *user)
{
    unsigned number = *(unsigned *)user;
    for (unsigned i = 0; i < CALLS; i++) {
        int64_t at_ms = i % 8 == 0 ? atomic_fetch_add(&shared_ms, 1) : atomic_load(&shared_ms);
        if (!breaker_pass(&breaker, at_ms))
            continue;
        if ((i + number) % 97 == 0)
            breaker_forgo(&breaker);
        else if (breaker_note(&breaker, at_ms, i % 4096 > 64))
            atomic_fetch_add(&changes, 1);
        if (i % 9973 == 0 && breaker_trip(&breaker, at_ms))
            atomic_fetch_add(&changes, 1);
    }
    return NULL;
}

START_TEST(threads_that_race_leave_nothing_under_way)
{
    pthread_t threads[THREADS];
    unsigned numbers[THREADS];
    atomic_store(&shared_ms, START_MS);
    for (unsigned i = 0; i < THREADS; i++) {
        numbers[i] = i;
        ck_assert_int_eq(pthread_create(&threads[i], NULL, hammer, &numbers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(atomic_load(&breaker.in_flight), 0);
    ck_assert_uint_ge(atomic_load(&changes), 2);
    /* It still does what it should. */
    now_ms = atomic_load(&shared_ms) + 2 * MOST_MS;
    if (breaker_state(&breaker) != BREAKER_CLOSED) {
        ck_assert(call(true));
        now_ms += BREAKER_CALM_MS;
        ck_assert(call(true));
    }
    ck_assert_int_eq(breaker_state(&breaker), BREAKER_CLOSED);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("breaker");
    TCase *states = tcase_create("states");
    tcase_add_checked_fixture(states, setup, NULL);
    tcase_add_test(states, it_opens_after_failures_in_a_row);
    tcase_add_test(states, a_success_in_between_begins_the_row_anew);
    tcase_add_test(states, it_opens_when_half_of_a_sample_in_a_second_failed);
    tcase_add_test(states, less_than_half_does_not_open_it);
    tcase_add_test(states, failures_of_different_seconds_are_not_added_up);
    tcase_add_test(states, pauses_double_up_to_the_most_and_have_jitter);
    tcase_add_test(states, pauses_differ);
    tcase_add_test(states, calls_that_passed_before_change_nothing_while_it_is_open);
    tcase_add_test(states, what_was_seen_without_a_call_counts_the_same);
    tcase_add_test(states, evidence_from_elsewhere_opens_it_once_from_any_state);
    tcase_add_test(states, evidence_that_it_is_back_ends_the_pause);
    tcase_add_test(states, few_pass_at_once_and_each_success_lets_one_more);
    tcase_add_test(states, one_given_up_makes_room_and_says_nothing);
    tcase_add_test(states, a_little_load_closes_it_after_a_calm_time);
    tcase_add_test(states, it_is_not_calm_while_calls_are_turned_away);
    tcase_add_test(states, after_it_was_closed_it_begins_with_the_first_pause_and_no_failures);
    suite_add_tcase(suite, states);

    TCase *threads = tcase_create("threads");
    tcase_add_checked_fixture(threads, setup, NULL);
    tcase_add_test(threads, threads_that_race_leave_nothing_under_way);
    suite_add_tcase(suite, threads);
    return support_run(suite);
}
