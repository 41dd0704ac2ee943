/* The layout of a shard: an array of cells, so that summing shards is one loop. Shared by
 * metrics.c, which counts, and metrics_print.c, which prints. */
#pragma once

#include "metrics.h"

enum {
    BUCKET_COUNT = 18, /* with an upper bound; one more for the rest */
    HISTOGRAM_SUM = BUCKET_COUNT + 1,
    HISTOGRAM_CELLS = HISTOGRAM_SUM + 1,
    STATUS_SLOTS = 32, /* slot 0 is for every status that no table has */
    ROUTE_CELLS = STATUS_SLOTS + HISTOGRAM_CELLS
};

/* The first cell of each metric; then follow the routes: statuses, histogram. */
enum cell {
#define COUNTER(id, name, help)   CELL_##id,
#define GAUGE(id, name, help)     CELL_##id,
#define HISTOGRAM(id, name, help) CELL_##id, CELL_LAST_##id = CELL_##id + HISTOGRAM_CELLS - 1,
#include "tbl/metrics.h"
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
    CELL_ROUTES
};

enum metric_kind { METRIC_IS_COUNTER, METRIC_IS_GAUGE, METRIC_IS_HISTOGRAM };

struct metric_row {
    enum metric_kind kind;
    enum cell cell;
    const char *name;
    const char *help;
};
extern const struct metric_row metric_rows[METRIC_COUNT];

struct metric_bucket {
    int64_t nanoseconds; /* upper bound, inclusive */
    const char *label;   /* the same in seconds */
};
extern const struct metric_bucket metric_buckets[BUCKET_COUNT];

/* The arguments of metrics_define_routes(). */
struct metric_routes {
    const char *const *methods;
    const char *const *templates;
    size_t count;
    unsigned statuses[STATUS_SLOTS]; /* 0: unused; the first is "other" */
    size_t status_count;
};
const struct metric_routes *metrics_routes(void);

static inline size_t route_cell(size_t route)
{
    return (size_t)CELL_ROUTES + route * ROUTE_CELLS;
}

/* The sum of all shards, to be freed by the caller. */
int64_t *metrics_sum(void);
