/* Rates: how often something may happen under a name, by the generic cell rate algorithm (GCRA,
 * ITU-T I.371): one time a name, so a limiter is a table of 16-byte cells without locks.
 *
 * Names are hashed with a key of this process, so that nobody can aim at another's cell. The table
 * is bounded; when it is full the cell that has been idle for longest is given up, which can only
 * forgive. Any thread; neither locks nor allocates. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ratelimit;
struct ratelimit *ratelimit_create(size_t cells);
void ratelimit_destroy(struct ratelimit **limit);

/* What the answer tells (RateLimit fields, Retry-After). */
struct rate_verdict {
    bool allowed;
    int64_t limit;     /* in a burst */
    int64_t remaining; /* of it, now */
    int64_t reset_ms;  /* until all of it is there again */
    int64_t retry_ms;  /* until one is allowed; 0 if allowed */
};
struct rate {
    int64_t count;  /* so many ... */
    int64_t per_ms; /* ... in so long, evenly; count 0: no limit */
    int64_t burst;  /* at once; at least 1 */
};
/* May it happen now? If so it is counted. `now_ns`: clock_monotonic_ns(). */
struct rate_verdict ratelimit_take(struct ratelimit *limit, const void *name, size_t length,
                                   struct rate rate, int64_t now_ns);
/* The same question without counting. */
struct rate_verdict ratelimit_peek(struct ratelimit *limit, const void *name, size_t length,
                                   struct rate rate, int64_t now_ns);
