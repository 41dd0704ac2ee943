/* Reads that may be a little old, at a replica of the own zone (redis.near_replicas).
 *
 * A replica answers reads of a connection that has said READONLY, and would answer those of calls
 * that must see the latest, too: so such connections are nodes of their own, for STORE_REPLICA_READ
 * calls alone. Whatever a replica does instead of answering soon sends the call to the master, with
 * what is left of its time. */
#pragma once

#include "link_state.h"

/* Chooses a replica for each master: after a new map or new settings. */
void replica_read_choose(struct store_link *link);
/* Sends the call to the replica of this master. False if it has none that may answer, or the call
 * is not for replicas or was at one already. */
bool replica_read_send(struct store_link *link, struct store_call *call, size_t master);
