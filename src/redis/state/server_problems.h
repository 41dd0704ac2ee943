/* Why connections to a server cannot be made, logged once.
 *
 * Every worker has connections to every server, and each reconnects: one cause keeps all of them
 * down. Two kinds of reasons are kept until the server is up again:
 *
 * - Passing ones (refused, no answer in time) are kept for /readyz alone.
 *
 * - Lasting ones (a certificate, a password) do not repair themselves: one line a server is logged,
 *   and another one when the reason changes or the server was up meanwhile. Lines are 10 s apart at
 *   least, also those of servers that share a position. A passing reason replaces it only when it
 *   was not met for so long. */
#pragma once

#include <stdatomic.h>
#include <pthread.h>

#include "endpoint.h"

enum { PROBLEM_SERVERS = 16, PROBLEM_WHY_MAX = 160 };

/* Their log events. */
enum problem_kind {
    PROBLEM_CONNECT, /* store_connect_failed: no connection can be made */
    PROBLEM_ERROR,   /* store_error: the server refuses calls */
    PROBLEM_UNFIT,   /* store_unfit: by its INFO it is not as it should be */
    PROBLEM_FOREIGN  /* store_foreign: it belongs to another store */
};

struct server_problems {
    enum problem_kind kind;
    pthread_mutex_t lock; /* of `servers` */
    atomic_uint active;   /* servers with a reason */
    struct problem_server {
        struct endpoint endpoint;  /* an empty host: none */
        char why[PROBLEM_WHY_MAX]; /* empty: it was up since */
        bool lasting;
        bool unlogged;          /* to be logged as soon as the interval is over */
        int64_t noted_ms;       /* the latest reason; 0: never */
        int64_t logged_ms;      /* the latest line */
    } servers[PROBLEM_SERVERS]; /* one more replaces the one noted longest ago */
};

void server_problems_init(struct server_problems *problems, enum problem_kind kind);
void server_problems_free(struct server_problems *problems);
/* Notes why a connection could not be made or broke. Any thread. */
void server_problems_note(struct server_problems *problems, const struct endpoint *endpoint,
                          const char *why);
/* The same for a lasting reason, which is logged unless it was. Any thread. */
void server_problems_log(struct server_problems *problems, const struct endpoint *endpoint,
                         const char *why);
/* A connection came up: its problem is over. Any thread; mostly one atomic read. */
void server_problems_over(struct server_problems *problems, const struct endpoint *endpoint);
/* Writes the latest reason that is not over as "HOST:PORT: reason", cut to `size`, followed by how
 * many other servers have one; false if none was noted within `recent_ms` (INT64_MAX: ever). Any
 * thread. */
bool server_problems_describe(struct server_problems *problems, int64_t recent_ms, char *out,
                              size_t size);
