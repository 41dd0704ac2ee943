/* Work that is done piece by piece, one piece a turn of the worker's loop. */
#pragma once

#include "service.h"

void turns_open(struct session_worker *worker, uv_loop_t *loop);
/* Queues the turn; its `run` is called once, in a later turn of the loop, and may queue it again.
 * Turns come in the order in which they were queued. */
void turns_add(struct session_worker *worker, struct turn *turn);
/* Runs what is queued until nothing is; for a worker that is closing. */
void turns_finish(struct session_worker *worker);
