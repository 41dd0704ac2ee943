/* Alerts tell an operator at once what cannot wait. Each is one audit line of kind `alert` and, if
 * alerts.webhook_url is set, one signed POST to it. Delivery is at least once, in the order of the
 * alerts' numbers; repetitions bear the same id. An alert that the receiver keeps refusing is set
 * aside and retried now and then, so that it holds up no other. Undelivered alerts lie on disk
 * (alerts.file, bounded), so a restart loses none. Requests never wait for any of it. */
#pragma once

#include "audit.h"
#include "conf.h"
#include "memory.h"

enum alert_kind {
    ALERT_NEW_LOCATION,          /* a login from a location new to the user */
    ALERT_REFRESH_REUSE,         /* a refresh token was used twice: it may have been stolen */
    ALERT_REFRESH_REPEATED,      /* ... within its grace, from elsewhere */
    ALERT_FORCED_LOGOUTS,        /* one operator ends many users' sessions */
    ALERT_KEY_GUESSING,          /* many wrong keys or forged tokens from one address */
    ALERT_TENANT_RATE,           /* a tenant is over its rate */
    ALERT_TENANT_QUOTA,          /* a tenant is at its quota */
    ALERT_AUDIT_SPACE,           /* the disk of the audit file is nearly full */
    ALERT_AUDIT_UNAUTHENTICATED, /* more unauthenticated calls than their budget of lines */
    ALERT_CLOCK_JUMP,            /* this host's clock, or common time, was set */
    ALERT_KINDS
};

struct alert {
    enum alert_kind kind;
    struct text tenant, user_id, session_id, actor, address; /* absent if unknown */
    struct text detail; /* a sentence; absent: the kind's own */
    int64_t count;      /* how many of what `detail` says; 0: one */
};

struct alerts;
/* Opens the file and starts the thread. `node`, the node's name, is copied. NULL with *error if the
 * file or the secret cannot be used. `audit` must outlive the alerts. */
struct alerts *alerts_start(const struct conf *conf, struct audit *audit, const char *node,
                            struct buffer *error);
/* Checks a configuration before its reload. False with *error if its secret cannot be used. Blocks.
 */
bool alerts_check(const struct conf *conf, struct buffer *error);
/* Applies a checked configuration. Blocks on the secret's file. */
void alerts_reload(struct alerts *alerts, const struct conf *conf);
/* Delivers for at most a second; the rest stays on disk. No thread may raise any more. */
void alerts_stop(struct alerts **alerts);

/* Raises an alert. It is copied; the call neither waits nor fails. Alerts that do not fit the queue
 * are counted (metric) and reported by a later alert. The same kind about the same subject (tenant,
 * user, actor or address) is raised at most once a minute; repetitions are counted and reported by
 * one more alert when the minute is over. So are alerts of one kind that a tenant (or all calls
 * without one) has beyond alerts.one_by_one_per_minute. Any thread, as the next two. */
void alerts_raise(struct alerts *alerts, const struct alert *alert);
/* Counts a wrong service key or a forged token from the address. Raises an alert beyond
 * alerts.guesses_per_minute. IPv6 addresses count by their /64. */
void alerts_count_guess(struct alerts *alerts, struct text address);
/* Counts a user of the tenant whose sessions an operator ended. Raises an alert beyond
 * alerts.forced_logouts_per_minute different users. `key` is the service key of the call. Actors of
 * different keys are different; a key may name any actor, so the key itself has a limit, three
 * times as high. `key_tenant` is the tenant that the key is bound to, else absent. Without a user
 * all sessions of the tenant were ended, which raises an alert at once. */
struct forced_logout {
    struct text key, key_tenant, actor, address;
    struct text tenant, user_id;
};
void alerts_count_forced_logout(struct alerts *alerts, const struct forced_logout *logout);

struct alerts_usage {
    int64_t queued; /* on disk, not yet delivered */
    int64_t bytes;  /* of the file */
    bool written;   /* the file can be written */
    bool delivered; /* the latest attempt succeeded, or there was none */
};
/* Any thread. */
void alerts_usage(const struct alerts *alerts, struct alerts_usage *ret);
