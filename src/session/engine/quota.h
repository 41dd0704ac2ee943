/* Quotas: how many users with a session or frozen, and how many sessions and logins that wait for a
 * second verification, a tenant may have at one time (policy.h: quota_users, quota_sessions). As
 * many users again may have been frozen and be remembered (freezing.h).
 *
 * All are counted in Redis, by sorted sets whose scores tell who still matters: users in the index
 * of tenants, the rest in sets of their own beside it (index.h), which are written only while the
 * tenant has the quota. A node keeps a tenant's counts for QUOTA_FRESH_MS and adds what it lets in
 * meanwhile, also while it counts anew. So each other node may let in as many too many as it logs
 * in within that time, and the node itself as many as are under way when it counts, and no more.
 * Whoever was idle for too long counts until the index gives them up, up to INDEX_STEP and the
 * interval of unwritten uses later (index_oldest()). Where Redis does not answer the counts that
 * were known last stand, with what was let in since; without any nothing is refused, since the
 * login needs Redis itself. */
#pragma once

#include "operation.h"
#include "waiter.h"

enum { QUOTA_FRESH_MS = 1000 };

struct quotas;
struct quotas *quota_create(void);
void quota_destroy(struct quotas **quotas);

/* Goes on, maybe at once, when the counts of the operation's tenant are known, as far as it
 * has a quota and they can be had. */
void quota_enter(struct operation *operation, const uint8_t tenant[TENANT_TAG],
                 const struct policy *policy, struct waiter *waiter);
/* What is wanted one more of. */
struct quota_wish {
    bool user;       /* with a session, or frozen */
    bool remembered; /* a user of whom no freeze or lift is remembered */
    bool session;    /* or a login that waits for a second verification */
};
/* Lets it in and counts it. If the quota is used up, counts nothing and refuses the operation with
 * ERR_TENANT_QUOTA and a sentence with the number and the quota. What is let in and comes to
 * nothing counts until the next read that is answered. */
bool quota_admits(struct operation *operation, const uint8_t tenant[TENANT_TAG],
                  const struct policy *policy, struct quota_wish wish);
