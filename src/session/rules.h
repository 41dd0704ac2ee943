/* The rules, in pure C: (state, request, policy, now) in, decision out. No clock, no I/O, no Redis.
 *
 * A session ends at the earliest of four times:
 *   absolute   login + absolute_timeout (the record keeps the limit that held at login)
 *   refresh    issue of the present pair + refresh_ttl
 *   idle       last use + idle_timeout; never for sessions with `remember`. With renew = fixed only
 *              login and refresh count as use
 *   now        when it is ended, frozen, or older than the user's not-before
 * Its access token ends earlier, at issue + access_ttl.
 *
 * A session carries the policy that holds for it (session->policy) where a tenant has set one;
 * without, the policy that is passed holds. */
#pragma once

#include "policy.h"
#include "session.h"
#include "state.h"

struct lifetimes {
    int64_t access_s;  /* end of the access token */
    int64_t session_s; /* end by refresh_ttl or absolute_timeout: what no touch can move */
    int64_t idle_s;    /* end by idleness, session_s if that is earlier or there is no idle limit */
};
struct lifetimes rules_lifetimes(const struct session *session, const struct policy *policy);

bool rules_frozen(const struct user_record *user, int64_t now_s);

/* Why a session is dead for what holds for its user: frozen, or older than the cutoff; absent if it
 * is not. */
struct text rules_revoked(const struct user_record *user, const struct session *session,
                          int64_t now_ms);

/* Why a session is dead at this time; absent if it lives. */
struct text rules_dead(const struct user_record *user, const struct session *session,
                       const struct policy *policy, int64_t now_ms);

/* Why this access token is not good, absent if it is. The secret's hash is compared in constant
 * time with the present one, and with the one before it, which lives for refresh_grace more
 * seconds. */
struct text rules_judge_access(const struct user_record *user, const struct session *session,
                               const uint8_t hash[SECRET_HASH], const struct policy *policy,
                               int64_t now_ms);

/* True if no session of this age can be alive, whatever Redis says; policy_longest_life(). */
bool rules_outlived(const uint8_t session_id[SESSION_ID], int64_t longest_life_s, int64_t now_ms);

/* Why a token is dead whose session Redis no longer knows: expired if it was so old that it may
 * have been forgotten, else unknown. */
struct text rules_judge_missing(const uint8_t session_id[SESSION_ID], const struct policy *policy,
                                int64_t now_ms);

enum refresh_verdict {
    REFRESH_ROTATE, /* the present refresh token: issue the next pair */
    REFRESH_REPEAT, /* the one before, inside the grace window: the same pair again */
    REFRESH_REUSE,  /* any older one, or the one before after the window: end the session */
    REFRESH_DEAD    /* the session is dead anyway; *reason tells why */
};
enum refresh_verdict rules_judge_refresh(const struct user_record *user,
                                         const struct session *session,
                                         const uint8_t hash[SECRET_HASH],
                                         const struct policy *policy, int64_t now_ms,
                                         struct text *reason);

/* True if this use is to be written: at most every min(60 s, a tenth of the idle timeout). */
bool rules_touch_due(const struct session *session, const struct policy *policy, int64_t now_s);

/* Marks the living sessions that a login of this device ends: those of the same device id, those
 * that `exclusive` forbids, and what `overflow` gives up for max_devices and, among those of the
 * same device type, for max_devices_of_type. ERR_DEVICE_LIMIT if overflow is reject. The policy is
 * the login's. */
enum err rules_admit(struct user_state *state, const struct device *device,
                     const struct policy *policy, int64_t now_ms) MUST_CHECK;

/* True if no session that Redis remembers was of this device id. */
bool rules_device_is_new(const struct user_state *state, struct text device_id);

/* Ends a session in the edit: a tombstone in its place, kept until none of its tokens could be
 * alive. */
void rules_bury(struct edit *edit, struct session *session, struct text reason, struct text actor,
                const struct policy *policy, int64_t now_ms);

/* Tidies up: sessions that died of age or idleness, and tombstones that nobody can ask for any
 * more. Then sets the edit's expiry to the latest time that anything in the hash matters. `fresh`
 * is a session that the edit adds, or NULL. */
void rules_settle(struct edit *edit, struct user_state *state, const struct session *fresh,
                  const struct policy *policy, int64_t now_ms);

/* Version that follows: grows, also when the hash had expired meanwhile. */
int64_t rules_next_version(int64_t version, int64_t now_ms);

/* Creation time for a new session that this cutoff does not kill, whatever the clocks say. */
int64_t rules_creation_ms(int64_t not_before_ms, int64_t now_ms);

/* Raises not-before over every session there is, and over the clock. */
void rules_end_before_now(const struct user_state *state, struct user_record *user, int64_t now_ms);
