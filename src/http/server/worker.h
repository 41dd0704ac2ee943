/* A worker: one thread with one loop, one libmicrohttpd daemon, and everything that its requests
 * need, so that a request shares and locks nothing. One more worker of the same kind serves the ops
 * plane, without a link to the store and without audit lines.
 *
 * A turn of the loop: sockets and timers are polled, then on_prepare() lets libmicrohttpd process
 * new bytes and resumed requests, and hands the queued commands to Redis and the queued lines to
 * the audit thread, each in one write. */
#pragma once

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "http/access/tag_memo.h"
#include "http/exchange/request_private.h"
#include "https.h"
#include "server.h"

enum { WORKER_PROGRESS_MS = 5000 /* a worker whose loop has not turned for so long hangs */ };

/* A libmicrohttpd daemon without a listener, which serves connections on the worker's loop. */
struct mhd_engine {
    struct MHD_Daemon *daemon; /* NULL: none */
    uv_poll_t poll;
    unsigned connections;
};

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
    atomic_uint connection_count; /* the acceptor counts up, the worker down */
    _Atomic int64_t heartbeat_ms;
    uv_async_t wake;

    /* From here on the thread's own. */
    pthread_t thread;
    uv_loop_t loop;
    uv_prepare_t prepare;
    uv_idle_t again; /* keeps the loop turning while libmicrohttpd has work left */
    uv_timer_t scan;
    int64_t scanned_ms; /* its last run, by the loop's clock */
    uv_timer_t audit_retry;
    uv_timer_t poll_timer; /* runs libmicrohttpd for polled requests although nothing happens */
    struct mhd_engine plain, tls;
    size_t pool_size; /* of a connection, for its request and the headers of its answer */
    bool daemon_due;  /* bytes came or a request was resumed */

    struct request_config *config;
    struct session_worker *sessions;
    struct audit_lane *lane; /* its end of the audit queue; NULL without one */

    int lobby_fd; /* lobby.h */
    uv_poll_t lobby_poll;
    struct client *shaking;     /* in a handshake, since libmicrohttpd ran last */
    struct https *https;        /* what new connections over TLS use */
    struct https_watch expiry;  /* the ops worker's */
    bool retiring;              /* connections with other client CAs end, ... */
    int64_t retire_deadline_ms; /* ... the last of them now */

    struct client *clients;
    struct client *arriving; /* the one that MHD_add_connection() is about to announce */
    struct request *pool;
    unsigned in_pool,
        in_pool_least;     /* requests in it, and the least since the pool was last shrunk */
    struct request *ended; /* to be returned to the pool */
    unsigned in_state[REQUEST_STATES]; /* requests by state; meaningless for REQUEST_POOLED */
    bool progressed; /* in this round something happened that may need another round */
    struct request *audit_waiting;        /* requests whose line found the audit queue full */
    struct buffer line;                   /* where audit lines are formatted */
    struct tag_memo tag_memos[TAG_MEMOS]; /* of the tenants that calls name */
    uint64_t id_prefix;                   /* request ids: random for the worker, then counted */
    uint64_t id_count;

    bool draining;
    bool abandoned; /* a request is stuck: libmicrohttpd must not be touched */
    int64_t drain_deadline_ms;
};

/* Prepares a worker and starts its thread; false with *error. */
bool worker_start(struct worker *worker, struct http_server *server, enum plane plane,
                  unsigned number, struct buffer *error);
/* Hands a connection to libmicrohttpd. */
void worker_serve(struct worker *worker, struct client *client);
/* Frees a connection whose socket is closed, and which libmicrohttpd did not have. */
void worker_lose(struct worker *worker, struct client *client);
/* Hands an accepted connection over. Any thread. */
void worker_give(struct worker *worker, struct client *client);
/* Makes it reload conf_current(), or use new keys (it takes a reference of its own). Any thread. */
void worker_reload(struct worker *worker);
void worker_rekey(struct worker *worker, struct keyring *keyring);
/* Begins to drain; worker_join() waits until it has ended and frees its resources. */
void worker_drain(struct worker *worker);
void worker_join(struct worker *worker);
