/* The common part of operations. */
#include "operation.h"

#include <string.h>

#include "binding.h"
#include "metrics.h"
#include "rules.h"
#include "shown.h"

static const struct policy_document *document_of(const struct operation *operation)
{
    return operation->tenancy ? operation->tenancy->policy : NULL;
}

void operation_policy(const struct operation *operation, struct policy *ret)
{
    policy_of_tenant(operation->conf, document_of(operation), ret);
}

void operation_session_policy(const struct operation *operation, struct text shown,
                              struct text device_type, struct policy *ret)
{
    const struct policy_document *document = document_of(operation);
    if (document)
        policy_of_session(operation->conf, document, shown_roles(shown), device_type, ret);
    else
        policy_of_tenant(operation->conf, NULL, ret);
}

void operation_apply_policies(const struct operation *operation, struct user_state *state)
{
    const struct policy *last = NULL;
    if (!document_of(operation))
        return;
    for (size_t i = 0; i < state->session_count; i++) {
        struct session *session = &state->sessions[i];
        struct policy own;
        operation_session_policy(operation, session->record.shown, session->device_type, &own);
        /* Most sessions share one. */
        if (!last || memcmp(last, &own, sizeof(own)) != 0) {
            struct policy *kept = arena_alloc(operation->arena, sizeof(*kept));
            *kept = own;
            last = kept;
        }
        session->policy = last;
    }
}

/* `done` may free the operation. */
void operation_done(struct operation *operation)
{
    struct tenant *tenancy = operation->tenancy_held ? operation->tenancy : NULL;
    operation->tenancy_held = false;
    operation->done(operation);
    tenant_unref(&tenancy);
}

void operation_refuse(struct operation *operation, enum err err, struct text reason)
{
    operation->err = err;
    operation->reason = reason;
}

void operation_refuse_buried(struct operation *operation, enum err err,
                             const struct tombstone *tombstone)
{
    operation_refuse(operation, err, tombstone->reason);
    operation->ended_actor = tombstone->actor;
    operation->ended_at_s = tombstone->ended_s;
}

struct text durability_name(enum durability durability)
{
    static const struct text names[] = {
        [DURABILITY_NONE] = {NULL, 0},
        [DURABILITY_REPLICATED] = {"replicated", 10},
        [DURABILITY_ACCEPTED] = {"accepted", 8},
        [DURABILITY_PENDING] = {"pending", 7},
    };
    return names[durability];
}

bool operation_open_token(struct operation *operation, enum token_kind kind, struct text text,
                          struct text tenant, bool tenant_bound, enum err bad, struct token *ret)
{
    const struct keyring *keyring = operation->context->keyring;
    if (!token_read(keyring, kind, text, ret)) {
        bool shaped = token_is_shaped(kind, text);
        operation_refuse(operation, bad, shaped ? TEXT(REASON_UNKNOWN) : TEXT(REASON_MALFORMED));
        operation->forged = true;
        metrics_add(METRIC_TOKENS_REJECTED, 1);
        return false;
    }
    if (tenant.data && !token_is_of_tenant(keyring, ret, tenant)) {
        if (tenant_bound)
            operation_refuse(operation, ERR_TENANT_FORBIDDEN, (struct text){0});
        else
            operation_refuse(operation, bad, TEXT(REASON_UNKNOWN));
        metrics_add(METRIC_TOKENS_REJECTED, 1);
        return false;
    }
    return true;
}

struct state_codec operation_codec(const struct operation *operation, const struct user_tag *owner)
{
    return (struct state_codec){
        .keyring = operation->context->keyring,
        .encrypt = operation->conf->keys_encryption != ENCRYPTION_NONE,
        .owner = *owner,
    };
}

struct text operation_session_id(struct operation *operation, const uint8_t id[SESSION_ID])
{
    char *hex = arena_alloc(operation->arena, 2 * SESSION_ID);
    text_to_hex(hex, id, SESSION_ID);
    return (struct text){hex, 2 * SESSION_ID};
}

void operation_note_session(struct operation *operation, const struct session *session)
{
    record_identity(&session->record, operation->arena, &operation->tenant, &operation->user_id);
    operation->session_id = operation_session_id(operation, session->id);
    operation->device_id = session->device_id;
    operation->device_type = session->device_type;
}

void operation_refuse_missing(struct operation *operation, const struct user_state *state,
                              const struct token *token, enum err err)
{
    struct policy policy;
    const struct grave *grave = state_find_grave(state, token->session_id);
    operation->session_id = operation_session_id(operation, token->session_id);
    operation_policy(operation, &policy);
    if (grave)
        operation_refuse_buried(operation, err, &grave->tombstone);
    else if (state_is_foreign(state, token->session_id))
        operation_refuse(operation, ERR_SEAL_KEY_UNKNOWN, (struct text){0});
    else
        operation_refuse(operation, err,
                         rules_judge_missing(token->session_id, &policy, operation->now_ms));
}

/* May the session be used from where the caller says the user is? */
static bool is_bound_elsewhere(struct operation *operation, const struct session *session,
                               const struct user_tag *owner, const struct policy *policy)
{
    struct shown_context context;
    if (!binding_counts(policy))
        return false;
    binding_read(operation->context->keyring, owner, &operation->presented, &context);
    struct text items = binding_items(&session->record, operation->arena);
    unsigned breaches = binding_breaches(operation->conf, items, &context);
    return binding_refuses(operation, policy, breaches, ERR_TOKEN_INVALID);
}

struct session *operation_authenticate(struct operation *operation, const struct user_state *state,
                                       const struct token *token)
{
    struct session *session = state_find(state, token->session_id);
    struct policy policy;
    uint8_t hash[SECRET_HASH];
    if (!session) {
        operation_refuse_missing(operation, state, token, ERR_TOKEN_INVALID);
        return NULL;
    }
    operation_policy(operation, &policy);
    token_hash_secret(operation->context->keyring, TOKEN_ACCESS, token->session_id, token->secret,
                      hash);
    operation_note_session(operation, session);
    struct text reason =
        rules_judge_access(&state->user, session, hash, &policy, operation->now_ms);
    if (reason.data) {
        operation_refuse(operation, ERR_TOKEN_INVALID, reason);
        return NULL;
    }
    if (is_bound_elsewhere(operation, session, &token->owner, &policy))
        return NULL;
    return session;
}
