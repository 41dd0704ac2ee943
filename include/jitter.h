/* Small random numbers for pauses and orders, where predictability does no harm. */
#pragma once

#include <stdint.h>

/* xorshift64: the seed must not be 0. */
static inline uint64_t jitter_next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* A random time in the upper half of the pause, so that nodes that failed together do not return
 * together. At least 1. */
static inline int64_t jitter_pause(uint64_t *seed, int64_t pause_ms)
{
    int64_t half = pause_ms / 2;
    return half + 1 + (int64_t)(jitter_next(seed) % (uint64_t)(half + 1));
}
