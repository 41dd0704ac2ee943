/* The tracker: one tracking connection to each master (see store.h), on the control thread.
 *
 * A change of the map casts doubt on the slots that got another owner; they have no generation
 * until then, and a new one if their owner's connection is up. A connection that comes up begins a
 * generation for all its slots. One that breaks, or is silent for TRACKING_LOST_MS, ends them; so
 * does a node that does not serve. Without store_listen() there are no connections. */
#pragma once

#include "redis/calls/link_state.h"
#include "slot_claims.h"

enum {
    TRACKING_PING_MS = 250,
    TRACKING_OVERDUE_MS = 500,  /* an older unanswered ping opens the node's breaker */
    TRACKING_LOST_MS = 1000,    /* an older one breaks the connection */
    TRACKING_REFUSED_MS = 30000 /* until the next attempt after a server refused tracking */
};

struct tracker;

/* The connections are on the link's loop; calls on its thread only. */
struct tracker *tracker_open(struct store_link *link);
/* Before the link is closed. Calls no listener. */
void tracker_close(struct tracker **tracker);
/* Says whether the node serves as a master. A node that was replaced, or is cut off from its
 * cluster, may answer pings but receives no changes. */
void tracker_set_fit(struct tracker *tracker, const struct endpoint *endpoint, bool fit);
/* Sets the slots that the node claims; others are not tracked, whatever the map says. Without this
 * call it claims all. */
void tracker_claim(struct tracker *tracker, const struct endpoint *endpoint,
                   const uint8_t claims[SLOT_BYTES]);
/* Follows the latest map, and a new listener. */
void tracker_follow(struct tracker *tracker);
