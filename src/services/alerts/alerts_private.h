/* Private to alerts: shared by raising (alerts.c), counting (alerts_count.c), the thread
 * (alerts_thread.c) and its delivery to the receiver (alerts_delivery.c).
 *
 * An alert travels as a piece (alert_pack). The raiser puts it into `handed`; the thread takes it,
 * gives it an id and an audit line, writes it to disk and delivers it from there. One lock, a leaf,
 * never held across I/O. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "alert.h"
#include "alerts.h"
#include "alerts_file.h"
#include "crypto.h"
#include "minutes.h"
#include "webhook.h"

enum {
    ALERTS_SECRET_MIN = 24,
    ALERTS_SECRET_MAX = 1024,
    ALERTS_WAITING_MAX = 1 << 20 /* bytes of pieces on their way to the disk */
};

/* The receiver and the signing key. Immutable. */
struct alerts_target {
    char *url; /* "": nowhere */
    size_t secret_length;
    char secret[ALERTS_SECRET_MAX];
    struct buffer authorities; /* CAs as PEM; empty: those of the system */
};
/* NULL with *error. */
struct alerts_target *alerts_target_load(const struct conf *conf, struct buffer *error);
void alerts_target_free(struct alerts_target **target);

struct alerts {
    struct audit *audit; /* borrowed */
    struct audit_lane *lane;
    char *node;
    pthread_t thread;
    struct webhook *webhook; /* the thread's, but for waking it */
    uint8_t hash_key[CRYPTO_TABLE_KEY];

    pthread_mutex_t lock;
    struct buffer handed;
    struct minutes *repeats;          /* raised within a minute, with their repetitions */
    struct minutes *counts;           /* of events that are an alert only in numbers */
    struct minutes *groups;           /* alerts raised one by one, by tenant and kind */
    struct alerts_target *new_target; /* NULL: unchanged */

    _Atomic size_t waiting; /* bytes in `handed` and in the backlog */
    _Atomic int64_t lost;   /* dropped alerts, not yet reported */
    _Atomic bool stopping;
    _Atomic int64_t queued, bytes; /* for alerts_usage() */
    _Atomic bool written, delivered;

    /* Options that may be reloaded. */
    _Atomic int64_t max_bytes, forced_logouts, guesses, one_by_one, refused_after_ms;

    /* The thread's own, once it runs. */
    struct alerts_target *target;
    struct alerts_file file;
    struct buffer taken;         /* pieces */
    struct buffer backlog;       /* an id and a piece each, not yet on disk */
    struct buffer scratch;       /* bodies and lines */
    struct alerts_file refused;  /* set aside */
    struct queued_alert sending; /* being delivered */
    struct alerts_file *source;  /* the file whose first it is */
    int64_t told;                /* lost ones reported by alerts that are not yet on disk */
    int64_t write_at_ms;         /* not before: after a failed write */
    int64_t send_at_ms;          /* not before: after a failed attempt */
    int64_t pause_ms;            /* the next pause; 0: the latest attempt succeeded */
    int64_t refusals;            /* of the first of the queue ... */
    int64_t refused_since_ms;    /* ... since then */
    int64_t retry_refused_at_ms; /* not before: those set aside */
    uint64_t seed;
};

/* alerts.c */
/* Hands an alert to the thread; `alert->count` is at least 1. The lock is held. True if the thread
 * must be woken. */
bool alerts_hand_over(struct alerts *alerts, const struct alert *alert);
/* Hands over the kept repetitions whose minute is over, or all. */
void alerts_tell_repeats(struct alerts *alerts, bool all);
/* A name for the tables, hashed from purpose and parts. */
uint64_t alerts_name(const struct alerts *alerts, char purpose, const struct text *parts,
                     size_t count);

/* alerts_thread.c; `user` is the struct alerts. */
void *alerts_thread_run(void *user);
/* Notes that the disk works, or failed with this errno. */
void alerts_note_disk(struct alerts *alerts, bool good, int error);

/* alerts_delivery.c: on the thread. */
/* Continues the current attempt or begins the next. True while one is in flight. */
bool alerts_deliver(struct alerts *alerts);
/* Switches to a new target if there is one. */
void alerts_take_target(struct alerts *alerts);
