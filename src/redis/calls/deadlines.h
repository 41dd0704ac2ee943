/* Deadlines of a link: late calls, pauses, silent connections. */
#pragma once

#include "link_state.h"

/* Does what is due: ends late calls and pauses, breaks late connections, forgets nodes; then
 * schedules the next time, and ends the calls of link->ending. */
void deadlines_tick(struct store_link *link, int64_t now_ms);
