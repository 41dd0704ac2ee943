/* The reserve of the audit disk decides which classes of lines may still be written. */
#include <assert.h>

#include "audit_private.h"
#include "log.h"
#include "metrics.h"

enum {
    OF_DISK = 4, /* a reserve is at most this part of the disk */
    BETTER = 8   /* a stage ends only with this part of the free space to spare */
};

static enum reserve_stage stage_of(int64_t free_bytes, int64_t reserve)
{
    return free_bytes >= 2 * reserve   ? RESERVE_AMPLE
           : free_bytes >= reserve     ? RESERVE_NEAR
           : free_bytes >= reserve / 2 ? RESERVE_REACHED
                                       : RESERVE_HALVED;
}

/* A worse stage begins at once, a better one only with space to spare: no flapping. */
static enum reserve_stage next_stage(enum reserve_stage before, int64_t free_bytes, int64_t reserve)
{
    assert(reserve > 0);
    enum reserve_stage found = stage_of(free_bytes, reserve);
    if (found >= before)
        return found;
    enum reserve_stage sure = stage_of(free_bytes - free_bytes / BETTER, reserve);
    return sure < before ? sure : before;
}

static void report_stage(struct audit *audit, enum reserve_stage before, enum reserve_stage now,
                         int64_t free_bytes)
{
    static const char *const effects[] = {
        [RESERVE_AMPLE] = "none",
        [RESERVE_NEAR] = "none yet",
        [RESERVE_REACHED] = "calls of strangers are only counted",
        [RESERVE_HALVED] = "lines of reads wait, only changes are written",
    };
    assert(now != before);
    if (now < before) {
        log_info("audit_space_back", "file=%s free=%lld effect=\"%s\"", audit->file.path,
                 (long long)free_bytes, effects[now]);
        return;
    }
    log_warning("audit_space_low", "file=%s free=%lld effect=\"%s\"", audit->file.path,
                (long long)free_bytes, effects[now]);
    atomic_store(&audit->reported_free, free_bytes);
}

void audit_reserve_check(struct audit *audit)
{
    enum reserve_stage before = (enum reserve_stage)atomic_load(&audit->reserve_stage),
                       now = RESERVE_AMPLE;
    int64_t reserve = atomic_load(&audit->reserve), free_bytes, whole;
    if (!audit_file_space(&audit->file, &free_bytes, &whole))
        return;
    if (reserve > whole / OF_DISK)
        reserve = whole / OF_DISK;
    if (reserve > 0)
        now = next_stage(before, free_bytes, reserve);
    metrics_gauge_set(METRIC_AUDIT_FREE_BYTES, free_bytes);
    if (now == before)
        return;
    atomic_store(&audit->reserve_stage, now);
    report_stage(audit, before, now, free_bytes);
}

bool audit_take_pressure(struct audit *audit, struct audit_pressure *ret)
{
    int64_t free_bytes = atomic_exchange(&audit->reported_free, -1);
    *ret = (struct audit_pressure){.space_low = free_bytes >= 0,
                                   .free_bytes = free_bytes,
                                   .unauthenticated =
                                       atomic_exchange(&audit->reported_unauthenticated, 0)};
    return ret->space_low || ret->unauthenticated > 0;
}
