/* Group commit, under the audit and the journal. Workers pass lines and records through lanes to a
 * writer thread, which writes the batches of all lanes in one go, syncs once, and returns the
 * tickets with their result. While it is at the disk the next group gathers.
 *
 * A piece travels as a frame: a header, then its bytes. A lane, the worker's end, has two buffers
 * of frames: the batch, which only its worker touches, and `handed` under the lane's lock, which
 * the thread takes by swapping buffers. Frames of a lane keep their order.
 *
 * Locks: queue->lock (list of lanes, sleeping) and lane->lock; in this order where both are held,
 * never across I/O.
 *
 * The waking protocol: a lane adds to `pending` and then reads `state`; the thread sets `state` and
 * then reads `pending`, both sequentially consistent, so one of the two sees the other and no
 * hand-over is missed. The thread does both under queue->lock and releases it only by sleeping;
 * wakers signal under queue->lock: no signal is lost in between.
 *
 * The stop: the thread reads `stopping` before a round, and that round takes everything handed over
 * before the stop. A lane is freed by the second to leave it, worker (commit_lane_destroy()) or
 * thread. The thread leaves once the worker has left and the lane is empty, or at its own end. So
 * either may be first, and nothing handed over is lost. */
#pragma once

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "commit_ticket.h"
#include "text.h"

struct commit_lane;
struct commit_queue;

struct commit_frame {
    struct commit_ticket *ticket; /* may be NULL */
    struct commit_lane *lane;     /* the ticket's lane */
    uint64_t mark;                /* the owner's */
    size_t length;                /* of the bytes after this header */
};

struct commit_tickets {
    struct commit_ticket *first;
    struct commit_ticket **last; /* where the next goes; NULL while empty */
};

/* Supplied by the audit and the journal. `owner` is commit_queue_init()'s; all are called on the
 * writer thread. */
struct commit_writer {
    const char *name; /* of the thread */
    /* Joins the frames of a lane to the backlog. Empties *taken, or swaps it for an empty buffer.
     */
    void (*join)(void *owner, struct buffer *taken);
    /* Writes and syncs frames with tickets and decides all tickets (commit_decide()). */
    void (*write_batch)(void *owner);
    /* Writes some of the frames without tickets, after the tickets were returned. True if more
     * wait, so that the next round follows at once. May be NULL. */
    bool (*write_rest)(void *owner);
    /* Called after the last round: all lanes are empty and no ticket waits. */
    void (*finish)(void *owner);
    /* A write without tickets waits for more for so long, or until so many bytes are pending. 0:
     * none. */
    int64_t gather_ns;
    size_t gather_bytes;
};

/* The thread's state; a lane reads it to decide about waking. */
enum commit_state {
    COMMIT_BUSY,      /* will look at `pending` before it sleeps */
    COMMIT_GATHERING, /* sleeps to let a write grow; tickets wake it */
    COMMIT_IDLE       /* sleeps: anything wakes it */
};

struct commit_queue {
    const struct commit_writer *writer;
    void *owner;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct commit_lane *lanes; /* lock; only the thread removes one */

    _Atomic int state; /* enum commit_state */
    _Atomic bool stopping;
    _Atomic bool called; /* commit_queue_call() */
    _Atomic bool healthy;
    _Atomic int64_t turn_began_ns; /* since when the thread is at the disk; 0: it is not */
    _Atomic size_t pending;        /* bytes handed over and not yet taken by the thread */
    _Atomic size_t urgent;         /* tickets handed over and not yet taken */

    /* The thread's own. */
    int64_t idle_ns;     /* a round is due after so long without frames; set by the owner */
    int64_t retry_at_ns; /* time of the next try while it is not healthy */
};

/* First member of the owner's lane. */
struct commit_lane {
    struct commit_queue *queue; /* invalid once the thread has set `left` */
    void (*wake)(void *user);
    void *user;
    struct commit_lane *next; /* queue->lock */

    /* The worker's own. */
    struct buffer batch;
    size_t batch_tickets;
    size_t outstanding; /* tickets whose `done` is still to be called */

    pthread_mutex_t lock;
    pthread_cond_t decision; /* `decided` grew; for destroy */
    struct buffer handed;
    size_t handed_tickets;
    struct commit_tickets decided;
    bool left; /* by its worker or the thread; the second frees it */

    /* The thread's own. */
    struct buffer spare;
    struct commit_tickets deciding; /* in this round */
};

/* --- the queue --- */

/* Healthy, with a round every second. `writer` is borrowed. */
void commit_queue_init(struct commit_queue *queue, const struct commit_writer *writer, void *owner);
void commit_queue_fini(struct commit_queue *queue);
/* 0, or the error number of pthread_create(3). */
int commit_queue_start(struct commit_queue *queue);
/* Writes everything handed over, ends the thread. Lanes must be destroyed or silent; one that
 * outlives this call may only be destroyed, and must have no ticket in flight. */
void commit_queue_stop(struct commit_queue *queue);
/* Makes the writer run a round without frames. Any thread; returns at once. */
void commit_queue_call(struct commit_queue *queue);
/* False while the file does not work (commit_queue_fail()), or if the disk has stalled the thread
 * for more than a second. Any thread, an atomic read. */
bool commit_queue_healthy(const struct commit_queue *queue);
/* On the writer thread: the file does not work; the next try is due after `retry_ns`. True if it
 * worked until now. */
bool commit_queue_fail(struct commit_queue *queue, int64_t retry_ns);
/* On the writer thread: true while it works; whether it is time to try it again; it works again. */
bool commit_queue_works(const struct commit_queue *queue);
bool commit_queue_is_retry_due(const struct commit_queue *queue);
void commit_queue_recover(struct commit_queue *queue);
/* Monotonic time, unaffected by tests that stop the clocks of clock.h. */
int64_t commit_now_ns(void);

/* --- lanes: on the worker's thread --- */

/* `size` is the size of the owner's struct, whose first member is the lane; its other bytes are
 * zero. `wake` (may be NULL) is called on the writer thread when tickets are decided and must only
 * wake the worker's loop, which then calls commit_lane_collect(). */
void *commit_lane_create(struct commit_queue *queue, size_t size, void (*wake)(void *), void *user);
/* False once the thread has left the lane: the owner may be gone. */
bool commit_lane_is_open(struct commit_lane *lane);
/* Hands over the rest, waits until every ticket is decided and its `done` called, then leaves the
 * lane. NULL is accepted. */
void commit_lane_destroy(struct commit_lane *lane);
/* Adds a frame to the batch; `mark` travels with it. */
void commit_lane_put(struct commit_lane *lane, struct commit_ticket *ticket, uint64_t mark,
                     struct text bytes);
/* Hands the batch over; once at the end of each loop turn. Cheap when the batch is empty. */
void commit_lane_flush(struct commit_lane *lane);
/* Calls `done` of the tickets that are decided. */
void commit_lane_collect(struct commit_lane *lane);

/* --- frames: on the writer thread --- */

void commit_frame_append(struct buffer *frames, struct commit_frame frame, struct text bytes);
struct commit_frame commit_frame_at(const struct buffer *frames, size_t offset);
/* Bytes of a frame with its header. */
static inline size_t commit_frame_size(struct commit_frame frame)
{
    return sizeof(frame) + frame.length;
}
static inline struct text commit_frame_bytes(const struct buffer *frames, size_t offset)
{
    size_t length = commit_frame_at(frames, offset).length;
    return (struct text){frames->data + offset + sizeof(struct commit_frame), length};
}
/* Appends *taken to the frames. Swaps the buffers if there are no frames, so that one busy worker
 * costs no copy. Leaves *taken empty. */
void commit_frames_join(struct buffer *frames, struct buffer *taken);
/* Empties the buffer, and frees it if a burst has made it large. */
void commit_frames_clear(struct buffer *frames);
/* Decides the frame's ticket, if any; it returns to its lane after the batch. Once for each. */
void commit_decide(struct commit_frame frame, bool written);
