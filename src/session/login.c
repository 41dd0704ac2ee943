/* Login: a new session in place of those that the policy gives up for it. */
#include <string.h>

#include "binding.h"
#include "challenge.h"
#include "change.h"
#include "index.h"
#include "login_request.h"
#include "metrics.h"
#include "novelty.h"
#include "operation.h"
#include "revocation.h"
#include "rules.h"
#include "shown.h"
#include "tenant.h"

struct login_change {
    struct change change;
    struct login *login;
    struct text shown;
    struct policy policy; /* for a session with these roles on this device */
    struct token access, refresh;
    struct session fresh;
};

/* Sessions from before are dead. */
static int64_t cutoff_ms(const struct login_change *work, const struct user_state *state)
{
    int64_t of_tenant_ms = work->login->base.tenancy->not_before_ms;
    int64_t of_user_ms = state->user.not_before_ms;
    return of_tenant_ms > of_user_ms ? of_tenant_ms : of_user_ms;
}

/* Both tokens of the first pair, with random secrets. Made once, so that a write of an earlier
 * round that lands late is still found as our own - unless somebody has ended that session
 * meanwhile, or all of the user's: what was ended must not come back under its id. */
static void make_tokens(struct login_change *work, const struct user_state *state)
{
    const struct keyring *keyring = work->login->base.context->keyring;
    const uint8_t *made = work->access.session_id;
    int64_t least_ms = cutoff_ms(work, state);
    if (work->access.key_id != 0 && !state_find_grave(state, made) &&
        token_session_created_ms(made) >= least_ms)
        return;
    struct token token = {.key_id = keyring_newest(keyring), .owner = work->change.codec.owner};
    token_new_session_id(rules_creation_ms(least_ms, work->login->base.now_ms), token.session_id);
    work->access = token;
    work->refresh = token;
    crypto_random(work->access.secret, SECRET_LENGTH);
    crypto_random(work->refresh.secret, SECRET_LENGTH);
}

static void bind_session(const struct login_change *work, struct record *record)
{
    struct operation *operation = &work->login->base;
    const struct presented presented = {.fingerprint = work->login->device.fingerprint};
    struct shown_context context;
    binding_read(operation->context->keyring, &work->change.codec.owner, &presented, &context);
    binding_begin(record, &context, operation->arena);
}

static void make_session(struct login_change *work)
{
    const struct login *login = work->login;
    const struct keyring *keyring = login->base.context->keyring;
    struct session *fresh = &work->fresh;
    struct record *record = &fresh->record;
    int64_t created_ms = token_session_created_ms(work->access.session_id);
    *fresh = (struct session){.last_seen_s = created_ms / 1000};
    memcpy(fresh->id, work->access.session_id, SESSION_ID);
    record->remember = login->remember;
    record->second_factor = login->second_factor;
    record->issued_ms = created_ms;
    record->absolute_s = created_ms / 1000 + work->policy.absolute_timeout;
    token_hash_secret(keyring, TOKEN_ACCESS, fresh->id, work->access.secret, record->access_hash);
    token_hash_secret(keyring, TOKEN_REFRESH, fresh->id, work->refresh.secret,
                      record->refresh_hash);
    record->shown = work->shown;
    record->ip = login->ip;
    record->user_agent = login->user_agent;
    bind_session(work, record);
    fresh->device_id = login->device.id;
    fresh->device_type = login->device.type;
    fresh->policy = &work->policy;
}

static void bury_replaced(struct login_change *work, struct user_state *state, struct edit *edit,
                          const struct policy *policy)
{
    struct login *login = work->login;
    struct arena *arena = login->base.arena;
    login->replaced = arena_alloc(arena, (state->session_count + 1) * sizeof(*login->replaced));
    login->replaced_count = 0;
    struct text *ended = arena_alloc(arena, (state->session_count + 1) * sizeof(*ended));
    work->change.revocations =
        arena_alloc(arena, (state->session_count + 1) * sizeof(*work->change.revocations));
    for (size_t i = 0; i < state->session_count; i++) {
        struct session *session = &state->sessions[i];
        if (!session->ended)
            continue;
        rules_bury(edit, session, TEXT(REASON_REPLACED), login->base.actor, policy,
                   login->base.now_ms);
        work->change.revocations[login->replaced_count] = revocation_of_session(
            &login->base, &work->change.codec.owner, session->id, TEXT(REASON_REPLACED),
            rules_lifetimes(session, policy).session_s);
        ended[login->replaced_count] = operation_session_id(&login->base, session->id);
        login->replaced[login->replaced_count] = (struct replaced_session){
            .session_id = ended[login->replaced_count],
            .device_json = shown_device(session->record.shown),
            .reason = TEXT(REASON_REPLACED),
        };
        login->replaced_count++;
    }
    login->base.ended = ended;
    login->base.ended_count = login->replaced_count;
    work->change.revocation_count = login->replaced_count;
}

/* For the caller who is told device_limit: what is logged in now. */
static void list_holders(struct login *login, const struct user_state *state,
                         const struct policy *policy)
{
    login->replaced =
        arena_alloc(login->base.arena, (state->session_count + 1) * sizeof(*login->replaced));
    login->replaced_count = 0;
    login->limit = policy->max_devices;
    for (size_t i = 0; i < state->session_count; i++) {
        const struct session *session = &state->sessions[i];
        if (rules_dead(&state->user, session, policy, login->base.now_ms).data)
            continue;
        login->replaced[login->replaced_count++] = (struct replaced_session){
            .session_id = operation_session_id(&login->base, session->id),
            .device_json = shown_device(session->record.shown),
        };
    }
}

static bool is_own_work(const struct login_change *work, const struct user_state *state)
{
    const struct session *found = state_find(state, work->access.session_id);
    return work->change.resolving && found &&
           crypto_equal(found->record.access_hash, work->fresh.record.access_hash, SECRET_HASH);
}

static enum verdict decide_login(struct change *change, struct user_state *state, struct edit *edit)
{
    struct login_change *work = (struct login_change *)change;
    struct login *login = work->login;
    struct operation *operation = &login->base;
    const struct policy *policy = &work->policy;
    if (is_own_work(work, state)) {
        edit->raises_epoch = login->replaced_count > 0;
        operation->durability = DURABILITY_ACCEPTED;
        change->revocation_count = login->replaced_count;
        return CHANGE_RESOLVED;
    }
    if (rules_frozen(&state->user, operation->now_ms / 1000)) {
        operation_refuse(operation, ERR_ACCOUNT_FROZEN, state->user.frozen_reason);
        return CHANGE_DONE;
    }
    novelty_judge(login, state);
    enum err err = rules_admit(state, &login->device, policy, operation->now_ms);
    if (err != ERR_OK) {
        list_holders(login, state, policy);
        operation_refuse(operation, err, (struct text){0});
        return CHANGE_DONE;
    }
    if (novelty_stops(login, state, policy, cutoff_ms(work, state)))
        return CHANGE_DONE;
    make_tokens(work, state);
    make_session(work);
    bury_replaced(work, state, edit, policy);
    edit_set_session(edit, work->fresh.id, &work->fresh.record);
    novelty_remember(login, state, policy, edit);
    rules_settle(edit, state, &work->fresh, policy, operation->now_ms);
    return CHANGE_WRITE;
}

static void answer(struct login_change *work)
{
    struct login *login = work->login;
    struct operation *operation = &login->base;
    struct lifetimes lifetimes = rules_lifetimes(&work->fresh, &work->policy);
    struct issued_pair *pair = &login->pair;
    token_print(operation->context->keyring, TOKEN_ACCESS, &work->access, pair->access_token);
    token_print(operation->context->keyring, TOKEN_REFRESH, &work->refresh, pair->refresh_token);
    pair->access_expires_s = lifetimes.access_s;
    pair->refresh_expires_s = lifetimes.session_s;
    pair->device_json = shown_device(work->fresh.record.shown);
    pair->remember = login->remember;
    operation->session_id = operation_session_id(operation, work->fresh.id);
    index_note(operation, &work->change.codec.owner, &work->fresh);
    metrics_add(METRIC_LOGINS, 1);
    metrics_add(METRIC_SESSIONS_ENDED, login->replaced_count);
}

/* The challenge was offered, or could not be. */
static void challenged(struct operation *operation)
{
    if (operation->err == ERR_OK)
        operation->err = ERR_VERIFICATION_REQUIRED;
    operation_done(operation);
}

/* The login as it was asked waits in the challenge; nothing of it happens before. */
static void ask_for_verification(const struct login_change *work)
{
    struct operation *operation = &work->login->base;
    struct challenge challenge = {
        .kind = CHALLENGE_LOGIN,
        .method = (enum verify_method)work->policy.verify_method,
        .issued_ms = operation->now_ms,
    };
    struct buffer body = {0};
    uint8_t id[SESSION_ID];
    login_request_write(work->login, &body);
    challenge.body = buffer_text(&body);
    token_new_session_id(operation->now_ms, id);
    crypto_random(challenge.secret, SECRET_LENGTH);
    operation->err = ERR_OK;
    challenge_offer(operation, &work->change.codec.owner, id, &challenge, challenged);
    crypto_wipe(challenge.secret, SECRET_LENGTH);
    buffer_free(&body);
}

static void finish_login(struct change *change)
{
    struct login_change *work = (struct login_change *)change;
    struct operation *operation = change->operation;
    if (operation->err == ERR_OK)
        answer(work);
    crypto_wipe(work->access.secret, SECRET_LENGTH);
    crypto_wipe(work->refresh.secret, SECRET_LENGTH);
    if (operation->err == ERR_VERIFICATION_REQUIRED)
        ask_for_verification(work);
    else
        operation_done(operation);
}

static void login_with_tenant(struct operation *operation)
{
    struct login_change *work = operation->domain;
    struct login *login = work->login;
    if (operation->err != ERR_OK) {
        finish_login(&work->change);
        return;
    }
    struct buffer shown = {0};
    shown_write(&shown, login);
    work->shown = arena_copy(operation->arena, buffer_text(&shown));
    buffer_free(&shown);
    operation_session_policy(operation, work->shown, login->device.type, &work->policy);
    change_begin(&work->change);
}

void session_login(struct login *login)
{
    struct operation *operation = &login->base;
    struct login_change *work = arena_zalloc(operation->arena, sizeof(*work));
    struct user_tag owner;
    token_tag_user(operation->context->keyring, login->tenant, login->user_id, &owner);
    operation->tenant = login->tenant;
    operation->user_id = login->user_id;
    operation->device_id = login->device.id;
    operation->device_type = login->device.type;
    work->login = login;
    work->change.operation = operation;
    work->change.codec = operation_codec(operation, &owner);
    work->change.decide = decide_login;
    work->change.finish = finish_login;
    operation->domain = work;
    tenant_enter(operation, owner.tenant, login_with_tenant);
}
