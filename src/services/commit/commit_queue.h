/* Group commit, under the audit and the journal: what workers want on disk goes through lanes to a
 * writer thread, which writes what all lanes handed over in one go, syncs it once, and tells the
 * workers what became of their tickets. While it is at the disk the next group gathers.
 *
 * A piece travels as a frame: a header, then its bytes. A lane, the worker's end, has two buffers
 * of frames: its batch, which only its worker touches, and what was handed over, under the lane's
 * lock, from where the thread takes it by swapping buffers. Frames of a lane keep their order.
 *
 * Locks: queue->lock (list of lanes, sleeping) and lane->lock; in this order where both are held,
 * never across I/O.
 *
 * The waking protocol: a lane adds to `pending` and then reads `state`; the thread sets `state` and
 * then reads `pending`, both sequentially consistent, so that one of the two sees the other and no
 * hand-over is slept through. The thread does both under queue->lock and releases it only by
 * sleeping, and who wakes it signals under queue->lock: no signal is lost in between.
 *
 * The stop: the thread reads `stopping` before a round, and that round takes all that was handed
 * over before the stop. A lane is freed by the second of the two who leave it, its worker
 * (commit_lane_destroy()) and the thread: that one leaves when the worker has left and all of the
 * lane was taken, or at its own end. So either may be first, and nothing handed over is lost. */
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
    struct commit_lane *lane;     /* whose ticket it is */
    uint64_t mark;                /* the owner's */
    size_t length;                /* of the bytes after this header */
};

struct commit_tickets {
    struct commit_ticket *first;
    struct commit_ticket **last; /* where the next goes; NULL while empty */
};

/* What the audit and the journal supply. `owner` is commit_queue_start()'s; all is called on the
 * writer thread. */
struct commit_writer {
    const char *name; /* of the thread */
    /* Joins what was taken from a lane to what waits. Empties *taken, or swaps it for an empty
     * buffer. */
    void (*join)(void *owner, struct buffer *taken);
    /* Writes and syncs what has tickets and decides all tickets (commit_decide()), or refuses
     * them. */
    void (*write_batch)(void *owner);
    /* Writes some of what has no tickets, after the tickets were told. True if there is more, and
     * the next round is to follow at once. May be NULL. */
    bool (*write_rest)(void *owner);
    /* After the last round: all lanes were taken and no ticket waits. */
    void (*finish)(void *owner);
    /* Lets a write grow for so long, but for tickets, or until so many bytes are pending. 0: writes
     * at once. */
    int64_t gather_ns;
    size_t gather_bytes;
};

/* What the thread is doing: tells a lane whether it must be woken. */
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
    struct commit_lane *lanes; /* lock; only the thread takes one out */

    _Atomic int state; /* enum commit_state */
    _Atomic bool stopping;
    _Atomic bool called; /* commit_queue_call() */
    _Atomic bool healthy;
    _Atomic int64_t turn_began_ns; /* the thread is at the disk since then; 0: it is not */
    _Atomic size_t pending;        /* bytes handed over and not yet taken by the thread */
    _Atomic size_t urgent;         /* tickets handed over and not yet taken */

    /* The thread's own. */
    int64_t idle_ns; /* a round is due after so long, though nothing comes; the owner's to set */
    int64_t retry_at_ns; /* the same while it is not healthy */
};

/* First member of the owner's lane. */
struct commit_lane {
    struct commit_queue *queue; /* not to be touched once `left` is set by the thread */
    void (*wake)(void *user);
    void *user;
    struct commit_lane *next; /* queue->lock */

    /* The worker's own. */
    struct buffer batch;
    size_t batch_tickets;
    size_t outstanding; /* tickets whose `done` was not called yet */

    pthread_mutex_t lock;
    pthread_cond_t confirmed; /* `decided` grew: for destroy */
    struct buffer handed;
    size_t handed_tickets;
    struct commit_tickets decided;
    bool left; /* by its worker or by the thread; the second of the two frees it */

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
/* Has everything that was handed over written, ends the thread. Lanes must be gone or silent; one
 * that outlives this may only be destroyed, and must have no tickets under way. */
void commit_queue_stop(struct commit_queue *queue);
/* Has the writer run a round though nothing was handed over. Any thread; returns at once. */
void commit_queue_call(struct commit_queue *queue);
/* False while the file does not work (commit_queue_fail()), or if the disk has kept the thread
 * waiting for more than a second. Any thread, an atomic read. */
bool commit_queue_healthy(const struct commit_queue *queue);
/* On the writer thread: the file does not work, and is to be tried again in so long. True if it has
 * worked until now. */
bool commit_queue_fail(struct commit_queue *queue, int64_t retry_ns);
/* On the writer thread: true while it works; whether it is time to try it again; it works again. */
bool commit_queue_works(const struct commit_queue *queue);
bool commit_queue_is_retry_due(const struct commit_queue *queue);
void commit_queue_recover(struct commit_queue *queue);
/* Monotonic time, even when a test has stopped the clocks that lines show. */
int64_t commit_now_ns(void);

/* --- lanes: on the worker's thread --- */

/* `size` is that of the owner's struct, whose first member is the lane; the rest is zeros. `wake`
 * (may be NULL) is called on the writer thread when tickets are decided and must only wake the
 * worker's loop, which then calls commit_lane_collect(). */
void *commit_lane_create(struct commit_queue *queue, size_t size, void (*wake)(void *), void *user);
/* False once the thread has left it: the owner may be gone. */
bool commit_lane_is_open(struct commit_lane *lane);
/* Hands over what is left and waits until every ticket is decided and its `done` was called; then
 * leaves the lane. NULL is none. */
void commit_lane_destroy(struct commit_lane *lane);
/* Adds a frame to the batch; `mark` is handed to the writer with it. */
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
/* Joins frames to others: swaps the buffers if there are none, so that with one busy worker nothing
 * is copied. Leaves *taken empty. */
void commit_frames_join(struct buffer *frames, struct buffer *taken);
/* Empties the buffer, and gives it back if a burst has made it large. */
void commit_frames_clear(struct buffer *frames);
/* The ticket of the frame, if it has one, is answered so at the end of the batch. Each once. */
void commit_decide(struct commit_frame frame, bool written);
