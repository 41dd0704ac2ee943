/* A clock for bounds of how long something may take. */
#pragma once

#include <stdint.h>

/* Milliseconds as of clock_monotonic_ms(), without those that threads of this process were ready
 * and got no processor (schedstat, its second number): it judges the code and not what else the
 * machine does. It stands still for as long as a thread has waited when that one goes on. */
int64_t support_clock_ms(void);
