/* Changes a tenant's state: reads it, decides, and writes if the state is still the one read. On a
 * conflict all is repeated. Nodes that track the key get an invalidation. */
#pragma once

#include "service.h"

/* Call once, before the first use. */
void tenant_update_prepare(void);

/* Writes the last known state again, because Redis has lost a change that this node saw, maybe in a
 * failover. Writes nothing if Redis has something newer by then. Does not wait. One at a time on a
 * worker, since each read of the old state asks for it. */
void tenant_update_restore(struct session_worker *worker, struct keyring *keyring,
                           const uint8_t tag[TENANT_TAG], struct tenant *known);
