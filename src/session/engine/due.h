/* Calls at a time, all by one timer of the worker. */
#pragma once

#include "service.h"

/* Embedded in its owner's memory, zeroed at first. */
struct due {
    void (*passed)(struct due *due); /* NULL: not waiting */
    int64_t at_ms;                   /* clock_monotonic_ms() */
    struct due *next, *previous;
};

/* Calls `passed` once at this time, from the loop, unless due_end() comes first. */
void due_begin(struct session_worker *worker, struct due *due, int64_t at_ms,
               void (*passed)(struct due *due));
/* Stops waiting; nothing if it does not wait. */
void due_end(struct session_worker *worker, struct due *due);
/* The timer's callback; service.c prepares it. */
void due_fire(uv_timer_t *timer);
