/* The common parts of operations. */
#include "operation.h"

#include <assert.h>
#include <string.h>

#include "binding.h"
#include "clock.h"
#include "metrics.h"
#include "service.h"
#include "session/model/rules.h"
#include "session/model/session_json.h"

static const struct policy_document *document_of(const struct operation *operation)
{
    return operation->tenancy ? operation->tenancy->policy : NULL;
}

void operation_policy(const struct operation *operation, struct policy *ret)
{
    policy_of_tenant(operation->conf, document_of(operation), ret);
}

void operation_session_policy(const struct operation *operation, struct text session_json,
                              struct text device_type, struct policy *ret)
{
    const struct policy_document *document = document_of(operation);
    if (document)
        policy_of_session(operation->conf, document, session_json_roles(session_json), device_type,
                          ret);
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
        operation_session_policy(operation, session->record.session_json, session->device_type,
                                 &own);
        /* Most sessions share one. */
        if (!last || memcmp(last, &own, sizeof(own)) != 0) {
            struct policy *kept = arena_alloc(operation->arena, sizeof(*kept));
            *kept = own;
            last = kept;
        }
        session->policy = last;
    }
}

int64_t operation_age_ms(const struct operation *operation)
{
    int64_t deletion_ms = clock_deletion_ms();
    return deletion_ms < operation->now_ms ? deletion_ms : operation->now_ms;
}

int64_t operation_answer_by_ms(const struct operation *operation)
{
    int64_t by_ms = operation->answer_by_ms;
    return by_ms != 0 && by_ms < operation->deadline_ms ? by_ms : operation->deadline_ms;
}

int64_t operation_longest_life_s(const struct operation *operation)
{
    if (operation->tenancy_unknown)
        return conf_bounds(offsetof(struct conf, policy_absolute_timeout)).maximum;
    return policy_longest_life(operation->conf, document_of(operation));
}

int64_t operation_cutoff_ms(const struct operation *operation)
{
    assert(operation->tenancy);
    return rules_cutoff_ms(operation->tenancy->not_before_ms, operation->now_ms);
}

bool operation_is_confirmed(const struct operation *operation)
{
    return operation->out.durability == DURABILITY_REPLICATED ||
           operation->conf->redis_wait_timeout == 0;
}

bool operation_outlived(const struct operation *operation, const uint8_t session_id[SESSION_ID],
                        int64_t longest_s)
{
    return rules_outlived(session_id, longest_s, operation->now_ms) &&
           rules_outlived(session_id, longest_s, operation_age_ms(operation));
}

void operation_refuse(struct operation *operation, enum err err, struct text reason)
{
    operation->out.err = err;
    operation->out.reason = reason;
}

void operation_refuse_ended(struct operation *operation, enum err err,
                            const struct tombstone *tombstone)
{
    assert(err != ERR_OK);
    operation_refuse(operation, err, tombstone->reason);
    operation->out.ended_actor = tombstone->actor;
    operation->out.ended_at_s = tombstone->ended_s;
}

struct text operation_durability_name(enum durability durability)
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
    assert(!operation->own.bears_token);
    const struct keyring *keyring = operation->context->keyring;
    if (!token_read(keyring, kind, text, ret)) {
        bool shaped = token_is_shaped(kind, text);
        operation_refuse(operation, bad, shaped ? TEXT(REASON_UNKNOWN) : TEXT(REASON_MALFORMED));
        operation->out.forged = true;
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
    operation->own.bears_token = true;
    operation->own.bearer = ret->owner;
    memcpy(operation->own.bearer_session, ret->session_id, SESSION_ID);
    return true;
}

struct state_codec operation_codec(const struct operation *operation, const struct user_tag *owner)
{
    return (struct state_codec){
        .keyring = operation->context->keyring,
        .encrypt = operation->conf->keys_encryption != ENCRYPTION_NONE,
        .owner = *owner,
        .format = atomic_load(&operation->context->worker->service->record_format),
    };
}

bool operation_keeps_authentication(const struct operation *operation)
{
    return operation->conf->keys_encryption != ENCRYPTION_NONE ||
           atomic_load(&operation->context->worker->service->record_format) > RECORD_FORMAT_LEAST;
}

struct text operation_session_id(struct operation *operation, const uint8_t id[SESSION_ID])
{
    char *hex = arena_alloc(operation->arena, 2 * SESSION_ID);
    text_to_hex(hex, id, SESSION_ID);
    return (struct text){hex, 2 * SESSION_ID};
}

void operation_note_session(struct operation *operation, const struct session *session)
{
    struct names names = record_identity(session->record.session_json, operation->arena);
    operation->facts.tenant = names.tenant;
    operation->facts.user_id = names.user_id;
    operation->facts.session_id = operation_session_id(operation, session->id);
    operation->facts.device_id = session->device_id;
    operation->facts.device_type = session->device_type;
}

void operation_note_names(struct operation *operation, const struct user_state *state)
{
    operation->own.names_sought = true;
    if (operation->facts.user_id.data)
        return;
    struct names names = state_names(state, operation->arena);
    operation->facts.tenant = names.tenant;
    operation->facts.user_id = names.user_id;
}

void operation_refuse_missing(struct operation *operation, const struct user_state *state,
                              const struct token *token, enum err err)
{
    assert(operation->tenancy && err != ERR_OK);
    struct policy policy;
    const struct tombstone_entry *tombstone = state_find_tombstone(state, token->session_id);
    operation->facts.session_id = operation_session_id(operation, token->session_id);
    operation_note_names(operation, state);
    operation_policy(operation, &policy);
    if (tombstone)
        operation_refuse_ended(operation, err, &tombstone->tombstone);
    else if (state_is_foreign(state, token->session_id))
        operation_refuse(operation, ERR_SEAL_KEY_UNKNOWN, (struct text){0});
    else
        operation_refuse(
            operation, err,
            reasons_of_cause(rules_judge_missing(token->session_id, &policy, operation->now_ms)));
}

/* True if the session is bound to other addresses or devices than the caller states. */
static bool is_bound_elsewhere(struct operation *operation, const struct session *session,
                               const struct user_tag *owner, const struct policy *policy)
{
    struct client_context context;
    if (!binding_counts(policy))
        return false;
    binding_read(operation->context->keyring, owner, &operation->claims, &context);
    struct text items = binding_items(&session->record, operation->arena);
    unsigned breaches = binding_breaches(operation->conf, items, &context);
    return binding_refuses(operation, policy, breaches, ERR_TOKEN_INVALID);
}

struct session *operation_authenticate(struct operation *operation, const struct user_state *state,
                                       const struct token *token)
{
    assert(operation->tenancy && operation->own.bears_token);
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
    enum end_cause cause =
        rules_judge_access(&state->user, session, hash, &policy, operation->now_ms);
    if (cause) {
        operation_refuse(operation, ERR_TOKEN_INVALID, reasons_of_cause(cause));
        return NULL;
    }
    if (is_bound_elsewhere(operation, session, &token->owner, &policy))
        return NULL;
    return session;
}

void operation_ask(const struct operation *operation, struct store_call *call,
                   const struct text *arguments, size_t count, unsigned flags, store_done_fn *done)
{
    assert(count >= 2);
    *call = (struct store_call){.key = arguments[1],
                                .arguments = arguments,
                                .argument_count = count,
                                .flags = flags,
                                .deadline_ms = operation->deadline_ms,
                                .done = done};
    store_send(operation->context->worker->link, call);
}
