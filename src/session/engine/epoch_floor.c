/* One 64-bit entry for each user: 42 bits of the epoch (milliseconds since 1970) and 22 bits that
 * tell users of the same entry apart. */
#include "epoch_floor.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "memory.h"

enum {
    PLACES = 1 << 16,
    NAME_BITS = 22,
    BELIEVED_MS = 5 * CLOCKS_APART_MS /* an epoch further in the future is not believed */
};

struct epoch_floor {
    _Atomic uint64_t locations[PLACES];
};

struct epoch_floor *epoch_floor_create(void)
{
    return xcalloc(1, sizeof(struct epoch_floor));
}

void epoch_floor_destroy(struct epoch_floor **epoch_floor)
{
    free(*epoch_floor);
    *epoch_floor = NULL;
}

/* Uses any bits of the user tag: it is a keyed hash. */
static uint64_t floor_name_of(const struct user_tag *owner, size_t *place)
{
    uint64_t bits;
    memcpy(&bits, owner->user, sizeof(bits));
    *place = bits % PLACES;
    return bits >> (64 - NAME_BITS);
}

bool epoch_floor_remembers(int64_t version_ms, int64_t now_ms)
{
    return version_ms > now_ms - REMEMBERED_MS && version_ms < now_ms + BELIEVED_MS;
}

void epoch_floor_raise(struct epoch_floor *epoch_floor, const struct user_tag *owner,
                       int64_t epoch_ms, int64_t now_ms)
{
    size_t place;
    uint64_t name = floor_name_of(owner, &place);
    if (!epoch_floor_remembers(epoch_ms, now_ms))
        return;
    uint64_t wanted = (uint64_t)epoch_ms << NAME_BITS | name;
    uint64_t present = atomic_load_explicit(&epoch_floor->locations[place], memory_order_relaxed);
    while (wanted >> NAME_BITS > present >> NAME_BITS &&
           !atomic_compare_exchange_weak(&epoch_floor->locations[place], &present, wanted)) {
    }
}

int64_t epoch_floor_of(const struct epoch_floor *epoch_floor, const struct user_tag *owner,
                       int64_t now_ms)
{
    size_t place;
    uint64_t name = floor_name_of(owner, &place);
    uint64_t present = atomic_load_explicit(&epoch_floor->locations[place], memory_order_relaxed);
    int64_t epoch_ms = (int64_t)(present >> NAME_BITS);
    bool same = (present & ((1u << NAME_BITS) - 1)) == name;
    return same && epoch_floor_remembers(epoch_ms, now_ms) ? epoch_ms : 0;
}
