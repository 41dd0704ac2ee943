/* Audit lines about the service: start, stop, reload, key changes. Main thread. */
#pragma once

#include "audit.h"
#include "crypto.h"

/* The service started, or its start failed at `failed_step` (else absent). */
void lifecycle_record_start(struct audit_lane *lane, struct text failed_step);
/* The last line of a run; `by_force` if a worker was stuck. A run without this line was killed. */
void lifecycle_record_stop(struct audit_lane *lane, bool by_force);
/* A configuration replaced `before`, or was refused for a reason: then `after` is NULL. */
void lifecycle_record_reload(struct audit_lane *lane, const char *path, const struct conf *before,
                             const struct conf *after, struct text reason);
/* Lists the numbered keys that came and went, if any, and the newest one. */
void lifecycle_record_keys(struct audit_lane *lane, const struct keyring *before,
                           const struct keyring *after);
