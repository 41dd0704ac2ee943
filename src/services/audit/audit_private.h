/* Private to the audit service: what the workers' side (audit.c, audit_unauthenticated.c) and the
 * writer (audit_writer.c, audit_backlog.c, audit_reserve.c) share.
 *
 * A line travels as a frame of the commit queue, marked with its class. The writer joins frames to
 * its backlog and writes that in chunks.
 *
 * The backlog has a queue for each class. While it fits one chunk all lines use the first queue, in
 * order of arrival; only a larger backlog, or a disk short of space, makes it sort lines by class.
 * A turn writes the first queue whole, returns its tickets, and writes one chunk of the others, so
 * that a change waits for one chunk at most.
 *
 * Locks: those of commit_queue.h, and audit->counted_lock, a leaf. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "audit_file.h"
#include "audit_format.h"
#include "services/commit/commit_queue.h"

/* Unauthenticated calls that were only counted, and when. */
struct unauthenticated_count {
    int64_t calls; /* 0: the times mean nothing */
    int64_t first_ms, last_ms;
};

struct audit_lane {
    struct commit_lane commit;
    struct audit *audit;
    struct unauthenticated_count unauthenticated; /* not yet handed over */
};

/* A chunk of the backlog on its way into the file. */
struct chunk {
    struct buffer out;
    size_t *ends; /* for each line: its end in out */
    size_t lines;
    size_t capacity;
    size_t tickets;
    size_t end; /* start of the next chunk in the queue */
};

/* Waiting frames, oldest first; those before `start` are written. */
struct queue {
    struct buffer frames;
    size_t start;
};

/* Stages of disk space; each allows fewer lines than the one before. */
enum reserve_stage {
    RESERVE_AMPLE,
    RESERVE_NEAR,    /* less than twice the reserve: an alert */
    RESERVE_REACHED, /* less than the reserve: unauthenticated calls are only counted */
    RESERVE_HALVED   /* less than half of it: lines of reads wait, or follow audit.overflow */
};

struct audit {
    struct commit_queue queue;
    _Atomic bool reopen;
    _Atomic size_t queued;     /* bytes of frames from audit_write() until they are in the file */
    _Atomic int64_t lost;      /* lost lines, not yet reported */
    _Atomic int reserve_stage; /* enum reserve_stage */
    /* For audit_take_pressure(): free bytes at the change to a worse stage, else -1; calls, else 0.
     */
    _Atomic int64_t reported_free;
    _Atomic int64_t reported_unauthenticated;
    /* The budgets of unauthenticated calls. */
    struct ratelimit *networks;
    struct ratelimit *node;
    pthread_mutex_t counted_lock;
    struct unauthenticated_count counted; /* counted_lock; handed over and not yet taken */

    /* Options that may be reloaded. */
    _Atomic int64_t max_bytes;
    _Atomic int64_t retention_ms;
    _Atomic int64_t queue_bytes;
    _Atomic int64_t reserve;
    _Atomic int64_t strangers_per_minute;
    _Atomic int64_t strangers_per_address;

    /* The thread's own once it runs. */
    struct audit_file file;
    struct buffer tail_prefix;
    int64_t next_sequence;
    struct queue backlog[AUDIT_CLASSES];
    struct chunk chunk;
    struct unauthenticated_count unauthenticated; /* not yet reported ... */
    int64_t unauthenticated_due_ms;               /* ... until this monotonic time */
    bool unauthenticated_alerted;                 /* they exceeded the node's budget */
    int64_t refused;                              /* durable lines refused since the file broke */
    int64_t rotate_at_ns;                         /* not before: after a rename that failed */
    bool expired_alone;                           /* the latest deletion knew no server's time */
    int64_t expire_at_ms;                         /* next deletion, monotonic */
};

#define AUDIT_CHUNK_BYTES 262144u /* the size of one write */

/* audit_unauthenticated.c */
void audit_unauthenticated_init(struct audit *audit);
void audit_unauthenticated_fini(struct audit *audit);
/* Moves the counts of `from` to `to`. */
void audit_unauthenticated_merge(struct unauthenticated_count *to,
                                 struct unauthenticated_count *from);
/* Hands over the counts of a lane. */
void audit_unauthenticated_flush(struct audit_lane *lane);
/* On the audit thread: collects the counts of all lanes, starts their minute, raises the alert. */
void audit_unauthenticated_gather(struct audit *audit);
bool audit_unauthenticated_due(const struct audit *audit);
/* The line with the count; audit_unauthenticated_reported() follows once it is in the file. */
void audit_unauthenticated_notice(const struct audit *audit, struct audit_notice *ret,
                                  struct audit_number *number);
void audit_unauthenticated_reported(struct audit *audit);

/* audit_reserve.c, on the audit thread: updates the stage from the free disk space. */
void audit_reserve_check(struct audit *audit);

/* audit_backlog.c, on the audit thread. */
/* commit_writer.join; `owner` is the struct audit. */
void audit_backlog_join(void *owner, struct buffer *taken);
/* Appends a line of the thread's own to those of changes. */
void audit_add_notice(struct audit *audit, const struct audit_notice *notice);
bool audit_queue_is_empty(const struct queue *queue);
/* Removes the frames before `end` and decides their tickets as `written`. */
void audit_queue_drop(struct audit *audit, struct queue *queue, size_t end, bool written);
/* Decides every waiting ticket as not written and removes its line; keeps the others in order. */
void audit_backlog_refuse(struct audit *audit);
/* Empties a queue, none of whose lines has a ticket; returns the number of lines. */
int64_t audit_queue_discard(struct audit *audit, struct queue *queue);
size_t audit_backlog_bytes(const struct audit *audit);

/* audit_writer.c: on the audit thread, but for prepare. */
extern const struct commit_writer audit_writer; /* its owner is the struct audit */
/* Opens the file, finds the last sequence number, mends a torn last line. False with errno. */
bool audit_writer_prepare(struct audit *audit);
