/* Freeze and unfreeze. A freeze ends all sessions of a user and refuses logins until it is lifted
 * or over. In an outage a freeze is a revocation in the journal: it holds on this node at once and
 * is replayed. A lift lets a user in, so it needs Redis (freezing.h). */
#include <assert.h>
#include <string.h>

#include "metrics.h"
#include "session/engine/naming.h"
#include "session/engine/operation.h"
#include "session/engine/revocation.h"
#include "session/engine/tenant.h"
#include "session/engine/user_update.h"
#include "session/index/index.h"
#include "session/index/quota.h"
#include "session/model/freezing.h"
#include "session/model/rules.h"

struct freeze_change {
    struct user_update change;
    struct freeze *freeze;
    struct waiter waiter;
    struct text *ended;
    size_t ended_count, ended_room;
    struct commit_ticket ticket; /* of a freeze in an outage */
    bool needs_counts, counted;  /* the tenant's counts, for its quota */
    bool admitted;
};

static void complete_freeze(struct freeze_change *work)
{
    struct operation *operation = &work->freeze->base;
    operation->out.ended = work->ended;
    operation->out.ended_count = work->ended_count;
    naming_done(operation);
}

/* The freeze or lift as the journal keeps it. */
static struct revocation decision(const struct freeze_change *work, int64_t stamp_ms)
{
    assert(stamp_ms > 0);
    const struct freeze *freeze = work->freeze;
    struct revocation revocation = {
        .kind = freeze->lift ? REVOKE_LIFT : REVOKE_FREEZE,
        .before_ms = stamp_ms,
        .at_ms = freeze->base.now_ms,
        .forget_s = freeze->base.now_ms / 1000 + FREEZING_REMEMBERED_S,
        .reason = freeze->why,
        .actor = freeze->base.actor,
    };
    if (!freeze->lift)
        revocation.until_s = freeze->until_s;
    memcpy(revocation.owner, &work->change.codec.owner, OWNER_TAG);
    return revocation;
}

/* --- with Redis --- */

static void note_ended_by_freeze(struct freeze_change *work, const uint8_t id[SESSION_ID])
{
    assert(work->ended_count < work->ended_room);
    work->ended[work->ended_count++] = operation_session_id(&work->freeze->base, id);
}

static void end_active_sessions(struct freeze_change *work, struct user_state *state,
                                struct edit *edit, const struct policy *policy)
{
    const struct operation *operation = &work->freeze->base;
    for (size_t i = 0; i < state->session_count; i++) {
        struct session *session = &state->sessions[i];
        if (rules_end_cause(&state->user, session, policy, operation->now_ms))
            continue;
        rules_end_session(edit, session, TEXT(REASON_FROZEN), operation->actor, policy,
                          operation->now_ms);
        note_ended_by_freeze(work, session->id);
    }
}

static void freeze_user(struct freeze_change *work, struct user_state *state, struct edit *edit,
                        const struct policy *policy)
{
    assert(!work->freeze->lift);
    const struct freeze *freeze = work->freeze;
    struct user_record *user = &state->user;
    for (size_t i = 0; i < state->tombstone_count; i++)
        if (user_update_wrote(&work->change, state->tombstones[i].id))
            note_ended_by_freeze(work, state->tombstones[i].id);
    end_active_sessions(work, state, edit, policy);
    rules_end_before_now(state, user, freeze->base.now_ms);
    user->decided_ms = freezing_next_stamp(user, user->not_before_ms);
    user->not_before_ms = token_order_ms(user->decided_ms);
    user->frozen = true;
    user->frozen_until_s = freeze->until_s;
    user->frozen_reason = freeze->why;
    edit->invalidates = true;
}

static void lift_freeze(const struct freeze_change *work, struct user_record *user)
{
    assert(work->freeze->lift);
    user->decided_ms = freezing_next_stamp(user, work->freeze->base.now_ms);
    user->frozen = false;
    user->frozen_until_s = 0;
    user->frozen_reason = (struct text){0};
}

/* A user with a session exchanges its quota place for that of a frozen user, and a remembered user
 * has one. So counts are read only for unknown users, in a second round. */
static bool freeze_fits_quota(struct freeze_change *work, const struct user_state *state,
                              const struct policy *policy)
{
    struct operation *operation = &work->freeze->base;
    bool lift = work->freeze->lift, alone = state->unreadable_count == 0;
    for (size_t i = 0; i < state->session_count; i++)
        alone &= rules_end_cause(&state->user, &state->sessions[i], policy, operation->now_ms) !=
                 CAUSE_NONE;
    struct quota_wish wish = {
        .user = alone && !lift && !rules_frozen(&state->user, operation->now_ms / 1000),
        .remembered = alone && state->user.decided_ms == 0,
    };
    if (policy->quota_users == 0 || work->admitted || (!wish.user && !wish.remembered))
        return true;
    work->needs_counts = !work->counted;
    work->admitted =
        work->counted && quota_admits(operation, work->change.codec.owner.tenant, policy, wish);
    return work->admitted;
}

static enum update_decision decide_freeze(struct user_update *change, struct user_state *state,
                                          struct edit *edit)
{
    struct freeze_change *work = container_of(change, struct freeze_change, change);
    struct operation *operation = change->operation;
    struct policy policy;
    operation_policy(operation, &policy);
    work->ended_room = state->session_count + state->tombstone_count;
    work->ended = arena_alloc(operation->arena, (work->ended_room + 1) * sizeof(*work->ended));
    work->ended_count = 0;
    if (!freeze_fits_quota(work, state, &policy))
        return UPDATE_DONE;
    if (work->freeze->lift)
        lift_freeze(work, &state->user);
    else
        freeze_user(work, state, edit, &policy);
    edit_set_user(edit, &state->user);
    rules_tidy(edit, state, NULL, &policy, operation->now_ms);
    revocation_add_to_edit(edit, decision(work, state->user.decided_ms));
    return UPDATE_WRITE;
}

/* --- in an outage --- */

static void freeze_kept(struct commit_ticket *ticket, bool written)
{
    struct freeze_change *work = container_of(ticket, struct freeze_change, ticket);
    struct operation *operation = &work->freeze->base;
    operation->out.err = written ? ERR_OK : ERR_JOURNAL_UNAVAILABLE;
    naming_keep(operation, &work->change.codec.owner);
    operation->out.durability = written ? DURABILITY_PENDING : DURABILITY_NONE;
    complete_freeze(work);
}

static void freeze_without_store(struct freeze_change *work)
{
    assert(!work->freeze->lift);
    struct operation *operation = &work->freeze->base;
    struct journal_lane *lane = operation->context->worker->lane;
    work->ended_count = 0; /* the sessions are unknown */
    const struct revocation revocation = decision(work, operation_cutoff_ms(operation));
    work->ticket.done = freeze_kept;
    if (!journal_add(lane, &revocation, &work->ticket, NULL)) {
        operation->out.err = ERR_JOURNAL_UNAVAILABLE;
        complete_freeze(work);
    }
}

static void freeze_counted(struct waiter *waiter)
{
    struct freeze_change *work = container_of(waiter, struct freeze_change, waiter);
    assert(work->needs_counts && !work->counted);
    work->counted = true;
    work->needs_counts = false;
    user_update_begin(&work->change);
}

/* Moves the user in the index from users with sessions to frozen users. */
static void note_frozen(const struct freeze_change *work)
{
    assert(work->freeze->base.out.err == ERR_OK);
    struct operation *operation = &work->freeze->base;
    const struct user_tag *owner = &work->change.codec.owner;
    index_note_frozen(operation, owner,
                      work->freeze->lift ? operation->now_ms / 1000 : work->freeze->until_s);
    if (work->ended_count > 0)
        index_correct(operation, owner, INDEX_BUCKETS);
}

static void finish_freeze(struct user_update *change)
{
    struct freeze_change *work = container_of(change, struct freeze_change, change);
    struct operation *operation = change->operation;
    struct policy policy;
    if (!work->freeze->lift && err_is_undecided(operation->out.err)) {
        freeze_without_store(work);
    } else if (operation->out.err == ERR_OK && work->needs_counts) {
        operation_policy(operation, &policy);
        quota_enter(operation, change->codec.owner.tenant, &policy,
                    waiter_of(&work->waiter, freeze_counted));
    } else {
        if (operation->out.err == ERR_OK) {
            metrics_add(METRIC_SESSIONS_ENDED, work->ended_count);
            note_frozen(work);
        } else {
            work->ended_count = 0;
        }
        complete_freeze(work);
    }
}

static const struct user_update_ops freeze_ops = {decide_freeze, finish_freeze};

static void freeze_with_tenant(struct waiter *waiter)
{
    struct freeze_change *work = container_of(waiter, struct freeze_change, waiter);
    struct operation *operation = &work->freeze->base;
    /* Without the tenant's policy nothing can be tidied up, so this counts as an outage. */
    if (operation->out.err == ERR_OK && operation->tenancy_unknown)
        operation->out.err = operation->tenancy_unknown;
    if (operation->out.err == ERR_OK)
        user_update_begin(&work->change);
    else if (operation->tenancy_unknown)
        finish_freeze(&work->change);
    else
        complete_freeze(work);
}

void session_freeze(struct freeze *freeze)
{
    struct operation *operation = &freeze->base;
    struct freeze_change *work = arena_zalloc(operation->arena, sizeof(*work));
    struct user_tag owner;
    token_tag_user(operation->context->keyring, freeze->tenant, freeze->user_id, &owner);
    operation->facts.tenant = freeze->tenant;
    operation->facts.user_id = freeze->user_id;
    work->freeze = freeze;
    user_update_init(&work->change, &freeze_ops, operation, &owner);
    tenant_enter_or_defaults(operation, owner.tenant, waiter_of(&work->waiter, freeze_with_tenant));
}
