/* One timer for each link, set to whatever is due first, so that a call costs no timer of its own.
 * It knows the earliest time, not what is due: it calls its owner then. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct timing {
    uv_timer_t timer; /* its `data` is the owner's */
    int64_t due_ms;   /* INT64_MAX: not set */
    bool closed;
    void (*due)(struct timing *timing, int64_t now_ms);
};

/* `due` is called by the loop, once for all that was scheduled until then. */
void timing_open(struct timing *timing, uv_loop_t *loop,
                 void (*due)(struct timing *timing, int64_t now_ms));
/* The timer fires at this time (clock_monotonic_ms()) at the latest; 0: in the next turn. */
void timing_schedule(struct timing *timing, int64_t due_ms);
/* `due` is not called any more. */
void timing_close(struct timing *timing, uv_close_cb closed);
