/* The two clocks of the kernel, and the fake one of the tests. */
#include "clock.h"

#include <assert.h>
#include <stdatomic.h>
#include <time.h>

/* 0: the real clocks. Read by every thread, set by tests only. */
static _Atomic int64_t fake_wall_ms;

static int64_t now_ns(clockid_t id)
{
    struct timespec now;
    int failed = clock_gettime(id, &now);
    assert(!failed);
    (void)failed;
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static int64_t fake_ms(void)
{
    return atomic_load_explicit(&fake_wall_ms, memory_order_relaxed);
}

int64_t clock_wall_ms(void)
{
    int64_t fake = fake_ms();
    return fake ? fake : now_ns(CLOCK_REALTIME) / 1000000;
}

int64_t clock_monotonic_ns(void)
{
    int64_t fake = fake_ms();
    return fake ? fake * 1000000 : now_ns(CLOCK_MONOTONIC);
}

int64_t clock_monotonic_ms(void)
{
    return clock_monotonic_ns() / 1000000;
}

void clock_fake(int64_t wall_ms)
{
    atomic_store_explicit(&fake_wall_ms, wall_ms, memory_order_relaxed);
}
