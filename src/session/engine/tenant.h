/* The tenant that an operation is about: its policy, and since when none of its older sessions
 * counts. Known from memory while its slot is watched, else read from Redis (one read, shared by
 * all who ask on this worker meanwhile); with Redis away what was known last holds. */
#pragma once

#include "operation.h"
#include "service.h"
#include "tenants.h"
#include "waiter.h"

/* Sets operation->tenancy, held until naming_done(), and goes on, maybe at once. Before,
 * operation->out.err is set if nothing is known of the tenant and Redis does not answer; and to
 * ERR_FORBIDDEN if the policy does not allow what operation->demand names. */
void tenant_enter(struct operation *operation, const uint8_t tag[TENANT_TAG],
                  struct waiter *waiter);
/* The same for what must be done without Redis, too: goes on by the defaults, tenancy_unknown
 * telling why. */
void tenant_enter_blindly(struct operation *operation, const uint8_t tag[TENANT_TAG],
                          struct waiter *waiter);

/* For an operation that went on with what was known: true if Redis has answered since, and the
 * operation has what it said. */
bool tenant_renew(struct operation *operation, const uint8_t tag[TENANT_TAG]);

/* For the hot path: sets operation->tenancy if it is known to be true now, without holding it: good
 * until the loop goes on. */
bool tenant_borrow(struct operation *operation, const uint8_t tag[TENANT_TAG]);
/* Holds what was borrowed. */
void tenant_hold(struct operation *operation);
void tenant_release(struct operation *operation);

/* Refuses with `err` for a session that is older than the tenant's cutoff; with an error of the
 * store where what is known of the tenant is older than outage.grace, or nothing is. False if its
 * user may go on. */
bool tenant_refuses(struct operation *operation, const uint8_t session_id[SESSION_ID],
                    enum err err);

/* The tenant changed its state: what is known is to be read anew. Any thread. */
void tenant_forget(struct session_service *service, const uint8_t tag[TENANT_TAG]);
