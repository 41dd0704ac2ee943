/* Refresh: the next pair; the same pair again inside the grace window; or the end of a session
 * whose used token came back (RFC 9700 section 4.14.2). */
#include <assert.h>

#include "metrics.h"
#include "session/engine/binding.h"
#include "session/engine/operation.h"
#include "session/engine/revocation.h"
#include "session/engine/rotation.h"
#include "session/engine/tenant.h"
#include "session/engine/user_update.h"
#include "session/index/index.h"
#include "session/model/rules.h"
#include "step_up.h"

struct refresh_change {
    struct user_update change;
    struct refresh *refresh;
    struct waiter waiter;
    struct token presented;
    uint8_t hash[SECRET_HASH];
    struct client_context context; /* address and device in use ... */
    unsigned breaches;             /* ... and how they break the session's bindings */
    bool reused;
    const struct session *renewed; /* the session whose pair was printed */
};

/* Lists show the address of the last refresh. A session bound to networks keeps those it has, and
 * is not moved to one that was merely allowed. */
static void note_address(const struct refresh_change *work, struct record *record,
                         const struct policy *policy)
{
    const struct operation *operation = &work->refresh->base;
    struct client_context old = {0};
    SCOPED(buffer_free) struct buffer items = {0};
    if (policy->bind_ip == BINDING_OFF) {
        if (work->refresh->ip.data)
            record->ip = work->refresh->ip;
        return;
    }
    if (!work->context.has_address || work->breaches & BREACH_IP)
        return;
    old.has_address = ip_parse(record->ip, &old.address);
    binding_print(&old, old.has_address ? BREACH_IP : 0, &items);
    record->ip = operation->claims.ip;
    binding_add(operation->conf, record, buffer_text(&items), operation->arena);
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
    assert(!work->reused && !session->ended);
    struct rotation rotation = rotation_of(work, session);
    note_address(work, &session->record, policy);
    rotation_advance(&rotation, state, policy, edit, &work->refresh->pair);
}

static void look_around(struct refresh_change *work, const struct session *session)
{
    const struct operation *operation = &work->refresh->base;
    binding_read(operation->context->keyring, &work->change.codec.owner, &operation->claims,
                 &work->context);
    work->breaches = binding_breaches(
        operation->conf, binding_items(&session->record, operation->arena), &work->context);
}

/* True if the same pair would go to another network or fingerprint than the session has. Unless
 * bound to networks, the session knows an address only from services, since those of connections
 * are not kept. A device of a dual-stack network may repeat by the other family. A caller without a
 * fingerprint is not known to be another device. */
static bool is_apart(const struct refresh_change *work, const struct policy *policy)
{
    const struct refresh *refresh = work->refresh;
    bool has_networks = policy->bind_ip != BINDING_OFF || refresh->ip.data;
    bool has_fingerprint = refresh->base.claims.fingerprint.length > 0;
    return (has_networks && work->breaches & BREACH_IP) ||
           (has_fingerprint && work->breaches & BREACH_DEVICE);
}

/* Gives the same pair again. False, with the operation refused, if the policy forbids it there. */
static bool repeat(struct refresh_change *work, struct session *session,
                   const struct policy *policy)
{
    assert(session->record.has_previous);
    struct operation *operation = &work->refresh->base;
    struct rotation rotation = rotation_of(work, session);
    operation->out.repeated = !user_update_wrote(&work->change, session->id);
    look_around(work, session);
    operation->out.repeated_apart = operation->out.repeated && is_apart(work, policy);
    if (operation->out.repeated_apart && policy->refresh_repeat == REPEAT_REFUSE) {
        operation_refuse(operation, ERR_REFRESH_INVALID, TEXT(REASON_REPEATED));
        return false;
    }
    rotation_repeat(&rotation, policy, &work->refresh->pair);
    return true;
}

static void revoke_reused(const struct refresh_change *work, int64_t alive_until_s,
                          struct edit *edit)
{
    revocation_add_to_edit(edit,
                           revocation_of_session(&work->refresh->base, &work->change.codec.owner,
                                                 work->presented.session_id,
                                                 TEXT(REASON_REFRESH_REUSE), alive_until_s));
}

static void end_for_reuse(struct refresh_change *work, struct user_state *state,
                          struct session *session, const struct policy *policy, struct edit *edit)
{
    assert(!work->reused && work->refresh->base.facts.session_id.data);
    struct operation *operation = &work->refresh->base;
    struct text *ended = arena_alloc(operation->arena, sizeof(*ended));
    *ended = operation->facts.session_id;
    operation->out.ended = ended;
    operation->out.ended_count = 1;
    work->reused = true;
    revoke_reused(work, rules_lifetimes(session, policy, operation->now_ms / 1000).session_s, edit);
    rules_end_session(edit, session, TEXT(REASON_REFRESH_REUSE), operation->actor, policy,
                      operation->now_ms);
    rules_tidy(edit, state, NULL, policy, operation->now_ms);
}

/* True, with the operation refused, if the session may not be used from there. */
static bool is_elsewhere(struct refresh_change *work, const struct session *session,
                         const struct policy *policy)
{
    struct operation *operation = &work->refresh->base;
    work->breaches = 0;
    if (!binding_counts(policy))
        return false;
    look_around(work, session);
    /* The refresh token is never shown at ordinary use. So its holder may bring an address of the
     * other family. */
    return binding_refuses(operation, policy, work->breaches & ~(unsigned)BREACH_FAMILY,
                           ERR_REFRESH_INVALID);
}

/* A clock ahead makes a repetition look late; that alone must not end the session. */
static enum refresh_verdict judge_refresh_token(const struct refresh_change *work,
                                                const struct user_state *state,
                                                const struct session *session,
                                                const struct policy *policy, enum end_cause *cause)
{
    const struct operation *operation = work->change.operation;
    int64_t now_ms = operation->now_ms;
    enum refresh_verdict verdict =
        rules_judge_refresh(&state->user, session, work->hash, policy, now_ms, cause);
    if (verdict == REFRESH_REUSE)
        verdict = rules_judge_repeat(session, work->hash, policy, now_ms,
                                     operation_age_ms(operation), cause);
    return verdict;
}

static enum update_decision decide_refresh(struct user_update *change, struct user_state *state,
                                           struct edit *edit)
{
    struct refresh_change *work = container_of(change, struct refresh_change, change);
    struct operation *operation = change->operation;
    struct session *session = state_find(state, work->presented.session_id);
    struct policy policy;
    enum end_cause cause;
    const struct tombstone_entry *tombstone =
        state_find_tombstone(state, work->presented.session_id);
    work->reused = tombstone && user_update_wrote(change, tombstone->id);
    operation->out.repeated = operation->out.repeated_apart = false;
    if (work->reused) {
        revoke_reused(work, tombstone->tombstone.forget_s, edit);
        operation->out.durability = DURABILITY_ACCEPTED;
        edit->invalidates = true;
        return UPDATE_RESOLVED;
    }
    if (!session) {
        operation_refuse_missing(operation, state, &work->presented, ERR_REFRESH_INVALID);
        return user_update_invalidate_again(change, state, work->presented.session_id, edit);
    }
    operation_note_session(operation, session);
    operation_policy(operation, &policy);
    enum refresh_verdict verdict = judge_refresh_token(work, state, session, &policy, &cause);
    bool good = verdict == REFRESH_ROTATE || verdict == REFRESH_REPEAT;
    if (good && is_elsewhere(work, session, &policy))
        return UPDATE_DONE;
    switch (verdict) {
    case REFRESH_ROTATE:
        rotate(work, state, session, &policy, edit);
        return UPDATE_WRITE;
    case REFRESH_REPEAT:
        if (!repeat(work, session, &policy))
            return UPDATE_DONE;
        operation->out.durability = DURABILITY_ACCEPTED;
        /* A repeated refresh means that something failed: maybe the epoch was not raised. */
        edit->invalidates = true;
        return UPDATE_RESOLVED;
    case REFRESH_REUSE:
        end_for_reuse(work, state, session, &policy, edit);
        return UPDATE_WRITE;
    case REFRESH_ENDED:
        break;
    }
    operation_refuse(operation, ERR_REFRESH_INVALID, reasons_of_cause(cause));
    return UPDATE_DONE;
}

static void refresh_step_up_offered(struct waiter *waiter)
{
    naming_done(&container_of(waiter, struct refresh_change, waiter)->refresh->base);
}

static void refresh_update_done(struct user_update *change)
{
    struct refresh_change *work = container_of(change, struct refresh_change, change);
    struct operation *operation = change->operation;
    assert(!operation->out.repeated_apart || operation->out.repeated);
    /* It may have been revoked here while Redis was asked. */
    if (err_is_undecided(operation->out.err))
        (void)revocation_refuses(operation, &work->presented, ERR_REFRESH_INVALID);
    if (operation->out.err == ERR_OK && work->reused) {
        operation_refuse(operation, ERR_REFRESH_INVALID, TEXT(REASON_REUSE));
        operation->out.reused = true;
        metrics_add(METRIC_REFRESH_REUSES, 1);
        metrics_add(METRIC_SESSIONS_ENDED, 1);
    } else if (operation->out.err == ERR_OK) {
        index_note(operation, &work->change.codec.owner, work->renewed);
        metrics_add(operation->out.repeated ? METRIC_REFRESH_REPEATS : METRIC_REFRESHES, 1);
    }
    crypto_wipe(work->presented.secret, SECRET_LENGTH);
    if (operation->out.err != ERR_STEP_UP_REQUIRED) {
        naming_done(operation);
        return;
    }
    operation->out.err = ERR_OK;
    step_up_offer(operation, &work->change.codec.owner, work->presented.session_id, &work->context,
                  work->breaches, waiter_of(&work->waiter, refresh_step_up_offered));
}

static const struct user_update_ops refresh_ops = {decide_refresh, refresh_update_done};

static void refresh_with_tenant(struct waiter *waiter)
{
    struct refresh_change *work = container_of(waiter, struct refresh_change, waiter);
    struct operation *operation = &work->refresh->base;
    const struct token *presented = &work->presented;
    if (operation->out.err != ERR_OK ||
        tenant_refuses(operation, presented->session_id, ERR_REFRESH_INVALID)) {
        refresh_update_done(&work->change);
        return;
    }
    token_hash_secret(operation->context->keyring, TOKEN_REFRESH, presented->session_id,
                      presented->secret, work->hash);
    user_update_begin(&work->change);
}

void session_refresh(struct refresh *refresh)
{
    struct operation *operation = &refresh->base;
    struct refresh_change *work = arena_zalloc(operation->arena, sizeof(*work));
    struct token *presented = &work->presented;
    if (!operation_open_token(operation, TOKEN_REFRESH, refresh->refresh_token, refresh->tenant,
                              refresh->tenant_bound, ERR_REFRESH_INVALID, presented) ||
        revocation_refuses(operation, presented, ERR_REFRESH_INVALID)) {
        crypto_wipe(presented, sizeof(*presented));
        naming_done(operation);
        return;
    }
    work->refresh = refresh;
    user_update_init(&work->change, &refresh_ops, operation, &presented->owner);
    tenant_enter(operation, presented->owner.tenant, waiter_of(&work->waiter, refresh_with_tenant));
}
