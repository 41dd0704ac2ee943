/* The journal's thread: sleeps, takes what writers handed over, lets journal_pen.c write it, and
 * tells the writers what became of their tickets. While it is at the disk the next group commit
 * gathers. */
#include <errno.h>
#include <time.h>

#include "journal_private.h"
#include "metrics.h"

static const int64_t second_ns = 1000000000;

int64_t journal_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * second_ns + now.tv_nsec;
}

/* --- writers --- */

static void take(struct journal *journal, struct journal_writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    struct buffer taken = writer->handed;
    writer->handed = writer->spare;
    pthread_mutex_unlock(&writer->lock);

    atomic_fetch_sub(&journal->pending, taken.length);
    buffer_add_text(&journal->backlog, buffer_text(&taken));
    taken.length = 0;
    if (taken.capacity > JOURNAL_BUFFER_KEPT)
        buffer_free(&taken);
    writer->spare = taken;
}

static struct journal_writer *first_writer(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    struct journal_writer *first = journal->writers;
    pthread_mutex_unlock(&journal->lock);
    return first;
}

static void tell(struct journal_writer *writer)
{
    if (!writer->deciding.first)
        return;
    pthread_mutex_lock(&writer->lock);
    journal_ticket_splice(&writer->decided, &writer->deciding);
    pthread_cond_signal(&writer->settled);
    if (writer->wake)
        writer->wake(writer->user);
    pthread_mutex_unlock(&writer->lock);
}

/* True if the worker has left and everything it handed over was taken. */
static bool is_done(struct journal_writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    bool done = writer->left && writer->handed.length == 0;
    pthread_mutex_unlock(&writer->lock);
    return done;
}

static void remove_writers(struct journal *journal, bool all)
{
    struct journal_writer *removed = NULL;
    pthread_mutex_lock(&journal->lock);
    struct journal_writer **link = &journal->writers;
    while (*link) {
        struct journal_writer *at = *link;
        if (all || is_done(at)) {
            *link = at->next;
            at->next = removed;
            removed = at;
        } else {
            link = &at->next;
        }
    }
    pthread_mutex_unlock(&journal->lock);
    while (removed) {
        struct journal_writer *next = removed->next;
        journal_writer_leave(removed);
        removed = next;
    }
}

/* --- rounds --- */

static void run_round(struct journal *journal)
{
    for (struct journal_writer *at = first_writer(journal); at; at = at->next)
        take(journal, at);
    atomic_store(&journal->turn_began_ns, journal_now_ns());
    journal_pen_turn(journal);
    atomic_store(&journal->turn_began_ns, 0);
    for (struct journal_writer *at = first_writer(journal); at; at = at->next)
        tell(at);
    remove_writers(journal, false);
}

/* Until something is handed over, at most a second: then marks are written, what may be forgotten
 * is, and a broken file is tried again. */
static void wait_for_work(struct journal *journal)
{
    int64_t until_ns = journal_now_ns() + second_ns;
    if (!atomic_load(&journal->healthy))
        until_ns = journal->retry_at_ns;
    const struct timespec until = {.tv_sec = until_ns / second_ns, .tv_nsec = until_ns % second_ns};
    pthread_mutex_lock(&journal->lock);
    atomic_store(&journal->idle, true);
    while (!atomic_load(&journal->stopping) && atomic_load(&journal->pending) == 0)
        if (pthread_cond_timedwait(&journal->work, &journal->lock, &until) == ETIMEDOUT)
            break;
    atomic_store(&journal->idle, false);
    pthread_mutex_unlock(&journal->lock);
}

void *journal_thread_run(void *user)
{
    struct journal *journal = user;
    bool stopping = false;
    pthread_setname_np(pthread_self(), "journal");
    metrics_attach();
    while (!stopping) {
        /* Read before the round, which then takes everything handed over before the stop. */
        stopping = atomic_load(&journal->stopping);
        run_round(journal);
        if (!stopping)
            wait_for_work(journal);
    }
    journal_pen_finish(journal);
    remove_writers(journal, true);
    return NULL;
}
