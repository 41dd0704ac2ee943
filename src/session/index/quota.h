/* Quotas of a tenant (policy.h): quota_users limits users with a session or frozen, quota_sessions
 * limits sessions and logins that wait for additional verification. As many users again may be
 * remembered as frozen before (freezing.h).
 *
 * All are counted in Redis by sorted sets whose scores tell which members count. Users are in the
 * index of tenants. The other sets lie beside it (index.h) and are written only while the tenant
 * has the quota.
 *
 * A node keeps the counts for QUOTA_FRESH_MS and adds what it lets in meanwhile, also during a new
 * count. So the excess is bounded: each other node's logins of that time, and this node's
 * operations in flight when it counts. An idle user counts until the index drops it, up to
 * INDEX_STEP and the interval of unwritten uses late (index_oldest()). In an outage the last known
 * counts apply, plus what was let in since. Without counts nothing is refused, since the login
 * itself needs Redis. */
#pragma once

#include "session/engine/operation.h"
#include "session/engine/waiter.h"

enum { QUOTA_FRESH_MS = 1000 };

struct quotas;
struct quotas *quota_create(void);
void quota_destroy(struct quotas **quotas);

/* Fetches the counts of the operation's tenant, if it has a quota, then goes on, maybe at once.
 * Goes on too if the counts are unavailable. */
void quota_enter(struct operation *operation, const uint8_t tenant[TENANT_TAG],
                 const struct policy *policy, struct waiter *waiter);
/* Additions that the operation wants. */
struct quota_wish {
    bool user;       /* with a session, or frozen */
    bool remembered; /* a user without a remembered freeze or lift */
    bool session;    /* or a login that waits for additional verification */
};
/* Counts the wish and returns true. If the quota is used up, counts nothing and refuses the
 * operation with ERR_TENANT_QUOTA and a sentence with number and quota. A wish that comes to
 * nothing counts until the next successful read. */
bool quota_admits(struct operation *operation, const uint8_t tenant[TENANT_TAG],
                  const struct policy *policy, struct quota_wish wish);
