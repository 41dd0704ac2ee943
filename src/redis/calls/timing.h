/* What time does to calls and connections: one timer for each link, set to whatever is due first,
 * so that a call costs no timer of its own. */
#pragma once

#include "link.h"

/* Some node may have become superfluous. */
void timing_sweep_later(struct store_link *link);
