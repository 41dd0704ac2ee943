/* The table is under the store's lock: links look an endpoint up when they learn of it, a
 * few times an hour. */
#include "breakers.h"

#include <assert.h>
#include <stdlib.h>

#include "container_of.h"
#include "log.h"
#include "metrics.h"
#include "store_state.h"

/* --- table --- */

struct store_breaker *breakers_find(struct store *store, const struct endpoint *endpoint)
{
    const struct endpoint *found = endpoint_table_find(&store->breakers, endpoint);
    return found ? container_of(found, struct store_breaker, endpoint) : NULL;
}

static struct store_breaker *add_breaker(struct store *store, const struct endpoint *endpoint,
                                         int64_t most_pause_ms)
{
    struct store_breaker *breaker = xcalloc(1, sizeof(*breaker));
    breaker_init(&breaker->breaker, most_pause_ms);
    breaker->endpoint = *endpoint;
    endpoint_table_add(&store->breakers, &breaker->endpoint);
    return breaker;
}

struct store_breaker *breakers_take(struct store *store, const struct endpoint *endpoint,
                                    int64_t most_pause_ms)
{
    pthread_mutex_lock(&store->lock);
    struct store_breaker *breaker = breakers_find(store, endpoint);
    if (!breaker)
        breaker = add_breaker(store, endpoint, most_pause_ms);
    breaker->references++;
    pthread_mutex_unlock(&store->lock);
    return breaker;
}

static void leave_gauge(struct store_breaker *breaker)
{
    if (atomic_exchange(&breaker->announced, false))
        metrics_gauge_add(METRIC_BREAKERS_OPEN, -1);
}

void breakers_give(struct store *store, struct store_breaker **breaker)
{
    struct store_breaker *given = *breaker;
    *breaker = NULL;
    pthread_mutex_lock(&store->lock);
    assert(given->references > 0);
    bool last = --given->references == 0;
    if (last)
        endpoint_table_remove(&store->breakers, &given->endpoint);
    pthread_mutex_unlock(&store->lock);
    if (last) {
        leave_gauge(given);
        free(given);
    }
}

void breakers_look(struct store *store, const struct endpoint *endpoint,
                   struct store_node_health *ret)
{
    pthread_mutex_lock(&store->lock);
    const struct store_breaker *breaker = breakers_find(store, endpoint);
    ret->breaker = breaker ? breaker_state(&breaker->breaker) : BREAKER_CLOSED;
    ret->tracked = breaker && atomic_load(&breaker->tracked);
    pthread_mutex_unlock(&store->lock);
}

/* --- transitions, each logged --- */

/* While a server is gone its breaker opens again after each probe; only the first is a warning. */
static void log_open(struct store_breaker *breaker, const char *why)
{
    const struct endpoint *endpoint = &breaker->endpoint;
    bool again = atomic_exchange(&breaker->announced, true);
    log_write(again ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING, "store_breaker_open",
              "host=%s port=%u why=%s", endpoint->host, endpoint->port, why);
    metrics_add(METRIC_BREAKER_OPENED, 1);
    if (!again)
        metrics_gauge_add(METRIC_BREAKERS_OPEN, 1);
}

static void log_transition(struct store_breaker *breaker, const char *why)
{
    const struct endpoint *endpoint = &breaker->endpoint;
    switch (breaker_state(&breaker->breaker)) {
    case BREAKER_OPEN:
        log_open(breaker, why);
        break;
    case BREAKER_HALF_OPEN:
        log_debug("store_breaker_half_open", "host=%s port=%u", endpoint->host, endpoint->port);
        break;
    case BREAKER_CLOSED:
        log_info("store_breaker_closed", "host=%s port=%u", endpoint->host, endpoint->port);
        leave_gauge(breaker);
        break;
    }
}

bool breakers_pass(struct store_breaker *breaker, int64_t now_ms)
{
    enum breaker_state before = breaker_state(&breaker->breaker);
    bool passed = breaker_pass(&breaker->breaker, now_ms);
    if (passed && before == BREAKER_OPEN)
        log_transition(breaker, "failures");
    if (!passed)
        metrics_add(METRIC_STORE_REJECTED, 1);
    return passed;
}

void breakers_note(struct store_breaker *breaker, int64_t now_ms, bool success)
{
    if (breaker_note(&breaker->breaker, now_ms, success))
        log_transition(breaker, "failures");
}

void breakers_witness(struct store_breaker *breaker, int64_t now_ms, bool success)
{
    if (success && breaker_state(&breaker->breaker) == BREAKER_CLOSED)
        return;
    if (breaker_witness(&breaker->breaker, now_ms, success))
        log_transition(breaker, "failures");
}

void breakers_trip(struct store_breaker *breaker, int64_t now_ms)
{
    if (breaker_trip(&breaker->breaker, now_ms))
        log_transition(breaker, "ping-overdue");
}

void breakers_probe(struct store_breaker *breaker, int64_t now_ms)
{
    if (breaker_probe(&breaker->breaker, now_ms))
        log_transition(breaker, "failures");
}
