/* Watches: one connection to each master that hears of changes (see store.h), by the control
 * thread.
 *
 * On every change of the map the slots that got another owner are doubted; they have no generation
 * until then, and a new one if the watch of their owner is alive. A watch that comes up begins a
 * generation for all its slots; one that breaks, or is silent for WATCH_LOST_MS, ends them; so does
 * a node that does not serve. Without store_watch() nothing of this happens. */
#pragma once

#include "slot_claims.h"
#include "redis/calls/worker_link.h"

enum {
    WATCH_PING_MS = 250,
    WATCH_OVERDUE_MS = 500,  /* an older unanswered ping opens the node's breaker */
    WATCH_LOST_MS = 1000,    /* and this old it breaks the connection */
    WATCH_REFUSED_MS = 30000 /* until the next attempt after a server refused to be watched */
};

struct watches;

/* The connections are on the link's loop; calls on its thread only. */
struct watches *watches_open(struct store_link *link);
/* Before the link is closed. Tells nobody. */
void watches_close(struct watches **watches);
/* Whether the node serves as a master; a ping may get through to one that has been replaced, or is
 * cut off from its cluster, and never hears of changes. */
void watches_judge(struct watches *watches, const struct endpoint *endpoint, bool fit);
/* What the node says of its slots; those it does not claim are not watched, whatever the map says.
 * Without this word it is believed to claim all. */
void watches_claim(struct watches *watches, const struct endpoint *endpoint,
                   const uint8_t claims[SLOT_BYTES]);
/* The map may have changed, or somebody wants to be told from now on. */
void watches_follow(struct watches *watches);
