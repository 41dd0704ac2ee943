/* Lanes in, batches out. commit_queue.h describes the locks, the waking protocol and the stop. */
#include "commit_queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "memory.h"
#include "metrics.h"
#include "thread.h"

static const int64_t second_ns = 1000000000;
static const int64_t stall_ns = 1000000000; /* a disk that takes longer counts as stalled */

enum { BUFFER_KEPT = 1 << 20 }; /* larger buffers are freed after a burst */

int64_t commit_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * second_ns + now.tv_nsec;
}

/* --- frames and lists of tickets --- */

void commit_frame_append(struct buffer *frames, struct commit_frame frame, struct text bytes)
{
    assert(!frame.ticket || frame.lane);
    frame.length = bytes.length;
    buffer_add(frames, &frame, sizeof(frame));
    buffer_add_text(frames, bytes);
}

struct commit_frame commit_frame_at(const struct buffer *frames, size_t offset)
{
    struct commit_frame frame;
    assert(offset + sizeof(frame) <= frames->length);
    memcpy(&frame, frames->data + offset, sizeof(frame));
    assert(frame.length <= frames->length - offset - sizeof(frame));
    return frame;
}

void commit_frames_join(struct buffer *frames, struct buffer *taken)
{
    if (frames->length > 0) {
        buffer_add_text(frames, buffer_text(taken));
    } else {
        struct buffer emptied = *frames;
        *frames = *taken;
        *taken = emptied;
    }
    taken->length = 0;
}

void commit_frames_clear(struct buffer *frames)
{
    frames->length = 0;
    if (frames->capacity > BUFFER_KEPT)
        buffer_free(frames);
}

void commit_decide(struct commit_frame frame, bool written)
{
    if (!frame.ticket)
        return;
    struct commit_tickets *list = &frame.lane->deciding;
    frame.ticket->written = written;
    frame.ticket->next = NULL;
    if (!list->first)
        list->last = &list->first;
    *list->last = frame.ticket;
    list->last = &frame.ticket->next;
}

/* Moves all of `from` after `to`. */
static void splice(struct commit_tickets *to, struct commit_tickets *from)
{
    assert(from->first);
    if (!to->first)
        to->last = &to->first;
    *to->last = from->first;
    to->last = from->last;
    *from = (struct commit_tickets){0};
}

/* --- lanes, the workers' side --- */

void *commit_lane_create(struct commit_queue *queue, size_t size, void (*wake)(void *), void *user)
{
    assert(size >= sizeof(struct commit_lane));
    struct commit_lane *lane = xcalloc(1, size);
    lane->queue = queue;
    lane->wake = wake;
    lane->user = user;
    pthread_mutex_init(&lane->lock, NULL);
    pthread_cond_init(&lane->decision, NULL);
    pthread_mutex_lock(&queue->lock);
    lane->next = queue->lanes;
    queue->lanes = lane;
    pthread_mutex_unlock(&queue->lock);
    return lane;
}

static void lane_free(struct commit_lane *lane)
{
    assert(lane->outstanding == 0 && !lane->decided.first && !lane->deciding.first);
    pthread_mutex_destroy(&lane->lock);
    pthread_cond_destroy(&lane->decision);
    buffer_free(&lane->batch);
    buffer_free(&lane->handed);
    buffer_free(&lane->spare);
    free(lane);
}

/* For worker and thread: the second to leave frees the lane. */
static void leave(struct commit_lane *lane)
{
    pthread_mutex_lock(&lane->lock);
    bool second = lane->left;
    lane->left = true;
    pthread_mutex_unlock(&lane->lock);
    if (second)
        lane_free(lane);
}

bool commit_lane_is_open(struct commit_lane *lane)
{
    pthread_mutex_lock(&lane->lock);
    bool open = !lane->left;
    pthread_mutex_unlock(&lane->lock);
    return open;
}

static void wait_for_decision(struct commit_lane *lane)
{
    pthread_mutex_lock(&lane->lock);
    while (!lane->decided.first)
        pthread_cond_wait(&lane->decision, &lane->lock);
    pthread_mutex_unlock(&lane->lock);
}

/* If the thread has left the lane, its queue may be gone: nothing is handed over. */
void commit_lane_destroy(struct commit_lane *lane)
{
    if (!lane)
        return;
    if (commit_lane_is_open(lane))
        commit_lane_flush(lane);
    while (lane->outstanding > 0) {
        wait_for_decision(lane);
        commit_lane_collect(lane);
    }
    leave(lane);
}

void commit_lane_put(struct commit_lane *lane, struct commit_ticket *ticket, uint64_t mark,
                     struct text bytes)
{
    assert(!ticket || ticket->done);
    commit_frame_append(&lane->batch, (struct commit_frame){ticket, lane, mark, 0}, bytes);
    lane->batch_tickets += ticket != NULL;
    lane->outstanding += ticket != NULL;
}

static void wake_thread(struct commit_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    pthread_cond_signal(&queue->work);
    pthread_mutex_unlock(&queue->lock);
}

/* Mostly a swap, since the thread has usually taken the batch before. */
static void hand_over(struct commit_lane *lane)
{
    pthread_mutex_lock(&lane->lock);
    assert(!lane->left);
    commit_frames_join(&lane->handed, &lane->batch);
    lane->handed_tickets += lane->batch_tickets;
    pthread_mutex_unlock(&lane->lock);
    lane->batch_tickets = 0;
}

void commit_lane_flush(struct commit_lane *lane)
{
    struct commit_queue *queue = lane->queue;
    size_t bytes = lane->batch.length, tickets = lane->batch_tickets;
    if (bytes == 0)
        return;
    /* Counted before the thread can take them: the counters never fall below zero. */
    size_t pending = atomic_fetch_add(&queue->pending, bytes) + bytes;
    atomic_fetch_add(&queue->urgent, tickets);
    hand_over(lane);
    int state = atomic_load(&queue->state);
    bool grown = tickets > 0 || pending >= queue->writer->gather_bytes;
    if (state == COMMIT_IDLE || (state == COMMIT_GATHERING && grown))
        wake_thread(queue);
}

void commit_lane_collect(struct commit_lane *lane)
{
    if (lane->outstanding == 0)
        return;
    pthread_mutex_lock(&lane->lock);
    struct commit_ticket *ticket = lane->decided.first;
    lane->decided = (struct commit_tickets){0};
    pthread_mutex_unlock(&lane->lock);
    while (ticket) {
        struct commit_ticket *next = ticket->next;
        assert(lane->outstanding > 0);
        lane->outstanding--;
        ticket->done(ticket, ticket->written);
        ticket = next;
    }
}

/* --- lanes, the thread's side --- */

static struct commit_lane *first_lane(struct commit_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    struct commit_lane *first = queue->lanes;
    pthread_mutex_unlock(&queue->lock);
    return first;
}

static void take_lane(struct commit_queue *queue, struct commit_lane *lane)
{
    assert(lane->spare.length == 0);
    pthread_mutex_lock(&lane->lock);
    struct buffer taken = lane->handed;
    size_t tickets = lane->handed_tickets;
    lane->handed = lane->spare;
    lane->handed_tickets = 0;
    pthread_mutex_unlock(&lane->lock);

    assert(taken.length <= atomic_load(&queue->pending) && tickets <= atomic_load(&queue->urgent));
    atomic_fetch_sub(&queue->pending, taken.length);
    atomic_fetch_sub(&queue->urgent, tickets);
    if (taken.length > 0)
        queue->writer->join(queue->owner, &taken);
    commit_frames_clear(&taken);
    lane->spare = taken;
}

/* Wakes the worker under the lock, so that its lane and its loop still exist. */
static void return_tickets(struct commit_lane *lane)
{
    if (!lane->deciding.first)
        return;
    pthread_mutex_lock(&lane->lock);
    splice(&lane->decided, &lane->deciding);
    pthread_cond_signal(&lane->decision);
    if (lane->wake)
        lane->wake(lane->user);
    pthread_mutex_unlock(&lane->lock);
}

/* True if the worker has left and all its frames were taken. */
static bool is_lane_done(struct commit_lane *lane)
{
    pthread_mutex_lock(&lane->lock);
    bool done = lane->left && lane->handed.length == 0;
    pthread_mutex_unlock(&lane->lock);
    return done;
}

static void remove_lanes(struct commit_queue *queue, bool all)
{
    struct commit_lane *removed = NULL;
    pthread_mutex_lock(&queue->lock);
    struct commit_lane **link = &queue->lanes;
    while (*link) {
        struct commit_lane *at = *link;
        if (all || is_lane_done(at)) {
            *link = at->next;
            at->next = removed;
            removed = at;
        } else {
            link = &at->next;
        }
    }
    pthread_mutex_unlock(&queue->lock);
    while (removed) {
        struct commit_lane *next = removed->next;
        leave(removed);
        removed = next;
    }
}

/* --- the thread --- */

static bool is_called(struct commit_queue *queue)
{
    return atomic_load(&queue->stopping) || atomic_load(&queue->called);
}

/* Sleeps until woken or until `until_ns`; false if the time was reached. */
static bool sleep_until_woken(struct commit_queue *queue, int64_t until_ns)
{
    const struct timespec until = {.tv_sec = until_ns / second_ns, .tv_nsec = until_ns % second_ns};
    return pthread_cond_timedwait(&queue->work, &queue->lock, &until) != ETIMEDOUT;
}

/* Waits for the first frame, then briefly for more, so that a write carries many. Frames with
 * tickets go at once. */
static void wait_for_work(struct commit_queue *queue)
{
    const struct commit_writer *writer = queue->writer;
    int64_t until_ns =
        commit_queue_works(queue) ? commit_now_ns() + queue->idle_ns : queue->retry_at_ns;
    pthread_mutex_lock(&queue->lock);
    assert(atomic_load(&queue->state) == COMMIT_BUSY);
    atomic_store(&queue->state, COMMIT_IDLE);
    while (!is_called(queue) && atomic_load(&queue->pending) == 0)
        if (!sleep_until_woken(queue, until_ns))
            break;
    atomic_store(&queue->state, COMMIT_GATHERING);
    until_ns = commit_now_ns() + writer->gather_ns;
    while (!is_called(queue) && atomic_load(&queue->urgent) == 0 &&
           atomic_load(&queue->pending) > 0 && atomic_load(&queue->pending) < writer->gather_bytes)
        if (!sleep_until_woken(queue, until_ns))
            break;
    atomic_store(&queue->state, COMMIT_BUSY);
    pthread_mutex_unlock(&queue->lock);
}

/* True if there is more to write. */
static bool run_round(struct commit_queue *queue)
{
    const struct commit_writer *writer = queue->writer;
    atomic_store(&queue->called, false);
    for (struct commit_lane *at = first_lane(queue); at; at = at->next)
        take_lane(queue, at);
    atomic_store(&queue->turn_began_ns, commit_now_ns());
    writer->write_batch(queue->owner);
    for (struct commit_lane *at = first_lane(queue); at; at = at->next)
        return_tickets(at);
    atomic_store(&queue->turn_began_ns, commit_now_ns());
    bool more = writer->write_rest && writer->write_rest(queue->owner);
    atomic_store(&queue->turn_began_ns, 0);
    remove_lanes(queue, false);
    return more;
}

static void *run_writer(void *user)
{
    struct commit_queue *queue = user;
    bool stopping = false, more = false;
    pthread_setname_np(pthread_self(), queue->writer->name);
    metrics_attach();
    while (!stopping || more) {
        /* Read before the round, which so takes everything handed over before the stop. */
        stopping = atomic_load(&queue->stopping);
        more = run_round(queue);
        if (!stopping && !more)
            wait_for_work(queue);
    }
    queue->writer->finish(queue->owner);
    remove_lanes(queue, true);
    return NULL;
}

/* --- the queue --- */

void commit_queue_init(struct commit_queue *queue, const struct commit_writer *writer, void *owner)
{
    pthread_condattr_t attributes;
    *queue = (struct commit_queue){.writer = writer, .owner = owner, .idle_ns = second_ns};
    atomic_store(&queue->healthy, true);
    pthread_mutex_init(&queue->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&queue->work, &attributes);
    pthread_condattr_destroy(&attributes);
}

void commit_queue_fini(struct commit_queue *queue)
{
    assert(!queue->lanes);
    pthread_mutex_destroy(&queue->lock);
    pthread_cond_destroy(&queue->work);
}

int commit_queue_start(struct commit_queue *queue)
{
    return thread_start(&queue->thread, run_writer, queue);
}

void commit_queue_stop(struct commit_queue *queue)
{
    atomic_store(&queue->stopping, true);
    wake_thread(queue);
    pthread_join(queue->thread, NULL);
}

void commit_queue_call(struct commit_queue *queue)
{
    atomic_store(&queue->called, true);
    wake_thread(queue);
}

bool commit_queue_healthy(const struct commit_queue *queue)
{
    int64_t began_ns = atomic_load_explicit(&queue->turn_began_ns, memory_order_relaxed);
    bool stalled = began_ns != 0 && commit_now_ns() - began_ns > stall_ns;
    return !stalled && atomic_load_explicit(&queue->healthy, memory_order_relaxed);
}

bool commit_queue_fail(struct commit_queue *queue, int64_t retry_ns)
{
    queue->retry_at_ns = commit_now_ns() + retry_ns;
    return atomic_exchange(&queue->healthy, false);
}

bool commit_queue_works(const struct commit_queue *queue)
{
    return atomic_load(&queue->healthy);
}

bool commit_queue_is_retry_due(const struct commit_queue *queue)
{
    assert(!commit_queue_works(queue));
    return atomic_load(&queue->stopping) || commit_now_ns() >= queue->retry_at_ns;
}

void commit_queue_recover(struct commit_queue *queue)
{
    assert(!commit_queue_works(queue));
    atomic_store(&queue->healthy, true);
}
