/* Only an earlier time sets the timer again; the owner schedules what is left when it is called. */
#include "timing.h"

#include "clock.h"
#include "container_of.h"

static void on_timing_timer(uv_timer_t *timer)
{
    struct timing *timing = container_of(timer, struct timing, timer);
    timing->due_ms = INT64_MAX;
    timing->due(timing, clock_monotonic_ms());
}

void timing_open(struct timing *timing, uv_loop_t *loop,
                 void (*due)(struct timing *timing, int64_t now_ms))
{
    uv_timer_init(loop, &timing->timer);
    timing->due_ms = INT64_MAX;
    timing->due = due;
}

void timing_schedule(struct timing *timing, int64_t due_ms)
{
    if (due_ms >= timing->due_ms || timing->closed)
        return;
    timing->due_ms = due_ms;
    int64_t left_ms = due_ms ? due_ms - clock_monotonic_ms() : 0;
    /* libuv counts from the time at which its turn began. */
    uv_update_time(timing->timer.loop);
    uv_timer_start(&timing->timer, on_timing_timer, left_ms > 0 ? (uint64_t)left_ms : 0, 0);
}

void timing_close(struct timing *timing, uv_close_cb closed)
{
    timing->closed = true;
    uv_close((uv_handle_t *)&timing->timer, closed);
}
