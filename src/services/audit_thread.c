/* The audit thread: sleeps, takes what producers handed over, lets audit_writer.c write it, and
 * tells the producers what became of their tickets. */
#include <errno.h>
#include <time.h>

#include "audit_private.h"
#include "clock.h"
#include "metrics.h"

static const int64_t second_ns = 1000000000;
static const int64_t gather_ns = 5 * 1000000;
static const int64_t idle_ns = 60 * second_ns;

int64_t audit_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * second_ns + now.tv_nsec;
}

/* --- producers --- */

/* Swaps where it can: with one busy worker nothing is copied. */
static void take(struct audit *audit, struct audit_producer *producer)
{
    pthread_mutex_lock(&producer->lock);
    struct buffer taken = producer->handed;
    size_t tickets = producer->handed_tickets;
    producer->handed = producer->spare;
    producer->handed_tickets = 0;
    pthread_mutex_unlock(&producer->lock);

    atomic_fetch_sub(&audit->pending, taken.length);
    atomic_fetch_sub(&audit->urgent, tickets);
    if (audit->backlog.length == 0) {
        struct buffer emptied = audit->backlog;
        audit->backlog = taken;
        taken = emptied;
    } else {
        buffer_add_text(&audit->backlog, buffer_text(&taken));
        taken.length = 0;
    }
    if (taken.capacity > AUDIT_BUFFER_KEPT)
        buffer_free(&taken);
    producer->spare = taken;
}

static struct audit_producer *first_producer(struct audit *audit)
{
    pthread_mutex_lock(&audit->lock);
    struct audit_producer *first = audit->producers;
    pthread_mutex_unlock(&audit->lock);
    return first;
}

static void gather(struct audit *audit)
{
    /* While the disk refuses, the number grows instead of lines that tell it. */
    int64_t lost = audit_healthy(audit) ? atomic_exchange(&audit->lost, 0) : 0;
    if (lost > 0) {
        const struct audit_number number = {"sessiond.lines_lost", lost};
        audit_add_notice(audit, &(struct audit_notice){.event = AUDIT_LINES_LOST,
                                                       .wall_ms = clock_wall_ms(),
                                                       .numbers = &number,
                                                       .number_count = 1});
    }
    for (struct audit_producer *at = first_producer(audit); at; at = at->next)
        take(audit, at);
}

static void tell_producers(struct audit *audit)
{
    for (struct audit_producer *at = first_producer(audit); at; at = at->next) {
        if (!at->settling.first)
            continue;
        pthread_mutex_lock(&at->lock);
        audit_ticket_splice(&at->decided, &at->settling);
        pthread_cond_signal(&at->settled);
        if (at->wake)
            at->wake(at->user);
        pthread_mutex_unlock(&at->lock);
    }
}

/* True if the worker has left and everything it handed over was taken. */
static bool is_done(struct audit_producer *producer)
{
    pthread_mutex_lock(&producer->lock);
    bool done = producer->left && producer->handed.length == 0;
    pthread_mutex_unlock(&producer->lock);
    return done;
}

static void remove_producers(struct audit *audit, bool all)
{
    struct audit_producer *removed = NULL;
    pthread_mutex_lock(&audit->lock);
    struct audit_producer **link = &audit->producers;
    while (*link) {
        struct audit_producer *at = *link;
        if (all || is_done(at)) {
            *link = at->next;
            at->next = removed;
            removed = at;
        } else {
            link = &at->next;
        }
    }
    pthread_mutex_unlock(&audit->lock);
    while (removed) {
        struct audit_producer *next = removed->next;
        audit_producer_leave(removed);
        removed = next;
    }
}

/* --- sleeping --- */

static bool is_called(struct audit *audit)
{
    return atomic_load(&audit->stopping) || atomic_load(&audit->reopen);
}

/* Sleeps until woken or until `until_ns`; false if the time is over. */
static bool sleep_until(struct audit *audit, int64_t until_ns)
{
    const struct timespec until = {.tv_sec = until_ns / second_ns, .tv_nsec = until_ns % second_ns};
    return pthread_cond_timedwait(&audit->work, &audit->lock, &until) != ETIMEDOUT;
}

/* Waits for the first line, then a little for more, so that a write carries many; lines with
 * tickets go at once. */
static void wait_for_work(struct audit *audit)
{
    bool broken = !atomic_load(&audit->healthy);
    int64_t until = broken ? audit->retry_at_ns : audit_now_ns() + idle_ns;
    pthread_mutex_lock(&audit->lock);
    atomic_store(&audit->state, THREAD_IDLE);
    while (!is_called(audit) && atomic_load(&audit->pending) == 0)
        if (!sleep_until(audit, until))
            break;
    atomic_store(&audit->state, THREAD_GATHERING);
    until = audit_now_ns() + gather_ns;
    while (!is_called(audit) && atomic_load(&audit->urgent) == 0 &&
           atomic_load(&audit->pending) > 0 && atomic_load(&audit->pending) < AUDIT_GATHER_BYTES)
        if (!sleep_until(audit, until))
            break;
    atomic_store(&audit->state, THREAD_BUSY);
    pthread_mutex_unlock(&audit->lock);
}

static void run_round(struct audit *audit)
{
    gather(audit);
    atomic_store(&audit->turn_began_ns, audit_now_ns());
    audit_writer_turn(audit);
    atomic_store(&audit->turn_began_ns, 0);
    tell_producers(audit);
    remove_producers(audit, false);
    metrics_gauge_set(METRIC_AUDIT_QUEUE_BYTES, (int64_t)atomic_load(&audit->queued));
}

void *audit_thread_run(void *user)
{
    struct audit *audit = user;
    bool stopping = false;
    pthread_setname_np(pthread_self(), "audit");
    metrics_attach();
    while (!stopping) {
        /* Read before the round, which then takes everything handed over before the stop. */
        stopping = atomic_load(&audit->stopping);
        run_round(audit);
        if (!stopping)
            wait_for_work(audit);
    }
    audit_writer_finish(audit);
    remove_producers(audit, true);
    return NULL;
}
