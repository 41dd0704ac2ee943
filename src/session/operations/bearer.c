/* Judges a token by a cache value. */
#include "bearer.h"

#include <assert.h>
#include <string.h>

#include "clock.h"
#include "session/engine/freshness.h"

void bearer_init(struct bearer *ret, struct operation *operation, const struct token *token)
{
    ret->operation = operation;
    ret->token = token;
    memcpy(ret->key.owner, &token->owner, OWNER_TAG);
    memcpy(ret->key.session, token->session_id, SESSION_ID);
}

bool bearer_open(const struct bearer *bearer, struct text value, struct known_session *ret)
{
    const struct operation *operation = bearer->operation;
    if (!cache_value_read_active(value, bearer->key.session, &ret->cache_value))
        return false;
    if (!cache_value_recognise(operation->context->worker->service, &ret->cache_value,
                               bearer->token, ret->hash))
        token_hash_secret(operation->context->keyring, TOKEN_ACCESS, bearer->token->session_id,
                          bearer->token->secret, ret->hash);
    operation_session_policy(operation, ret->cache_value.session_json,
                             cache_value_device_type(&ret->cache_value, operation->arena),
                             &ret->policy);
    return true;
}

static enum end_cause death_of(const struct bearer *bearer, const struct known_session *known)
{
    static const struct user_record nothing_holds;
    const struct operation *operation = bearer->operation;
    const struct tenant *tenant = operation->tenancy;
    const struct session *session = &known->cache_value.session;
    if (rules_ended_with_tenant(session, tenant->not_before_ms, tenant->ended_s, operation->now_ms))
        return CAUSE_TENANT_CUTOFF;
    return rules_judge_access(&nothing_holds, session, known->hash, &known->policy,
                              operation->now_ms);
}

/* Is the session bound to the address and device in use? */
static enum opinion bond_of(struct bearer *bearer, const struct known_session *known)
{
    struct operation *operation = bearer->operation;
    const struct policy *policy = &known->policy;
    if (!binding_counts(policy))
        return OPINION_GOOD;
    if (!known->cache_value.has_items)
        return OPINION_UNBOUND;
    binding_read(operation->context->keyring, &bearer->token->owner, &operation->claims,
                 &bearer->context);
    bearer->breaches =
        binding_breaches(operation->conf, known->cache_value.items, &bearer->context);
    binding_note(operation, policy, bearer->breaches);
    if (binding_verdict(policy, bearer->breaches) >= BINDING_VERIFY)
        return OPINION_ELSEWHERE;
    return binding_adopts(policy, bearer->breaches) ? OPINION_ADOPT : OPINION_GOOD;
}

enum opinion bearer_judge(struct bearer *bearer, const struct known_session *known)
{
    assert(bearer->operation->tenancy);
    bearer->cause = death_of(bearer, known);
    return bearer->cause == CAUSE_NONE ? bond_of(bearer, known) : OPINION_ENDED;
}

void bearer_note(struct bearer *bearer, const struct known_session *known)
{
    cache_value_note(bearer->operation, &known->cache_value);
    (void)bond_of(bearer, known);
}

void bearer_learn(const struct bearer *bearer, const struct known_session *known)
{
    cache_value_learn(bearer->operation->context->worker->service, &bearer->key,
                      &known->cache_value, bearer->token, known->hash);
}

bool bearer_is_over(const struct bearer *bearer, const struct known_session *known)
{
    const struct session *session = &known->cache_value.session;
    int64_t now_s = bearer->operation->now_ms / 1000;
    return crypto_equal(known->hash, session->record.access_hash, SECRET_HASH) &&
           now_s >= rules_lifetimes(session, &known->policy, now_s).access_s;
}

bool bearer_vouch(struct bearer *bearer, struct known_session *known, int64_t *age_ms)
{
    assert(bearer->operation->tenancy);
    const struct operation *operation = bearer->operation;
    const struct session_service *service = operation->context->worker->service;
    struct cache_entry entry;
    if (!cache_get(service->cache, &bearer->key, operation->arena, &entry) ||
        !bearer_open(bearer, entry.value, known))
        return false;
    enum opinion opinion = bearer_judge(bearer, known);
    *age_ms =
        clock_boot_ms() - cache_value_verified_ms(service, &entry, known->cache_value.head.slot);
    return (opinion == OPINION_GOOD || opinion == OPINION_ADOPT) &&
           *age_ms <= known->policy.outage_grace * 1000 &&
           freshness_is_last(service, &bearer->token->owner, known->cache_value.head.version);
}
