/* Why connections to a server cannot be made, told once.
 *
 * Every worker has connections to every server, and each tries again and again: what keeps one
 * down keeps all of them down. One line a server is written, and another one when the reason is
 * another or the server was up meanwhile, but no sooner than 10 s after the last. */
#pragma once

#include <stdatomic.h>
#include <pthread.h>

#include "endpoint.h"

enum { TROUBLE_SERVERS = 16, TROUBLE_WHY_MAX = 160 };

struct trouble {
    pthread_mutex_t lock; /* of `servers` */
    atomic_uint active;   /* servers with a reason */
    struct trouble_server {
        struct endpoint endpoint;  /* an empty host: none */
        char why[TROUBLE_WHY_MAX]; /* empty: it was up since */
        int64_t told_ms;
    } servers[TROUBLE_SERVERS]; /* one more takes the place of the one told longest ago */
};

void trouble_init(struct trouble *trouble);
void trouble_free(struct trouble *trouble);
/* Tells why a connection could not be made, unless that was told. Any thread. */
void trouble_tell(struct trouble *trouble, const struct endpoint *endpoint, const char *why);
/* A connection came up: what kept it down is over. Any thread; mostly one atomic read. */
void trouble_over(struct trouble *trouble, const struct endpoint *endpoint);
