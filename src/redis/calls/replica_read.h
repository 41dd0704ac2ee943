/* Reads that may be a little old, at a replica of the own zone (redis.near_replicas).
 *
 * A connection that has said READONLY would also answer calls that must see the latest write. So
 * such connections are nodes of their own, for STORE_REPLICA_READ calls alone. Unless the replica
 * answers soon, the call goes to the master with the rest of its time. */
#pragma once

#include "link_state.h"

/* Chooses a replica for each master: after a new map or new settings. */
void replica_read_choose(struct store_link *link);
/* Sends the call to the replica of this master. False if it has none that may answer, or the call
 * is not for replicas or was at one already. */
bool replica_read_send(struct store_link *link, struct store_call *call, size_t master);
