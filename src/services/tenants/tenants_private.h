/* Private to the table of tenants, for its file. */
#pragma once

#include "tenants.h"

/* Memory of a state with its policy, in bytes; 0 for tenant_state_nothing(). */
size_t tenant_state_bytes(struct tenant *tenant);

/* tenants_put() of an unverified row from a file; does not replace a present one. */
bool tenants_put_absent(struct tenants *tenants, const uint8_t tag[TENANT_TAG],
                        struct tenant *tenant, int64_t verified_ms);

/* Calls `visit` for every row, some at a time and without a lock. Rows that come and go meanwhile
 * may be missed, and one may be visited twice. */
void tenants_each(struct tenants *tenants,
                  void (*visit)(void *user, const uint8_t tag[TENANT_TAG],
                                const struct tenant_row *row),
                  void *user);
