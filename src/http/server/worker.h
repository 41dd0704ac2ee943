/* A worker: one thread with one loop, one libmicrohttpd daemon, and everything that its requests
 * need, so that nothing on the way of a request is shared or locked. The ops plane is served by one
 * more worker of the same kind, without a link to the store and without audit lines.
 *
 * A turn of the loop: sockets and timers are looked at (poll phase), then on_prepare() lets
 * libmicrohttpd work off new bytes and resumed requests, and hands what piled up to Redis and to
 * the audit thread, each in one go. */
#pragma once

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "http/exchange/request_private.h"
#include "server.h"
#include "http/access/tag_memo.h"

enum { WORKER_PROGRESS_MS = 5000 /* a worker that has not turned its loop for so long hangs */ };

struct worker {
    struct http_server *server;
    enum plane plane;
    unsigned number;

    /* Shared with the acceptor and main. */
    pthread_mutex_t inbox_lock;
    struct client *inbox; /* handed over, newest first */
    struct keyring *inbox_keyring;
    atomic_bool inbox_reload;
    atomic_bool inbox_drain;
    atomic_uint connection_count; /* taken by the acceptor, given back by the worker */
    _Atomic int64_t heartbeat_ms;
    uv_async_t wake;

    /* The thread's own from here on. */
    pthread_t thread;
    uv_loop_t loop;
    uv_poll_t daemon_poll;
    uv_prepare_t prepare;
    uv_idle_t again; /* keeps the loop turning while libmicrohttpd has work left */
    uv_timer_t scan;
    int64_t scanned_ms; /* when it came last, of the loop */
    uv_timer_t audit_retry;
    uv_timer_t poll_timer; /* looks at lingering requests although nothing happens */
    struct MHD_Daemon *daemon;
    size_t pool_size; /* of a connection, for its request and the head of its answer */
    bool daemon_due;  /* bytes came or a request was resumed */

    struct request_config *config;
    struct session_worker *sessions;
    struct audit_lane *lane; /* its end of the audit; NULL without one */

    struct client *clients;
    struct client *arriving; /* the one that MHD_add_connection() is about to announce */
    struct request *pool;
    unsigned in_pool,
        in_pool_least;     /* requests in it, and how few there were since it was looked at */
    struct request *ended; /* to be given back to the pool */
    unsigned in_state[REQUEST_STATES]; /* requests that are; of REQUEST_POOLED it means nothing */
    bool progressed;               /* in this round something happened that may need another one */
    struct request *audit_waiting; /* requests whose line found the audit queue full */
    struct buffer line;            /* where audit lines are formatted */
    struct tag_memo tag_memos[TAG_MEMOS]; /* of the names that calls name */
    uint64_t id_prefix;                   /* request ids: random for the worker, then counted */
    uint64_t id_count;

    bool draining;
    bool abandoned; /* something is stuck: leave libmicrohttpd alone */
    int64_t drain_deadline_ms;
};

/* Prepares a worker and starts its thread; false with *error. */
bool worker_start(struct worker *worker, struct http_server *server, enum plane plane,
                  unsigned number, struct buffer *error);
/* Hands an accepted connection over. Any thread. */
void worker_give(struct worker *worker, struct client *client);
/* Tells it that conf_current() has changed, or that there are new keys (a reference of its own is
 * taken). Any thread. */
void worker_reload(struct worker *worker);
void worker_rekey(struct worker *worker, struct keyring *keyring);
/* Begins to drain; worker_join() waits for its end and frees what the worker held. */
void worker_drain(struct worker *worker);
void worker_join(struct worker *worker);
