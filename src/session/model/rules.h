/* The rules, in pure C: (state, request, policy, now) in, decision out. No clock, no I/O, no Redis.
 *
 * A session ends at the earliest of four times:
 *   absolute   login + absolute_timeout (the record keeps the limit that held at login)
 *   refresh    issue of the present pair + refresh_ttl
 *   idle       last use + idle_timeout; never for sessions with `remember`. With renew = fixed only
 *              login and refresh count as use. Uses are written once in an interval
 *              (rules_unwritten_s()), so the real last use may be that much later. The idle end is
 *              late by the interval and never early
 *   now        when it is ended, frozen, or older than the user's not-before
 * Its access token ends earlier, at issue + access_ttl.
 *
 * A session carries its own policy (session->policy) where a tenant has set one. Without it the
 * policy passed in holds.
 *
 * Times and orders. "Now" is common time (clock.h). A node may still have recorded a wrong time:
 * before common time existed, without a majority, or by an older version. So:
 * - A time ahead of now counts as now. No end is later than now + the policy, whatever is recorded.
 *   Times of a session further ahead than clocks may be apart are lowered at the next update of its
 *   user (rules_tidy()), if there is common time.
 * - The time in a session's id is an order number, not a time. Usually it is that of the login.
 *   Behind a cutoff ahead of now it exceeds the cutoff and every existing id, and the record has
 *   the time of the login (record.began_s).
 * - Cutoffs revoke by that order. A cutoff made by a wrong clock needs no repair. It stays, its
 *   sessions stay revoked on every node and in every journal, and later logins live as long as
 *   others. Lowering it would revive sessions that another node's journal or a restored backup has
 *   as revoked. Later cutoffs go up by one.
 * - The tenant's cutoff is not aware of its users' orders. If an id lies ahead, the record's time
 *   of login decides; without one the session is ended.
 * - Orders end with the last possible id: token_order_ms(). */
#pragma once

#include "edit.h"
#include "policy.h"
#include "session.h"

/* Why a session, or a token of it, is not valid. */
enum end_cause {
    CAUSE_NONE, /* it is valid */
    CAUSE_EXPIRED,
    CAUSE_IDLE,
    CAUSE_FROZEN,
    CAUSE_REVOKED,       /* older than the user's cutoff */
    CAUSE_TENANT_CUTOFF, /* older than the tenant's: the reason is the cutoff's own */
    CAUSE_REUSE,         /* a used refresh token was shown again */
    CAUSE_UNKNOWN        /* Redis has no such session */
};
/* The reason code of api.md; absent for CAUSE_NONE and CAUSE_TENANT_CUTOFF. (reasons.c) */
struct text reasons_of_cause(enum end_cause cause);

struct lifetimes {
    int64_t access_s;  /* end of the access token */
    int64_t session_s; /* end by refresh_ttl or absolute_timeout, which no touch can move */
    int64_t idle_s; /* the last second that is not idle, promised to its reader. session_s if that
                       is earlier or there is no idle limit */
};
struct lifetimes rules_lifetimes(const struct session *session, const struct policy *policy,
                                 int64_t now_s);

/* True for a time further ahead of now than clocks may be apart: no node with a right clock wrote
 * it. */
bool rules_is_ahead(int64_t ms, int64_t now_ms);
/* A cutoff that covers every session created up to now, also by nodes with clocks ahead that do not
 * know of it yet. Later sessions are created behind it (rules_creation_ms()). So are those behind
 * an earlier cutoff of the tenant (0: none), whose last second may still lie ahead of now. */
int64_t rules_cutoff_ms(int64_t before_ms, int64_t now_ms);
/* Challenges are in no user's state, so a cutoff cannot be laid behind them as behind ids, and
 * clocks of nodes differ. rules_issue_ms(): when a challenge counts as issued, by a node that knows
 * this cutoff (0: none). rules_is_cut_off(): true if the cutoff is later than that. */
int64_t rules_issue_ms(int64_t now_ms, int64_t cutoff_ms);
bool rules_is_cut_off(int64_t issued_ms, int64_t cutoff_ms);
/* The time of the session's login. */
int64_t rules_began_s(const struct session *session);

/* Seconds after a written use in which further ones are not written: min(60, a tenth of the idle
 * timeout), at least 1. */
int64_t rules_unwritten_s(int64_t idle_timeout);
/* The last use that counts against idleness, as far as written. */
int64_t rules_used_s(const struct session *session, const struct policy *policy, int64_t now_s);
/* The latest time at which the session may have been used, whether or not that renews it. */
int64_t rules_maybe_used_s(const struct session *session, const struct policy *policy,
                           int64_t now_s);

bool rules_frozen(const struct user_record *user, int64_t now_s);

/* The cause if the session is frozen, or older than the user's cutoff; else CAUSE_NONE. */
enum end_cause rules_revoked(const struct user_record *user, const struct session *session,
                             int64_t now_ms);

/* True if the tenant's cutoff, set at ended_s (0: none), has ended the session. */
bool rules_ended_with_tenant(const struct session *session, int64_t not_before_ms, int64_t ended_s,
                             int64_t now_ms);
/* record.began_s for a login now whose id lies ahead: after the tenant's last cutoff was set. */
int64_t rules_began_after_s(int64_t ended_s, int64_t now_ms);

/* The cause if the session is frozen, revoked, expired or idle at this time; else CAUSE_NONE. */
enum end_cause rules_end_cause(const struct user_record *user, const struct session *session,
                               const struct policy *policy, int64_t now_ms);

/* The same for its access token. Compares the secret's hash in constant time with the present one
 * and the previous one, which lives for refresh_grace more seconds. Any other hash is of an expired
 * token. */
enum end_cause rules_judge_access(const struct user_record *user, const struct session *session,
                                  const uint8_t hash[SECRET_HASH], const struct policy *policy,
                                  int64_t now_ms);

/* True if no session of this age can be active, whatever Redis says; longest_life_s as
 * policy_longest_life(). */
bool rules_outlived(const uint8_t session_id[SESSION_ID], int64_t longest_life_s, int64_t now_ms);

/* Why a token is dead whose session Redis does not have: expired if it is old enough to have been
 * forgotten, else unknown. */
enum end_cause rules_judge_missing(const uint8_t session_id[SESSION_ID],
                                   const struct policy *policy, int64_t now_ms);

enum refresh_verdict {
    REFRESH_ROTATE, /* the present refresh token: issue the next pair */
    REFRESH_REPEAT, /* the previous one, inside the grace window: the same pair again */
    REFRESH_REUSE,  /* an older one, or the previous one after the window: end the session */
    REFRESH_ENDED /* the session is over anyway, or the previous token inside the window, which was
                     over at once; *cause says why */
};
enum refresh_verdict rules_judge_refresh(const struct user_record *user,
                                         const struct session *session,
                                         const uint8_t hash[SECRET_HASH],
                                         const struct policy *policy, int64_t now_ms,
                                         enum end_cause *cause);

/* The verdict on a refresh token that is not the present one, in an active session. The grace
 * window is judged by age_ms, which may be earlier than now. */
enum refresh_verdict rules_judge_repeat(const struct session *session,
                                        const uint8_t hash[SECRET_HASH],
                                        const struct policy *policy, int64_t now_ms, int64_t age_ms,
                                        enum end_cause *cause);

/* True if this use is to be written: the last written one is rules_unwritten_s() ago. */
bool rules_touch_due(const struct session *session, const struct policy *policy, int64_t now_s);

/* Marks the active sessions that a login of this device ends: those of the same device id, those
 * that `exclusive` forbids, and those that `overflow` evicts for max_devices and, among the same
 * device type, for max_devices_of_type. ERR_DEVICE_LIMIT if overflow is reject. Uses the login's
 * policy. */
enum err admit_login(struct user_state *state, const struct device *device,
                     const struct policy *policy, int64_t now_ms) MUST_CHECK;

/* True if no session in Redis was of this device id. */
bool admit_device_is_new(const struct user_state *state, struct text device_id);

/* Until when the tombstone of a session is kept, given the end of its last valid token. */
int64_t rules_forget_s(int64_t alive_until_s, int64_t now_s);
/* Ends a session in the edit: a tombstone replaces it, kept as long as one of its tokens could be
 * valid. */
void rules_end_session(struct edit *edit, struct session *session, struct text reason,
                       struct text actor, const struct policy *policy, int64_t now_ms);

/* Tidies up: expired and idle sessions, and tombstones that no token can ask for. It judges them by
 * edit->age_ms, since this node's clock may be wrong. With CLOCK_AGREED it also lowers times ahead
 * of now. Then sets the edit's expiry to the latest time that anything in the hash matters. `fresh`
 * is a session that the edit adds, or NULL. */
void rules_tidy(struct edit *edit, struct user_state *state, const struct session *fresh,
                const struct policy *policy, int64_t now_ms);

/* The next version: it grows, also if the hash had expired meanwhile. */
int64_t rules_next_version(int64_t version, int64_t now_ms);

/* The time in the id of a new session, which this cutoff must not cover whatever the clocks say.
 * Now, or, if the cutoff lies ahead, a time after it and after all ids of the state. */
int64_t rules_creation_ms(const struct user_state *state, int64_t not_before_ms, int64_t now_ms);

/* Raises not-before above every session in the state, above its old value and the clock. */
void rules_end_before_now(const struct user_state *state, struct user_record *user, int64_t now_ms);
