/* Alerts: what an operator wants to be told of at once. Each is one audit line of kind `alert` and,
 * if alerts.webhook_url is set, one signed POST to it: delivered at least once, in order of their
 * numbers, each with an id that its repetitions bear too. What waits for delivery lies on disk
 * (alerts.file, bounded), so a restart loses none. Requests never wait for any of it. */
#pragma once

#include "audit.h"
#include "conf.h"
#include "memory.h"

enum alert_kind {
    ALERT_NEW_LOCATION,   /* a login from a place where the user was never seen */
    ALERT_REFRESH_REUSE,  /* a refresh token was used twice: it may have been stolen */
    ALERT_FORCED_LOGOUTS, /* one operator ends many users' sessions */
    ALERT_KEY_GUESSING,   /* many wrong keys or forged tokens from one address */
    ALERT_TENANT_RATE,    /* a tenant is over its rate */
    ALERT_KINDS
};

struct alert {
    enum alert_kind kind;
    struct text tenant, user_id, session_id, actor, address; /* what is known, else absent */
    struct text detail; /* a sentence */
    int64_t count;      /* how many of what `detail` says; 0: one */
};

struct alerts;
/* Starts the thread, if there is a webhook. NULL with *error if the file cannot be used. */
struct alerts *alerts_start(const struct conf *conf, struct audit *audit, struct buffer *error);
void alerts_reload(struct alerts *alerts, const struct conf *conf);
/* Sends what it can within a second; the rest stays on disk. */
void alerts_stop(struct alerts **alerts);

/* Raises an alert: copied, does not wait, never fails; what does not fit the queue is counted
 * (metric) and told by a later alert. The same kind about the same subject (tenant, user, actor or
 * address) is raised at most once a minute, the rest are counted into it. Any thread. */
void alerts_raise(struct alerts *alerts, const struct alert *alert);
