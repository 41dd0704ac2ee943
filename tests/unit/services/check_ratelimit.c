/* Rates: exactly the events of the rule are allowed, whatever the order, the threads and the number
 * of names. */
#include "ratelimit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "crypto.h"
#include "support_run.h"

#define SECOND INT64_C(1000000000)
#define START  (1000 * SECOND)

static struct ratelimit *limit;

static void setup(void)
{
    crypto_init();
    limit = ratelimit_create(1024);
}

static void teardown(void)
{
    ratelimit_destroy(&limit);
    ck_assert_ptr_null(limit);
}

static struct rate_verdict take(const char *name, struct rate rate, int64_t now_ns)
{
    return ratelimit_take(limit, name, strlen(name), rate, now_ns);
}

static struct rate_verdict peek(const char *name, struct rate rate, int64_t now_ns)
{
    return ratelimit_peek(limit, name, strlen(name), rate, now_ns);
}

static size_t take_many(const char *name, struct rate rate, int64_t now_ns, size_t count)
{
    size_t allowed = 0;
    for (size_t i = 0; i < count; i++)
        allowed += take(name, rate, now_ns).allowed;
    return allowed;
}

/* --- the rule --- */

START_TEST(a_burst_then_one_each_interval)
{
    static const struct {
        struct rate rate;
        int64_t interval_ns;
    } cases[] = {
        {{.count = 10, .per_ms = 1000, .burst = 5}, SECOND / 10},
        {{.count = 10, .per_ms = 1000, .burst = 1}, SECOND / 10},
        {{.count = 6, .per_ms = 60000, .burst = 6}, 10 * SECOND},
        {{.count = 1000000, .per_ms = 1000, .burst = 300}, 1000},
        {{.count = 1, .per_ms = 86400000, .burst = 2}, 86400 * SECOND},
    };
    struct rate rate = cases[_i].rate;
    int64_t interval = cases[_i].interval_ns;
    ck_assert_uint_eq(take_many("a", rate, START, (size_t)rate.burst + 7), (size_t)rate.burst);
    ck_assert(!take("a", rate, START + interval - 1).allowed);
    for (int i = 1; i <= 20; i++) {
        ck_assert(take("a", rate, START + i * interval).allowed);
        ck_assert(!take("a", rate, START + i * interval).allowed);
    }
    /* A long rest saves up a burst, no more. */
    int64_t later = START + 1000 * interval;
    ck_assert_uint_eq(take_many("a", rate, later, (size_t)rate.burst + 7), (size_t)rate.burst);
}
END_TEST

START_TEST(a_verdict_says_what_is_left_and_when_more_comes)
{
    const struct rate rate = {.count = 10, .per_ms = 1000, .burst = 3};
    static const struct {
        int64_t after_ms;
        struct rate_verdict verdict;
    } steps[] = {
        {0, {true, 3, 2, 100, 0}},    {0, {true, 3, 1, 200, 0}},    {0, {true, 3, 0, 300, 0}},
        {0, {false, 3, 0, 300, 100}}, {60, {false, 3, 0, 240, 40}}, {100, {true, 3, 0, 300, 0}},
        {250, {true, 3, 0, 250, 0}},  {1000, {true, 3, 2, 100, 0}},
    };
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        int64_t now = START + steps[i].after_ms * 1000000;
        struct rate_verdict before = peek("a", rate, now), verdict = take("a", rate, now);
        const struct rate_verdict *expected = &steps[i].verdict;
        ck_assert_msg(verdict.allowed == expected->allowed && verdict.limit == expected->limit &&
                          verdict.remaining == expected->remaining &&
                          verdict.reset_ms == expected->reset_ms &&
                          verdict.retry_ms == expected->retry_ms,
                      "step %zu: %d %ld %ld %ld %ld", i, verdict.allowed, (long)verdict.limit,
                      (long)verdict.remaining, (long)verdict.reset_ms, (long)verdict.retry_ms);
        ck_assert_int_eq(before.allowed, verdict.allowed);
        ck_assert_int_eq(before.retry_ms, verdict.retry_ms);
        ck_assert_int_eq(before.remaining, verdict.remaining + verdict.allowed);
    }
}
END_TEST

/* n events at once are as n one by one, all or none of them. */
START_TEST(many_at_once_cost_as_many)
{
    const struct rate rate = {.count = 10, .per_ms = 1000, .burst = 10};
    struct rate_verdict verdict = ratelimit_take_many(limit, "a", 1, rate, 7, START);
    ck_assert(verdict.allowed && verdict.remaining == 3);
    verdict = ratelimit_take_many(limit, "a", 1, rate, 4, START);
    ck_assert(!verdict.allowed && verdict.remaining == 3);
    ck_assert_int_eq(verdict.retry_ms, 100);
    ck_assert(ratelimit_take_many(limit, "a", 1, rate, 3, START).allowed);
    ck_assert_uint_eq(take_many("a", rate, START, 5), 0);
    ck_assert(ratelimit_take_many(limit, "a", 1, rate, 10, START + SECOND).allowed);
    ck_assert(!ratelimit_take_many(limit, "b", 1, rate, 11, START).allowed);
    ck_assert_uint_eq(take_many("b", rate, START, 11), 10);
}
END_TEST

START_TEST(no_rate_is_no_limit)
{
    const struct rate none = {.count = 0, .per_ms = 1000, .burst = 1};
    ck_assert_uint_eq(take_many("a", none, START, 1000), 1000);
    ck_assert_int_eq(take("a", none, START).limit, 0);
    ck_assert(peek("a", none, START).allowed);
}
END_TEST

START_TEST(a_burst_is_at_least_one)
{
    const struct rate rate = {.count = 2, .per_ms = 1000, .burst = 0};
    ck_assert_uint_eq(take_many("a", rate, START, 5), 1);
    ck_assert_int_eq(take("a", rate, START).limit, 1);
}
END_TEST

START_TEST(names_do_not_share)
{
    const struct rate rate = {.count = 1, .per_ms = 60000, .burst = 4};
    ck_assert_uint_eq(take_many("a", rate, START, 9), 4);
    ck_assert_uint_eq(take_many("b", rate, START, 9), 4);
    ck_assert_uint_eq(take_many("ab", rate, START, 9), 4);
    ck_assert_uint_eq(take_many("", rate, START, 9), 4);
}
END_TEST

START_TEST(a_changed_rate_holds_at_once)
{
    const struct rate slow = {.count = 1, .per_ms = 60000, .burst = 100};
    const struct rate quick = {.count = 100, .per_ms = 1000, .burst = 10};
    take_many("a", slow, START, 200); /* an hour and a half ahead of time */
    ck_assert_int_eq(take("a", quick, START).retry_ms, 10);
    ck_assert(take("a", quick, START + SECOND / 100).allowed);
    ck_assert_uint_eq(take_many("a", quick, START + SECOND, 20), 10);
    ck_assert(take("a", slow, START + SECOND).allowed);
}
END_TEST

START_TEST(the_largest_rates_do_not_overflow)
{
    static const struct rate throttle[] = {
        {.count = 1, .per_ms = INT64_MAX, .burst = INT64_MAX},
        {.count = INT64_MAX, .per_ms = INT64_MAX, .burst = INT64_MAX},
        {.count = INT64_MAX, .per_ms = 1, .burst = 1},
        {.count = 1, .per_ms = INT64_MAX, .burst = 1},
    };
    ck_assert(take("a", throttle[_i], START).allowed);
    struct rate_verdict verdict = take("a", throttle[_i], START);
    ck_assert_int_ge(verdict.remaining, 0);
    ck_assert_int_ge(verdict.retry_ms, 0);
    ck_assert_int_ge(verdict.reset_ms, 0);
}
END_TEST

/* --- against a model: the rule in its other wording, a bucket that leaks --- */

struct model {
    double level; /* events */
    int64_t at_ns;
};

static bool model_take(struct model *model, struct rate rate, int64_t now_ns)
{
    double drained =
        (double)(now_ns - model->at_ns) * (double)rate.count / 1e6 / (double)rate.per_ms;
    model->level = model->level > drained ? model->level - drained : 0;
    model->at_ns = now_ns;
    if (model->level + 1 > (double)rate.burst + 1e-6)
        return false;
    model->level += 1;
    return true;
}

START_TEST(a_leaky_bucket_decides_the_same)
{
    /* Intervals are whole nanoseconds, so that the model does not drift away. */
    static const struct rate throttle[] = {
        {.count = 100, .per_ms = 1000, .burst = 20},
        {.count = 6, .per_ms = 60000, .burst = 3},
        {.count = 4000, .per_ms = 1000, .burst = 1},
    };
    enum { NAMES = 16, STEPS = 20000 };
    struct model models[NAMES] = {0};
    struct rate rate = throttle[_i];
    int64_t now = START, mean = rate.per_ms * 1000000 / rate.count / NAMES;
    uint32_t state = 12345;
    size_t refused = 0;
    for (int i = 0; i < STEPS; i++) {
        state = state * 1664525 + 1013904223;
        uint32_t name = (state >> 24) % NAMES;
        /* Steps of a thousandth of the interval: no decision is closer than rounding. */
        now += (int64_t)((state >> 8) % 1500) * (mean / 1000);
        bool expected = model_take(&models[name], rate, now);
        struct rate_verdict verdict = ratelimit_take(limit, &name, sizeof(name), rate, now);
        ck_assert_msg(verdict.allowed == expected, "step %d", i);
        refused += !expected;
    }
    ck_assert_uint_gt(refused, STEPS / 20);
    ck_assert_uint_lt(refused, STEPS);
}
END_TEST

/* --- the crowd --- */

START_TEST(a_full_table_only_forgives)
{
    const struct rate rate = {.count = 1, .per_ms = 60000, .burst = 5};
    for (uint32_t name = 0; name < 20000; name++)
        for (int i = 0; i < 5; i++)
            ck_assert(ratelimit_take(limit, &name, sizeof(name), rate, START + name).allowed);
}
END_TEST

START_TEST(those_who_are_over_are_kept_while_others_come_and_go)
{
    const struct rate rate = {.count = 1, .per_ms = 1000, .burst = 10};
    take_many("flood", rate, START, 20);
    for (uint32_t i = 0; i < 20000; i++) {
        int64_t now = START + i * (SECOND / 10);
        ratelimit_take(limit, &i, sizeof(i), rate, now);
        take_many("flood", rate, now, 2);
        ck_assert(!take("flood", rate, now).allowed);
    }
}
END_TEST

START_TEST(the_smallest_table_works)
{
    const struct rate rate = {.count = 1, .per_ms = 1000, .burst = 2};
    struct ratelimit *small = ratelimit_create(1);
    ck_assert(ratelimit_take(small, "a", 1, rate, START).allowed);
    ck_assert(ratelimit_take(small, "a", 1, rate, START).allowed);
    ck_assert(!ratelimit_take(small, "a", 1, rate, START).allowed);
    ratelimit_destroy(&small);
}
END_TEST

/* --- threads --- */

enum { THREADS = 4, TURNS = 20000 };
static const struct rate shared_rate = {.count = 1, .per_ms = 3600000, .burst = 1000};
static atomic_size_t passed;

static void *take_together(void *name)
{
    size_t count = 0;
    for (int i = 0; i < TURNS; i++)
        count += take(name, shared_rate, START).allowed;
    atomic_fetch_add(&passed, count);
    return NULL;
}

static void run_threads(void *(*body)(void *argument), void *argument)
{
    pthread_t threads[THREADS];
    atomic_store(&passed, 0);
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, body, argument), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

START_TEST(threads_that_share_a_name_share_its_rate_exactly)
{
    for (int round = 0; round < 20; round++) {
        char name[] = "round A";
        name[6] = (char)('A' + round);
        run_threads(take_together, name);
        ck_assert_uint_eq(atomic_load(&passed), (size_t)shared_rate.burst);
    }
}
END_TEST

/* Each thread asks once for a name that is new, all at the same moment. */
enum { MEETINGS = 20000 };

struct meeting {
    pthread_barrier_t barrier;
    struct ratelimit *tables[MEETINGS];
};

static void *meet(void *argument)
{
    struct meeting *meeting = argument;
    const struct rate once = {.count = 1, .per_ms = 3600000, .burst = 1};
    size_t count = 0;
    pthread_barrier_wait(&meeting->barrier);
    for (int i = 0; i < MEETINGS; i++)
        count += ratelimit_take(meeting->tables[i], "new", 3, once, START).allowed;
    atomic_fetch_add(&passed, count);
    return NULL;
}

START_TEST(a_name_that_threads_meet_at_the_same_moment_gets_one_cell)
{
    static struct meeting meeting;
    pthread_barrier_init(&meeting.barrier, NULL, THREADS);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < MEETINGS; i++)
            meeting.tables[i] = ratelimit_create(1);
        run_threads(meet, &meeting);
        for (int i = 0; i < MEETINGS; i++)
            ratelimit_destroy(&meeting.tables[i]);
        ck_assert_uint_eq(atomic_load(&passed), MEETINGS);
    }
    pthread_barrier_destroy(&meeting.barrier);
}
END_TEST

static void *crowd(void *argument)
{
    struct ratelimit *table = argument;
    const struct rate one = {.count = 1, .per_ms = 1, .burst = 3};
    size_t count = 0;
    for (uint32_t i = 0; i < TURNS; i++) {
        uint32_t name = i % 97;
        count += ratelimit_take(table, &name, sizeof(name), one, START + i).allowed;
    }
    atomic_fetch_add(&passed, count);
    return NULL;
}

START_TEST(threads_that_fight_for_cells_neither_hang_nor_starve)
{
    struct ratelimit *table = ratelimit_create(16);
    run_threads(crowd, table);
    ck_assert_uint_gt(atomic_load(&passed), 97);
    ratelimit_destroy(&table);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ratelimit");
    TCase *tcase = tcase_create("ratelimit");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, a_burst_then_one_each_interval, 0, 5);
    tcase_add_test(tcase, a_verdict_says_what_is_left_and_when_more_comes);
    tcase_add_test(tcase, many_at_once_cost_as_many);
    tcase_add_test(tcase, no_rate_is_no_limit);
    tcase_add_test(tcase, a_burst_is_at_least_one);
    tcase_add_test(tcase, names_do_not_share);
    tcase_add_test(tcase, a_changed_rate_holds_at_once);
    tcase_add_loop_test(tcase, the_largest_rates_do_not_overflow, 0, 4);
    tcase_add_loop_test(tcase, a_leaky_bucket_decides_the_same, 0, 3);
    tcase_add_test(tcase, a_full_table_only_forgives);
    tcase_add_test(tcase, those_who_are_over_are_kept_while_others_come_and_go);
    tcase_add_test(tcase, the_smallest_table_works);
    tcase_add_test(tcase, threads_that_share_a_name_share_its_rate_exactly);
    tcase_add_test(tcase, a_name_that_threads_meet_at_the_same_moment_gets_one_cell);
    tcase_add_test(tcase, threads_that_fight_for_cells_neither_hang_nor_starve);
    suite_add_tcase(suite, tcase);
    return support_run(suite);
}
