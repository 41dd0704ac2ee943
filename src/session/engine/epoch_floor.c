/* One 64-bit place for each user: 42 bits of the epoch (milliseconds since 1970) and 22 bits that
 * tell users in the same place apart. */
#include "epoch_floor.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "memory.h"

enum {
    PLACES = 1 << 16,
    NAME_BITS = 22,
    BELIEVED_MS = 5 * CLOCKS_APART_MS /* an epoch further in the future is not taken for a time */
};

struct fence {
    _Atomic uint64_t places[PLACES];
};

struct fence *fence_create(void)
{
    return xcalloc(1, sizeof(struct fence));
}

void fence_destroy(struct fence **fence)
{
    free(*fence);
    *fence = NULL;
}

/* The user tag is a keyed hash: any of its bits will do. */
static uint64_t name_of(const struct user_tag *owner, size_t *place)
{
    uint64_t bits;
    memcpy(&bits, owner->user, sizeof(bits));
    *place = bits % PLACES;
    return bits >> (64 - NAME_BITS);
}

bool fence_remembers(int64_t version_ms, int64_t now_ms)
{
    return version_ms > now_ms - REMEMBERED_MS && version_ms < now_ms + BELIEVED_MS;
}

void fence_raise(struct fence *fence, const struct user_tag *owner, int64_t epoch_ms,
                 int64_t now_ms)
{
    size_t place;
    uint64_t name = name_of(owner, &place);
    if (!fence_remembers(epoch_ms, now_ms))
        return;
    uint64_t wanted = (uint64_t)epoch_ms << NAME_BITS | name;
    uint64_t present = atomic_load_explicit(&fence->places[place], memory_order_relaxed);
    while (wanted >> NAME_BITS > present >> NAME_BITS &&
           !atomic_compare_exchange_weak(&fence->places[place], &present, wanted)) {
    }
}

int64_t fence_of(const struct fence *fence, const struct user_tag *owner, int64_t now_ms)
{
    size_t place;
    uint64_t name = name_of(owner, &place);
    uint64_t present = atomic_load_explicit(&fence->places[place], memory_order_relaxed);
    int64_t epoch_ms = (int64_t)(present >> NAME_BITS);
    bool same = (present & ((1u << NAME_BITS) - 1)) == name;
    return same && fence_remembers(epoch_ms, now_ms) ? epoch_ms : 0;
}
