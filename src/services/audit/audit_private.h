/* Private to the audit service: what the workers' side (audit.c, audit_unauthenticated.c) and the
 * writer (audit_writer.c, audit_backlog.c, audit_reserve.c) share.
 *
 * A line travels as a frame of the commit queue, marked with its class. The writer joins what it
 * took to its backlog and writes that in chunks.
 *
 * The backlog has a queue for each class. While all that waits fits one chunk it goes through the
 * first queue, in the order in which it came; only what is more, or what the disk has no room for,
 * is sorted by classes. A turn writes the first queue whole, tells whose tickets those are, and
 * writes one chunk of the others, so that a change waits for one chunk at most.
 *
 * Locks: those of commit_queue.h, and audit->counted_lock, a leaf. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "audit_file.h"
#include "audit_format.h"
#include "services/commit/commit_queue.h"

/* Calls of strangers that were counted, and when. */
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
    size_t *ends; /* for each line: where it ends in out */
    size_t lines;
    size_t capacity;
    size_t tickets;
    size_t end; /* where the next chunk of the queue begins */
};

/* Frames that wait, oldest first; those before `start` are written. */
struct queue {
    struct buffer frames;
    size_t start;
};

/* How much room the disk has for which lines; each stage is worse than the one before. */
enum reserve_stage {
    RESERVE_AMPLE,
    RESERVE_NEAR,    /* less than twice the reserve: an alert */
    RESERVE_REACHED, /* less than the reserve: strangers are only counted */
    RESERVE_HALVED   /* less than half of it: lines of reads wait, or go by audit.overflow */
};

struct audit {
    struct commit_queue queue;
    _Atomic bool reopen;
    _Atomic size_t queued;     /* bytes of frames from audit_write() until they are in the file */
    _Atomic int64_t lost;      /* lines that were counted and not yet told of */
    _Atomic int reserve_stage; /* enum reserve_stage */
    /* For audit_take_pressure(): -1, or what was free when it became less; 0, or calls. */
    _Atomic int64_t reported_free;
    _Atomic int64_t reported_unauthenticated;
    /* The budgets of strangers. */
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

    /* The thread's own, once it runs. */
    struct audit_file file;
    struct buffer tail_prefix;
    int64_t next_sequence;
    struct queue backlog[AUDIT_CLASSES];
    struct chunk chunk;
    struct unauthenticated_count unauthenticated; /* not yet told of ... */
    int64_t unauthenticated_due_ms;               /* ... until then, by the monotonic clock */
    bool unauthenticated_alerted;                 /* they are more than the budget of the node */
    int64_t refused;                              /* durable lines refused since the file broke */
    int64_t rotate_at_ns;                         /* not before: after a rename that failed */
    bool expired_alone;   /* the latest look was before any server told its time */
    int64_t expire_at_ms; /* next look at retention, monotonic */
};

#define AUDIT_CHUNK_BYTES 262144u /* as much goes into one write */

/* audit_unauthenticated.c */
void audit_unauthenticated_init(struct audit *audit);
void audit_unauthenticated_fini(struct audit *audit);
/* Adds what was counted elsewhere, which is then zero. */
void audit_unauthenticated_merge(struct unauthenticated_count *to,
                                 struct unauthenticated_count *from);
/* Hands the counts of a lane over. */
void audit_unauthenticated_flush(struct audit_lane *lane);
/* On the audit thread: takes what was handed over; a count begins, or has become an alert. */
void audit_unauthenticated_gather(struct audit *audit);
bool audit_unauthenticated_due(const struct audit *audit);
/* The line about what was counted; audit_unauthenticated_reported() once it is in the file. */
void audit_unauthenticated_notice(const struct audit *audit, struct audit_notice *ret,
                                  struct audit_number *number);
void audit_unauthenticated_reported(struct audit *audit);

/* audit_reserve.c, on the audit thread: looks how much room the disk has. */
void audit_reserve_check(struct audit *audit);

/* audit_backlog.c, on the audit thread. */
/* commit_writer.join; `owner` is the struct audit. */
void audit_backlog_join(void *owner, struct buffer *taken);
/* Puts a line of the thread's own behind those of changes. */
void audit_add_notice(struct audit *audit, const struct audit_notice *notice);
bool audit_queue_is_empty(const struct queue *queue);
/* Takes the first frames, as far as `end`, out: they are in the file. Each ticket is answered with
 * `written`. */
void audit_queue_drop(struct audit *audit, struct queue *queue, size_t end, bool written);
/* Answers false to every ticket that waits and takes its line out; keeps the others in order. */
void audit_backlog_refuse(struct audit *audit);
/* Empties a queue and tells how many lines it had. No line has a ticket. */
int64_t audit_queue_discard(struct audit *audit, struct queue *queue);
size_t audit_backlog_bytes(const struct audit *audit);

/* audit_writer.c: on the audit thread, but for prepare. */
extern const struct commit_writer audit_writer; /* its owner is the struct audit */
/* Opens the file, finds the last sequence number and mends a torn last line; false with errno. */
bool audit_writer_prepare(struct audit *audit);
