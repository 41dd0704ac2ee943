/* The state that the threads of the HTTP layer share. */
#pragma once

#include <stdatomic.h>

#include "connection_limits.h"
#include "http.h"

struct worker;
struct acceptor;
struct throttle;

struct http_server {
    struct http_services services;
    const struct http_handlers *handlers;
    struct connection_limits *limits;
    struct throttle *throttle;
    struct acceptor *acceptor;
    struct worker *workers; /* those of the main plane */
    unsigned worker_count;
    struct worker *ops_worker;
    atomic_bool draining;     /* it stops soon, or is stopping: not ready */
    int64_t drain_timeout_ms; /* read by a worker when it begins to drain */
};
