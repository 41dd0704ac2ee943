/* The workers' side of the journal: revocations in, tickets back. The locks and the waking protocol
 * are told in journal_private.h. */
#include "journal.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "journal_private.h"
#include "metrics.h"

/* --- frames and lists of tickets --- */

static void append_frame(struct buffer *buffer, struct journal_frame frame, struct text record)
{
    frame.length = record.length;
    buffer_add(buffer, &frame, sizeof(frame));
    buffer_add_text(buffer, record);
}

struct journal_frame journal_frame_at(const struct buffer *buffer, size_t offset)
{
    struct journal_frame frame;
    assert(offset + sizeof(frame) <= buffer->length);
    memcpy(&frame, buffer->data + offset, sizeof(frame));
    return frame;
}

void journal_ticket_append(struct journal_tickets *list, struct journal_ticket *ticket)
{
    ticket->next = NULL;
    if (!list->first)
        list->last = &list->first;
    *list->last = ticket;
    list->last = &ticket->next;
}

void journal_ticket_splice(struct journal_tickets *to, struct journal_tickets *from)
{
    if (!from->first)
        return;
    if (!to->first)
        to->last = &to->first;
    *to->last = from->first;
    to->last = from->last;
    *from = (struct journal_tickets){0};
}

/* --- start and stop --- */

void journal_reload(struct journal *journal, const struct conf *conf)
{
    atomic_store(&journal->max_bytes, conf->journal_max_bytes);
}

static struct journal *create(const struct conf *conf, struct keyring *keyring)
{
    struct journal *journal = xcalloc(1, sizeof(*journal));
    pthread_condattr_t attributes;
    atomic_store(&journal->healthy, true);
    pthread_mutex_init(&journal->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&journal->work, &attributes);
    pthread_condattr_destroy(&attributes);
    journal_index_init(&journal->index);
    journal_file_init(&journal->file, conf->journal_file, keyring);
    journal_reload(journal, conf);
    return journal;
}

static void destroy(struct journal *journal)
{
    metrics_gauge_add(METRIC_JOURNAL_BYTES, -atomic_load(&journal->file_bytes));
    pthread_mutex_destroy(&journal->lock);
    pthread_cond_destroy(&journal->work);
    journal_index_fini(&journal->index);
    journal_file_fini(&journal->file);
    buffer_free(&journal->backlog);
    buffer_free(&journal->marks);
    buffer_free(&journal->written);
    free(journal);
}

/* No signal is handled on the journal's thread; SIGXFSZ above all must become EFBIG. */
static bool start_thread(struct journal *journal, struct buffer *error)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int cause = pthread_create(&journal->thread, NULL, journal_thread_run, journal);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (cause != 0)
        buffer_addf(error, "the journal's thread cannot be started: %s", strerrordesc_np(cause));
    return cause == 0;
}

struct journal *journal_open(const struct conf *conf, struct keyring *keyring, struct buffer *error)
{
    struct journal *journal = create(conf, keyring);
    if (journal_pen_prepare(journal, error) && start_thread(journal, error))
        return journal;
    destroy(journal);
    return NULL;
}

static void wake_thread(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    pthread_cond_signal(&journal->work);
    pthread_mutex_unlock(&journal->lock);
}

void journal_close(struct journal **journal)
{
    struct journal *closing = *journal;
    *journal = NULL;
    if (!closing)
        return;
    atomic_store(&closing->stopping, true);
    wake_thread(closing);
    pthread_join(closing->thread, NULL);
    destroy(closing);
}

bool journal_healthy(const struct journal *journal)
{
    int64_t began_ns = atomic_load_explicit(&journal->turn_began_ns, memory_order_relaxed);
    bool stalled = began_ns != 0 && journal_now_ns() - began_ns > JOURNAL_STALL_NS;
    return !stalled && atomic_load_explicit(&journal->healthy, memory_order_relaxed);
}

/* --- writers --- */

struct journal_writer *journal_writer_create(struct journal *journal, void (*wake)(void *),
                                             void *user)
{
    struct journal_writer *writer = xcalloc(1, sizeof(*writer));
    writer->journal = journal;
    writer->wake = wake;
    writer->user = user;
    pthread_mutex_init(&writer->lock, NULL);
    pthread_cond_init(&writer->settled, NULL);
    pthread_mutex_lock(&journal->lock);
    writer->next = journal->writers;
    journal->writers = writer;
    pthread_mutex_unlock(&journal->lock);
    return writer;
}

static void writer_free(struct journal_writer *writer)
{
    pthread_mutex_destroy(&writer->lock);
    pthread_cond_destroy(&writer->settled);
    buffer_free(&writer->batch);
    buffer_free(&writer->record);
    buffer_free(&writer->handed);
    buffer_free(&writer->spare);
    free(writer);
}

void journal_writer_leave(struct journal_writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    bool second = writer->left;
    writer->left = true;
    pthread_mutex_unlock(&writer->lock);
    if (second)
        writer_free(writer);
}

static void wait_for_decision(struct journal_writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    while (!writer->decided.first)
        pthread_cond_wait(&writer->settled, &writer->lock);
    pthread_mutex_unlock(&writer->lock);
}

void journal_writer_destroy(struct journal_writer **writer)
{
    struct journal_writer *closing = *writer;
    *writer = NULL;
    if (!closing)
        return;
    journal_flush(closing);
    while (closing->outstanding > 0) {
        wait_for_decision(closing);
        journal_collect(closing);
    }
    journal_writer_leave(closing);
}

/* --- revocations --- */

bool journal_add(struct journal_writer *writer, const struct revocation *revocation,
                 struct journal_ticket *ticket, uint64_t *number)
{
    struct journal *journal = writer->journal;
    int64_t limit = journal_limit(atomic_load(&journal->max_bytes));
    struct journal_frame frame = {.ticket = ticket, .writer = writer};
    writer->record.length = 0;
    enum journal_added added =
        journal_index_add(&journal->index, revocation, limit, &writer->record, &frame.number);
    if (added == JOURNAL_FULL) {
        metrics_add(METRIC_JOURNAL_REFUSED, 1);
        return false;
    }
    if (added == JOURNAL_ADDED)
        metrics_add(METRIC_JOURNAL_APPENDS, 1);
    if (ticket || added == JOURNAL_ADDED)
        append_frame(&writer->batch, frame, buffer_text(&writer->record));
    writer->outstanding += ticket != NULL;
    if (number)
        *number = frame.number;
    return true;
}

/* Swaps where it can, since the thread mostly has taken the batch before. */
static void hand_over(struct journal_writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    if (writer->handed.length == 0) {
        struct buffer emptied = writer->handed;
        writer->handed = writer->batch;
        writer->batch = emptied;
    } else {
        buffer_add_text(&writer->handed, buffer_text(&writer->batch));
    }
    pthread_mutex_unlock(&writer->lock);
    writer->batch.length = 0;
}

void journal_flush(struct journal_writer *writer)
{
    struct journal *journal = writer->journal;
    if (writer->batch.length == 0)
        return;
    /* Counted before the thread can take them, so that the counter never falls below zero. */
    atomic_fetch_add(&journal->pending, writer->batch.length);
    hand_over(writer);
    if (atomic_load(&journal->idle))
        wake_thread(journal);
}

void journal_collect(struct journal_writer *writer)
{
    if (writer->outstanding == 0)
        return;
    pthread_mutex_lock(&writer->lock);
    struct journal_ticket *ticket = writer->decided.first;
    writer->decided = (struct journal_tickets){0};
    pthread_mutex_unlock(&writer->lock);
    while (ticket) {
        struct journal_ticket *next = ticket->next;
        writer->outstanding--;
        ticket->done(ticket, ticket->written);
        ticket = next;
    }
}

/* --- questions --- */

bool journal_find(struct journal *journal, const uint8_t owner[JOURNAL_OWNER],
                  const uint8_t session[JOURNAL_SESSION], int64_t created_ms, struct arena *arena,
                  struct revocation *ret)
{
    return journal_index_find(&journal->index, owner, session, created_ms, arena, ret);
}

void journal_prefetch(struct journal *journal, const uint8_t owner[JOURNAL_OWNER])
{
    journal_index_prefetch(&journal->index, owner);
}

struct revocation *journal_of_owner(struct journal *journal, const uint8_t owner[JOURNAL_OWNER],
                                    struct arena *arena, size_t *count)
{
    return journal_index_of_owner(&journal->index, owner, arena, count);
}

void journal_settle(struct journal *journal, uint64_t number)
{
    journal_index_settle(&journal->index, number);
}

size_t journal_list(struct journal *journal, uint64_t before, bool unsettled_only,
                    struct arena *arena, struct revocation *ret, size_t most)
{
    return journal_index_list(&journal->index, before, unsettled_only, arena, ret, most);
}

void journal_usage(struct journal *journal, struct journal_usage *ret)
{
    journal_index_usage(&journal->index, ret);
    ret->bytes = atomic_load(&journal->file_bytes);
}
