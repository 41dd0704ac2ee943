/* Why connections to a server cannot be made, logged once.
 *
 * Every worker has connections to every server, and each tries again and again: what keeps one
 * down keeps all of them down. Two kinds of reasons are kept until the server is up again:
 *
 * - Passing ones (refused, no answer in time) are kept for /readyz alone.
 *
 * - Lasting ones (a certificate, a password) do not repair themselves: one line a server is logged,
 *   and another one when the reason is another or the server was up meanwhile, but no sooner than
 *   10 s after the last, nor after the last of a server whose place it took. A passing reason takes
 *   its place only when it was not met for so long. */
#pragma once

#include <stdatomic.h>
#include <pthread.h>

#include "endpoint.h"

enum { TROUBLE_SERVERS = 16, TROUBLE_WHY_MAX = 160 };

/* What the log calls them. */
enum trouble_kind {
    TROUBLE_CONNECT, /* store_connect_failed: no connection can be made */
    TROUBLE_ERROR,   /* store_error: the server refuses calls */
    TROUBLE_UNFIT,   /* store_unfit: by its INFO it is not as it should be */
    TROUBLE_FOREIGN  /* store_foreign: it belongs to another store */
};

struct trouble {
    enum trouble_kind kind;
    pthread_mutex_t lock; /* of `servers` */
    atomic_uint active;   /* servers with a reason */
    struct trouble_server {
        struct endpoint endpoint;  /* an empty host: none */
        char why[TROUBLE_WHY_MAX]; /* empty: it was up since */
        bool lasting;
        bool untold;            /* it is to be logged as soon as it may */
        int64_t noted_ms;       /* the latest reason; 0: never */
        int64_t told_ms;        /* the latest line */
    } servers[TROUBLE_SERVERS]; /* one more takes the place of the one noted longest ago */
};

void trouble_init(struct trouble *trouble, enum trouble_kind kind);
void trouble_free(struct trouble *trouble);
/* Notes why a connection could not be made or broke. Any thread. */
void trouble_note(struct trouble *trouble, const struct endpoint *endpoint, const char *why);
/* The same for a lasting reason, which is logged unless it was. Any thread. */
void trouble_tell(struct trouble *trouble, const struct endpoint *endpoint, const char *why);
/* A connection came up: what kept it down is over. Any thread; mostly one atomic read. */
void trouble_over(struct trouble *trouble, const struct endpoint *endpoint);
/* Writes the latest reason that is not over as "HOST:PORT: reason", cut to `size`, and behind it
 * how many other servers have one; false if there is none that was noted within `recent_ms`
 * (INT64_MAX: ever). Any thread. */
bool trouble_describe(struct trouble *trouble, int64_t recent_ms, char *out, size_t size);
