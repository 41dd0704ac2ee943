/* Kick, logout and logout-all: sessions become tombstones with reason and actor. In an outage they
 * become revocations in the journal, which hold on this node at once. */
#include <assert.h>
#include <string.h>

#include "bearer.h"
#include "metrics.h"
#include "session/engine/naming.h"
#include "session/engine/operation.h"
#include "session/engine/revocation.h"
#include "session/engine/tenant.h"
#include "session/engine/user_update.h"
#include "session/index/index.h"
#include "session/model/rules.h"
#include "session/model/session_json.h"
#include "session/model/strength.h"

enum {
    /* Most unconfirmed revocations of a user who ends single sessions in an outage. Redis cannot
     * check whether such sessions exist, and the journal's room is shared. A user with more can
     * still end all sessions at once. */
    OUTAGE_MOST = 100
};

struct end_change {
    struct user_update change;
    struct end_sessions *end;
    struct waiter waiter;
    struct token token;
    uint8_t target[SESSION_ID];
    struct text *ended;
    size_t ended_count, ended_room;
    struct commit_ticket ticket; /* of a revocation in an outage */
};

static void note_ended(struct end_change *work, const uint8_t id[SESSION_ID])
{
    assert(work->ended_count < work->ended_room);
    work->ended[work->ended_count++] = operation_session_id(&work->end->base, id);
}

/* Drops the list of an earlier round. */
static void reset_ended(struct end_change *work, size_t room)
{
    work->ended = arena_alloc(work->end->base.arena, room * sizeof(*work->ended));
    work->ended_room = room;
    work->ended_count = 0;
}

static void end_session_in_edit(struct end_change *work, struct session *session,
                                const struct policy *policy, struct edit *edit)
{
    assert(!session->ended);
    const struct operation *operation = &work->end->base;
    rules_end_session(edit, session, work->end->why, operation->actor, policy, operation->now_ms);
    note_ended(work, session->id);
}

static void add_session_revocation(const struct end_change *work, const uint8_t id[SESSION_ID],
                                   int64_t alive_until_s, struct edit *edit)
{
    revocation_add_to_edit(edit, revocation_of_session(&work->end->base, &work->change.codec.owner,
                                                       id, work->end->why, alive_until_s));
}

static void end_and_revoke(struct end_change *work, struct session *session,
                           const struct policy *policy, struct edit *edit)
{
    end_session_in_edit(work, session, policy, edit);
    add_session_revocation(
        work, session->id,
        rules_lifetimes(session, policy, work->end->base.now_ms / 1000).session_s, edit);
}

/* True if an earlier round of this call has ended the session. */
static bool was_ended_by_this_call(struct end_change *work, const struct user_state *state,
                                   const uint8_t id[SESSION_ID], struct edit *edit)
{
    const struct tombstone_entry *tombstone = state_find_tombstone(state, id);
    if (!tombstone || !user_update_wrote(&work->change, id))
        return false;
    note_ended(work, id);
    work->end->base.out.durability = DURABILITY_ACCEPTED;
    add_session_revocation(work, id, tombstone->tombstone.forget_s, edit);
    edit->invalidates = true;
    return true;
}

/* Judges with the earliest possible time: a session that only a wrong clock sees as over is still
 * ended. */
static bool is_active(struct end_change *work, const struct user_state *state,
                      const struct session *session, const struct policy *policy)
{
    int64_t age_ms = operation_age_ms(&work->end->base);
    return session && !rules_end_cause(&state->user, session, policy, age_ms);
}

/* No login was later than now, whatever the id shows (rules.h). */
static int64_t longest_until_s(const struct operation *operation, const uint8_t id[SESSION_ID])
{
    int64_t now_s = operation->now_ms / 1000, began_s = token_session_created_ms(id) / 1000;
    return (began_s < now_s ? began_s : now_s) + operation_longest_life_s(operation);
}

/* Until when tokens of an unseen session may be valid. One that Redis lost lives only in memory,
 * here or on other nodes, so its access token is the limit. One with a foreign record may also be
 * refreshed. */
static int64_t unseen_until_s(const struct operation *operation, const struct user_state *state,
                              const uint8_t id[SESSION_ID])
{
    struct policy policy;
    operation_policy(operation, &policy);
    return state_is_foreign(state, id) ? longest_until_s(operation, id)
                                       : operation->now_ms / 1000 + policy.access_ttl;
}

/* Writes a tombstone for a session that is not in Redis, has no tombstone (over long ago, or lost),
 * or whose record this node cannot open. */
static enum update_decision decide_end_unseen(struct end_change *work, struct user_state *state,
                                              const uint8_t id[SESSION_ID], struct edit *edit)
{
    const struct operation *operation = &work->end->base;
    int64_t now_s = operation->now_ms / 1000;
    const struct tombstone tombstone = {
        .reason = work->end->why,
        .actor = operation->actor,
        .ended_s = now_s,
        .forget_s = unseen_until_s(operation, state, id),
    };
    if (state_is_foreign(state, id))
        note_ended(work, id);
    edit_add_tombstone(state, id, &tombstone, edit);
    add_session_revocation(work, id, tombstone.forget_s, edit);
    return UPDATE_WRITE;
}

static enum update_decision decide_end_one(struct end_change *work, struct user_state *state,
                                           struct edit *edit, const struct policy *policy)
{
    assert(work->end->scope == END_ONE);
    struct session *session = state_find(state, work->target);
    if (was_ended_by_this_call(work, state, work->target, edit))
        return UPDATE_RESOLVED;
    if (state_is_foreign(state, work->target))
        return decide_end_unseen(work, state, work->target, edit);
    if (!is_active(work, state, session, policy)) {
        operation_refuse(&work->end->base, ERR_SESSION_NOT_FOUND, (struct text){0});
        return user_update_invalidate_again(&work->change, state, work->target, edit);
    }
    end_and_revoke(work, session, policy, edit);
    return UPDATE_WRITE;
}

/* Logout wants the session gone; if it is, nothing is left to do. Any token ever issued for the
 * session will do, whatever its generation and age. An old token means the session that a refresh
 * would continue, and a thief can end no other session with it. */
static enum update_decision decide_end_own(struct end_change *work, struct user_state *state,
                                           struct edit *edit, const struct policy *policy)
{
    assert(work->end->scope == END_OWN && work->end->token.data);
    struct operation *operation = &work->end->base;
    struct session *session = state_find(state, work->token.session_id);
    operation->facts.session_id = operation_session_id(operation, work->token.session_id);
    if (was_ended_by_this_call(work, state, work->token.session_id, edit))
        return UPDATE_RESOLVED;
    if (session)
        operation_note_session(operation, session);
    if (!session && !state_find_tombstone(state, work->token.session_id) &&
        !operation_outlived(operation, work->token.session_id, operation_longest_life_s(operation)))
        return decide_end_unseen(work, state, work->token.session_id, edit);
    if (!is_active(work, state, session, policy))
        return user_update_invalidate_again(&work->change, state, work->token.session_id, edit);
    end_and_revoke(work, session, policy, edit);
    return UPDATE_WRITE;
}

static enum update_decision decide_end_all(struct end_change *work, struct user_state *state,
                                           struct edit *edit, const struct policy *policy)
{
    assert(work->end->scope == END_ALL);
    struct operation *operation = &work->end->base;
    uint8_t kept[SESSION_ID];
    bool keeps = work->end->keep_own;
    memcpy(kept, work->token.session_id, SESSION_ID);
    if (work->end->keep.data)
        keeps = text_from_hex(kept, SESSION_ID, work->end->keep);
    /* An exemption must not revive a session that an older cutoff has ended. */
    keeps = keeps && is_active(work, state, state_find(state, kept), policy);
    for (size_t i = 0; i < state->tombstone_count; i++)
        if (user_update_wrote(&work->change, state->tombstones[i].id))
            note_ended(work, state->tombstones[i].id);
    for (size_t i = 0; i < state->session_count; i++) {
        struct session *session = &state->sessions[i];
        if (keeps && memcmp(session->id, kept, SESSION_ID) == 0)
            continue;
        if (is_active(work, state, session, policy))
            end_session_in_edit(work, session, policy, edit);
    }
    rules_end_before_now(state, &state->user, operation->now_ms);
    if (keeps) {
        state->user.has_exempt = true;
        memcpy(state->user.exempt, kept, SESSION_ID);
    }
    edit_set_user(edit, &state->user);
    edit->invalidates = true;
    revocation_add_to_edit(edit,
                           revocation_before(operation, &work->change.codec.owner,
                                             state->user.not_before_ms, keeps ? kept : NULL,
                                             work->end->why, operation_longest_life_s(operation)));
    return UPDATE_WRITE;
}

static enum update_decision decide_end_by_scope(struct end_change *work, struct user_state *state,
                                                struct edit *edit, const struct policy *policy)
{
    switch (work->end->scope) {
    case END_ONE:
        return decide_end_one(work, state, edit, policy);
    case END_OWN:
        return decide_end_own(work, state, edit, policy);
    case END_ALL:
        break;
    }
    return decide_end_all(work, state, edit, policy);
}

/* True if the token ends its own session and no other. */
static bool is_own_session(const struct end_change *work)
{
    const struct end_sessions *end = work->end;
    return end->scope == END_OWN || (end->scope == END_ONE && end->token.data &&
                                     memcmp(work->target, work->token.session_id, SESSION_ID) == 0);
}

/* A user who ends other sessions needs a valid token. Any issued token may end its own session. */
static bool needs_good_token(const struct end_change *work)
{
    return work->end->token.data && !is_own_session(work);
}

/* True, with the operation refused, if the policy wants a user who ends other sessions to have
 * authenticated more recently. The end of the own session needs nothing. */
static bool is_too_old(struct end_change *work, struct text session_json,
                       const struct policy *policy)
{
    struct operation *operation = &work->end->base;
    int64_t most_s = 0;
    if (operation->permission == PERMISSION_SELF_KICK)
        most_s = policy->fresh_kick;
    if (operation->permission == PERMISSION_SELF_LOGOUT_ALL)
        most_s = policy->fresh_logout_all;
    if (most_s == 0 || is_own_session(work))
        return false;
    const struct strength_demand demand = {.max_age_s = most_s};
    struct authentication authentication = session_json_authentication(session_json);
    if (strength_meets(&operation->conf->auth_acr_order, &authentication, &demand,
                       operation->now_ms / 1000))
        return false;
    operation_refuse(operation, ERR_INSUFFICIENT_AUTHENTICATION, TEXT(REASON_INSUFFICIENT));
    operation->out.demanded = demand;
    return true;
}

/* True if the token allows the call; otherwise the operation is refused. A dead token gets the end
 * of its session as reason, even if it came to end it, unless this very call did so. */
static bool may_end(struct end_change *work, const struct user_state *state,
                    const struct policy *policy)
{
    struct operation *operation = &work->end->base;
    if (!work->end->token.data || work->end->scope == END_OWN ||
        (state_find_tombstone(state, work->token.session_id) &&
         user_update_wrote(&work->change, work->token.session_id)))
        return true;
    const struct session *session = operation_authenticate(operation, state, &work->token);
    if (session)
        return !is_too_old(work, session->record.session_json, policy);
    if (!is_own_session(work) || !is_active(work, state, state_find(state, work->target), policy))
        return false;
    operation_refuse(operation, ERR_OK, (struct text){0});
    return true;
}

static enum update_decision decide_end(struct user_update *change, struct user_state *state,
                                       struct edit *edit)
{
    struct end_change *work = container_of(change, struct end_change, change);
    struct operation *operation = change->operation;
    struct policy policy;
    operation_policy(operation, &policy);
    reset_ended(work, state->session_count + state->tombstone_count + 1);
    if (!may_end(work, state, &policy))
        return UPDATE_DONE;
    enum update_decision verdict = decide_end_by_scope(work, state, edit, &policy);
    if (verdict == UPDATE_WRITE)
        rules_tidy(edit, state, NULL, &policy, operation->now_ms);
    return verdict;
}

/* --- with Redis --- */

/* A spared session may have been over before, which its next use finds out. */
static bool is_own_over(const struct end_change *work)
{
    return is_own_session(work) ||
           (work->end->scope == END_ALL && work->end->token.data && !work->end->keep_own);
}

static void report_ended(struct end_change *work)
{
    assert(work->end->base.out.err == ERR_OK);
    struct operation *operation = &work->end->base;
    work->end->own_ended = is_own_over(work);
    operation->out.ended = work->ended;
    operation->out.ended_count = work->ended_count;
    if (operation->out.durability == DURABILITY_NONE)
        operation->out.durability = DURABILITY_ACCEPTED; /* nothing was left to end */
    metrics_add(METRIC_SESSIONS_ENDED, work->ended_count);
}

static void complete_end(struct end_change *work)
{
    crypto_wipe(&work->token, sizeof(work->token));
    naming_done(&work->end->base);
}

/* --- in an outage --- */

static void outage_revocation_journaled(struct commit_ticket *ticket, bool written)
{
    struct end_change *work = container_of(ticket, struct end_change, ticket);
    struct operation *operation = &work->end->base;
    if (written) {
        operation->out.err = ERR_OK;
        operation->out.durability = DURABILITY_PENDING;
        naming_keep(operation, &work->change.codec.owner);
        report_ended(work);
    } else {
        operation->out.err = ERR_JOURNAL_UNAVAILABLE;
    }
    complete_end(work);
}

static struct revocation make_outage_revocation(struct end_change *work)
{
    struct end_sessions *end = work->end;
    const struct operation *operation = &end->base;
    const struct user_tag *owner = &work->change.codec.owner;
    uint8_t *kept = work->token.session_id;
    bool keeps = end->keep_own;
    if (end->scope == END_ALL) {
        if (end->keep.data && text_from_hex(work->target, SESSION_ID, end->keep)) {
            kept = work->target;
            keeps = true;
        }
        return revocation_before(operation, owner, operation_cutoff_ms(operation),
                                 keeps ? kept : NULL, end->why,
                                 operation_longest_life_s(operation));
    }
    const uint8_t *id = end->scope == END_ONE ? work->target : work->token.session_id;
    note_ended(work, id);
    return revocation_of_session(operation, owner, id, end->why, longest_until_s(operation, id));
}

/* True if an active session with this id may exist. Behind a cutoff ahead of now, ids lie ahead
 * too. */
static bool may_exist(const struct end_change *work)
{
    const struct operation *operation = &work->end->base;
    return !operation_outlived(operation, work->target, operation_longest_life_s(operation));
}

static bool has_outage_room(const struct end_change *work)
{
    const struct operation *operation = &work->end->base;
    struct journal *journal = operation->context->worker->service->journal;
    size_t count, unconfirmed = 0;
    struct revocation *list =
        journal_of_owner(journal, owner_bytes(&work->change.codec.owner), operation->arena, &count);
    for (size_t i = 0; i < count; i++)
        unconfirmed += !list[i].confirmed;
    return unconfirmed < OUTAGE_MOST;
}

static bool is_vouched_for(struct end_change *work)
{
    struct bearer bearer;
    struct known_session known;
    int64_t age_ms;
    bearer_init(&bearer, &work->end->base, &work->token);
    if (!bearer_vouch(&bearer, &known, &age_ms))
        return false;
    cache_value_note(&work->end->base, &known.cache_value);
    if (is_too_old(work, known.cache_value.session_json, &known.policy))
        return false;
    return true;
}

/* Is the call allowed without asking Redis? Yes for services, for users whose token memory vouches
 * for, and for any issued token that ends its own session. */
static bool may_end_in_outage(struct end_change *work)
{
    const struct end_sessions *end = work->end;
    if (end->scope == END_ONE && !may_exist(work)) {
        operation_refuse(&work->end->base, ERR_SESSION_NOT_FOUND, (struct text){0});
        return false;
    }
    if (!needs_good_token(work))
        return true;
    if (end->scope == END_ONE && !has_outage_room(work))
        return false;
    return !revocation_refuses(&work->end->base, &work->token, ERR_TOKEN_INVALID) &&
           is_vouched_for(work);
}

static void end_in_outage(struct end_change *work)
{
    assert(work->end->base.out.err != ERR_OK);
    struct operation *operation = &work->end->base;
    struct session_worker *worker = operation->context->worker;
    if (!may_end_in_outage(work)) {
        complete_end(work);
        return;
    }
    reset_ended(work, 1);
    const struct revocation revocation = make_outage_revocation(work);
    work->ticket.done = outage_revocation_journaled;
    if (!journal_add(worker->lane, &revocation, &work->ticket, NULL)) {
        operation->out.err = ERR_JOURNAL_UNAVAILABLE;
        complete_end(work);
    }
}

static void end_update_done(struct user_update *change)
{
    struct end_change *work = container_of(change, struct end_change, change);
    struct operation *operation = change->operation;
    if (err_is_undecided(operation->out.err)) {
        end_in_outage(work);
        return;
    }
    if (operation->out.err == ERR_OK)
        report_ended(work);
    if (operation->out.ended_count > 0)
        index_correct(operation, &change->codec.owner, INDEX_BUCKETS);
    complete_end(work);
}

static const struct user_update_ops end_ops = {decide_end, end_update_done};

/* Sets the owner: the token's, or the named user. False if the operation is over. */
static bool find_end_owner(struct end_change *work, struct user_tag *owner)
{
    struct end_sessions *end = work->end;
    struct operation *operation = &end->base;
    if (!end->token.data) {
        token_tag_user(operation->context->keyring, end->tenant, end->user_id, owner);
        operation->facts.tenant = end->tenant;
        operation->facts.user_id = end->user_id;
        return true;
    }
    /* A logout also accepts the refresh token (RFC 7009 revokes either). */
    bool refresh = end->scope == END_OWN && token_is_shaped(TOKEN_REFRESH, end->token);
    if (operation_open_token(operation, refresh ? TOKEN_REFRESH : TOKEN_ACCESS, end->token,
                             end->tenant, end->tenant_bound, ERR_TOKEN_INVALID, &work->token)) {
        *owner = work->token.owner;
        return true;
    }
    if (end->scope == END_OWN && operation->out.err == ERR_TOKEN_INVALID) {
        operation->out.err = ERR_OK;
        operation->out.reason = (struct text){0};
        operation->out.durability = DURABILITY_ACCEPTED;
        end->own_ended = true;
    }
    return false;
}

static void end_in_tenant(struct waiter *waiter)
{
    struct end_change *work = container_of(waiter, struct end_change, waiter);
    struct operation *operation = &work->end->base;
    if (operation->out.err != ERR_OK ||
        (needs_good_token(work) &&
         tenant_refuses(operation, work->token.session_id, ERR_TOKEN_INVALID))) {
        complete_end(work);
    } else if (operation->tenancy_unknown) {
        /* Redis may answer for the user. But the lifetimes of the user's other sessions are
         * unknown, and an update would tidy them up by the defaults. */
        operation->out.err = operation->tenancy_unknown;
        end_in_outage(work);
    } else {
        user_update_begin(&work->change);
    }
}

void session_end(struct end_sessions *end)
{
    struct operation *operation = &end->base;
    struct end_change *work = arena_zalloc(operation->arena, sizeof(*work));
    struct user_tag owner;
    work->end = end;
    if (!find_end_owner(work, &owner)) {
        naming_done(operation);
        return;
    }
    if (end->scope == END_ONE && !text_from_hex(work->target, SESSION_ID, end->target)) {
        operation_refuse(operation, ERR_SESSION_NOT_FOUND, (struct text){0});
        naming_done(operation);
        return;
    }
    user_update_init(&work->change, &end_ops, operation, &owner);
    tenant_enter_or_defaults(operation, owner.tenant, waiter_of(&work->waiter, end_in_tenant));
}
