/* The common part of operations. */
#include "operation.h"

#include <string.h>

#include "metrics.h"
#include "rules.h"
#include "shown.h"

void operation_done(struct operation *operation)
{
    operation->done(operation);
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

static bool is_token_shaped(enum token_kind kind, struct text text)
{
    const char *prefix = kind == TOKEN_ACCESS ? "sa_" : "sr_";
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    if (text.length != TOKEN_LENGTH || memcmp(text.data, prefix, 3) != 0)
        return false;
    for (size_t i = 3; i < text.length; i++)
        if (!memchr(alphabet, text.data[i], sizeof(alphabet) - 1))
            return false;
    return true;
}

bool operation_open_token(struct operation *operation, enum token_kind kind, struct text text,
                          struct text tenant, bool tenant_bound, enum err bad, struct token *ret)
{
    const struct keyring *keyring = operation->context->keyring;
    if (!token_read(keyring, kind, text, ret)) {
        bool shaped = is_token_shaped(kind, text);
        operation_refuse(operation, bad, shaped ? TEXT(REASON_UNKNOWN) : TEXT(REASON_MALFORMED));
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
    policy_of(operation->conf, &policy);
    if (grave)
        operation_refuse_buried(operation, err, &grave->tombstone);
    else
        operation_refuse(operation, err,
                         rules_judge_missing(token->session_id, &policy, operation->now_ms));
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
    policy_of(operation->conf, &policy);
    token_hash_secret(operation->context->keyring, TOKEN_ACCESS, token->session_id, token->secret,
                      hash);
    operation_note_session(operation, session);
    struct text reason =
        rules_judge_access(&state->user, session, hash, &policy, operation->now_ms);
    if (reason.data) {
        operation_refuse(operation, ERR_TOKEN_INVALID, reason);
        return NULL;
    }
    return session;
}
