/* Alerts: what an operator wants to be told of at once. Each is one audit line of kind `alert` and,
 * if alerts.webhook_url is set, one signed POST to it: delivered at least once, in order of their
 * numbers, each with an id that its repetitions bear too; one that the receiver refuses for long is
 * set aside and tried now and then, so that it holds up no other. What waits for delivery lies on
 * disk (alerts.file, bounded), so a restart loses none. Requests never wait for any of it. */
#pragma once

#include "audit.h"
#include "conf.h"
#include "memory.h"

enum alert_kind {
    ALERT_NEW_LOCATION,          /* a login from a place where the user was never seen */
    ALERT_REFRESH_REUSE,         /* a refresh token was used twice: it may have been stolen */
    ALERT_REFRESH_REPEATED,      /* ... within its grace, from elsewhere */
    ALERT_FORCED_LOGOUTS,        /* one operator ends many users' sessions */
    ALERT_KEY_GUESSING,          /* many wrong keys or forged tokens from one address */
    ALERT_TENANT_RATE,           /* a tenant is over its rate */
    ALERT_TENANT_QUOTA,          /* a tenant is at its quota */
    ALERT_AUDIT_SPACE,           /* the disk of the audit file is nearly full */
    ALERT_AUDIT_UNAUTHENTICATED, /* more calls of strangers than their budget of lines */
    ALERT_CLOCK_JUMP,            /* this host's clock, or common time, was set */
    ALERT_KINDS
};

struct alert {
    enum alert_kind kind;
    struct text tenant, user_id, session_id, actor, address; /* what is known, else absent */
    struct text detail; /* a sentence; absent: the kind's own */
    int64_t count;      /* how many of what `detail` says; 0: one */
};

struct alerts;
/* Opens the file, starts the thread; `node` is the node's name and is copied. NULL with *error if
 * the file or the secret cannot be used. `audit` must outlive it. */
struct alerts *alerts_start(const struct conf *conf, struct audit *audit, const char *node,
                            struct buffer *error);
/* May this configuration be taken over? False with *error if its secret cannot be used. Blocks. */
bool alerts_check(const struct conf *conf, struct buffer *error);
/* Takes over a configuration that was checked. Blocks for the file of the secret. */
void alerts_reload(struct alerts *alerts, const struct conf *conf);
/* Sends what it can within a second; the rest stays on disk. Nobody may raise any more. */
void alerts_stop(struct alerts **alerts);

/* Raises an alert: copied, does not wait, never fails; what does not fit the queue is counted
 * (metric) and told by a later alert. The same kind about the same subject (tenant, user, actor or
 * address) is raised at most once a minute: what comes meanwhile is counted, and told by one more
 * when the minute is over. So is what a tenant (or all that have none) has of one kind beyond
 * alerts.one_by_one_per_minute. Any thread, as the next two. */
void alerts_raise(struct alerts *alerts, const struct alert *alert);
/* A wrong service key or a forged token came from the address: an alert beyond
 * alerts.guesses_per_minute. IPv6 addresses count by their /64. */
void alerts_count_guess(struct alerts *alerts, struct text address);
/* An operator ended sessions of a user of the tenant: an alert beyond
 * alerts.forced_logouts_per_minute different users. `key` is the service key that was used: actors
 * of different keys are different, and three times as many are too many for a key, whoever it says
 * is at work. `key_tenant`: the tenant the key is bound to, else absent.
 * Without a user it is all of the tenant's, which is an alert at once. */
struct forced_logout {
    struct text key, key_tenant, actor, address;
    struct text tenant, user_id;
};
void alerts_count_forced_logout(struct alerts *alerts, const struct forced_logout *logout);

struct alerts_usage {
    int64_t queued; /* on disk, not yet delivered */
    int64_t bytes;  /* of the file */
    bool written;   /* the file takes alerts */
    bool delivered; /* the latest attempt succeeded, or there was none */
};
/* Any thread. */
void alerts_usage(const struct alerts *alerts, struct alerts_usage *ret);
