/* The reserve of the audit disk: for which lines there is room left. */
#include <assert.h>

#include "audit_private.h"
#include "log.h"
#include "metrics.h"

enum {
    OF_DISK = 4, /* a reserve is at most so large a part of the disk */
    BETTER = 8   /* a stage is left when there is so large a part more than it takes */
};

static enum room room_of(int64_t free_bytes, int64_t reserve)
{
    return free_bytes >= 2 * reserve   ? ROOM_AMPLE
           : free_bytes >= reserve     ? ROOM_LOW
           : free_bytes >= reserve / 2 ? ROOM_RESERVE
                                       : ROOM_CHANGES;
}

/* Worse at once, better only with some to spare: the stage does not flap. */
static enum room next_room(enum room before, int64_t free_bytes, int64_t reserve)
{
    assert(reserve > 0);
    enum room found = room_of(free_bytes, reserve);
    if (found >= before)
        return found;
    enum room sure = room_of(free_bytes - free_bytes / BETTER, reserve);
    return sure < before ? sure : before;
}

static void tell(struct audit *audit, enum room before, enum room now, int64_t free_bytes)
{
    static const char *const effects[] = {
        [ROOM_AMPLE] = "none",
        [ROOM_LOW] = "none yet",
        [ROOM_RESERVE] = "calls of strangers are only counted",
        [ROOM_CHANGES] = "lines of reads wait, only changes are written",
    };
    assert(now != before);
    if (now < before) {
        log_info("audit_space_back", "file=%s free=%lld effect=\"%s\"", audit->file.path,
                 (long long)free_bytes, effects[now]);
        return;
    }
    log_warning("audit_space_low", "file=%s free=%lld effect=\"%s\"", audit->file.path,
                (long long)free_bytes, effects[now]);
    atomic_store(&audit->told_free, free_bytes);
}

void audit_room_look(struct audit *audit)
{
    enum room before = (enum room)atomic_load(&audit->room), now = ROOM_AMPLE;
    int64_t reserve = atomic_load(&audit->reserve), free_bytes, whole;
    if (!audit_file_space(&audit->file, &free_bytes, &whole))
        return;
    if (reserve > whole / OF_DISK)
        reserve = whole / OF_DISK;
    if (reserve > 0)
        now = next_room(before, free_bytes, reserve);
    metrics_gauge_set(METRIC_AUDIT_FREE_BYTES, free_bytes);
    if (now == before)
        return;
    atomic_store(&audit->room, now);
    tell(audit, before, now, free_bytes);
}

bool audit_take_pressure(struct audit *audit, struct audit_pressure *ret)
{
    int64_t free_bytes = atomic_exchange(&audit->told_free, -1);
    *ret = (struct audit_pressure){.space_low = free_bytes >= 0,
                                   .free_bytes = free_bytes,
                                   .strangers = atomic_exchange(&audit->told_strangers, 0)};
    return ret->space_low || ret->strangers > 0;
}
