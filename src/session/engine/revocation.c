/* Applies revocations of the journal to tokens and states. */
#include "revocation.h"

#include <assert.h>
#include <string.h>

#include "operation.h"
#include "session/model/freezing.h"
#include "session/model/rules.h"
#include "tenants.h"

struct text revocation_reason(const struct revocation *revocation)
{
    return revocation->kind == REVOKE_FREEZE ? TEXT(REASON_FROZEN) : revocation->reason;
}

bool revocation_refuses(struct operation *operation, const struct token *token, enum err err)
{
    struct revocation found;
    if (!journal_find(operation->context->worker->service->journal, owner_bytes(&token->owner),
                      token->session_id, token_session_created_ms(token->session_id),
                      operation->arena, &found))
        return false;
    struct tombstone tombstone = {
        .reason = revocation_reason(&found),
        .actor = found.actor,
        .ended_s = found.at_ms / 1000,
    };
    operation->facts.session_id = operation_session_id(operation, token->session_id);
    operation_refuse_ended(operation, err, &tombstone);
    return true;
}

static bool has_cutoff(const struct revocation *revocation)
{
    return revocation->kind == REVOKE_BEFORE || revocation->kind == REVOKE_FREEZE;
}

static bool revokes(const struct revocation *revocation, const uint8_t id[SESSION_ID])
{
    bool named = memcmp(revocation->session, id, SESSION_ID) == 0;
    if (revocation->kind == REVOKE_SESSION)
        return named;
    return has_cutoff(revocation) &&
           token_session_created_ms(id) < token_order_ms(revocation->before_ms) &&
           !(revocation->has_exempt && named);
}

static void end_by_revocation(struct user_state *state, struct session *session, struct edit *edit,
                              const struct revocation *revocation, const struct policy *policy,
                              int64_t now_ms)
{
    int64_t now_s = now_ms / 1000;
    struct tombstone tombstone = {
        .reason = revocation_reason(revocation),
        .actor = revocation->actor,
        .ended_s = revocation->at_ms / 1000,
        .forget_s = rules_forget_s(rules_lifetimes(session, policy, now_s).session_s, now_s),
    };
    edit_end_in_state(state, session, &tombstone, edit);
}

/* Ends a session whose record does not open for want of a key: its id is enough. Revocations of all
 * sessions do not need this, since the cutoff covers the session. */
static bool end_foreign(struct user_state *state, struct edit *edit,
                        const struct revocation *revocation, int64_t now_ms)
{
    const uint8_t *id = revocation->session;
    if (revocation->kind != REVOKE_SESSION || !state_is_foreign(state, id) ||
        state_find_tombstone(state, id))
        return false;
    const struct tombstone tombstone = {
        .reason = revocation_reason(revocation),
        .actor = revocation->actor,
        .ended_s = revocation->at_ms / 1000,
        .forget_s = rules_forget_s(revocation->forget_s, now_ms / 1000),
    };
    edit_add_tombstone(state, id, &tombstone, edit);
    return true;
}

static bool end_revoked(struct user_state *state, struct edit *edit,
                        const struct revocation *revocation, const struct policy *policy,
                        int64_t now_ms)
{
    bool any = false;
    for (size_t i = state->session_count; i > 0; i--) {
        struct session *session = &state->sessions[i - 1];
        if (!revokes(revocation, session->id))
            continue;
        end_by_revocation(state, session, edit, revocation, policy, now_ms);
        any = true;
    }
    return any;
}

static bool apply_cutoff(struct user_state *state, struct edit *edit,
                         const struct revocation *revocation)
{
    int64_t before_ms = token_order_ms(revocation->before_ms);
    if (!has_cutoff(revocation) || state->user.not_before_ms >= before_ms)
        return false;
    state->user.not_before_ms = before_ms;
    state->user.has_exempt = revocation->has_exempt;
    if (revocation->has_exempt)
        memcpy(state->user.exempt, revocation->session, SESSION_ID);
    if (edit) {
        edit_set_user(edit, &state->user);
        edit->invalidates = true;
    }
    return true;
}

/* A freeze ends all sessions for good, including those created since by nodes that did not know of
 * it. */
static bool apply_freeze(struct user_state *state, struct edit *edit, const struct revocation *last,
                         const struct policy *policy, int64_t now_ms)
{
    if (!freezing_apply(&state->user, last, now_ms))
        return false;
    if (rules_frozen(&state->user, now_ms / 1000)) {
        rules_end_before_now(state, &state->user, now_ms);
        while (state->session_count > 0)
            end_by_revocation(state, &state->sessions[state->session_count - 1], edit, last, policy,
                              now_ms);
    }
    if (edit) {
        edit_set_user(edit, &state->user);
        edit->invalidates = true;
    }
    return true;
}

/* Applies the cutoff of the whole tenant. */
static void end_by_tenant_cutoff(const struct operation *operation, struct user_state *state,
                                 struct edit *edit, const struct policy *policy)
{
    const struct tenant *tenant = operation->tenancy;
    if (!tenant || tenant->not_before_ms == 0)
        return;
    struct revocation revocation = {
        .kind = REVOKE_BEFORE,
        .at_ms = tenant->ended_s * 1000,
        .reason = arena_copy(operation->arena, tenant->reason),
        .actor = arena_copy(operation->arena, tenant->actor),
    };
    for (size_t i = state->session_count; i > 0; i--) {
        struct session *session = &state->sessions[i - 1];
        if (rules_ended_with_tenant(session, tenant->not_before_ms, tenant->ended_s,
                                    operation->now_ms))
            end_by_revocation(state, session, edit, &revocation, policy, operation->now_ms);
    }
}

bool revocation_apply(struct operation *operation, struct user_state *state,
                      const struct user_tag *owner, struct edit *edit, const struct policy *policy)
{
    size_t count;
    bool any = false;
    struct journal *journal = operation->context->worker->service->journal;
    struct revocation *list =
        journal_of_owner(journal, owner_bytes(owner), operation->arena, &count);
    for (size_t i = 0; i < count; i++) {
        any = end_revoked(state, edit, &list[i], policy, operation->now_ms) || any;
        any = end_foreign(state, edit, &list[i], operation->now_ms) || any;
        any = apply_cutoff(state, edit, &list[i]) || any;
    }
    end_by_tenant_cutoff(operation, state, edit, policy);
    const struct revocation *last = freezing_last(list, count);
    return apply_freeze(state, edit, last, policy, operation->now_ms) || any;
}

/* Edits rarely have more than one: a login that replaces several sessions. */
void revocation_add_to_edit(struct edit *edit, struct revocation revocation)
{
    assert(edit->arena && revocation.at_ms > 0);
    size_t count = edit->revocation_count;
    if ((count & (count - 1)) == 0) {
        struct revocation *more =
            arena_alloc(edit->arena, (count > 0 ? 2 * count : 1) * sizeof(*more));
        if (count > 0)
            memcpy(more, edit->revocations, count * sizeof(*more));
        edit->revocations = more;
    }
    edit->revocations[edit->revocation_count++] = revocation;
}

static struct revocation make_revocation(const struct operation *operation,
                                         const struct user_tag *owner, enum revocation_kind kind,
                                         struct text reason)
{
    struct revocation revocation = {
        .kind = kind,
        .at_ms = operation->now_ms,
        .reason = reason,
        .actor = operation->actor,
    };
    memcpy(revocation.owner, owner, OWNER_TAG);
    return revocation;
}

struct revocation revocation_of_session(const struct operation *operation,
                                        const struct user_tag *owner,
                                        const uint8_t session_id[SESSION_ID], struct text reason,
                                        int64_t alive_until_s)
{
    assert(alive_until_s > 0);
    struct revocation revocation = make_revocation(operation, owner, REVOKE_SESSION, reason);
    memcpy(revocation.session, session_id, SESSION_ID);
    revocation.forget_s = alive_until_s;
    return revocation;
}

struct revocation revocation_before(const struct operation *operation, const struct user_tag *owner,
                                    int64_t before_ms, const uint8_t *exempt, struct text reason,
                                    int64_t longest_life_s)
{
    assert(before_ms > 0 && longest_life_s > 0);
    struct revocation revocation = make_revocation(operation, owner, REVOKE_BEFORE, reason);
    revocation.before_ms = before_ms;
    /* A cutoff is an order (rules.h): no login that it revokes is later than now. */
    bool ahead = rules_is_ahead(before_ms, operation->now_ms);
    revocation.forget_s = (ahead ? operation->now_ms : before_ms) / 1000 + longest_life_s;
    if (exempt) {
        revocation.has_exempt = true;
        memcpy(revocation.session, exempt, SESSION_ID);
    }
    return revocation;
}
