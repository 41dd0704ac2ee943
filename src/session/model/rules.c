/* Rules for the lifetime of one session. */
#include "rules.h"

#include <assert.h>
#include <string.h>

#include "clock.h"
#include "freezing.h"

/* Most tombstones kept for one user; the ids sort by age. */
#define TOMBSTONES_KEPT 100

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

int64_t rules_unwritten_s(int64_t idle_timeout)
{
    return greater(lesser(60, idle_timeout / 10), 1);
}

bool rules_is_ahead(int64_t ms, int64_t now_ms)
{
    return ms > now_ms + CLOCKS_APART_MS;
}

int64_t rules_cutoff_ms(int64_t before_ms, int64_t now_ms)
{
    return greater(before_ms, now_ms) + CLOCKS_APART_MS;
}

int64_t rules_issue_ms(int64_t now_ms, int64_t cutoff_ms)
{
    return greater(now_ms, cutoff_ms + CLOCKS_APART_MS);
}

bool rules_is_cut_off(int64_t issued_ms, int64_t cutoff_ms)
{
    return issued_ms < cutoff_ms + CLOCKS_APART_MS;
}

int64_t rules_began_s(const struct session *session)
{
    return session->record.began_s > 0 ? session->record.began_s
                                       : token_session_created_ms(session->id) / 1000;
}

int64_t rules_used_s(const struct session *session, const struct policy *policy, int64_t now_s)
{
    int64_t issued_s = session->record.issued_ms / 1000;
    bool slides = in_force(session, policy)->renew == RENEW_SLIDING;
    return lesser(slides ? greater(session->last_seen_s, issued_s) : issued_s, now_s);
}

int64_t rules_maybe_used_s(const struct session *session, const struct policy *policy,
                           int64_t now_s)
{
    return lesser(session->last_seen_s, now_s) +
           rules_unwritten_s(in_force(session, policy)->idle_timeout);
}

/* Logins and refreshes are always written, so with fixed renewal no use is unknown. */
static int64_t idle_end_s(const struct session *session, const struct policy *policy, int64_t now_s)
{
    int64_t end_s = rules_used_s(session, policy, now_s) + policy->idle_timeout;
    return policy->renew == RENEW_SLIDING ? end_s + rules_unwritten_s(policy->idle_timeout) : end_s;
}

struct lifetimes rules_lifetimes(const struct session *session, const struct policy *policy,
                                 int64_t now_s)
{
    const struct record *record = &session->record;
    policy = in_force(session, policy);
    int64_t began_s = lesser(rules_began_s(session), now_s);
    int64_t issued_s = lesser(record->issued_ms / 1000, now_s);
    int64_t absolute_s = lesser(record->absolute_s, began_s + policy->absolute_timeout);
    struct lifetimes ret;
    ret.access_s = lesser(issued_s + policy->access_ttl, absolute_s);
    ret.session_s = lesser(issued_s + policy->refresh_ttl, absolute_s);
    ret.idle_s = record->remember ? ret.session_s
                                  : lesser(idle_end_s(session, policy, now_s), ret.session_s);
    assert(ret.access_s <= absolute_s && ret.idle_s <= ret.session_s);
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

enum end_cause rules_revoked(const struct user_record *user, const struct session *session,
                             int64_t now_ms)
{
    if (rules_frozen(user, now_ms / 1000))
        return CAUSE_FROZEN;
    return is_before_cutoff(user, session) ? CAUSE_REVOKED : CAUSE_NONE;
}

bool rules_ended_with_tenant(const struct session *session, int64_t not_before_ms, int64_t ended_s,
                             int64_t now_ms)
{
    int64_t created_ms = token_session_created_ms(session->id);
    if (created_ms < not_before_ms)
        return true;
    if (not_before_ms == 0 || !rules_is_ahead(created_ms, now_ms) ||
        rules_is_ahead(ended_s * 1000, now_ms))
        return false;
    return session->record.began_s <= ended_s;
}

int64_t rules_began_after_s(int64_t ended_s, int64_t now_ms)
{
    return rules_is_ahead(ended_s * 1000, now_ms) ? now_ms / 1000
                                                  : greater(now_ms / 1000, ended_s + 1);
}

enum end_cause rules_end_cause(const struct user_record *user, const struct session *session,
                               const struct policy *policy, int64_t now_ms)
{
    int64_t now_s = now_ms / 1000;
    struct lifetimes lifetimes = rules_lifetimes(session, policy, now_s);
    enum end_cause revoked = rules_revoked(user, session, now_ms);
    if (revoked)
        return revoked;
    if (now_s >= lifetimes.session_s)
        return CAUSE_EXPIRED;
    return now_s > lifetimes.idle_s ? CAUSE_IDLE : CAUSE_NONE;
}

/* `age_ms`: the earliest time by which the grace may be over. Without a configured grace there is
 * none, whatever the clocks. */
static bool in_grace(const struct record *record, const struct policy *policy, int64_t now_ms,
                     int64_t age_ms)
{
    return policy->refresh_grace > 0 && !rules_is_ahead(record->issued_ms, now_ms) &&
           age_ms < record->issued_ms + policy->refresh_grace * 1000;
}

enum end_cause rules_judge_access(const struct user_record *user, const struct session *session,
                                  const uint8_t hash[SECRET_HASH], const struct policy *policy,
                                  int64_t now_ms)
{
    const struct record *record = &session->record;
    enum end_cause cause = rules_end_cause(user, session, policy, now_ms);
    if (cause)
        return cause;
    if (now_ms / 1000 >= rules_lifetimes(session, policy, now_ms / 1000).access_s)
        return CAUSE_EXPIRED;
    if (crypto_equal(hash, record->access_hash, SECRET_HASH))
        return CAUSE_NONE;
    if (record->has_previous && !record->previous_access_over &&
        crypto_equal(hash, record->previous_access_hash, SECRET_HASH) &&
        in_grace(record, policy, now_ms, now_ms))
        return CAUSE_NONE;
    /* Its MAC holds, so we issued it: an access token of an earlier pair. */
    return CAUSE_EXPIRED;
}

bool rules_outlived(const uint8_t session_id[SESSION_ID], int64_t longest_life_s, int64_t now_ms)
{
    int64_t created_s = token_session_created_ms(session_id) / 1000;
    return now_ms / 1000 >= created_s + longest_life_s;
}

enum end_cause rules_judge_missing(const uint8_t session_id[SESSION_ID],
                                   const struct policy *policy, int64_t now_ms)
{
    int64_t age_s = (now_ms - token_session_created_ms(session_id)) / 1000;
    return age_s >= policy->access_ttl ? CAUSE_EXPIRED : CAUSE_UNKNOWN;
}

enum refresh_verdict rules_judge_refresh(const struct user_record *user,
                                         const struct session *session,
                                         const uint8_t hash[SECRET_HASH],
                                         const struct policy *policy, int64_t now_ms,
                                         enum end_cause *cause)
{
    const struct record *record = &session->record;
    *cause = rules_end_cause(user, session, policy, now_ms);
    if (*cause)
        return REFRESH_ENDED;
    if (crypto_equal(hash, record->refresh_hash, SECRET_HASH))
        return REFRESH_ROTATE;
    return rules_judge_repeat(session, hash, policy, now_ms, now_ms, cause);
}

enum refresh_verdict rules_judge_repeat(const struct session *session,
                                        const uint8_t hash[SECRET_HASH],
                                        const struct policy *policy, int64_t now_ms, int64_t age_ms,
                                        enum end_cause *cause)
{
    const struct record *record = &session->record;
    if (!record->has_previous || !crypto_equal(hash, record->previous_refresh_hash, SECRET_HASH) ||
        !in_grace(record, policy, now_ms, age_ms))
        return REFRESH_REUSE;
    if (!record->previous_refresh_over)
        return REFRESH_REPEAT;
    *cause = CAUSE_EXPIRED;
    return REFRESH_ENDED;
}

bool rules_touch_due(const struct session *session, const struct policy *policy, int64_t now_s)
{
    return rules_is_ahead(session->last_seen_s * 1000, now_s * 1000) ||
           now_s >= rules_maybe_used_s(session, policy, now_s);
}

int64_t rules_next_version(int64_t version, int64_t now_ms)
{
    return greater(version + 1, now_ms);
}

/* An order after this one and after every id in the state, whatever its kind. */
static int64_t after_all_ms(const struct user_state *state, int64_t ms)
{
    for (size_t i = 0; i < state->session_count; i++)
        ms = greater(ms, token_session_created_ms(state->sessions[i].id) + 1);
    for (size_t i = 0; i < state->tombstone_count; i++)
        ms = greater(ms, token_session_created_ms(state->tombstones[i].id) + 1);
    for (size_t i = 0; i < state->foreign_count; i++)
        ms = greater(ms, token_session_created_ms(state->foreign[i]) + 1);
    return ms;
}

int64_t rules_creation_ms(const struct user_state *state, int64_t not_before_ms, int64_t now_ms)
{
    return now_ms >= not_before_ms ? now_ms : after_all_ms(state, not_before_ms);
}

/* Sessions behind a cutoff ahead of now, lost by Redis since, may have exactly its order. */
void rules_end_before_now(const struct user_state *state, struct user_record *user, int64_t now_ms)
{
    int64_t next_ms = user->not_before_ms > 0 ? user->not_before_ms + 1 : 0;
    user->not_before_ms = after_all_ms(state, greater(now_ms, next_ms));
    user->has_exempt = false;
}

int64_t rules_forget_s(int64_t alive_until_s, int64_t now_s)
{
    return greater(alive_until_s, now_s + 1);
}

static struct tombstone tombstone_of(const struct session *session, struct text reason,
                                     struct text actor, const struct policy *policy, int64_t now_ms)
{
    int64_t now_s = now_ms / 1000;
    return (struct tombstone){
        .reason = reason,
        .actor = actor,
        .ended_s = now_s,
        .forget_s = rules_forget_s(rules_lifetimes(session, policy, now_s).session_s, now_s),
    };
}

void rules_end_session(struct edit *edit, struct session *session, struct text reason,
                       struct text actor, const struct policy *policy, int64_t now_ms)
{
    const struct tombstone tombstone = tombstone_of(session, reason, actor, policy, now_ms);
    edit_end_session(edit, session->id, &tombstone);
    session->ended = true;
}

/* No login was later than now, whatever is recorded. Other times of the session are lowered too. */
static void lower_times(struct edit *edit, struct session *session, const struct policy *policy,
                        int64_t now_ms)
{
    struct record *record = &session->record;
    int64_t now_s = now_ms / 1000;
    int64_t most_s = now_s + in_force(session, policy)->absolute_timeout;
    if (!rules_is_ahead(record->issued_ms, now_ms) &&
        !rules_is_ahead(rules_began_s(session) * 1000, now_ms) &&
        !rules_is_ahead(session->last_seen_s * 1000, now_ms))
        return;
    record->issued_ms = lesser(record->issued_ms, now_ms);
    if (rules_began_s(session) > now_s)
        record->began_s = now_s;
    record->absolute_s = lesser(record->absolute_s, most_s);
    session->last_seen_s = lesser(session->last_seen_s, now_s);
    edit_set_session(edit, session->id, record);
    edit_delete_touch(edit, session->id);
}

/* An idle session gets a tombstone, so that its holder learns why; an expired one needs none.
 * Neither raises the epoch, since every node sees the time itself. */
static void tidy_session(struct edit *edit, struct user_state *state, struct session *session,
                         const struct policy *policy, int64_t now_ms)
{
    enum end_cause cause = rules_end_cause(&state->user, session, policy, edit->age_ms);
    if (cause == CAUSE_NONE && edit->trust == CLOCK_AGREED)
        lower_times(edit, session, policy, now_ms);
    if (cause == CAUSE_NONE || cause == CAUSE_FROZEN)
        return;
    if (cause == CAUSE_EXPIRED) {
        edit_delete_session(edit, session->id);
    } else {
        const struct tombstone tombstone =
            tombstone_of(session, reasons_of_cause(cause), (struct text){0}, policy, now_ms);
        edit_set_tombstone(edit, session->id, &tombstone);
    }
    session->ended = true;
}

/* Tombstones only explain, so a login loop may not pile them up. */
static void tidy_tombstones(struct edit *edit, const struct user_state *state, int64_t now_s)
{
    size_t surplus =
        state->tombstone_count > TOMBSTONES_KEPT ? state->tombstone_count - TOMBSTONES_KEPT : 0;
    for (size_t i = 0; i < state->tombstone_count; i++) {
        const struct tombstone_entry *tombstone = &state->tombstones[i];
        size_t older = 0;
        for (size_t j = 0; j < state->tombstone_count && surplus > 0; j++)
            older += memcmp(state->tombstones[j].id, tombstone->id, SESSION_ID) < 0;
        if (tombstone->tombstone.forget_s <= now_s || older < surplus)
            edit_delete_session(edit, tombstone->id);
    }
}

/* Until when the edited hash matters: for its sessions, its tombstones and the cutoff. The cutoff
 * must outlive every session that it revokes, in case Redis brings one back. A freeze matters until
 * it is lifted, and a past decision as long as an older one may arrive. */
static int64_t confirmed_expiry_s(const struct user_state *state, const struct session *fresh,
                                  const struct policy *policy, int64_t now_s)
{
    int64_t expiry_s = now_s + 1;
    if (fresh)
        expiry_s = greater(expiry_s, rules_lifetimes(fresh, policy, now_s).session_s);
    for (size_t i = 0; i < state->session_count; i++)
        expiry_s = greater(expiry_s, rules_lifetimes(&state->sessions[i], policy, now_s).session_s);
    for (size_t i = 0; i < state->tombstone_count; i++)
        expiry_s = greater(expiry_s, state->tombstones[i].tombstone.forget_s);
    if (state->user.not_before_ms > 0)
        expiry_s = greater(expiry_s, lesser(state->user.not_before_ms / 1000, now_s + 1) +
                                         policy->refresh_ttl);
    if (state->unreadable_count > 0)
        expiry_s = greater(expiry_s, now_s + policy->refresh_ttl);
    if (state->contexts_foreign)
        expiry_s = greater(expiry_s, contexts_longest_s(now_s));
    expiry_s = greater(expiry_s, contexts_until_s(&state->contexts));
    expiry_s = greater(expiry_s, guesses_until_s(&state->guesses));
    if (state->user.decided_ms > 0)
        expiry_s = greater(expiry_s, lesser(state->user.decided_ms / 1000, now_s + 1) +
                                         FREEZING_REMEMBERED_S);
    if (!state->user.frozen)
        return expiry_s;
    return state->user.frozen_until_s > 0 ? greater(expiry_s, state->user.frozen_until_s) : 0;
}

void rules_tidy(struct edit *edit, struct user_state *state, const struct session *fresh,
                const struct policy *policy, int64_t now_ms)
{
    int64_t now_s = now_ms / 1000;
    for (size_t i = 0; i < state->session_count; i++)
        if (!state->sessions[i].ended)
            tidy_session(edit, state, &state->sessions[i], policy, now_ms);
    tidy_tombstones(edit, state, edit->age_ms / 1000);
    edit->expire_ms = confirmed_expiry_s(state, fresh, policy, now_s) * 1000;
}
