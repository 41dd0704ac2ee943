/* The workers' side of the audit service: batches, hand-over and tickets. The locks and the waking
 * protocol are told in audit_private.h. */
#include "audit.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "audit_private.h"
#include "memory.h"
#include "metrics.h"

/* --- frames and lists of tickets --- */

void audit_append_frame(struct buffer *buffer, struct frame frame, struct text line)
{
    frame.length = line.length;
    buffer_add(buffer, &frame, sizeof(frame));
    buffer_add_text(buffer, line);
}

struct frame audit_frame_at(const struct buffer *buffer, size_t offset)
{
    struct frame frame;
    assert(offset + sizeof(frame) <= buffer->length);
    memcpy(&frame, buffer->data + offset, sizeof(frame));
    return frame;
}

void audit_ticket_append(struct ticket_list *list, struct audit_ticket *ticket)
{
    ticket->next = NULL;
    if (!list->first)
        list->last = &list->first;
    *list->last = ticket;
    list->last = &ticket->next;
}

void audit_ticket_splice(struct ticket_list *to, struct ticket_list *from)
{
    if (!from->first)
        return;
    if (!to->first)
        to->last = &to->first;
    *to->last = from->first;
    to->last = from->last;
    *from = (struct ticket_list){0};
}

/* --- start and stop --- */

static void unref(struct audit *audit)
{
    if (atomic_fetch_sub(&audit->references, 1) > 1)
        return;
    pthread_mutex_destroy(&audit->lock);
    pthread_cond_destroy(&audit->work);
    audit_file_fini(&audit->file);
    buffer_free(&audit->tail_prefix);
    buffer_free(&audit->backlog);
    buffer_free(&audit->chunk.out);
    free(audit->chunk.ends);
    free(audit);
}

void audit_reload(struct audit *audit, const struct conf *conf)
{
    atomic_store(&audit->retention_ms, conf->audit_retention * 1000);
    atomic_store(&audit->max_bytes, conf->audit_max_bytes);
    atomic_store(&audit->queue_bytes, conf->audit_queue_bytes);
}

static struct audit *create(const struct conf *conf, const char *node)
{
    struct audit *audit = xcalloc(1, sizeof(*audit));
    pthread_condattr_t attributes;
    atomic_store(&audit->references, 1);
    atomic_store(&audit->healthy, true);
    pthread_mutex_init(&audit->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&audit->work, &attributes);
    pthread_condattr_destroy(&attributes);
    audit_file_init(&audit->file, conf->audit_file);
    audit_format_tail_prefix(&audit->tail_prefix, text_of(node));
    audit_reload(audit, conf);
    return audit;
}

/* No signal is handled on the audit thread; SIGXFSZ above all must become EFBIG. */
static int start_thread(struct audit *audit)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&audit->thread, NULL, audit_thread_run, audit);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

struct audit *audit_start(const struct conf *conf, const char *node, struct buffer *error)
{
    struct audit *audit = create(conf, node);
    int cause = audit_writer_prepare(audit) ? start_thread(audit) : errno;
    if (cause == 0)
        return audit;
    buffer_addf(error, "audit file %s cannot be written: %s", conf->audit_file,
                strerrordesc_np(cause));
    audit_file_close(&audit->file);
    unref(audit);
    return NULL;
}

static void wake_thread(struct audit *audit)
{
    pthread_mutex_lock(&audit->lock);
    pthread_cond_signal(&audit->work);
    pthread_mutex_unlock(&audit->lock);
}

void audit_reopen(struct audit *audit)
{
    atomic_store(&audit->reopen, true);
    wake_thread(audit);
}

bool audit_healthy(const struct audit *audit)
{
    int64_t began_ns = atomic_load_explicit(&audit->turn_began_ns, memory_order_relaxed);
    bool stalled = began_ns != 0 && audit_now_ns() - began_ns > AUDIT_STALL_NS;
    return !stalled && atomic_load_explicit(&audit->healthy, memory_order_relaxed);
}

void audit_stop(struct audit **audit)
{
    struct audit *stopped = *audit;
    *audit = NULL;
    atomic_store(&stopped->stopping, true);
    wake_thread(stopped);
    pthread_join(stopped->thread, NULL);
    unref(stopped);
}

/* --- producers --- */

struct audit_producer *audit_producer_create(struct audit *audit, void (*wake)(void *), void *user)
{
    struct audit_producer *producer = xcalloc(1, sizeof(*producer));
    producer->audit = audit;
    producer->wake = wake;
    producer->user = user;
    pthread_mutex_init(&producer->lock, NULL);
    pthread_cond_init(&producer->settled, NULL);
    atomic_fetch_add(&audit->references, 1);
    pthread_mutex_lock(&audit->lock);
    producer->next = audit->producers;
    audit->producers = producer;
    pthread_mutex_unlock(&audit->lock);
    return producer;
}

static void producer_free(struct audit_producer *producer)
{
    struct audit *audit = producer->audit;
    pthread_mutex_destroy(&producer->lock);
    pthread_cond_destroy(&producer->settled);
    buffer_free(&producer->batch);
    buffer_free(&producer->handed);
    buffer_free(&producer->spare);
    free(producer);
    unref(audit);
}

void audit_producer_leave(struct audit_producer *producer)
{
    pthread_mutex_lock(&producer->lock);
    bool second = producer->left;
    producer->left = true;
    pthread_mutex_unlock(&producer->lock);
    if (second)
        producer_free(producer);
}

static void wait_for_decision(struct audit_producer *producer)
{
    pthread_mutex_lock(&producer->lock);
    while (!producer->decided.first)
        pthread_cond_wait(&producer->settled, &producer->lock);
    pthread_mutex_unlock(&producer->lock);
}

void audit_producer_destroy(struct audit_producer **producer)
{
    struct audit_producer *closing = *producer;
    *producer = NULL;
    if (!closing)
        return;
    audit_flush(closing);
    while (closing->outstanding > 0) {
        wait_for_decision(closing);
        audit_collect(closing);
    }
    audit_producer_leave(closing);
}

/* --- lines --- */

bool audit_write(struct audit_producer *producer, struct text line, struct audit_ticket *ticket)
{
    struct audit *audit = producer->audit;
    size_t size = sizeof(struct frame) + line.length;
    size_t before = atomic_fetch_add_explicit(&audit->queued, size, memory_order_relaxed);
    size_t limit = (size_t)atomic_load_explicit(&audit->queue_bytes, memory_order_relaxed);
    if (!ticket && before + size > limit) {
        atomic_fetch_sub_explicit(&audit->queued, size, memory_order_relaxed);
        return false;
    }
    struct frame frame = {.ticket = ticket, .producer = ticket ? producer : NULL};
    audit_append_frame(&producer->batch, frame, line);
    if (ticket) {
        producer->batch_tickets++;
        producer->outstanding++;
    }
    return true;
}

void audit_count_lost(struct audit_producer *producer)
{
    atomic_fetch_add_explicit(&producer->audit->lost, 1, memory_order_relaxed);
    metrics_add(METRIC_AUDIT_LOST, 1);
}

/* Swaps where it can, since the thread mostly has taken the batch before. */
static void hand_over(struct audit_producer *producer)
{
    pthread_mutex_lock(&producer->lock);
    if (producer->handed.length == 0) {
        struct buffer emptied = producer->handed;
        producer->handed = producer->batch;
        producer->batch = emptied;
    } else {
        buffer_add_text(&producer->handed, buffer_text(&producer->batch));
    }
    producer->handed_tickets += producer->batch_tickets;
    pthread_mutex_unlock(&producer->lock);
    producer->batch.length = 0;
    producer->batch_tickets = 0;
}

void audit_flush(struct audit_producer *producer)
{
    struct audit *audit = producer->audit;
    if (producer->batch.length == 0)
        return;
    size_t bytes = producer->batch.length;
    size_t tickets = producer->batch_tickets;
    /* Counted before the thread can take them, so that the counters never fall below zero. */
    size_t pending = atomic_fetch_add(&audit->pending, bytes) + bytes;
    atomic_fetch_add(&audit->urgent, tickets);
    hand_over(producer);
    int state = atomic_load(&audit->state);
    if (state == THREAD_IDLE ||
        (state == THREAD_GATHERING && (tickets > 0 || pending >= AUDIT_GATHER_BYTES)))
        wake_thread(audit);
}

void audit_collect(struct audit_producer *producer)
{
    if (producer->outstanding == 0)
        return;
    pthread_mutex_lock(&producer->lock);
    struct audit_ticket *ticket = producer->decided.first;
    producer->decided = (struct ticket_list){0};
    pthread_mutex_unlock(&producer->lock);
    while (ticket) {
        struct audit_ticket *next = ticket->next;
        producer->outstanding--;
        ticket->done(ticket, ticket->written);
        ticket = next;
    }
}
