/* The table of minutes. Names are hashes already, so their low bits choose a set of cells. */
#include "minutes.h"

#include <assert.h>
#include <stdlib.h>

#include "clock.h"
#include "memory.h"

enum { MINUTE_WAYS = 8 };

struct minutes {
    size_t cells;
    struct minute table[];
};

struct minutes *minutes_create(size_t cells)
{
    assert(cells >= MINUTE_WAYS && (cells & (cells - 1)) == 0);
    struct minutes *minutes = xcalloc(1, sizeof(*minutes) + cells * sizeof(minutes->table[0]));
    minutes->cells = cells;
    return minutes;
}

void minutes_destroy(struct minutes **minutes)
{
    free(*minutes);
    *minutes = NULL;
}

bool minutes_is_over(const struct minute *minute, int64_t now_ms)
{
    return now_ms - minute->began_ms >= MINUTE_MS;
}

static struct minute *set_of(struct minutes *minutes, uint64_t name)
{
    size_t sets = minutes->cells / MINUTE_WAYS;
    return &minutes->table[name % sets * MINUTE_WAYS];
}

struct minute *minutes_running(struct minutes *minutes, uint64_t name, int64_t now_ms)
{
    struct minute *set = set_of(minutes, name);
    for (struct minute *at = set; at < set + MINUTE_WAYS; at++)
        if (at->used && at->name == name && !minutes_is_over(at, now_ms))
            return at;
    return NULL;
}

/* The order of eviction: an unused cell, then the one that began first. */
static bool goes_before(const struct minute *a, const struct minute *b)
{
    if (!a->used || !b->used)
        return !a->used && b->used;
    return a->began_ms < b->began_ms;
}

struct minute *minutes_find(struct minutes *minutes, uint64_t name, int64_t now_ms,
                            struct minute *displaced)
{
    struct minute *set = set_of(minutes, name);
    struct minute *oldest = set;
    *displaced = (struct minute){0};
    for (struct minute *at = set; at < set + MINUTE_WAYS; at++) {
        if (at->used && at->name == name)
            return at;
        if (goes_before(at, oldest))
            oldest = at;
    }
    *displaced = *oldest;
    *oldest = (struct minute){.name = name, .began_ms = now_ms};
    return oldest;
}

struct minute *minutes_next(struct minutes *minutes, size_t *at)
{
    while (*at < minutes->cells) {
        struct minute *minute = &minutes->table[(*at)++];
        if (minute->used)
            return minute;
    }
    return NULL;
}

int64_t minutes_count(struct minutes *minutes, uint64_t name, int64_t more, int64_t now_ms)
{
    struct minute displaced;
    struct minute *minute = minutes_find(minutes, name, now_ms, &displaced);
    if (minutes_is_over(minute, now_ms)) {
        minute->began_ms = now_ms;
        minute->count = 0;
    }
    minute->used = true;
    minute->count += more;
    return minute->count;
}
