/* The commit queue, with the writer thread held and let go by the test: no step is a matter of
 * time. A lost wake-up hangs, and the test's time limit reports it. */
#include <check.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "services/commit/commit_queue.h"

#include "support_run.h"

static const int64_t never_ns = (int64_t)1 << 60;

/* The owner: a "disk" that is a list of the texts written. */
static struct {
    struct commit_queue queue;
    struct commit_lane *lane;
    struct buffer backlog, disk;
    sem_t entered, go; /* a batch that is held begins; it may go on */
    _Atomic bool held;
    _Atomic bool refuses;
    _Atomic int batches, failures_left, rests, rests_left, finished;
    _Atomic size_t batch_frames; /* of the latest batch that had any */
} owner;

static void join(void *user, struct buffer *taken)
{
    ck_assert_ptr_eq(user, &owner);
    ck_assert_uint_gt(taken->length, 0);
    commit_frames_join(&owner.backlog, taken);
    ck_assert_uint_eq(taken->length, 0);
}

static void write_batch(void *user)
{
    size_t frames = 0;
    ck_assert_ptr_eq(user, &owner);
    if (atomic_load(&owner.held)) {
        sem_post(&owner.entered);
        sem_wait(&owner.go);
    }
    for (size_t at = 0; at < owner.backlog.length; frames++) {
        struct commit_frame frame = commit_frame_at(&owner.backlog, at);
        if (!atomic_load(&owner.refuses))
            buffer_add_text(&owner.disk, commit_frame_bytes(&owner.backlog, at));
        commit_decide(frame, !atomic_load(&owner.refuses));
        at += commit_frame_size(frame);
    }
    commit_frames_clear(&owner.backlog);
    if (atomic_load(&owner.failures_left) > 0) {
        atomic_fetch_sub(&owner.failures_left, 1);
        commit_queue_fail(&owner.queue, 0);
    } else if (!commit_queue_works(&owner.queue)) {
        commit_queue_recover(&owner.queue);
    }
    if (frames > 0)
        atomic_store(&owner.batch_frames, frames);
    atomic_fetch_add(&owner.batches, 1);
}

static bool write_rest(void *user)
{
    ck_assert_ptr_eq(user, &owner);
    atomic_fetch_add(&owner.rests, 1);
    return atomic_load(&owner.rests_left) > 0 && atomic_fetch_sub(&owner.rests_left, 1) > 1;
}

static void finish(void *user)
{
    ck_assert_ptr_eq(user, &owner);
    ck_assert_uint_eq(owner.backlog.length, 0);
    atomic_fetch_add(&owner.finished, 1);
}

static const struct commit_writer at_once = {
    .name = "writer", .join = join, .write_batch = write_batch, .finish = finish};
/* Gathers until there is a ticket, or a hundred bytes. */
static const struct commit_writer gathers = {.name = "writer",
                                             .join = join,
                                             .write_batch = write_batch,
                                             .write_rest = write_rest,
                                             .finish = finish,
                                             .gather_ns = never_ns,
                                             .gather_bytes = 100};

static void start(const struct commit_writer *writer)
{
    sem_init(&owner.entered, 0, 0);
    sem_init(&owner.go, 0, 0);
    commit_queue_init(&owner.queue, writer, &owner);
    owner.queue.idle_ns = never_ns;
    owner.lane = commit_lane_create(&owner.queue, sizeof(*owner.lane), NULL, NULL);
    ck_assert_int_eq(commit_queue_start(&owner.queue), 0);
}

static void stop(void)
{
    commit_lane_destroy(owner.lane);
    commit_queue_stop(&owner.queue);
    ck_assert_int_eq(owner.finished, 1);
    ck_assert_uint_eq(owner.queue.pending, 0);
    ck_assert_uint_eq(owner.queue.urgent, 0);
    commit_queue_fini(&owner.queue);
    buffer_free(&owner.backlog);
    buffer_free(&owner.disk);
}

static void wait_for_state(enum commit_state state)
{
    while (atomic_load(&owner.queue.state) != (int)state)
        sched_yield();
}

/* Holds the thread within a batch: what is handed over now finds it busy. */
static void hold(void)
{
    wait_for_state(COMMIT_IDLE);
    atomic_store(&owner.held, true);
    commit_queue_call(&owner.queue);
    sem_wait(&owner.entered);
}

static void let_go(void)
{
    atomic_store(&owner.held, false);
    sem_post(&owner.go);
}

/* --- tickets --- */

enum { MOST_TICKETS = 16 };

static struct {
    struct commit_ticket tickets[MOST_TICKETS];
    int given, written, refused;
    int order[MOST_TICKETS]; /* in which they were decided */
} told;

static void note(struct commit_ticket *ticket, bool written)
{
    told.order[told.written + told.refused] = (int)(ticket - told.tickets);
    told.written += written;
    told.refused += !written;
}

static struct commit_ticket *ticket(void)
{
    ck_assert_int_lt(told.given, MOST_TICKETS);
    told.tickets[told.given].done = note;
    return &told.tickets[told.given++];
}

static void put_by(struct commit_lane *lane, const char *text, bool with_ticket)
{
    commit_lane_put(lane, with_ticket ? ticket() : NULL, 0, text_of(text));
}

static void put(const char *text, bool with_ticket)
{
    put_by(owner.lane, text, with_ticket);
}

static void collect(int count)
{
    while (told.written + told.refused < count) {
        commit_lane_collect(owner.lane);
        sched_yield();
    }
    ck_assert_int_eq(told.written + told.refused, count);
}

static void assert_disk(const char *expected)
{
    ck_assert_uint_eq(owner.disk.length, strlen(expected));
    ck_assert_mem_eq(owner.disk.data, expected, strlen(expected));
}

/* --- waking --- */

START_TEST(a_thread_that_sleeps_is_woken)
{
    start(&at_once);
    for (int i = 0; i < 3; i++) {
        wait_for_state(COMMIT_IDLE);
        put("a", true);
        commit_lane_flush(owner.lane);
        collect(i + 1);
    }
    assert_disk("aaa");
    stop();
}
END_TEST

START_TEST(what_is_handed_over_while_the_thread_writes_is_not_slept_through)
{
    start(&at_once);
    for (int i = 0; i < 3; i++) {
        hold();
        put("a", true);
        commit_lane_flush(owner.lane);
        ck_assert_int_eq(owner.queue.state, COMMIT_BUSY);
        let_go();
        collect(i + 1);
    }
    stop();
}
END_TEST

START_TEST(what_gathers_behind_a_batch_is_one_batch)
{
    start(&at_once);
    struct commit_lane *other = commit_lane_create(&owner.queue, sizeof(*other), NULL, NULL);
    hold();
    for (int i = 0; i < 3; i++) {
        put("a", true);
        commit_lane_flush(owner.lane);
    }
    put_by(other, "b", false);
    commit_lane_flush(other);
    let_go();
    collect(3);
    ck_assert_uint_eq(owner.batch_frames, 4);
    commit_lane_destroy(other);
    stop();
}
END_TEST

START_TEST(an_empty_batch_wakes_nobody)
{
    start(&gathers);
    wait_for_state(COMMIT_IDLE);
    int batches = owner.batches;
    commit_lane_flush(owner.lane);
    commit_lane_collect(owner.lane);
    ck_assert_int_eq(owner.queue.state, COMMIT_IDLE);
    commit_queue_call(&owner.queue);
    while (owner.batches == batches)
        sched_yield();
    ck_assert_int_eq(owner.batches, batches + 1);
    stop();
}
END_TEST

START_TEST(without_a_ticket_a_write_may_grow_and_a_ticket_ends_that)
{
    start(&gathers);
    wait_for_state(COMMIT_IDLE);
    put("a", false);
    commit_lane_flush(owner.lane);
    wait_for_state(COMMIT_GATHERING);
    put("b", true);
    commit_lane_flush(owner.lane);
    collect(1);
    ck_assert_uint_eq(owner.batch_frames, 2);
    assert_disk("ab");
    stop();
}
END_TEST

START_TEST(a_write_that_has_grown_goes)
{
    start(&gathers);
    wait_for_state(COMMIT_IDLE);
    put("a", false);
    commit_lane_flush(owner.lane);
    wait_for_state(COMMIT_GATHERING);
    int batches = owner.batches;
    for (int i = 0; i < 3; i++)
        put("bcdefghijklmnopqrstuvwxyz", false);
    commit_lane_flush(owner.lane);
    while (owner.batches == batches)
        sched_yield();
    wait_for_state(COMMIT_IDLE);
    ck_assert_uint_eq(owner.batch_frames, 4);
    stop();
}
END_TEST

START_TEST(a_call_has_a_round_run_whatever_the_thread_does)
{
    start(&gathers);
    wait_for_state(COMMIT_IDLE);
    put("a", false);
    commit_lane_flush(owner.lane);
    wait_for_state(COMMIT_GATHERING);
    int batches = owner.batches;
    commit_queue_call(&owner.queue);
    wait_for_state(COMMIT_IDLE);
    ck_assert_int_eq(owner.batches, batches + 1);
    assert_disk("a");
    hold();
    commit_queue_call(&owner.queue);
    let_go();
    while (owner.batches < batches + 3)
        sched_yield();
    stop();
}
END_TEST

START_TEST(while_there_is_more_to_write_the_thread_does_not_sleep)
{
    start(&gathers);
    hold();
    int rests = owner.rests;
    atomic_store(&owner.rests_left, 5);
    let_go();
    while (owner.rests < rests + 5)
        sched_yield();
    wait_for_state(COMMIT_IDLE);
    ck_assert_int_eq(owner.rests, rests + 5);
    stop();
}
END_TEST

static sem_t woken;

static void wake(void *user)
{
    sem_post(user);
}

START_TEST(the_worker_is_woken_when_its_tickets_are_decided_and_else_not)
{
    int count;
    start(&at_once);
    sem_init(&woken, 0, 0);
    struct commit_lane *lane = commit_lane_create(&owner.queue, sizeof(*lane), wake, &woken);
    put_by(lane, "a", false);
    commit_lane_flush(lane);
    put("b", true);
    commit_lane_flush(owner.lane);
    collect(1);
    sem_getvalue(&woken, &count);
    ck_assert_int_eq(count, 0);
    put_by(lane, "c", true);
    put_by(lane, "d", true);
    commit_lane_flush(lane);
    sem_wait(&woken);
    commit_lane_collect(lane);
    ck_assert_int_eq(told.written, 3);
    sem_getvalue(&woken, &count);
    ck_assert_int_eq(count, 0);
    commit_lane_destroy(lane);
    stop();
}
END_TEST

/* --- tickets --- */

START_TEST(tickets_are_told_once_and_in_order)
{
    start(&at_once);
    hold();
    for (int i = 0; i < 10; i++) {
        put("a", i % 3 != 0);
        if (i % 4 == 0)
            commit_lane_flush(owner.lane);
    }
    commit_lane_flush(owner.lane);
    commit_lane_collect(owner.lane);
    ck_assert_int_eq(told.written, 0);
    let_go();
    collect(6);
    commit_lane_collect(owner.lane);
    ck_assert_int_eq(told.written, 6);
    for (int i = 0; i < 6; i++)
        ck_assert_int_eq(told.order[i], i);
    stop();
}
END_TEST

START_TEST(what_is_refused_is_told_so)
{
    start(&at_once);
    atomic_store(&owner.refuses, true);
    put("a", true);
    commit_lane_flush(owner.lane);
    collect(1);
    ck_assert_int_eq(told.refused, 1);
    atomic_store(&owner.refuses, false);
    put("b", true);
    commit_lane_flush(owner.lane);
    collect(2);
    ck_assert_int_eq(told.written, 1);
    stop();
}
END_TEST

/* A ticket whose `done` puts another, and hands it over. */
static void put_another(struct commit_ticket *first, bool written)
{
    note(first, written);
    put("b", true);
    commit_lane_flush(owner.lane);
}

START_TEST(a_ticket_may_be_followed_by_another_from_within_its_done)
{
    start(&at_once);
    put("a", true);
    told.tickets[0].done = put_another;
    commit_lane_flush(owner.lane);
    commit_lane_destroy(owner.lane); /* waits for the second, too */
    ck_assert_int_eq(told.written, 2);
    owner.lane = NULL;
    stop();
}
END_TEST

START_TEST(a_queue_that_fails_and_recovers_says_so)
{
    start(&at_once);
    hold();
    ck_assert(commit_queue_healthy(&owner.queue));
    ck_assert(commit_queue_fail(&owner.queue, never_ns));
    ck_assert(!commit_queue_fail(&owner.queue, never_ns));
    ck_assert(!commit_queue_healthy(&owner.queue));
    ck_assert(!commit_queue_is_retry_due(&owner.queue));
    commit_queue_fail(&owner.queue, 0);
    ck_assert(commit_queue_is_retry_due(&owner.queue));
    commit_queue_recover(&owner.queue);
    ck_assert(commit_queue_healthy(&owner.queue));
    let_go();
    stop();
}
END_TEST

START_TEST(a_queue_that_fails_is_tried_again_by_itself)
{
    start(&at_once);
    hold();
    atomic_store(&owner.failures_left, 3);
    int batches = owner.batches;
    let_go();
    while (owner.batches < batches + 4)
        sched_yield();
    wait_for_state(COMMIT_IDLE);
    ck_assert(commit_queue_healthy(&owner.queue));
    ck_assert_int_eq(owner.batches, batches + 4);
    stop();
}
END_TEST

/* --- stopping --- */

START_TEST(what_was_handed_over_before_the_stop_is_written)
{
    start(&gathers);
    hold();
    put("a", false);
    commit_lane_flush(owner.lane);
    atomic_store(&owner.queue.stopping, true); /* the round that is held did not see it */
    let_go();
    commit_queue_stop(&owner.queue);
    assert_disk("a");
    commit_lane_destroy(owner.lane);
    commit_queue_fini(&owner.queue);
}
END_TEST

START_TEST(a_stop_ends_a_write_that_grows)
{
    start(&gathers);
    wait_for_state(COMMIT_IDLE);
    put("a", false);
    commit_lane_flush(owner.lane);
    wait_for_state(COMMIT_GATHERING);
    commit_queue_stop(&owner.queue);
    assert_disk("a");
    ck_assert_uint_eq(owner.queue.pending, 0);
    ck_assert(!commit_lane_is_open(owner.lane));
    commit_lane_destroy(owner.lane);
    commit_queue_fini(&owner.queue);
}
END_TEST

START_TEST(a_lane_that_outlives_the_stop_touches_nothing_of_the_queue)
{
    start(&at_once);
    put("a", false);
    commit_lane_flush(owner.lane);
    put("b", false); /* too late */
    commit_queue_stop(&owner.queue);
    commit_queue_fini(&owner.queue);
    assert_disk("a");
    memset(&owner.queue, 0xff, sizeof(owner.queue));
    commit_lane_destroy(owner.lane);
}
END_TEST

START_TEST(what_a_worker_handed_over_and_left_is_taken_before_its_lane_goes)
{
    start(&at_once);
    struct commit_lane *lane = commit_lane_create(&owner.queue, sizeof(*lane), NULL, NULL);
    hold();
    put_by(lane, "a", false);
    commit_lane_destroy(lane); /* waits for nothing: it has no ticket */
    ck_assert_ptr_eq(owner.queue.lanes, lane);
    let_go();
    put("b", true);
    commit_lane_flush(owner.lane);
    collect(1);
    hold(); /* the round that took it is over */
    ck_assert_ptr_eq(owner.queue.lanes, owner.lane);
    ck_assert_ptr_null(owner.lane->next);
    let_go();
    ck_assert_uint_eq(owner.disk.length, 2);
    stop();
}
END_TEST

struct leaver {
    pthread_t thread;
    struct commit_lane *lane;
};

static void *leave(void *user)
{
    struct leaver *leaver = user;
    commit_lane_destroy(leaver->lane);
    return NULL;
}

START_TEST(a_worker_does_not_leave_before_its_tickets_are_decided)
{
    struct leaver leaver;
    start(&at_once);
    leaver.lane = commit_lane_create(&owner.queue, sizeof(*leaver.lane), NULL, NULL);
    hold();
    put_by(leaver.lane, "a", true);
    pthread_create(&leaver.thread, NULL, leave, &leaver);
    while (atomic_load(&owner.queue.urgent) == 0)
        sched_yield();
    ck_assert(commit_lane_is_open(leaver.lane));
    let_go();
    pthread_join(leaver.thread, NULL);
    ck_assert_int_eq(told.written, 1);
    stop();
}
END_TEST

START_TEST(no_lane_is_none)
{
    start(&at_once);
    commit_lane_destroy(NULL);
    stop();
}
END_TEST

/* --- all at once --- */

enum { WORKERS = 4, EACH = 3000 };

static void count(struct commit_ticket *one, bool written)
{
    struct {
        struct commit_ticket ticket;
        int written;
    } *own = (void *)one;
    own->written += written;
}

/* One ticket in flight at a time: a hand-over that is slept through ends the test. */
static void *work(void *user)
{
    struct {
        struct commit_ticket ticket;
        int written;
    } own = {{.done = count}, 0};
    sem_t *decided = user;
    struct commit_lane *lane = commit_lane_create(&owner.queue, sizeof(*lane), wake, decided);
    for (int i = 0; i < EACH; i++) {
        commit_lane_put(lane, &own.ticket, 0, TEXT("x"));
        commit_lane_flush(lane);
        while (own.written <= i) {
            sem_wait(decided);
            commit_lane_collect(lane);
        }
    }
    commit_lane_destroy(lane);
    ck_assert_int_eq(own.written, EACH);
    return NULL;
}

START_TEST(nothing_is_slept_through_whatever_the_interleaving)
{
    pthread_t threads[WORKERS];
    sem_t decided[WORKERS];
    start(_i % 2 ? &gathers : &at_once);
    for (int i = 0; i < WORKERS; i++) {
        sem_init(&decided[i], 0, 0);
        pthread_create(&threads[i], NULL, work, &decided[i]);
    }
    for (int i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(owner.disk.length, WORKERS * EACH);
    stop();
}
END_TEST

static TCase *add_case(Suite *suite, const char *name)
{
    TCase *tests = tcase_create(name);
    tcase_set_timeout(tests, 60);
    suite_add_tcase(suite, tests);
    return tests;
}

static void add_waking(TCase *tests)
{
    tcase_add_test(tests, a_thread_that_sleeps_is_woken);
    tcase_add_test(tests, what_is_handed_over_while_the_thread_writes_is_not_slept_through);
    tcase_add_test(tests, what_gathers_behind_a_batch_is_one_batch);
    tcase_add_test(tests, an_empty_batch_wakes_nobody);
    tcase_add_test(tests, without_a_ticket_a_write_may_grow_and_a_ticket_ends_that);
    tcase_add_test(tests, a_write_that_has_grown_goes);
    tcase_add_test(tests, a_call_has_a_round_run_whatever_the_thread_does);
    tcase_add_test(tests, while_there_is_more_to_write_the_thread_does_not_sleep);
    tcase_add_test(tests, the_worker_is_woken_when_its_tickets_are_decided_and_else_not);
    tcase_add_loop_test(tests, nothing_is_slept_through_whatever_the_interleaving, 0, 2);
}

static void add_tickets(TCase *tests)
{
    tcase_add_test(tests, tickets_are_told_once_and_in_order);
    tcase_add_test(tests, what_is_refused_is_told_so);
    tcase_add_test(tests, a_ticket_may_be_followed_by_another_from_within_its_done);
    tcase_add_test(tests, a_queue_that_fails_and_recovers_says_so);
    tcase_add_test(tests, a_queue_that_fails_is_tried_again_by_itself);
}

static void add_stopping(TCase *tests)
{
    tcase_add_test(tests, what_was_handed_over_before_the_stop_is_written);
    tcase_add_test(tests, a_stop_ends_a_write_that_grows);
    tcase_add_test(tests, a_lane_that_outlives_the_stop_touches_nothing_of_the_queue);
    tcase_add_test(tests, what_a_worker_handed_over_and_left_is_taken_before_its_lane_goes);
    tcase_add_test(tests, a_worker_does_not_leave_before_its_tickets_are_decided);
    tcase_add_test(tests, no_lane_is_none);
}

int main(void)
{
    Suite *suite = suite_create("commit_queue");
    add_waking(add_case(suite, "waking"));
    add_tickets(add_case(suite, "tickets"));
    add_stopping(add_case(suite, "stopping"));
    return support_run(suite);
}
