/* Refresh: the next pair, the same pair again inside the grace window, or the end of a session
 * whose used token came back (RFC 9700 section 4.14.2). */
#include <string.h>

#include "binding.h"
#include "change.h"
#include "index.h"
#include "metrics.h"
#include "operation.h"
#include "revocation.h"
#include "rotation.h"
#include "rules.h"
#include "step_up.h"
#include "tenant.h"

struct refresh_change {
    struct change change;
    struct refresh *refresh;
    struct token presented;
    uint8_t hash[SECRET_HASH];
    struct shown_context context; /* where it comes from ... */
    unsigned breaches;            /* ... and what of that the session is not bound to */
    bool reused;
    const struct session *renewed; /* whose pair was printed */
    struct revocation revocation;  /* of a session that ends for reuse */
};

/* Lists of devices show where the session was refreshed last. While the policy binds it to networks
 * it stays bound to those before, and is not moved to one that was merely let pass. */
static void note_address(const struct refresh_change *work, struct record *record,
                         const struct policy *policy)
{
    const struct operation *operation = &work->refresh->base;
    struct shown_context old = {0};
    struct buffer items = {0};
    if (policy->bind_ip == BINDING_OFF) {
        if (work->refresh->ip.data)
            record->ip = work->refresh->ip;
        return;
    }
    if (!work->context.has_address || work->breaches & BREACH_IP)
        return;
    old.has_address = ip_parse(record->ip, &old.address);
    binding_print(&old, old.has_address ? BREACH_IP : 0, &items);
    record->ip = operation->presented.ip;
    binding_add(operation->conf, record, buffer_text(&items), operation->arena);
    buffer_free(&items);
}

static struct rotation rotation_of(struct refresh_change *work, struct session *session)
{
    work->renewed = session;
    return (struct rotation){
        .operation = &work->refresh->base,
        .owner = &work->change.codec.owner,
        .session = session,
        .secret = work->presented.secret,
    };
}

static void rotate(struct refresh_change *work, struct user_state *state, struct session *session,
                   const struct policy *policy, struct edit *edit)
{
    struct rotation rotation = rotation_of(work, session);
    note_address(work, &session->record, policy);
    rotation_advance(&rotation, state, policy, edit, &work->refresh->pair);
}

static void repeat(struct refresh_change *work, struct session *session,
                   const struct policy *policy)
{
    struct rotation rotation = rotation_of(work, session);
    work->refresh->repeated = true;
    rotation_repeat(&rotation, policy, &work->refresh->pair);
}

static void end_for_reuse(struct refresh_change *work, struct user_state *state,
                          struct session *session, const struct policy *policy, struct edit *edit)
{
    struct operation *operation = &work->refresh->base;
    struct text *ended = arena_alloc(operation->arena, sizeof(*ended));
    *ended = operation->session_id;
    operation->ended = ended;
    operation->ended_count = 1;
    work->reused = true;
    work->revocation = revocation_of_session(operation, &work->change.codec.owner, session->id,
                                             TEXT(REASON_REFRESH_REUSE),
                                             rules_lifetimes(session, policy).session_s);
    work->change.revocations = &work->revocation;
    work->change.revocation_count = 1;
    rules_bury(edit, session, TEXT(REASON_REFRESH_REUSE), operation->actor, policy,
               operation->now_ms);
    rules_settle(edit, state, NULL, policy, operation->now_ms);
}

/* True, with the operation refused, if the session may not be used from there. */
static bool is_elsewhere(struct refresh_change *work, const struct session *session,
                         const struct policy *policy)
{
    struct operation *operation = &work->refresh->base;
    work->breaches = 0;
    if (!binding_counts(policy))
        return false;
    binding_read(operation->context->keyring, &work->change.codec.owner, &operation->presented,
                 &work->context);
    work->breaches = binding_breaches(
        operation->conf, binding_items(&session->record, operation->arena), &work->context);
    return binding_refuses(operation, policy, work->breaches, ERR_REFRESH_INVALID);
}

static enum verdict decide_refresh(struct change *change, struct user_state *state,
                                   struct edit *edit)
{
    struct refresh_change *work = (struct refresh_change *)change;
    struct operation *operation = change->operation;
    struct session *session = state_find(state, work->presented.session_id);
    struct policy policy;
    struct text reason;
    bool buried =
        work->reused && change->resolving && state_find_grave(state, work->presented.session_id);
    work->reused = buried;
    work->refresh->repeated = false;
    if (buried) {
        change->revocation_count = 1;
        operation->durability = DURABILITY_ACCEPTED;
        edit->raises_epoch = true;
        return CHANGE_RESOLVED;
    }
    if (!session) {
        operation_refuse_missing(operation, state, &work->presented, ERR_REFRESH_INVALID);
        return change_ended(change, state, work->presented.session_id, edit);
    }
    operation_note_session(operation, session);
    operation_policy(operation, &policy);
    enum refresh_verdict verdict =
        rules_judge_refresh(&state->user, session, work->hash, &policy, operation->now_ms, &reason);
    bool good = verdict == REFRESH_ROTATE || verdict == REFRESH_REPEAT;
    if (good && is_elsewhere(work, session, &policy))
        return CHANGE_DONE;
    switch (verdict) {
    case REFRESH_ROTATE:
        rotate(work, state, session, &policy, edit);
        return CHANGE_WRITE;
    case REFRESH_REPEAT:
        repeat(work, session, &policy);
        operation->durability = DURABILITY_ACCEPTED;
        /* It is asked again because something went wrong: maybe the epoch did not follow. */
        edit->raises_epoch = true;
        return CHANGE_RESOLVED;
    case REFRESH_REUSE:
        end_for_reuse(work, state, session, &policy, edit);
        return CHANGE_WRITE;
    case REFRESH_DEAD:
        break;
    }
    operation_refuse(operation, ERR_REFRESH_INVALID, reason);
    return CHANGE_DONE;
}

static void finish_refresh(struct change *change)
{
    struct refresh_change *work = (struct refresh_change *)change;
    struct operation *operation = change->operation;
    if (operation->err == ERR_OK && work->reused) {
        operation_refuse(operation, ERR_REFRESH_INVALID, TEXT(REASON_REUSE));
        metrics_add(METRIC_REFRESH_REUSES, 1);
        metrics_add(METRIC_SESSIONS_ENDED, 1);
    } else if (operation->err == ERR_OK) {
        index_note(operation, &work->change.codec.owner, work->renewed);
        metrics_add(work->refresh->repeated ? METRIC_REFRESH_REPEATS : METRIC_REFRESHES, 1);
    }
    crypto_wipe(work->presented.secret, SECRET_LENGTH);
    if (operation->err != ERR_STEP_UP_REQUIRED) {
        operation_done(operation);
        return;
    }
    operation->err = ERR_OK;
    step_up_offer(operation, &work->change.codec.owner, work->presented.session_id, &work->context,
                  work->breaches, operation_done);
}

static void refresh_with_tenant(struct operation *operation)
{
    struct refresh_change *work = operation->domain;
    const struct token *presented = &work->presented;
    if (operation->err != ERR_OK ||
        tenant_refuses(operation, presented->session_id, ERR_REFRESH_INVALID)) {
        finish_refresh(&work->change);
        return;
    }
    token_hash_secret(operation->context->keyring, TOKEN_REFRESH, presented->session_id,
                      presented->secret, work->hash);
    change_begin(&work->change);
}

void session_refresh(struct refresh *refresh)
{
    struct operation *operation = &refresh->base;
    struct refresh_change *work = arena_zalloc(operation->arena, sizeof(*work));
    struct token *presented = &work->presented;
    if (!operation_open_token(operation, TOKEN_REFRESH, refresh->refresh_token, refresh->tenant,
                              refresh->tenant_bound, ERR_REFRESH_INVALID, presented)) {
        operation_done(operation);
        return;
    }
    work->refresh = refresh;
    work->change.operation = operation;
    work->change.codec = operation_codec(operation, &presented->owner);
    work->change.decide = decide_refresh;
    work->change.finish = finish_refresh;
    operation->domain = work;
    tenant_enter(operation, presented->owner.tenant, refresh_with_tenant);
}
