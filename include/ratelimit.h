/* Rate limits: how often an event may happen under a name. The generic cell rate algorithm (GCRA,
 * ITU-T I.371) keeps one time per name, so a limiter is a table of 16-byte cells without locks.
 *
 * Names are hashed with a key of this process, so that no caller can aim at another's cell. The
 * table is bounded. A full one evicts the cell that has been idle for longest, which can only
 * forgive. Any thread; neither locks nor allocates. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ratelimit;
struct ratelimit *ratelimit_create(size_t cells);
void ratelimit_destroy(struct ratelimit **limit);

/* For the response (RateLimit fields, Retry-After). */
struct rate_verdict {
    bool allowed;
    int64_t limit;     /* in a burst */
    int64_t remaining; /* of it, now */
    int64_t reset_ms;  /* until all of it is available again */
    int64_t retry_ms;  /* until one is allowed; 0 if allowed */
};
struct rate {
    int64_t count;  /* events ... */
    int64_t per_ms; /* ... per interval, evenly; count 0: no limit */
    int64_t burst;  /* at once; at least 1 */
};
/* Decides about one event at `now_ns` (clock_monotonic_ns()) and counts it if allowed. */
struct rate_verdict ratelimit_take(struct ratelimit *limit, const void *name, size_t length,
                                   struct rate rate, int64_t now_ns);
/* The same about so many events at once, at least 1; more than a burst are never allowed. */
struct rate_verdict ratelimit_take_many(struct ratelimit *limit, const void *name, size_t length,
                                        struct rate rate, int64_t events, int64_t now_ns);
/* The same question without counting. */
struct rate_verdict ratelimit_peek(struct ratelimit *limit, const void *name, size_t length,
                                   struct rate rate, int64_t now_ns);
