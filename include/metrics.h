/* Counters, gauges and histograms in Prometheus' text format: one row each in tbl/metrics.h.
 *
 * Every thread counts in a shard of its own, without atomic read-modify-write; a scrape sums the
 * shards. */
#pragma once

#include "text.h"

enum metric {
#define COUNTER(id, name, help)   METRIC_##id,
#define GAUGE(id, name, help)     METRIC_##id,
#define HISTOGRAM(id, name, help) METRIC_##id,
#include "tbl/metrics.h"
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
    METRIC_COUNT
};

/* Names the routes ("GET /v1/validate") whose requests are counted by status; call once at start,
 * before the first metrics_attach(). The strings must stay. */
void metrics_define_routes(const char *const *methods, const char *const *templates, size_t count);

/* Gives the calling thread its shard; a thread that counts without one counts in a common,
 * locked one. Shards outlive their threads. */
void metrics_attach(void);

void metrics_add(enum metric counter, uint64_t amount);
/* Gauges are per shard and summed: use add with negative amounts, or set from one thread only. */
void metrics_gauge_add(enum metric gauge, int64_t amount);
void metrics_gauge_set(enum metric gauge, int64_t value);
void metrics_observe(enum metric histogram, int64_t nanoseconds);
/* One finished call: counts sessiond_http_requests_total{method,route,status} and the duration
 * histogram of the route. `route` is the index given to metrics_define_routes(). */
void metrics_request(size_t route, unsigned status, int64_t nanoseconds);

/* The sum of one counter or gauge over all shards (tests, readiness). */
int64_t metrics_read(enum metric metric);
/* Appends the whole exposition (text format 0.0.4), build_info and process metrics included. */
void metrics_print(struct buffer *out);
