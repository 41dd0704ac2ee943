/* Freeze and unfreeze: all sessions of a user end, and until it is lifted or over nobody logs in.
 * With Redis away a freeze is a revocation in the journal, which holds on this node at once and is
 * replayed; a lift, which lets somebody in, is not to be had without Redis (freezing.h). */
#include <string.h>

#include "change.h"
#include "freezing.h"
#include "metrics.h"
#include "operation.h"
#include "revocation.h"
#include "rules.h"
#include "tenant.h"

struct freeze_change {
    struct change change;
    struct freeze *freeze;
    struct text *ended;
    size_t ended_count;
    struct revocation revocation;
    struct journal_ticket ticket; /* of a freeze without Redis */
};

static void end_operation(struct freeze_change *work)
{
    struct operation *operation = &work->freeze->base;
    operation->ended = work->ended;
    operation->ended_count = work->ended_count;
    operation_done(operation);
}

/* What the journal keeps of it. */
static struct revocation decision(const struct freeze_change *work, int64_t stamp_ms)
{
    const struct freeze *freeze = work->freeze;
    struct revocation revocation = {
        .kind = freeze->lift ? REVOKE_LIFT : REVOKE_FREEZE,
        .before_ms = stamp_ms,
        .at_ms = freeze->base.now_ms,
        .forget_s = stamp_ms / 1000 + FREEZING_REMEMBERED_S,
        .reason = freeze->why,
        .actor = freeze->base.actor,
    };
    if (!freeze->lift)
        revocation.until_s = freeze->until_s;
    memcpy(revocation.owner, &work->change.codec.owner, JOURNAL_OWNER);
    return revocation;
}

/* --- with Redis --- */

static void note_ended(struct freeze_change *work, const uint8_t id[SESSION_ID])
{
    work->ended[work->ended_count++] = operation_session_id(&work->freeze->base, id);
}

/* After a write whose fate was unknown, its graves are ours. */
static void note_own_graves(struct freeze_change *work, const struct user_state *state)
{
    const struct operation *operation = &work->freeze->base;
    for (size_t i = 0; work->change.resolving && i < state->grave_count; i++) {
        const struct tombstone *tombstone = &state->graves[i].tombstone;
        if (tombstone->ended_s == operation->now_ms / 1000 &&
            text_equal(tombstone->reason, TEXT(REASON_FROZEN)) &&
            text_equal(tombstone->actor, operation->actor))
            note_ended(work, state->graves[i].id);
    }
}

static void bury_living(struct freeze_change *work, struct user_state *state, struct edit *edit,
                        const struct policy *policy)
{
    const struct operation *operation = &work->freeze->base;
    for (size_t i = 0; i < state->session_count; i++) {
        struct session *session = &state->sessions[i];
        if (rules_dead(&state->user, session, policy, operation->now_ms).data)
            continue;
        rules_bury(edit, session, TEXT(REASON_FROZEN), operation->actor, policy, operation->now_ms);
        note_ended(work, session->id);
    }
}

static void freeze_user(struct freeze_change *work, struct user_state *state, struct edit *edit,
                        const struct policy *policy)
{
    const struct freeze *freeze = work->freeze;
    struct user_record *user = &state->user;
    note_own_graves(work, state);
    bury_living(work, state, edit, policy);
    rules_end_before_now(state, user, freeze->base.now_ms);
    user->decided_ms = freezing_next_stamp(user, user->not_before_ms);
    user->not_before_ms = user->decided_ms;
    user->frozen = true;
    user->frozen_until_s = freeze->until_s;
    user->frozen_reason = freeze->why;
    edit->raises_epoch = true;
}

static void lift_freeze(const struct freeze_change *work, struct user_record *user)
{
    user->decided_ms = freezing_next_stamp(user, work->freeze->base.now_ms);
    user->frozen = false;
    user->frozen_until_s = 0;
    user->frozen_reason = (struct text){0};
}

static enum verdict decide_freeze(struct change *change, struct user_state *state,
                                  struct edit *edit)
{
    struct freeze_change *work = (struct freeze_change *)change;
    struct operation *operation = change->operation;
    struct policy policy;
    operation_policy(operation, &policy);
    work->ended = arena_alloc(operation->arena, (state->session_count + state->grave_count + 1) *
                                                    sizeof(*work->ended));
    work->ended_count = 0;
    if (work->freeze->lift)
        lift_freeze(work, &state->user);
    else
        freeze_user(work, state, edit, &policy);
    edit_set_user(edit, &state->user);
    rules_settle(edit, state, NULL, &policy, operation->now_ms);
    work->revocation = decision(work, state->user.decided_ms);
    change->revocations = &work->revocation;
    change->revocation_count = 1;
    return CHANGE_WRITE;
}

/* --- without --- */

static void freeze_kept(struct journal_ticket *ticket, bool written)
{
    struct freeze_change *work =
        (struct freeze_change *)((char *)ticket - offsetof(struct freeze_change, ticket));
    struct operation *operation = &work->freeze->base;
    operation->err = written ? ERR_OK : ERR_JOURNAL_UNAVAILABLE;
    operation->durability = written ? DURABILITY_PENDING : DURABILITY_NONE;
    end_operation(work);
}

static void freeze_without_store(struct freeze_change *work)
{
    struct operation *operation = &work->freeze->base;
    struct journal_writer *writer = operation->context->worker->writer;
    work->ended_count = 0; /* nobody can say which there are */
    work->revocation = decision(work, operation->now_ms + CLOCKS_APART_MS);
    work->ticket.done = freeze_kept;
    if (!journal_add(writer, &work->revocation, &work->ticket, NULL)) {
        operation->err = ERR_JOURNAL_UNAVAILABLE;
        end_operation(work);
    }
}

static void finish_freeze(struct change *change)
{
    struct freeze_change *work = (struct freeze_change *)change;
    enum err err = change->operation->err;
    if (!work->freeze->lift && revocation_needs_journal(err)) {
        freeze_without_store(work);
        return;
    }
    if (err == ERR_OK)
        metrics_add(METRIC_SESSIONS_ENDED, work->ended_count);
    else
        work->ended_count = 0;
    end_operation(work);
}

static void freeze_with_tenant(struct operation *operation)
{
    struct freeze_change *work = operation->domain;
    /* Without the tenant's policy nobody can tidy up behind the change: as if Redis were away. */
    if (operation->err == ERR_OK && operation->tenancy_unknown)
        operation->err = operation->tenancy_unknown;
    if (operation->err == ERR_OK)
        change_begin(&work->change);
    else if (operation->tenancy_unknown)
        finish_freeze(&work->change);
    else
        end_operation(work);
}

void session_freeze(struct freeze *freeze)
{
    struct operation *operation = &freeze->base;
    struct freeze_change *work = arena_zalloc(operation->arena, sizeof(*work));
    struct user_tag owner;
    token_tag_user(operation->context->keyring, freeze->tenant, freeze->user_id, &owner);
    operation->tenant = freeze->tenant;
    operation->user_id = freeze->user_id;
    work->freeze = freeze;
    work->change.operation = operation;
    work->change.codec = operation_codec(operation, &owner);
    work->change.decide = decide_freeze;
    work->change.finish = finish_freeze;
    operation->domain = work;
    tenant_enter_blindly(operation, owner.tenant, freeze_with_tenant);
}
