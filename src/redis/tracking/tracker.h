/* Watches: one connection to each master that hears of changes (see store.h), by the control
 * thread.
 *
 * On every change of the map the slots that got another owner are doubted; they have no generation
 * until then, and a new one if the watch of their owner is alive. A watch that comes up begins a
 * generation for all its slots; one that breaks, or is silent for TRACKING_LOST_MS, ends them; so
 * does a node that does not serve. Without store_listen() nothing of this happens. */
#pragma once

#include "slot_claims.h"
#include "redis/calls/link_state.h"

enum {
    TRACKING_PING_MS = 250,
    TRACKING_OVERDUE_MS = 500,  /* an older unanswered ping opens the node's breaker */
    TRACKING_LOST_MS = 1000,    /* and this old it breaks the connection */
    TRACKING_REFUSED_MS = 30000 /* until the next attempt after a server refused to be watched */
};

struct tracker;

/* The connections are on the link's loop; calls on its thread only. */
struct tracker *tracker_open(struct store_link *link);
/* Before the link is closed. Tells nobody. */
void tracker_close(struct tracker **tracker);
/* Whether the node serves as a master; a ping may get through to one that has been replaced, or is
 * cut off from its cluster, and never hears of changes. */
void tracker_set_fit(struct tracker *tracker, const struct endpoint *endpoint, bool fit);
/* What the node says of its slots; those it does not claim are not watched, whatever the map says.
 * Without this word it is believed to claim all. */
void tracker_claim(struct tracker *tracker, const struct endpoint *endpoint,
                   const uint8_t claims[SLOT_BYTES]);
/* The map may have changed, or somebody wants to be told from now on. */
void tracker_follow(struct tracker *tracker);
