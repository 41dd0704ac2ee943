/* Waits for a step that ends later. Embedded in the waiter's own memory, which `then` finds with
 * container_of(). */
#pragma once

#include <assert.h>

#include "container_of.h"

struct waiter {
    void (*then)(struct waiter *waiter); /* NULL: not waiting */
};

/* Prepares a waiter for the function that begins the step. That function calls `then` once, maybe
 * before it returns. */
static inline struct waiter *waiter_of(struct waiter *waiter, void (*then)(struct waiter *waiter))
{
    assert(!waiter->then);
    waiter->then = then;
    return waiter;
}

/* Ends the step. */
static inline void waiter_go_on(struct waiter *waiter)
{
    void (*then)(struct waiter * waiter) = waiter->then;
    assert(then);
    waiter->then = NULL;
    then(waiter);
}
