/* Private to the journal: what the workers' side (journal.c), the thread (journal_thread.c) and its
 * pen (journal_pen.c) share.
 *
 * A revocation is in the index, and so in force, at once. To the disk it travels as a frame: a
 * header, then its record, not yet sealed. Each writer has two buffers of frames: its batch, which
 * only its worker touches, and what was handed over, under the writer's lock, from where the thread
 * takes it by swapping buffers. A frame without a record only waits for one that is in the file.
 *
 * Locks: journal->lock (list of writers, sleeping) and writer->lock, in this order where both are
 * held; the index's is a leaf. None is held across I/O. The waking protocol: a writer adds to
 * `pending` and then reads `idle`; the thread sets `idle` and then reads `pending`, both
 * sequentially consistent, so that one of the two sees the other and no hand-over is slept through.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "journal_file.h"
#include "journal_index.h"

struct journal_frame {
    struct journal_ticket *ticket; /* may be NULL */
    struct journal_writer *writer; /* whose ticket it is */
    uint64_t number;
    size_t length; /* of the record behind this header; 0: it is in the file already */
};

struct journal_tickets {
    struct journal_ticket *first;
    struct journal_ticket **last; /* where the next goes; NULL while empty */
};

struct journal_writer {
    struct journal *journal;
    void (*wake)(void *user);
    void *user;
    struct journal_writer *next; /* journal->lock; only the thread takes one out of the list */

    /* The worker's own. */
    struct buffer batch;
    struct buffer record; /* scratch */
    size_t outstanding;   /* tickets whose `done` was not called yet */

    pthread_mutex_t lock;
    pthread_cond_t settled; /* `decided` grew: for destroy */
    struct buffer handed;
    struct journal_tickets decided;
    bool left; /* by its worker (destroy) or by the thread (end); the second of the two frees it */

    /* The thread's own. */
    struct buffer spare;
    struct journal_tickets deciding; /* in this round */
};

struct journal {
    struct journal_index index;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct journal_writer *writers; /* lock */

    _Atomic bool idle; /* the thread sleeps: it must be woken */
    _Atomic bool healthy;
    _Atomic bool stopping;
    _Atomic int64_t turn_began_ns; /* the thread is at the disk since then; 0: it is not */
    _Atomic size_t pending;        /* bytes handed over and not yet taken by the thread */
    _Atomic int64_t max_bytes;
    _Atomic int64_t file_bytes;

    /* The thread's own, once it runs. */
    struct journal_file file;
    struct buffer backlog; /* frames, oldest first */
    struct buffer marks;   /* records */
    struct buffer written; /* numbers of this round */
    int64_t retry_at_ns;   /* next attempt to write a broken file anew */
    int64_t renew_at_ns;   /* not before: after a file that could not be written anew */
    int64_t expire_at_ns;  /* next look at what may be forgotten */
};

#define JOURNAL_BUFFER_KEPT ((size_t)1 << 20) /* larger buffers are given back after a burst */
#define JOURNAL_STALL_NS    1000000000        /* a disk that takes longer does not work */

/* An eighth of what is allowed is room for appending, so that the file need not be written anew
 * for every record when it is nearly full. */
static inline int64_t journal_limit(int64_t max_bytes)
{
    return max_bytes - max_bytes / 8 - JOURNAL_HEAD;
}

/* journal.c: frames, lists, writers. */
struct journal_frame journal_frame_at(const struct buffer *buffer, size_t offset);
void journal_ticket_append(struct journal_tickets *list, struct journal_ticket *ticket);
/* Moves all of `from` behind `to`. */
void journal_ticket_splice(struct journal_tickets *to, struct journal_tickets *from);
/* The worker or the thread has no more use for a writer; the thread has taken it out of the list.
 */
void journal_writer_leave(struct journal_writer *writer);

/* journal_thread.c: `user` is the struct journal. */
void *journal_thread_run(void *user);
/* Real time, even when a test has stopped the clocks. */
int64_t journal_now_ns(void);

/* journal_pen.c: on the thread, but for prepare. */
/* Opens and reads the file; false with *error. */
bool journal_pen_prepare(struct journal *journal, struct buffer *error);
/* Forgets, recovers, writes the file anew as is due, writes the backlog; every ticket of it is
 * decided afterwards. */
void journal_pen_turn(struct journal *journal);
/* Syncs what is left; tells what could not be brought to disk. */
void journal_pen_finish(struct journal *journal);
