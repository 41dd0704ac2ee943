/* Who waits for a step that ends later: embedded in the waiting one's memory, which its `then`
 * finds again with container_of(). */
#pragma once

#include <assert.h>

#include "container_of.h"

struct waiter {
    void (*then)(struct waiter *waiter); /* NULL: it does not wait */
};

/* To be handed to the function that begins the step; that calls `then` once, maybe before it
 * returns. */
static inline struct waiter *waiter_of(struct waiter *waiter, void (*then)(struct waiter *waiter))
{
    assert(!waiter->then);
    waiter->then = then;
    return waiter;
}

/* The step has ended. */
static inline void waiter_go_on(struct waiter *waiter)
{
    void (*then)(struct waiter * waiter) = waiter->then;
    assert(then);
    waiter->then = NULL;
    then(waiter);
}
