/* The operation's tenant: its policy and its cutoff. Served from memory while its slot is tracked,
 * else read from Redis by one read that all waiters of this worker share. In an outage the last
 * known state applies. */
#pragma once

#include "operation.h"
#include "service.h"
#include "tenants.h"
#include "waiter.h"

/* Sets operation->tenancy, held until naming_done(), and goes on, maybe at once. Sets
 * operation->out.err if nothing is known and Redis does not answer, or to ERR_FORBIDDEN if the
 * policy does not allow operation->permission. */
void tenant_enter(struct operation *operation, const uint8_t tag[TENANT_TAG],
                  struct waiter *waiter);
/* Like tenant_enter(), but if the policy is unknown it goes on with the defaults and sets
 * tenancy_unknown to the reason. */
void tenant_enter_or_defaults(struct operation *operation, const uint8_t tag[TENANT_TAG],
                              struct waiter *waiter);

/* Ends the wait of tenant_enter(): goes on now with the last known state. */
void tenant_enter_now(struct operation *operation, const uint8_t tag[TENANT_TAG]);

/* For an operation that went on with the last known state. True if Redis has answered since: the
 * operation then has that state. */
bool tenant_renew(struct operation *operation, const uint8_t tag[TENANT_TAG]);

/* For the hot path: sets operation->tenancy if its state is fresh, without holding it. It stays
 * valid until the loop goes on. False if it is not fresh. */
bool tenant_borrow(struct operation *operation, const uint8_t tag[TENANT_TAG]);
/* Holds the borrowed state. */
void tenant_hold(struct operation *operation);
void tenant_release(struct operation *operation);

/* Refuses with `err` if the session is older than the tenant's cutoff. Refuses with an error of
 * the store if the tenant's state is unknown, or older than outage.grace. False if the user may
 * go on. */
bool tenant_refuses(struct operation *operation, const uint8_t session_id[SESSION_ID],
                    enum err err);

/* The tenant's state has changed: re-read it at the next use. Any thread. */
void tenant_forget(struct session_service *service, const uint8_t tag[TENANT_TAG]);
