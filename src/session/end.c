/* Kick, logout and logout-all: sessions become tombstones that say why and by whom. With Redis away
 * they are revocations in the journal, which holds on this node at once. */
#include <string.h>

#include "change.h"
#include "index.h"
#include "metrics.h"
#include "operation.h"
#include "revocation.h"
#include "rules.h"
#include "tenant.h"

enum {
    /* Sessions that a user may end without Redis, which knows which there are: names are cheap, and
     * the journal's room is everybody's. Who has more can end all at once. */
    BLIND_MOST = 100,
    LIFE_MOST_S = 31536000 /* the upper bound of absolute_timeout */
};

struct end_change {
    struct change change;
    struct end_sessions *end;
    struct token token;
    uint8_t target[SESSION_ID];
    struct text *ended;
    size_t ended_count;
    struct revocation revocation;
    struct journal_ticket ticket; /* of a revocation without Redis */
};

/* Of a tenant whose policy is not known here, sessions may live as long as any policy allows. */
static int64_t longest_life(const struct operation *operation)
{
    if (operation->tenancy_unknown)
        return LIFE_MOST_S;
    return policy_longest_life(operation->conf, operation->tenancy->policy);
}

static void note_ended(struct end_change *work, const uint8_t id[SESSION_ID])
{
    work->ended[work->ended_count++] = operation_session_id(&work->end->base, id);
}

static void bury(struct end_change *work, struct session *session, const struct policy *policy,
                 struct edit *edit)
{
    const struct operation *operation = &work->end->base;
    rules_bury(edit, session, work->end->why, operation->actor, policy, operation->now_ms);
    note_ended(work, session->id);
}

/* The journal must know of it, once Redis does. */
static void keep(struct end_change *work, struct revocation revocation)
{
    work->revocation = revocation;
    work->change.revocations = &work->revocation;
    work->change.revocation_count = 1;
}

static void bury_one(struct end_change *work, struct session *session, const struct policy *policy,
                     struct edit *edit)
{
    bury(work, session, policy, edit);
    keep(work, revocation_of_session(&work->end->base, &work->change.codec.owner, session->id,
                                     work->end->why, rules_lifetimes(session, policy).session_s));
}

/* After a write whose fate was unknown: a grave that carries our own words is our work. */
static bool is_own_grave(const struct end_change *work, const struct grave *grave)
{
    const struct operation *operation = &work->end->base;
    return work->change.resolving && grave &&
           grave->tombstone.ended_s == operation->now_ms / 1000 &&
           text_equal(grave->tombstone.reason, work->end->why) &&
           text_equal(grave->tombstone.actor, operation->actor);
}

/* The one session is buried already, by this very call. */
static bool is_done(struct end_change *work, const struct user_state *state,
                    const uint8_t id[SESSION_ID], struct edit *edit)
{
    if (!is_own_grave(work, state_find_grave(state, id)))
        return false;
    note_ended(work, id);
    work->end->base.durability = DURABILITY_ACCEPTED;
    work->change.revocation_count = 1; /* as an earlier round has set it */
    edit->raises_epoch = true;
    return true;
}

static bool is_alive(struct end_change *work, const struct user_state *state,
                     const struct session *session, const struct policy *policy)
{
    return session && !rules_dead(&state->user, session, policy, work->end->base.now_ms).data;
}

/* Until when a token of a session that was not seen may be good: one that Redis has lost is vouched
 * for by memory alone, here or elsewhere, for which an access token is what it takes; one whose
 * record is foreign may be refreshed, too. */
static int64_t unseen_until_s(const struct operation *operation, const struct user_state *state,
                              const uint8_t id[SESSION_ID])
{
    struct policy policy;
    operation_policy(operation, &policy);
    return state_is_foreign(state, id)
               ? token_session_created_ms(id) / 1000 + longest_life(operation)
               : operation->now_ms / 1000 + policy.access_ttl;
}

/* A session that Redis has not, and has no grave of - over long ago, or lost -, or whose record
 * this node cannot open: it gets the grave that says that it was ended. */
static enum verdict bury_unseen(struct end_change *work, struct user_state *state,
                                const uint8_t id[SESSION_ID], struct edit *edit)
{
    const struct operation *operation = &work->end->base;
    int64_t now_s = operation->now_ms / 1000;
    struct grave *grave = &state->graves[state->grave_count++];
    memcpy(grave->id, id, SESSION_ID);
    grave->tombstone = (struct tombstone){
        .reason = work->end->why,
        .actor = operation->actor,
        .ended_s = now_s,
        .forget_s = unseen_until_s(operation, state, id),
    };
    if (state_is_foreign(state, id))
        note_ended(work, id);
    edit_set_grave(edit, id, &grave->tombstone);
    edit->raises_epoch = true;
    keep(work, revocation_of_session(operation, &work->change.codec.owner, id, work->end->why,
                                     grave->tombstone.forget_s));
    return CHANGE_WRITE;
}

static enum verdict end_one(struct end_change *work, struct user_state *state, struct edit *edit,
                            const struct policy *policy)
{
    struct session *session = state_find(state, work->target);
    if (is_done(work, state, work->target, edit))
        return CHANGE_RESOLVED;
    if (state_is_foreign(state, work->target))
        return bury_unseen(work, state, work->target, edit);
    if (!is_alive(work, state, session, policy)) {
        operation_refuse(&work->end->base, ERR_SESSION_NOT_FOUND, (struct text){0});
        return change_ended(&work->change, state, work->target, edit);
    }
    bury_one(work, session, policy, edit);
    return CHANGE_WRITE;
}

/* True if the token is of the session's present pair or the one before, its age aside: who comes
 * with an expired access token to log out means the session that a refresh would continue. */
static bool is_token_of(struct end_change *work, const struct session *session)
{
    uint8_t hash[SECRET_HASH];
    const struct record *record = &session->record;
    token_hash_secret(work->end->base.context->keyring, TOKEN_ACCESS, session->id,
                      work->token.secret, hash);
    return crypto_equal(hash, record->access_hash, SECRET_HASH) ||
           (record->has_previous && crypto_equal(hash, record->previous_access_hash, SECRET_HASH));
}

/* Logout asks for the session to be gone; where it is gone already, nothing is left to do. */
static enum verdict end_presented(struct end_change *work, struct user_state *state,
                                  struct edit *edit, const struct policy *policy)
{
    struct operation *operation = &work->end->base;
    struct session *session = state_find(state, work->token.session_id);
    operation->session_id = operation_session_id(operation, work->token.session_id);
    if (is_done(work, state, work->token.session_id, edit))
        return CHANGE_RESOLVED;
    if (session)
        operation_note_session(operation, session);
    if (!session && !state_find_grave(state, work->token.session_id) &&
        !rules_outlived(work->token.session_id, longest_life(operation), operation->now_ms))
        return bury_unseen(work, state, work->token.session_id, edit);
    if (!is_alive(work, state, session, policy))
        return change_ended(&work->change, state, work->token.session_id, edit);
    if (!is_token_of(work, session))
        return CHANGE_DONE;
    bury_one(work, session, policy, edit);
    return CHANGE_WRITE;
}

static enum verdict end_all(struct end_change *work, struct user_state *state, struct edit *edit,
                            const struct policy *policy)
{
    struct operation *operation = &work->end->base;
    uint8_t kept[SESSION_ID];
    bool keeps = work->end->keep_presented;
    memcpy(kept, work->token.session_id, SESSION_ID);
    if (work->end->keep.data)
        keeps = text_from_hex(kept, SESSION_ID, work->end->keep);
    /* An exemption from the cutoff must not revive what an older cutoff has killed. */
    keeps = keeps && is_alive(work, state, state_find(state, kept), policy);
    for (size_t i = 0; i < state->grave_count; i++)
        if (is_own_grave(work, &state->graves[i]))
            note_ended(work, state->graves[i].id);
    for (size_t i = 0; i < state->session_count; i++) {
        struct session *session = &state->sessions[i];
        if (keeps && memcmp(session->id, kept, SESSION_ID) == 0)
            continue;
        if (is_alive(work, state, session, policy))
            bury(work, session, policy, edit);
    }
    rules_end_before_now(state, &state->user, operation->now_ms);
    if (keeps) {
        state->user.has_exempt = true;
        memcpy(state->user.exempt, kept, SESSION_ID);
    }
    edit_set_user(edit, &state->user);
    edit->raises_epoch = true;
    keep(work, revocation_before(operation, &work->change.codec.owner, state->user.not_before_ms,
                                 keeps ? kept : NULL, work->end->why, longest_life(operation)));
    return CHANGE_WRITE;
}

static enum verdict decide_by_scope(struct end_change *work, struct user_state *state,
                                    struct edit *edit, const struct policy *policy)
{
    switch (work->end->scope) {
    case END_ONE:
        return end_one(work, state, edit, policy);
    case END_PRESENTED:
        return end_presented(work, state, edit, policy);
    case END_ALL:
        break;
    }
    return end_all(work, state, edit, policy);
}

/* His token must be good, then. Any that we issued may end its own session. */
static bool is_by_user(const struct end_change *work)
{
    return work->end->token.data && work->end->scope != END_PRESENTED;
}

static enum verdict decide_end(struct change *change, struct user_state *state, struct edit *edit)
{
    struct end_change *work = (struct end_change *)change;
    struct operation *operation = change->operation;
    struct policy policy;
    operation_policy(operation, &policy);
    work->ended = arena_alloc(operation->arena, (state->session_count + state->grave_count + 1) *
                                                    sizeof(*work->ended));
    work->ended_count = 0;
    if (is_by_user(work) && !operation_authenticate(operation, state, &work->token))
        return CHANGE_DONE;
    enum verdict verdict = decide_by_scope(work, state, edit, &policy);
    if (verdict == CHANGE_WRITE)
        rules_settle(edit, state, NULL, &policy, operation->now_ms);
    return verdict;
}

/* --- with Redis --- */

static void answer_ended(struct end_change *work)
{
    struct operation *operation = &work->end->base;
    operation->ended = work->ended;
    operation->ended_count = work->ended_count;
    if (operation->durability == DURABILITY_NONE)
        operation->durability = DURABILITY_ACCEPTED; /* nothing was left to end */
    metrics_add(METRIC_SESSIONS_ENDED, work->ended_count);
}

static void end_operation(struct end_change *work)
{
    crypto_wipe(&work->token, sizeof(work->token));
    operation_done(&work->end->base);
}

/* --- without --- */

static void revocation_kept(struct journal_ticket *ticket, bool written)
{
    struct end_change *work =
        (struct end_change *)((char *)ticket - offsetof(struct end_change, ticket));
    struct operation *operation = &work->end->base;
    if (written) {
        operation->err = ERR_OK;
        operation->durability = DURABILITY_PENDING;
        answer_ended(work);
    } else {
        operation->err = ERR_JOURNAL_UNAVAILABLE;
    }
    end_operation(work);
}

static struct revocation revoke_blindly(struct end_change *work)
{
    struct end_sessions *end = work->end;
    const struct operation *operation = &end->base;
    const struct user_tag *owner = &work->change.codec.owner;
    uint8_t *kept = work->token.session_id;
    bool keeps = end->keep_presented;
    if (end->scope == END_ALL) {
        if (end->keep.data && text_from_hex(work->target, SESSION_ID, end->keep)) {
            kept = work->target;
            keeps = true;
        }
        return revocation_before(operation, owner, operation->now_ms + CLOCKS_APART_MS,
                                 keeps ? kept : NULL, end->why, longest_life(operation));
    }
    const uint8_t *id = end->scope == END_ONE ? work->target : work->token.session_id;
    note_ended(work, id);
    return revocation_of_session(operation, owner, id, end->why,
                                 token_session_created_ms(id) / 1000 + longest_life(operation));
}

/* Could there be a living session of this name? */
static bool is_conceivable(const struct end_change *work)
{
    const struct operation *operation = &work->end->base;
    int64_t age_ms = operation->now_ms - token_session_created_ms(work->target);
    return age_ms > -CLOCKS_APART_MS && age_ms < longest_life(operation) * 1000;
}

static bool has_room(const struct end_change *work)
{
    const struct operation *operation = &work->end->base;
    struct journal *journal = operation->context->worker->service->journal;
    size_t count, unsettled = 0;
    struct revocation *list =
        journal_of_owner(journal, owner_bytes(&work->change.codec.owner), operation->arena, &count);
    for (size_t i = 0; i < count; i++)
        unsettled += !list[i].settled;
    return unsettled < BLIND_MOST;
}

/* May it be done although nobody can be asked? Services may; users with a token that memory vouches
 * for; and every token that we issued may end its own session. */
static bool may_end_blindly(struct end_change *work)
{
    const struct end_sessions *end = work->end;
    if (end->scope == END_ONE && !is_conceivable(work)) {
        operation_refuse(&work->end->base, ERR_SESSION_NOT_FOUND, (struct text){0});
        return false;
    }
    if (!is_by_user(work))
        return true;
    if (end->scope == END_ONE && !has_room(work))
        return false;
    return !revocation_refuses(&work->end->base, &work->token, ERR_TOKEN_INVALID) &&
           validate_vouches(&work->end->base, &work->token);
}

static void end_without_store(struct end_change *work)
{
    struct operation *operation = &work->end->base;
    struct session_worker *worker = operation->context->worker;
    if (!may_end_blindly(work)) {
        end_operation(work);
        return;
    }
    work->ended = arena_alloc(operation->arena, sizeof(*work->ended));
    work->ended_count = 0;
    work->revocation = revoke_blindly(work);
    work->ticket.done = revocation_kept;
    if (!journal_add(worker->writer, &work->revocation, &work->ticket, NULL)) {
        operation->err = ERR_JOURNAL_UNAVAILABLE;
        end_operation(work);
    }
}

static void finish_end(struct change *change)
{
    struct end_change *work = (struct end_change *)change;
    struct operation *operation = change->operation;
    if (revocation_needs_journal(operation->err)) {
        end_without_store(work);
        return;
    }
    if (operation->err == ERR_OK)
        answer_ended(work);
    if (operation->ended_count > 0)
        index_settle(operation, &change->codec.owner, INDEX_BUCKETS);
    end_operation(work);
}

/* Whose sessions: of the token's owner, or of the named user. False if the operation is over. */
static bool find_owner(struct end_change *work, struct user_tag *owner)
{
    struct end_sessions *end = work->end;
    struct operation *operation = &end->base;
    if (!end->token.data) {
        token_tag_user(operation->context->keyring, end->tenant, end->user_id, owner);
        operation->tenant = end->tenant;
        operation->user_id = end->user_id;
        return true;
    }
    if (operation_open_token(operation, TOKEN_ACCESS, end->token, end->tenant, end->tenant_bound,
                             ERR_TOKEN_INVALID, &work->token)) {
        *owner = work->token.owner;
        return true;
    }
    if (end->scope == END_PRESENTED && operation->err == ERR_TOKEN_INVALID) {
        operation->err = ERR_OK;
        operation->reason = (struct text){0};
        operation->durability = DURABILITY_ACCEPTED;
    }
    return false;
}

static void end_with_tenant(struct operation *operation)
{
    struct end_change *work = operation->domain;
    if (operation->err != ERR_OK ||
        (is_by_user(work) &&
         tenant_refuses(operation, work->token.session_id, ERR_TOKEN_INVALID))) {
        end_operation(work);
    } else if (operation->tenancy_unknown) {
        /* Redis may answer for the user. But nobody knows how long his other sessions live: a
         * change would tidy them up by the defaults. */
        operation->err = operation->tenancy_unknown;
        end_without_store(work);
    } else {
        change_begin(&work->change);
    }
}

void session_end(struct end_sessions *end)
{
    struct operation *operation = &end->base;
    struct end_change *work = arena_zalloc(operation->arena, sizeof(*work));
    struct user_tag owner;
    work->end = end;
    if (!find_owner(work, &owner)) {
        operation_done(operation);
        return;
    }
    if (end->scope == END_ONE && !text_from_hex(work->target, SESSION_ID, end->target)) {
        operation_refuse(operation, ERR_SESSION_NOT_FOUND, (struct text){0});
        operation_done(operation);
        return;
    }
    work->change.operation = operation;
    work->change.codec = operation_codec(operation, &owner);
    work->change.decide = decide_end;
    work->change.finish = finish_end;
    operation->domain = work;
    tenant_enter_blindly(operation, owner.tenant, end_with_tenant);
}
