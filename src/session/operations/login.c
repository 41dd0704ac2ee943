/* Login: creates a session, which replaces those that the policy gives up for it. */
#include <assert.h>
#include <string.h>

#include "challenge.h"
#include "login_request.h"
#include "login_risk.h"
#include "metrics.h"
#include "session/engine/binding.h"
#include "session/engine/operation.h"
#include "session/engine/revocation.h"
#include "session/engine/rotation.h"
#include "session/engine/tenant.h"
#include "session/engine/user_update.h"
#include "session/index/index.h"
#include "session/index/quota.h"
#include "session/model/rules.h"
#include "session/model/session_json.h"

struct login_change {
    struct user_update change;
    struct login *login;
    struct waiter waiter;
    struct text session_json;
    struct policy policy; /* for a session with these roles on this device */
    struct token access, refresh;
    struct session fresh;
    uint8_t challenge[SESSION_ID]; /* the challenge that the login waits for ... */
    int64_t cutoff_ms;             /* ... which is later than this cutoff */
    bool admitted;                 /* by the tenant's quota */
    struct revocation *revoked;    /* the replaced sessions, as many as login->replaced */
};

/* Sessions from before are revoked. */
static int64_t cutoff_ms(const struct login_change *work, const struct user_state *state)
{
    int64_t of_tenant_ms = work->login->base.tenancy->not_before_ms;
    int64_t of_user_ms = state->user.not_before_ms;
    return of_tenant_ms > of_user_ms ? of_tenant_ms : of_user_ms;
}

/* Makes both tokens of the first pair, with random secrets. Made once, so a late write of an
 * earlier round is recognised as our own. But if that session or all of the user's were ended
 * meanwhile, it gets a new id: an ended session must not come back. */
static void make_tokens(struct login_change *work, const struct user_state *state)
{
    const struct keyring *keyring = work->login->base.context->keyring;
    const uint8_t *made = work->access.session_id;
    int64_t least_ms = cutoff_ms(work, state);
    if (work->access.key_id != 0 && !state_find_tombstone(state, made) &&
        token_session_created_ms(made) >= least_ms)
        return;
    struct token token = {.key_id = keyring_newest(keyring), .owner = work->change.codec.owner};
    token_new_session_id(rules_creation_ms(state, least_ms, work->login->base.now_ms),
                         token.session_id);
    work->access = token;
    work->refresh = token;
    crypto_random(work->access.secret, SECRET_LENGTH);
    crypto_random(work->refresh.secret, SECRET_LENGTH);
}

static void bind_session(const struct login_change *work, struct record *record)
{
    struct operation *operation = &work->login->base;
    const struct client_claims claims = {.fingerprint = work->login->device.fingerprint};
    struct client_context context;
    binding_read(operation->context->keyring, &work->change.codec.owner, &claims, &context);
    binding_begin(record, &context, operation->arena);
}

static void make_session(struct login_change *work)
{
    assert(work->access.key_id != 0);
    const struct login *login = work->login;
    const struct keyring *keyring = login->base.context->keyring;
    struct session *fresh = &work->fresh;
    struct record *record = &fresh->record;
    int64_t now_ms = login->base.now_ms;
    int64_t created_ms = token_session_created_ms(work->access.session_id);
    /* A login right behind a cutoff, within what clocks may be apart, takes the cutoff's time. */
    bool ahead = rules_is_ahead(created_ms, now_ms);
    int64_t begun_ms = ahead ? now_ms : created_ms;
    *fresh = (struct session){.last_seen_s = begun_ms / 1000};
    memcpy(fresh->id, work->access.session_id, SESSION_ID);
    record->remember = login->remember;
    record->second_factor = login->second_factor;
    record->issued_ms = begun_ms;
    record->absolute_s = begun_ms / 1000 + work->policy.absolute_timeout;
    if (ahead)
        record->began_s = rules_began_after_s(login->base.tenancy->ended_s, now_ms);
    token_hash_secret(keyring, TOKEN_ACCESS, fresh->id, work->access.secret, record->access_hash);
    token_hash_secret(keyring, TOKEN_REFRESH, fresh->id, work->refresh.secret,
                      record->refresh_hash);
    record->session_json = work->session_json;
    record->ip = login->ip;
    record->user_agent = login->user_agent;
    record->grants = login->grants;
    bind_session(work, record);
    fresh->device_id = login->device.id;
    fresh->device_type = login->device.type;
    fresh->policy = &work->policy;
}

static void revoke_replaced(const struct login_change *work, struct edit *edit)
{
    assert(work->login->replaced_count == 0 || work->revoked);
    for (size_t i = 0; i < work->login->replaced_count; i++)
        revocation_add_to_edit(edit, work->revoked[i]);
}

static void end_replaced(struct login_change *work, struct user_state *state, struct edit *edit,
                         const struct policy *policy)
{
    struct login *login = work->login;
    struct arena *arena = login->base.arena;
    login->replaced = arena_alloc(arena, (state->session_count + 1) * sizeof(*login->replaced));
    login->replaced_count = 0;
    struct text *ended = arena_alloc(arena, (state->session_count + 1) * sizeof(*ended));
    work->revoked = arena_alloc(arena, (state->session_count + 1) * sizeof(*work->revoked));
    for (size_t i = 0; i < state->session_count; i++) {
        struct session *session = &state->sessions[i];
        if (!session->ended)
            continue;
        rules_end_session(edit, session, TEXT(REASON_REPLACED), login->base.actor, policy,
                          login->base.now_ms);
        work->revoked[login->replaced_count] = revocation_of_session(
            &login->base, &work->change.codec.owner, session->id, TEXT(REASON_REPLACED),
            rules_lifetimes(session, policy, login->base.now_ms / 1000).session_s);
        ended[login->replaced_count] = operation_session_id(&login->base, session->id);
        login->replaced[login->replaced_count] = (struct replaced_session){
            .session_id = ended[login->replaced_count],
            .device_json = session_json_device(session->record.session_json),
            .reason = TEXT(REASON_REPLACED),
        };
        login->replaced_count++;
    }
    login->base.out.ended = ended;
    login->base.out.ended_count = login->replaced_count;
    revoke_replaced(work, edit);
}

/* Lists the active sessions for a caller refused with device_limit. */
static void list_holders(struct login *login, const struct user_state *state,
                         const struct policy *policy)
{
    login->replaced =
        arena_alloc(login->base.arena, (state->session_count + 1) * sizeof(*login->replaced));
    login->replaced_count = 0;
    login->limit = policy->max_devices;
    for (size_t i = 0; i < state->session_count; i++) {
        const struct session *session = &state->sessions[i];
        if (rules_end_cause(&state->user, session, policy, login->base.now_ms))
            continue;
        login->replaced[login->replaced_count++] = (struct replaced_session){
            .session_id = operation_session_id(&login->base, session->id),
            .device_json = session_json_device(session->record.session_json),
        };
    }
}

/* A login that replaces a session of the user adds nothing, nor does one whose verification has
 * been counted. Each login that starts to wait for verification is counted. */
static bool login_fits_quota(struct login_change *work, const struct user_state *state, bool waits)
{
    struct operation *operation = &work->login->base;
    bool first = true, grows = true;
    for (size_t i = 0; i < state->session_count; i++) {
        const struct session *session = &state->sessions[i];
        grows &= !session->ended;
        first &=
            rules_end_cause(&state->user, session, &work->policy, operation->now_ms) != CAUSE_NONE;
    }
    struct quota_wish wish = {.user = first,
                              .session = waits || (grows && work->login->verified_ms == 0)};
    work->admitted = work->admitted ||
                     quota_admits(operation, work->change.codec.owner.tenant, &work->policy, wish);
    return work->admitted;
}

static enum update_decision decide_login(struct user_update *change, struct user_state *state,
                                         struct edit *edit)
{
    struct login_change *work = container_of(change, struct login_change, change);
    struct login *login = work->login;
    struct operation *operation = &login->base;
    const struct policy *policy = &work->policy;
    if (state_find(state, work->access.session_id) &&
        user_update_wrote(change, work->access.session_id)) {
        edit->invalidates = login->replaced_count > 0;
        operation->out.durability = DURABILITY_ACCEPTED;
        revoke_replaced(work, edit);
        return UPDATE_RESOLVED;
    }
    if (rules_frozen(&state->user, operation->now_ms / 1000)) {
        operation_refuse(operation, ERR_ACCOUNT_FROZEN, state->user.frozen_reason);
        return UPDATE_DONE;
    }
    login_risk_judge(login, state);
    enum err err = admit_login(state, &login->device, policy, operation->now_ms);
    if (err != ERR_OK) {
        list_holders(login, state, policy);
        operation_refuse(operation, err, (struct text){0});
        return UPDATE_DONE;
    }
    work->cutoff_ms = cutoff_ms(work, state);
    bool stops = login_risk_stops(login, state, policy, work->cutoff_ms);
    bool waits = operation->out.err == ERR_VERIFICATION_REQUIRED;
    if ((stops && !waits) || !login_fits_quota(work, state, waits) || waits)
        return UPDATE_DONE;
    make_tokens(work, state);
    make_session(work);
    end_replaced(work, state, edit, policy);
    edit_set_session(edit, work->fresh.id, &work->fresh.record);
    login_risk_remember(login, state, policy, edit);
    rules_tidy(edit, state, &work->fresh, policy, operation->now_ms);
    return UPDATE_WRITE;
}

static void answer(struct login_change *work)
{
    assert(work->access.key_id != 0 && work->refresh.key_id != 0);
    assert(work->admitted);
    struct login *login = work->login;
    struct operation *operation = &login->base;
    struct issued_pair *pair = &login->pair;
    token_print(operation->context->keyring, TOKEN_ACCESS, &work->access, pair->access_token);
    token_print(operation->context->keyring, TOKEN_REFRESH, &work->refresh, pair->refresh_token);
    rotation_note_times(&work->fresh, &work->policy, operation->now_ms, pair);
    pair->device_json = session_json_device(work->fresh.record.session_json);
    pair->roles_json = session_json_roles(work->fresh.record.session_json);
    pair->remember = login->remember;
    operation->facts.session_id = operation_session_id(operation, work->fresh.id);
    index_note(operation, &work->change.codec.owner, &work->fresh);
    if (login->verified_ms > 0)
        index_forget_pending(operation, &work->change.codec.owner, login->verified_id);
    metrics_add(METRIC_LOGINS, 1);
    metrics_add(METRIC_SESSIONS_ENDED, login->replaced_count);
}

/* The challenge was offered, or could not be. */
static void challenged(struct waiter *waiter)
{
    const struct login_change *work = container_of(waiter, struct login_change, waiter);
    struct operation *operation = &work->login->base;
    if (operation->out.err == ERR_OK) {
        index_note_pending(operation, &work->change.codec.owner, work->challenge,
                           operation->out.challenge->expires_s);
        operation->out.err = ERR_VERIFICATION_REQUIRED;
    }
    naming_done(operation);
}

/* Stores the login as requested in the challenge; nothing happens before it is solved. */
static void ask_for_verification(struct login_change *work)
{
    assert(work->login->base.out.err == ERR_VERIFICATION_REQUIRED);
    struct operation *operation = &work->login->base;
    struct challenge challenge = {
        .kind = CHALLENGE_LOGIN,
        .method = (enum verify_method)work->policy.verify_method,
        .issued_ms = rules_issue_ms(operation->now_ms, work->cutoff_ms),
    };
    SCOPED(buffer_free) struct buffer body = {0};
    login_request_write(work->login, work->change.codec.format, &body);
    challenge.body = buffer_text(&body);
    token_new_session_id(operation->now_ms, work->challenge);
    crypto_random(challenge.secret, SECRET_LENGTH);
    operation->out.err = ERR_OK;
    challenge_offer(operation, &work->change.codec.owner, work->challenge, &challenge,
                    waiter_of(&work->waiter, challenged));
    crypto_wipe(challenge.secret, SECRET_LENGTH);
}

static void login_update_done(struct user_update *change)
{
    struct login_change *work = container_of(change, struct login_change, change);
    struct operation *operation = change->operation;
    if (operation->out.err == ERR_OK)
        answer(work);
    crypto_wipe(work->access.secret, SECRET_LENGTH);
    crypto_wipe(work->refresh.secret, SECRET_LENGTH);
    if (operation->out.err == ERR_VERIFICATION_REQUIRED)
        ask_for_verification(work);
    else
        naming_done(operation);
}

static const struct user_update_ops login_ops = {decide_login, login_update_done};

static void login_counted(struct waiter *waiter)
{
    user_update_begin(&container_of(waiter, struct login_change, waiter)->change);
}

static void login_with_tenant(struct waiter *waiter)
{
    struct login_change *work = container_of(waiter, struct login_change, waiter);
    struct operation *operation = &work->login->base;
    struct login *login = work->login;
    if (operation->out.err != ERR_OK) {
        login_update_done(&work->change);
        return;
    }
    if (!operation_keeps_authentication(operation))
        login->authentication = (struct authentication){0};
    struct buffer session_json = {0};
    session_json_write(&session_json, login);
    work->session_json = arena_copy(operation->arena, buffer_text(&session_json));
    buffer_free(&session_json);
    operation_session_policy(operation, work->session_json, login->device.type, &work->policy);
    if (!session_json_fits(operation->arena, work->session_json, work->policy.limit_session_bytes,
                           &operation->out.detail)) {
        operation_refuse(operation, ERR_BODY_INVALID, (struct text){0});
        login_update_done(&work->change);
        return;
    }
    quota_enter(operation, work->change.codec.owner.tenant, &work->policy,
                waiter_of(&work->waiter, login_counted));
}

void session_login(struct login *login)
{
    struct operation *operation = &login->base;
    struct login_change *work = arena_zalloc(operation->arena, sizeof(*work));
    struct user_tag owner;
    token_tag_user(operation->context->keyring, login->tenant, login->user_id, &owner);
    operation->facts.tenant = login->tenant;
    operation->facts.user_id = login->user_id;
    operation->facts.device_id = login->device.id;
    operation->facts.device_type = login->device.type;
    work->login = login;
    user_update_init(&work->change, &login_ops, operation, &owner);
    tenant_enter(operation, owner.tenant, waiter_of(&work->waiter, login_with_tenant));
}
