/* Private to the audit service: what the workers' side (audit.c), the thread (audit_thread.c) and
 * its pen (audit_writer.c) share.
 *
 * A line travels as a frame: a header, then its bytes. Each producer has two buffers of frames: its
 * batch, which only its worker touches, and what was handed over, under the producer's lock, from
 * where the thread takes it by swapping buffers. The thread joins what it took to its backlog and
 * writes that in chunks.
 *
 * Locks: audit->lock (list of producers, sleeping) and producer->lock; in this order where
 * both are held, never across I/O. The waking protocol: a producer adds to `pending` and then reads
 * `state`; the thread sets `state` and then reads `pending`, both sequentially consistent, so that
 * one of the two sees the other and no hand-over is slept through. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "audit_file.h"
#include "audit_format.h"

struct frame {
    struct audit_ticket *ticket;
    struct audit_producer *producer; /* whose ticket it is; NULL without one */
    size_t length;                   /* of the bytes behind this header */
};

struct ticket_list {
    struct audit_ticket *first;
    struct audit_ticket **last; /* where the next goes; NULL while empty */
};

struct audit_producer {
    struct audit *audit;
    void (*wake)(void *user);
    void *user;
    struct audit_producer *next; /* audit->lock; only the thread takes one out of the list */

    /* The worker's own. */
    struct buffer batch;
    size_t batch_tickets;
    size_t outstanding; /* tickets whose `done` was not called yet */

    pthread_mutex_t lock;
    pthread_cond_t settled; /* `decided` grew: for destroy */
    struct buffer handed;
    size_t handed_tickets;
    struct ticket_list decided;
    bool left; /* by its worker (destroy) or by the thread (end); the second of the two frees it */

    /* The thread's own. */
    struct buffer spare;
    struct ticket_list settling; /* decided in this round */
};

/* What the thread is doing: tells a producer whether it must be woken. */
enum thread_state {
    THREAD_BUSY,      /* will look at `pending` before it sleeps */
    THREAD_GATHERING, /* sleeps some milliseconds to let a chunk grow; durable lines wake it */
    THREAD_IDLE       /* sleeps: anything wakes it */
};

/* A chunk of the backlog on its way into the file. */
struct chunk {
    struct buffer out;
    size_t *ends; /* for each line: where it ends in out */
    size_t lines;
    size_t capacity;
    size_t tickets;
    size_t backlog_end; /* where the next chunk begins */
};

struct audit {
    _Atomic int references; /* one for audit_start(), one for each producer */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct audit_producer *producers; /* lock */

    _Atomic int state; /* enum thread_state */
    _Atomic bool healthy;
    _Atomic int64_t turn_began_ns; /* the thread is at the disk since then; 0: it is not */
    _Atomic bool stopping;
    _Atomic bool reopen;
    _Atomic size_t queued;  /* bytes of frames from audit_write() until they are in the file */
    _Atomic size_t pending; /* of these: handed over and not yet taken by the thread */
    _Atomic size_t urgent;  /* tickets handed over and not yet taken */
    _Atomic int64_t lost;   /* lines that were counted and not yet told of */

    /* Options that may be reloaded. */
    _Atomic int64_t max_bytes;
    _Atomic int64_t retention_ms;
    _Atomic int64_t queue_bytes;

    /* The thread's own, once it runs. */
    struct audit_file file;
    struct buffer tail_prefix;
    int64_t next_sequence;
    struct buffer backlog; /* frames, oldest first */
    size_t backlog_start;
    struct chunk chunk;
    int64_t refused;      /* durable lines refused since the file broke */
    int64_t retry_at_ns;  /* next attempt to open a broken file */
    int64_t rotate_at_ns; /* not before: after a rename that failed */
    int64_t expire_at_ms; /* wall time of the next look at retention */
};

#define AUDIT_BUFFER_KEPT  ((size_t)1 << 20) /* larger buffers are given back after a burst */
#define AUDIT_STALL_NS     1000000000        /* a disk that takes longer does not work */
#define AUDIT_GATHER_BYTES 262144u           /* as much is written without waiting for more */

/* audit.c: frames, lists, producers. */
void audit_append_frame(struct buffer *buffer, struct frame frame, struct text line);
struct frame audit_frame_at(const struct buffer *buffer, size_t offset);
void audit_ticket_append(struct ticket_list *list, struct audit_ticket *ticket);
/* Moves all of `from` behind `to`. */
void audit_ticket_splice(struct ticket_list *to, struct ticket_list *from);
/* The worker or the thread has no more use for a producer; the thread has taken it out of the
 * list. */
void audit_producer_leave(struct audit_producer *producer);

/* audit_thread.c: `user` is the struct audit. */
void *audit_thread_run(void *user);
/* Real time, even when a test has stopped the clocks that lines show. */
int64_t audit_now_ns(void);

/* audit_writer.c: on the audit thread, but for prepare. */
/* Opens the file, finds the last sequence number and mends a torn last line; false with errno. */
bool audit_writer_prepare(struct audit *audit);
/* Puts a line of the thread's own at the end of the backlog. */
void audit_add_notice(struct audit *audit, const struct audit_notice *notice);
/* Recovers, reopens, rotates and expires as is due, writes the backlog; every ticket of it is
 * decided afterwards. */
void audit_writer_turn(struct audit *audit);
/* Syncs and closes. */
void audit_writer_finish(struct audit *audit);
