/* Private to alerts: what those who raise (alerts.c), those who count (alerts_count.c) and the
 * thread (alerts_thread.c, and its way to the receiver, alerts_delivery.c) share.
 *
 * An alert travels as a piece (alert_pack): from the raiser into `handed`, from where the thread
 * takes it, gives it an id and an audit line, and brings it to disk; from there it is delivered.
 * One lock, a leaf, never held across I/O. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "alerts.h"
#include "alerts_file.h"
#include "alert.h"
#include "minutes.h"
#include "webhook.h"
#include "crypto.h"

enum {
    ALERTS_SECRET_MIN = 24,
    ALERTS_SECRET_MAX = 1024,
    ALERTS_WAITING_MAX = 1 << 20 /* bytes of pieces on their way to the disk */
};

/* Where to, and what signs. Immutable. */
struct alerts_target {
    char *url; /* "": nowhere */
    size_t secret_length;
    char secret[ALERTS_SECRET_MAX];
    struct buffer authorities; /* PEM; empty: those of the system */
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
    struct minutes *repeats;          /* raised within a minute; what came meanwhile is kept */
    struct minutes *counts;           /* of what is an alert only if there is much of it */
    struct minutes *groups;           /* alerts told one by one, by tenant and kind */
    struct alerts_target *new_target; /* NULL: as it was */

    _Atomic size_t waiting; /* bytes in `handed` and in the backlog */
    _Atomic int64_t lost;   /* alerts that were dropped and not yet told of */
    _Atomic bool stopping;
    _Atomic int64_t queued, bytes; /* for those who ask */
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
    struct queued_alert sending; /* on its way to the receiver */
    struct alerts_file *source;  /* which of the two files it is the first of */
    int64_t told;                /* of the lost, by alerts that are not yet on disk */
    int64_t write_at_ms;         /* not before: after a disk that failed */
    int64_t send_at_ms;          /* the same after an attempt that failed */
    int64_t pause_ms;            /* after the next one; 0: the latest succeeded */
    int64_t refusals;            /* of the first of the queue ... */
    int64_t refused_since_ms;    /* ... since then */
    int64_t retry_refused_at_ms; /* not before: what was set aside */
    uint64_t seed;
};

/* alerts.c */
/* Hands an alert over to the thread; `alert->count` is at least 1. The lock is held. True if the
 * thread must be woken. */
bool alerts_hand_over(struct alerts *alerts, const struct alert *alert);
/* Hands over what was kept of repetitions whose minute is over, or of all. */
void alerts_tell_repeats(struct alerts *alerts, bool all);
/* A name for the tables: purpose and parts. */
uint64_t alerts_name(const struct alerts *alerts, char purpose, const struct text *parts,
                     size_t count);

/* alerts_thread.c; `user` is the struct alerts. */
void *alerts_thread_run(void *user);
/* The disk took what it was given, or failed with this errno. */
void alerts_note_disk(struct alerts *alerts, bool good, int error);

/* alerts_delivery.c: on the thread. */
/* Goes on with the attempt under way, begins the next. True while one is under way. */
bool alerts_deliver(struct alerts *alerts);
/* Takes another target if there is one. */
void alerts_take_target(struct alerts *alerts);
