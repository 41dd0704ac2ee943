/* Rules of life and death of one session. */
#include "rules.h"

#include <string.h>

#include "freezing.h"

/* Tombstones of one user that are kept; the ids sort by age. */
#define GRAVES_KEPT 100

static int64_t lesser(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t greater(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static const struct policy *in_force(const struct session *session, const struct policy *policy)
{
    return session->policy ? session->policy : policy;
}

struct lifetimes rules_lifetimes(const struct session *session, const struct policy *policy)
{
    const struct record *record = &session->record;
    policy = in_force(session, policy);
    int64_t created_s = token_session_created_ms(session->id) / 1000;
    int64_t issued_s = record->issued_ms / 1000;
    int64_t absolute_s = lesser(record->absolute_s, created_s + policy->absolute_timeout);
    int64_t used_s =
        policy->renew == RENEW_SLIDING ? greater(session->last_seen_s, issued_s) : issued_s;
    struct lifetimes ret;
    ret.access_s = lesser(issued_s + policy->access_ttl, absolute_s);
    ret.session_s = lesser(issued_s + policy->refresh_ttl, absolute_s);
    ret.idle_s =
        record->remember ? ret.session_s : lesser(used_s + policy->idle_timeout, ret.session_s);
    return ret;
}

static bool is_before_cutoff(const struct user_record *user, const struct session *session)
{
    if (token_session_created_ms(session->id) >= user->not_before_ms)
        return false;
    return !user->has_exempt || memcmp(user->exempt, session->id, SESSION_ID) != 0;
}

bool rules_frozen(const struct user_record *user, int64_t now_s)
{
    return user->frozen && (user->frozen_until_s == 0 || now_s < user->frozen_until_s);
}

struct text rules_revoked(const struct user_record *user, const struct session *session,
                          int64_t now_ms)
{
    if (rules_frozen(user, now_ms / 1000))
        return TEXT(REASON_FROZEN);
    if (is_before_cutoff(user, session))
        return TEXT(REASON_REVOKED);
    return (struct text){0};
}

struct text rules_dead(const struct user_record *user, const struct session *session,
                       const struct policy *policy, int64_t now_ms)
{
    int64_t now_s = now_ms / 1000;
    struct lifetimes lifetimes = rules_lifetimes(session, policy);
    struct text revoked = rules_revoked(user, session, now_ms);
    if (revoked.data)
        return revoked;
    if (now_s >= lifetimes.session_s)
        return TEXT(REASON_EXPIRED);
    if (now_s >= lifetimes.idle_s)
        return TEXT(REASON_IDLE);
    return (struct text){0};
}

static bool in_grace(const struct record *record, const struct policy *policy, int64_t now_ms)
{
    return now_ms <= record->issued_ms + policy->refresh_grace * 1000;
}

struct text rules_judge_access(const struct user_record *user, const struct session *session,
                               const uint8_t hash[SECRET_HASH], const struct policy *policy,
                               int64_t now_ms)
{
    const struct record *record = &session->record;
    struct text dead = rules_dead(user, session, policy, now_ms);
    if (dead.data)
        return dead;
    if (now_ms / 1000 >= rules_lifetimes(session, policy).access_s)
        return TEXT(REASON_EXPIRED);
    if (crypto_equal(hash, record->access_hash, SECRET_HASH))
        return (struct text){0};
    if (record->has_previous && !record->previous_access_over &&
        crypto_equal(hash, record->previous_access_hash, SECRET_HASH) &&
        in_grace(record, policy, now_ms))
        return (struct text){0};
    /* The MAC says that we issued it: an access token of an earlier pair. */
    return TEXT(REASON_EXPIRED);
}

bool rules_outlived(const uint8_t session_id[SESSION_ID], int64_t longest_life_s, int64_t now_ms)
{
    int64_t created_s = token_session_created_ms(session_id) / 1000;
    return now_ms / 1000 >= created_s + longest_life_s;
}

struct text rules_judge_missing(const uint8_t session_id[SESSION_ID], const struct policy *policy,
                                int64_t now_ms)
{
    int64_t age_s = (now_ms - token_session_created_ms(session_id)) / 1000;
    return age_s >= policy->access_ttl ? TEXT(REASON_EXPIRED) : TEXT(REASON_UNKNOWN);
}

enum refresh_verdict rules_judge_refresh(const struct user_record *user,
                                         const struct session *session,
                                         const uint8_t hash[SECRET_HASH],
                                         const struct policy *policy, int64_t now_ms,
                                         struct text *reason)
{
    const struct record *record = &session->record;
    *reason = rules_dead(user, session, policy, now_ms);
    if (reason->data)
        return REFRESH_DEAD;
    if (crypto_equal(hash, record->refresh_hash, SECRET_HASH))
        return REFRESH_ROTATE;
    if (record->has_previous && crypto_equal(hash, record->previous_refresh_hash, SECRET_HASH) &&
        in_grace(record, policy, now_ms))
        return REFRESH_REPEAT;
    return REFRESH_REUSE;
}

bool rules_touch_due(const struct session *session, const struct policy *policy, int64_t now_s)
{
    int64_t interval = lesser(60, in_force(session, policy)->idle_timeout / 10);
    return now_s - session->last_seen_s >= greater(interval, 1);
}

int64_t rules_next_version(int64_t version, int64_t now_ms)
{
    return greater(version + 1, now_ms);
}

int64_t rules_creation_ms(int64_t not_before_ms, int64_t now_ms)
{
    return greater(now_ms, not_before_ms);
}

void rules_end_before_now(const struct user_state *state, struct user_record *user, int64_t now_ms)
{
    int64_t cutoff_ms = greater(now_ms, user->not_before_ms);
    for (size_t i = 0; i < state->session_count; i++)
        cutoff_ms = greater(cutoff_ms, token_session_created_ms(state->sessions[i].id) + 1);
    user->not_before_ms = cutoff_ms;
    user->has_exempt = false;
}

static void dig_grave(struct edit *edit, struct session *session, struct text reason,
                      struct text actor, const struct policy *policy, int64_t now_ms)
{
    int64_t now_s = now_ms / 1000;
    struct tombstone tombstone = {
        .reason = reason,
        .actor = actor,
        .ended_s = now_s,
        .forget_s = greater(rules_lifetimes(session, policy).session_s, now_s + 1),
    };
    edit_set_grave(edit, session->id, &tombstone);
    edit_delete_touch(edit, session->id);
    session->ended = true;
}

void rules_bury(struct edit *edit, struct session *session, struct text reason, struct text actor,
                const struct policy *policy, int64_t now_ms)
{
    dig_grave(edit, session, reason, actor, policy, now_ms);
    edit->raises_epoch = true;
}

/* An idle session leaves a tombstone, so that its holder learns why; one that is too old needs
 * none. Neither raises the epoch: every node sees for itself that the time is over. */
static void settle_session(struct edit *edit, struct user_state *state, struct session *session,
                           const struct policy *policy, int64_t now_ms)
{
    struct text dead = rules_dead(&state->user, session, policy, now_ms);
    if (!dead.data || text_equal(dead, TEXT(REASON_FROZEN)))
        return;
    if (text_equal(dead, TEXT(REASON_EXPIRED))) {
        edit_delete_session(edit, session->id);
        session->ended = true;
    } else {
        dig_grave(edit, session, dead, (struct text){0}, policy, now_ms);
    }
}

/* Tombstones only explain, so a user who logs in in a loop may not pile them up. */
static void settle_graves(struct edit *edit, const struct user_state *state, int64_t now_s)
{
    size_t surplus = state->grave_count > GRAVES_KEPT ? state->grave_count - GRAVES_KEPT : 0;
    for (size_t i = 0; i < state->grave_count; i++) {
        const struct grave *grave = &state->graves[i];
        size_t older = 0;
        for (size_t j = 0; j < state->grave_count && surplus > 0; j++)
            older += memcmp(state->graves[j].id, grave->id, SESSION_ID) < 0;
        if (grave->tombstone.forget_s <= now_s || older < surplus)
            edit_delete_session(edit, grave->id);
    }
}

/* Until when the edited hash matters: its sessions, its graves, and the cutoff, which must outlive
 * every session that it kills, in case Redis brings one back. A freeze matters until it is lifted,
 * and who was frozen or not as long as somebody may come with an older word. */
static int64_t settled_expiry_s(const struct user_state *state, const struct session *fresh,
                                const struct policy *policy, int64_t now_s)
{
    int64_t expiry_s = now_s + 1;
    if (fresh)
        expiry_s = greater(expiry_s, rules_lifetimes(fresh, policy).session_s);
    for (size_t i = 0; i < state->session_count; i++)
        expiry_s = greater(expiry_s, rules_lifetimes(&state->sessions[i], policy).session_s);
    for (size_t i = 0; i < state->grave_count; i++)
        expiry_s = greater(expiry_s, state->graves[i].tombstone.forget_s);
    if (state->user.not_before_ms > 0)
        expiry_s = greater(expiry_s, state->user.not_before_ms / 1000 + policy->refresh_ttl);
    if (state->unreadable_count > 0)
        expiry_s = greater(expiry_s, now_s + policy->refresh_ttl);
    if (state->contexts_foreign)
        expiry_s = greater(expiry_s, contexts_longest_s(now_s));
    expiry_s = greater(expiry_s, contexts_until_s(&state->contexts));
    expiry_s = greater(expiry_s, guesses_until_s(&state->guesses));
    if (state->user.decided_ms > 0)
        expiry_s = greater(expiry_s, state->user.decided_ms / 1000 + FREEZING_REMEMBERED_S);
    if (!state->user.frozen)
        return expiry_s;
    return state->user.frozen_until_s > 0 ? greater(expiry_s, state->user.frozen_until_s) : 0;
}

void rules_settle(struct edit *edit, struct user_state *state, const struct session *fresh,
                  const struct policy *policy, int64_t now_ms)
{
    int64_t now_s = now_ms / 1000;
    for (size_t i = 0; i < state->session_count; i++)
        if (!state->sessions[i].ended)
            settle_session(edit, state, &state->sessions[i], policy, now_ms);
    settle_graves(edit, state, now_s);
    edit->expire_ms = settled_expiry_s(state, fresh, policy, now_s) * 1000;
}
