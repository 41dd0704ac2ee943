/* What the service itself did, on record: that it started, stopped, took over a configuration, has
 * other keys. Main thread. */
#pragma once

#include "audit.h"
#include "crypto.h"

/* It serves, or `failed_step` of its start did not go well (else absent). */
void lifecycle_record_start(struct audit_lane *lane, struct text failed_step);
/* The last line of a run; by force, if something is stuck. A run without one was killed. */
void lifecycle_record_stop(struct audit_lane *lane, bool by_force);
/* A configuration was taken over, in place of the one before, or refused for a reason: then `after`
 * is NULL. */
void lifecycle_record_reload(struct audit_lane *lane, const char *path, const struct conf *before,
                             const struct conf *after, struct text reason);
/* Says which numbered keys came and went, if any, and which is the newest. */
void lifecycle_record_keys(struct audit_lane *lane, const struct keyring *before,
                           const struct keyring *after);
