/* The rules, in pure C: (state, request, policy, now) in, decision out. No clock, no I/O, no Redis.
 *
 * A session ends at the earliest of four times:
 *   absolute   login + absolute_timeout (the record keeps the limit that held at login)
 *   refresh    issue of the present pair + refresh_ttl
 *   idle       last use + idle_timeout; never for sessions with `remember`. With renew = fixed only
 *              login and refresh count as use. Uses are written once in an interval
 *              (rules_unwritten_s()), so the last one may be that much later than what is known:
 *              the idle end is late by the interval and never early
 *   now        when it is ended, frozen, or older than the user's not-before
 * Its access token ends earlier, at issue + access_ttl.
 *
 * A session carries the policy that holds for it (session->policy) where a tenant has set one;
 * without, the policy that is passed holds.
 *
 * Times and orders. "Now" is common time (clock.h). A node may have written a wrong time all the
 * same: before there was a common time, without a majority, by an older version. So:
 * - A time that lies ahead of now counts as now. No end is later than now + the policy, whatever is
 *   written. A session whose times lie further ahead than clocks may be apart gets them brought
 *   down with the next change of its user (rules_settle()), if there is a common time.
 * - The time in a session's id is an order number and not a time. Usually it is the login's; behind
 *   a cutoff that lies ahead of now it is greater than the cutoff and than every id there is, and
 *   the record has the time of the login itself (record.began_s). Cutoffs kill by that order. So
 *   one that a wrong clock made needs no healing: it stays, what it killed stays dead on every node
 *   and in every journal, and logins behind it live as long as others. It is not brought down:
 *   that would revive what a node that still holds it in its journal, or a restored backup, has
 *   seen dead. Cutoffs after it go up by one. The tenant's cutoff knows nothing of the orders of
 * its users: where an id lies ahead the record's time of login decides, and who has none is dead.
 * - Orders end with what an id can hold: token_order_ms(). */
#pragma once

#include "policy.h"
#include "session.h"
#include "state.h"

/* Why a session, or a token of it, is no good. */
enum end_cause {
    CAUSE_NONE, /* it lives */
    CAUSE_EXPIRED,
    CAUSE_IDLE,
    CAUSE_FROZEN,
    CAUSE_REVOKED,       /* older than the user's cutoff */
    CAUSE_TENANT_CUTOFF, /* older than the tenant's: the word is that of whoever set it */
    CAUSE_REUSE,         /* the refresh token was used before */
    CAUSE_UNKNOWN        /* Redis knows no such session */
};
/* The word of api.md; absent for CAUSE_NONE and CAUSE_TENANT_CUTOFF. (reasons.c) */
struct text reasons_of_cause(enum end_cause cause);

struct lifetimes {
    int64_t access_s;  /* end of the access token */
    int64_t session_s; /* end by refresh_ttl or absolute_timeout: what no touch can move */
    int64_t idle_s;    /* the last second that is not idle: a promise to whoever is shown it.
                          session_s if that is earlier or there is no idle limit */
};
struct lifetimes rules_lifetimes(const struct session *session, const struct policy *policy,
                                 int64_t now_s);

/* True for a time that is further ahead of now than clocks may be apart: no node that is right has
 * written it. */
bool rules_is_ahead(int64_t ms, int64_t now_ms);
/* A cutoff that kills every session there is now, those included that nodes whose clocks are ahead
 * make without knowing of it yet; what comes later is created behind it (rules_creation_ms()). So
 * are those behind the tenant's cutoff before this one (0: none), of which the last second may
 * still lie ahead of now. */
int64_t rules_cutoff_ms(int64_t before_ms, int64_t now_ms);
/* Challenges are in no user's state, so a cutoff cannot be laid behind them as it is behind ids,
 * and the clocks of the nodes that make both are apart. rules_issue_ms(): when a challenge counts
 * as issued, by a node that knows this cutoff (0: none). rules_is_cut_off(): whether the cutoff is
 * from after that. */
int64_t rules_issue_ms(int64_t now_ms, int64_t cutoff_ms);
bool rules_is_cut_off(int64_t issued_ms, int64_t cutoff_ms);
/* When the session's login was. */
int64_t rules_began_s(const struct session *session);

/* Seconds after a use that was written within which further ones are not: min(60, a tenth of the
 * idle timeout), 1 at least. */
int64_t rules_unwritten_s(int64_t idle_timeout);
/* The last use that counts against idleness, as far as it was written. */
int64_t rules_used_s(const struct session *session, const struct policy *policy, int64_t now_s);
/* Until when the session may have been used, whether or not that renews it. */
int64_t rules_maybe_used_s(const struct session *session, const struct policy *policy,
                           int64_t now_s);

bool rules_frozen(const struct user_record *user, int64_t now_s);

/* Is the session dead for what holds for its user: frozen, or older than the cutoff? */
enum end_cause rules_revoked(const struct user_record *user, const struct session *session,
                             int64_t now_ms);

/* True if the end of all of the tenant's sessions, at ended_s with this cutoff (0: there was none),
 * has ended the session. */
bool rules_ended_with_tenant(const struct session *session, int64_t not_before_ms, int64_t ended_s,
                             int64_t now_ms);
/* Of a login now whose id lies ahead, record.began_s: behind the last end of all of the tenant's
 * sessions. */
int64_t rules_began_after_s(int64_t ended_s, int64_t now_ms);

/* Is the session dead at this time: frozen, revoked, expired or idle? */
enum end_cause rules_end_cause(const struct user_record *user, const struct session *session,
                               const struct policy *policy, int64_t now_ms);

/* The same for its access token. The secret's hash is compared in constant time with the present
 * one, and with the one before it, which lives for refresh_grace more seconds; any other is that of
 * an expired token. */
enum end_cause rules_judge_access(const struct user_record *user, const struct session *session,
                                  const uint8_t hash[SECRET_HASH], const struct policy *policy,
                                  int64_t now_ms);

/* True if no session of this age can be alive, whatever Redis says; policy_longest_life(). */
bool rules_outlived(const uint8_t session_id[SESSION_ID], int64_t longest_life_s, int64_t now_ms);

/* Why a token is dead whose session Redis no longer knows: expired if it was so old that it may
 * have been forgotten, else unknown. */
enum end_cause rules_judge_missing(const uint8_t session_id[SESSION_ID],
                                   const struct policy *policy, int64_t now_ms);

enum refresh_verdict {
    REFRESH_ROTATE, /* the present refresh token: issue the next pair */
    REFRESH_REPEAT, /* the one before, inside the grace window: the same pair again */
    REFRESH_REUSE,  /* any older one, or the one before after the window: end the session */
    REFRESH_ENDED   /* the session is dead anyway; *cause tells of what */
};
enum refresh_verdict rules_judge_refresh(const struct user_record *user,
                                         const struct session *session,
                                         const uint8_t hash[SECRET_HASH],
                                         const struct policy *policy, int64_t now_ms,
                                         enum end_cause *cause);

/* Is this refresh token the one before, asked for again within the grace window? What is over is so
 * by age_ms, which may be earlier than now. */
bool rules_is_repeat(const struct session *session, const uint8_t hash[SECRET_HASH],
                     const struct policy *policy, int64_t now_ms, int64_t age_ms);

/* True if this use is to be written: the last one that was is rules_unwritten_s() ago. */
bool rules_touch_due(const struct session *session, const struct policy *policy, int64_t now_s);

/* Marks the living sessions that a login of this device ends: those of the same device id, those
 * that `exclusive` forbids, and what `overflow` gives up for max_devices and, among those of the
 * same device type, for max_devices_of_type. ERR_DEVICE_LIMIT if overflow is reject. The policy is
 * the login's. */
enum err admit_login(struct user_state *state, const struct device *device,
                     const struct policy *policy, int64_t now_ms) MUST_CHECK;

/* True if no session that Redis remembers was of this device id. */
bool admit_device_is_new(const struct user_state *state, struct text device_id);

/* Until when a tombstone is kept of a session of which no token lives longer than this. */
int64_t rules_forget_s(int64_t alive_until_s, int64_t now_s);
/* Ends a session in the edit: a tombstone in its place, kept until none of its tokens could be
 * alive. */
void rules_end_session(struct edit *edit, struct session *session, struct text reason,
                       struct text actor, const struct policy *policy, int64_t now_ms);

/* Tidies up: sessions that died of age or idleness, and tombstones that nobody can ask for any
 * more; by edit->earliest_ms while edit->trust is CLOCK_DISPUTED, since then it may be this
 * node's clock that is wrong. With CLOCK_AGREED times that lie ahead are brought down. Then sets
 * the edit's expiry to the latest time that anything in the hash matters. `fresh` is a session that
 * the edit adds, or NULL. */
void rules_settle(struct edit *edit, struct user_state *state, const struct session *fresh,
                  const struct policy *policy, int64_t now_ms);

/* Version that follows: grows, also when the hash had expired meanwhile. */
int64_t rules_next_version(int64_t version, int64_t now_ms);

/* The time in the id of a new session, which this cutoff does not kill, whatever the clocks say:
 * now, or where the cutoff lies ahead of that, what comes behind it and all ids of the state. */
int64_t rules_creation_ms(const struct user_state *state, int64_t not_before_ms, int64_t now_ms);

/* Raises not-before over every session there is, over the one before and over the clock. */
void rules_end_before_now(const struct user_state *state, struct user_record *user, int64_t now_ms);
