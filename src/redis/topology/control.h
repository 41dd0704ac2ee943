/* The control thread: fetches the slot map and pings the masters, on a loop of its own.
 *
 * A refresh asks the known nodes and the seeds in random order until one answers; it runs when a
 * link asks (at most every 100 ms), by timer, and again after a pause when no node answered. */
#pragma once

#include "redis/state/store_state.h"

/* Sets store->control and store->control_wake, then starts the thread. */
void control_start(struct store *store);
/* Joins the thread and frees. */
void control_stop(struct control **control);
