/* A list in the order of time. Waits are about equally long, so a new one belongs near the end. */
#include "due.h"

#include <assert.h>

#include "clock.h"

static void take_off(struct session_worker *worker, struct due *due)
{
    if (due->previous)
        due->previous->next = due->next;
    else
        worker->first_due = due->next;
    if (due->next)
        due->next->previous = due->previous;
    else
        worker->last_due = due->previous;
    due->next = due->previous = NULL;
}

static void put_after(struct session_worker *worker, struct due *before, struct due *due)
{
    struct due **next = before ? &before->next : &worker->first_due;
    due->previous = before;
    due->next = *next;
    *next = due;
    if (due->next)
        due->next->previous = due;
    else
        worker->last_due = due;
}

static void set_timer(struct session_worker *worker)
{
    if (!worker->first_due || worker->closing)
        return;
    int64_t left_ms = worker->first_due->at_ms - clock_monotonic_ms();
    uv_update_time(worker->due_timer.loop);
    uv_timer_start(&worker->due_timer, due_fire, left_ms > 0 ? (uint64_t)left_ms : 0, 0);
}

void due_begin(struct session_worker *worker, struct due *due, int64_t at_ms,
               void (*passed)(struct due *due))
{
    assert(!due->passed && passed);
    struct due *before = worker->last_due;
    while (before && before->at_ms > at_ms)
        before = before->previous;
    due->passed = passed;
    due->at_ms = at_ms;
    put_after(worker, before, due);
    if (worker->first_due == due || !uv_is_active((const uv_handle_t *)&worker->due_timer))
        set_timer(worker);
}

void due_end(struct session_worker *worker, struct due *due)
{
    if (!due->passed)
        return;
    take_off(worker, due);
    due->passed = NULL;
}

void due_fire(uv_timer_t *timer)
{
    struct session_worker *worker = timer->data;
    int64_t now_ms = clock_monotonic_ms();
    while (worker->first_due && worker->first_due->at_ms <= now_ms) {
        struct due *due = worker->first_due;
        void (*passed)(struct due * due) = due->passed;
        due_end(worker, due);
        passed(due);
    }
    set_timer(worker);
}
