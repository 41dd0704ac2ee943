/* Time. Two clocks, and a fake one for tests. */
#pragma once

#include <stdint.h>

/* Milliseconds since 1970 (UTC): what is stored and shown. May jump when the host's clock is set.
 */
int64_t clock_wall_ms(void);

/* Milliseconds that never go back: deadlines and timers. */
int64_t clock_monotonic_ms(void);

/* Nanoseconds that never go back: durations in metrics and audit lines. */
int64_t clock_monotonic_ns(void);

/* Tests only: from now on all three clocks stand at this wall time; 0 returns to the real ones. */
void clock_fake(int64_t wall_ms);
