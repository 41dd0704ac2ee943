/* Changes of what holds for a tenant: its state is read, decided on, and written if it is still the
 * one that was read, all over again if somebody else was faster. Whoever watches the key hears of
 * it. */
#pragma once

#include "service.h"

/* Once, before the first call. */
void tenant_update_prepare(void);

/* Redis has lost a change of the tenant that this node has seen, with a failover maybe: what is
 * known is written again, unless something newer is there by then. Sent and forgotten; one at a
 * time on a worker, since whoever reads the old state asks for it. */
void tenant_update_restore(struct session_worker *worker, struct keyring *keyring,
                           const uint8_t tag[TENANT_TAG], struct tenant *known);
