/* One breaker for each endpoint, shared by all links, with its log lines and metrics. It exists
 * while a link knows the node. Any thread. */
#pragma once

#include "breaker.h"
#include "endpoint.h"
#include "store.h"

struct store_breaker {
    struct breaker breaker;
    struct endpoint endpoint;
    _Atomic bool announced; /* as open: in the log and in the gauge */
    _Atomic bool tracked;   /* its tracking connection is up */
    unsigned references;    /* under store->lock */
};

/* The endpoint's breaker, made if it is new. To be given back. */
struct store_breaker *breakers_take(struct store *store, const struct endpoint *endpoint,
                                    int64_t most_pause_ms);
/* The endpoint's breaker, NULL if no link knows it. Under store->lock. */
struct store_breaker *breakers_find(struct store *store, const struct endpoint *endpoint);
void breakers_give(struct store *store, struct store_breaker **breaker);
/* Fills in breaker and tracking of an endpoint; closed and not tracked if no link knows it. */
void breakers_look(struct store *store, const struct endpoint *endpoint,
                   struct store_node_health *ret);

/* As in breaker.h; but while it is closed a success without a call is ignored, since pings may get
 * through where calls do not. */
bool breakers_pass(struct store_breaker *breaker, int64_t now_ms);
void breakers_note(struct store_breaker *breaker, int64_t now_ms, bool success);
void breakers_witness(struct store_breaker *breaker, int64_t now_ms, bool success);
void breakers_trip(struct store_breaker *breaker, int64_t now_ms);
void breakers_probe(struct store_breaker *breaker, int64_t now_ms);
