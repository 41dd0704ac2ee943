/* Validation, the hot path: from memory while it is known to be true, else from Redis, else - Redis
 * being away - from memory with a word on its age. No JSON is parsed or built here. */
#include <string.h>

#include "binding.h"
#include "cached.h"
#include "change.h"
#include "clock.h"
#include "index.h"
#include "lookup.h"
#include "metrics.h"
#include "operation.h"
#include "revocation.h"
#include "step_up.h"
#include "tenant.h"

/* What Redis said, while the session takes an address for its own. */
struct found_session {
    struct cached cached;
    struct policy policy;
};

struct validation {
    struct lookup_waiter waiter;
    struct validate *validate;
    struct cache_key key;
    uint8_t hash[SECRET_HASH];
    int64_t known_version; /* of what memory has; 0: nothing */
    int64_t known_seen_s;
    struct shown_context context; /* where it comes from ... */
    unsigned breaches;            /* ... and what of that the session is not bound to */
    struct found_session *found;
    bool bound;       /* Redis was asked what the session is bound to, too */
    bool asked_again; /* after another address was adopted meanwhile */
};

enum source { FROM_REDIS, FROM_MEMORY, FROM_STALE_MEMORY };

/* What memory can say of a token. It may have missed a refresh or a use elsewhere, so it never
 * refuses a token that it merely does not know, or that has been idle. */
enum word { WORD_GOOD, WORD_OVER, WORD_UNSURE };

/* Does the session hold where it comes from? */
enum bond { BOND_HOLDS, BOND_ADOPTS, BOND_BROKEN, BOND_UNKNOWN };

static void policy_of_cached(const struct operation *operation, const struct cached *cached,
                             struct policy *ret)
{
    operation_session_policy(operation, cached->shown, cached_device_type(cached, operation->arena),
                             ret);
}

static void end_validation(struct validation *validation)
{
    struct validate *validate = validation->validate;
    crypto_wipe(&validate->parsed, sizeof(validate->parsed));
    operation_done(&validate->base);
}

/* --- accepting --- */

static void note_use(struct validation *validation, const struct cached *cached,
                     const struct policy *policy, enum source source, struct lifetimes *lifetimes)
{
    struct validate *validate = validation->validate;
    struct operation *operation = &validate->base;
    int64_t now_s = operation->now_ms / 1000;
    bool away = source == FROM_STALE_MEMORY;
    bool owed = cached->head.touch_owed && !away;
    if (!validate->touch || (!owed && !rules_touch_due(&cached->session, policy, now_s)))
        return;
    struct session touched = cached->session;
    touched.last_seen_s = now_s;
    *lifetimes = rules_lifetimes(&touched, policy);
    cached_touch(operation->context->worker->service, &validation->key, cached, now_s, away);
    if (away)
        return;
    change_touch(operation, &validate->parsed.owner, touched.id, now_s,
                 lifetimes->session_s * 1000);
    if (owed || index_is_due(cached->session.last_seen_s, now_s))
        index_note(operation, &validate->parsed.owner, &touched);
}

static void mark_stale(struct validate *validate, int64_t age_ms)
{
    int64_t age_s = age_ms > 0 ? age_ms / 1000 : 0;
    if (!validate->stale)
        metrics_add(METRIC_CACHE_STALE, 1);
    validate->stale = true;
    if (age_s > validate->stale_for_s)
        validate->stale_for_s = age_s;
}

/* The shown text must lie in the operation's arena. */
static void accept_session(struct validation *validation, const struct cached *cached,
                           const struct policy *policy, enum source source)
{
    struct validate *validate = validation->validate;
    struct lifetimes lifetimes = rules_lifetimes(&cached->session, policy);
    cached_note(&validate->base, cached);
    note_use(validation, cached, policy, source, &lifetimes);
    validate->shown = cached->shown;
    validate->access_expires_s = lifetimes.access_s;
    validate->idle_expires_s = lifetimes.idle_s;
    validate->from_cache = source != FROM_REDIS;
    if (validate->base.tenancy_age_ms > 0)
        mark_stale(validate, validate->base.tenancy_age_ms);
}

static struct text judge(const struct validation *validation, const struct cached *cached,
                         const struct policy *policy)
{
    static const struct user_record nothing_holds;
    return rules_judge_access(&nothing_holds, &cached->session, validation->hash, policy,
                              validation->validate->base.now_ms);
}

static enum bond bond_of(struct validation *validation, const struct cached *cached,
                         const struct policy *policy)
{
    struct validate *validate = validation->validate;
    struct operation *operation = &validate->base;
    if (!binding_counts(policy))
        return BOND_HOLDS;
    if (!cached->has_items)
        return BOND_UNKNOWN;
    binding_read(operation->context->keyring, &validate->parsed.owner, &operation->presented,
                 &validation->context);
    unsigned breaches = binding_breaches(operation->conf, cached->items, &validation->context);
    validation->breaches = breaches;
    binding_note(operation, policy, breaches);
    if (binding_verdict(policy, breaches) >= BINDING_VERIFY)
        return BOND_BROKEN;
    return binding_adopts(policy, breaches) ? BOND_ADOPTS : BOND_HOLDS;
}

static enum word word_of(const struct validation *validation, const struct cached *cached,
                         const struct policy *policy)
{
    const struct operation *operation = &validation->validate->base;
    if (!judge(validation, cached, policy).data)
        return WORD_GOOD;
    bool present = crypto_equal(validation->hash, cached->session.record.access_hash, SECRET_HASH);
    int64_t over_s = rules_lifetimes(&cached->session, policy).access_s;
    return present && operation->now_ms / 1000 >= over_s ? WORD_OVER : WORD_UNSURE;
}

/* --- from memory --- */

static bool is_revoked_here(struct validation *validation)
{
    struct validate *validate = validation->validate;
    return revocation_refuses(&validate->base, &validate->parsed, ERR_TOKEN_INVALID);
}

static void refuse_dead(struct validation *validation, struct text value)
{
    struct tombstone tombstone;
    struct operation *operation = &validation->validate->base;
    cached_read_dead(value, &tombstone);
    operation->session_id = operation_session_id(operation, validation->key.session);
    operation_refuse_buried(operation, ERR_TOKEN_INVALID, &tombstone);
}

/* Nobody needs to be asked about a token that is too old. */
static bool has_outlived(struct validation *validation)
{
    struct operation *operation = &validation->validate->base;
    int64_t longest_s = policy_longest_life(operation->conf, operation->tenancy->policy);
    if (!rules_outlived(validation->key.session, longest_s, operation->now_ms))
        return false;
    operation->session_id = operation_session_id(operation, validation->key.session);
    operation_refuse(operation, ERR_TOKEN_INVALID, TEXT(REASON_EXPIRED));
    return true;
}

/* True if memory has answered, because it knows. */
static bool answer_from_memory(struct validation *validation)
{
    struct operation *operation = &validation->validate->base;
    const struct session_service *service = operation->context->worker->service;
    struct cache_entry entry;
    struct cached cached;
    struct policy policy;
    validation->known_version = validation->known_seen_s = 0;
    if (!cache_get(service->cache, &validation->key, operation->arena, &entry))
        return false;
    if (cached_kind(entry.value) == CACHED_DEAD) {
        refuse_dead(validation, entry.value);
        return true;
    }
    if (!cached_read_live(entry.value, validation->key.session, &cached))
        return false;
    validation->known_version = cached.head.version;
    validation->known_seen_s = cached.head.last_seen_s;
    if (!cached_is_fresh(service, &entry, cached.head.slot, clock_monotonic_ms()))
        return false;
    policy_of_cached(operation, &cached, &policy);
    enum word word = word_of(validation, &cached, &policy);
    /* It may be bound to more by now: memory never refuses for that. */
    if (word == WORD_GOOD && bond_of(validation, &cached, &policy) != BOND_HOLDS)
        word = WORD_UNSURE;
    if (word == WORD_GOOD) {
        accept_session(validation, &cached, &policy, FROM_MEMORY);
    } else if (word == WORD_OVER) {
        cached_note(operation, &cached);
        operation_refuse(operation, ERR_TOKEN_INVALID, TEXT(REASON_EXPIRED));
    }
    return word != WORD_UNSURE;
}

/* --- while Redis is away --- */

static bool is_outage(enum err err)
{
    return err == ERR_STORE_UNAVAILABLE || err == ERR_STORE_TIMEOUT || err == ERR_STORE_DENIED ||
           err == ERR_STORE_REFUSED || err == ERR_STORE_PROTOCOL || err == ERR_STORE_BEHIND;
}

/* Vouches for a token by memory alone, within outage.grace. Not if the user was seen to be changed
 * since: then the entry is older than what is known. */
static bool vouch(struct validation *validation, struct cached *cached, struct policy *policy,
                  int64_t *age_ms)
{
    struct operation *operation = &validation->validate->base;
    const struct session_service *service = operation->context->worker->service;
    struct cache_entry entry;
    if (!cache_get(service->cache, &validation->key, operation->arena, &entry) ||
        !cached_read_live(entry.value, validation->key.session, cached))
        return false;
    policy_of_cached(operation, cached, policy);
    enum bond bond = bond_of(validation, cached, policy);
    if (bond == BOND_BROKEN || bond == BOND_UNKNOWN)
        return false;
    *age_ms = clock_monotonic_ms() - cached_verified_ms(service, &entry, cached->head.slot);
    return *age_ms <= policy->outage_grace * 1000 &&
           fence_of(service->fence, &validation->validate->parsed.owner, operation->now_ms) <=
               cached->head.version &&
           word_of(validation, cached, policy) == WORD_GOOD;
}

static bool answer_stale(struct validation *validation)
{
    struct validate *validate = validation->validate;
    struct cached cached;
    struct policy policy;
    int64_t age_ms;
    if (!vouch(validation, &cached, &policy, &age_ms))
        return false;
    accept_session(validation, &cached, &policy, FROM_STALE_MEMORY);
    mark_stale(validate, age_ms);
    return true;
}

bool validate_vouches(struct operation *operation, const struct token *token)
{
    struct validate validate = {.base = *operation, .parsed = *token};
    struct validation validation = {.validate = &validate};
    struct cached cached;
    struct policy policy;
    int64_t age_ms;
    memcpy(validation.key.owner, &token->owner, CACHE_OWNER);
    memcpy(validation.key.session, token->session_id, CACHE_SESSION);
    token_hash_secret(operation->context->keyring, TOKEN_ACCESS, token->session_id, token->secret,
                      validation.hash);
    bool good = vouch(&validation, &cached, &policy, &age_ms);
    crypto_wipe(&validate.parsed, sizeof(validate.parsed));
    if (good)
        cached_note(operation, &cached);
    return good;
}

/* --- from Redis --- */

static void ask_redis(struct validation *validation, bool alone);

/* What is next: the answer; another look, since who joined another one's read may have the token of
 * a refresh that came after it, or be bound to more since, and a policy that was heard of meanwhile
 * may look at bounds that were not asked for; or something that is under way. */
enum next { NEXT_ANSWER, NEXT_ASK_AGAIN, NEXT_WAIT };

static void challenged(struct operation *operation)
{
    end_validation(operation->domain);
}

/* The policy says whether it is refused, or may be verified. */
static enum next refuse_elsewhere(struct validation *validation, const struct policy *policy)
{
    struct validate *validate = validation->validate;
    struct operation *operation = &validate->base;
    if (!binding_refuses(operation, policy, validation->breaches, ERR_TOKEN_INVALID))
        operation->err = ERR_INTERNAL; /* an entry without what was asked for */
    if (operation->err != ERR_STEP_UP_REQUIRED)
        return NEXT_ANSWER;
    operation->err = ERR_OK;
    operation->domain = validation;
    step_up_offer(operation, &validate->parsed.owner, validation->key.session, &validation->context,
                  validation->breaches, challenged);
    return NEXT_WAIT;
}

/* Another address of its family may have been faster. */
static void adopted(struct operation *operation)
{
    struct validation *validation = operation->domain;
    bool idle = text_equal(operation->reason, TEXT(REASON_IDLE));
    operation->durability = DURABILITY_NONE;
    if (operation->err == ERR_TOKEN_INVALID && !idle && !validation->asked_again) {
        validation->asked_again = true;
        operation_refuse(operation, ERR_OK, (struct text){0});
        ask_redis(validation, true);
        return;
    }
    /* A write that Redis does not take, or a use that it was not told of yet, is no reason to
     * refuse a session that was found alive: it is adopted another time. */
    if (is_outage(operation->err) || operation->err == ERR_STORE_CONTENDED || idle)
        operation_refuse(operation, ERR_OK, (struct text){0});
    if (operation->err == ERR_OK)
        accept_session(validation, &validation->found->cached, &validation->found->policy,
                       FROM_REDIS);
    end_validation(validation);
}

static enum next adopt(struct validation *validation, const struct cached *cached,
                       const struct policy *policy)
{
    struct validate *validate = validation->validate;
    struct operation *operation = &validate->base;
    validation->found = arena_alloc(operation->arena, sizeof(*validation->found));
    *validation->found = (struct found_session){*cached, *policy};
    operation->domain = validation;
    step_up_adopt(operation, &validate->parsed.owner, validation->key.session, &validation->context,
                  adopted);
    return NEXT_WAIT;
}

static enum next accept_found(struct validation *validation, struct text value)
{
    struct operation *operation = &validation->validate->base;
    struct cached cached;
    struct policy policy;
    if (!cached_read_live(arena_copy(operation->arena, value), validation->key.session, &cached)) {
        operation->err = ERR_INTERNAL;
        return NEXT_ANSWER;
    }
    policy_of_cached(operation, &cached, &policy);
    struct text reason = judge(validation, &cached, &policy);
    enum bond bond = bond_of(validation, &cached, &policy);
    if (!reason.data && bond == BOND_HOLDS) {
        accept_session(validation, &cached, &policy, FROM_REDIS);
        return NEXT_ANSWER;
    }
    if (validation->waiter.joined || (bond == BOND_UNKNOWN && !validation->bound))
        return NEXT_ASK_AGAIN;
    cached_note(operation, &cached);
    if (!reason.data)
        return bond == BOND_ADOPTS ? adopt(validation, &cached, &policy)
                                   : refuse_elsewhere(validation, &policy);
    operation_refuse(operation, ERR_TOKEN_INVALID, reason);
    return NEXT_ANSWER;
}

static void refuse_found(struct operation *operation, const struct found *found)
{
    struct tombstone tombstone = found->tombstone;
    tombstone.reason = arena_copy(operation->arena, tombstone.reason);
    tombstone.actor = arena_copy(operation->arena, tombstone.actor);
    operation_refuse_buried(operation, ERR_TOKEN_INVALID, &tombstone);
}

/* A session that memory has and Redis does not: lost, if its time is not over. What Redis lost is
 * unknown to it, not invalid. But if tokens of the user died since, it may have been one of them,
 * whose tombstone was given up. */
static void refuse_missing(struct validation *validation, const struct found *found)
{
    static const struct user_state nothing;
    if (found->epoch <= validation->known_version && validation->known_version > 0 &&
        answer_stale(validation))
        return;
    operation_refuse_missing(&validation->validate->base, &nothing, &validation->validate->parsed,
                             ERR_TOKEN_INVALID);
}

/* True if the answer is there. */
static bool use_found(struct validation *validation, const struct found *found)
{
    switch (found->kind) {
    case FOUND_LIVE: {
        enum next next = accept_found(validation, found->value);
        if (next == NEXT_ASK_AGAIN)
            ask_redis(validation, true);
        return next == NEXT_ANSWER;
    }
    case FOUND_MISSING:
        refuse_missing(validation, found);
        break;
    case FOUND_DEAD:
    case FOUND_REFUSED:
        refuse_found(&validation->validate->base, found);
        break;
    }
    return true;
}

static void lookup_found(struct lookup_waiter *waiter, const struct found *found)
{
    struct validation *validation = (struct validation *)waiter;
    struct operation *operation = &validation->validate->base;
    operation->session_id = operation_session_id(operation, validation->key.session);
    /* It may have been revoked here while Redis was asked, and Redis may have told of the tenant.
     */
    if (is_revoked_here(validation) ||
        (tenant_renew(operation, validation->key.owner) &&
         tenant_refuses(operation, validation->key.session, ERR_TOKEN_INVALID))) {
        end_validation(validation);
        return;
    }
    if (found->err != ERR_OK) {
        if (!is_outage(found->err) || !answer_stale(validation))
            operation->err = found->err;
        end_validation(validation);
        return;
    }
    if (use_found(validation, found))
        end_validation(validation);
}

static void ask_redis(struct validation *validation, bool alone)
{
    const struct operation *operation = &validation->validate->base;
    const struct token *token = &validation->validate->parsed;
    struct policy policy;
    operation_policy(operation, &policy);
    validation->bound = binding_counts(&policy);
    struct lookup_request request = {
        .owner = &token->owner,
        .session_id = token->session_id,
        .keyring = operation->context->keyring,
        .encrypt = operation->conf->keys_encryption != ENCRYPTION_NONE,
        .known_version = validation->known_version,
        .known_seen_s = validation->known_seen_s,
        .alone = alone,
        .bound = validation->bound,
        .cache_quota = lookup_quota(&policy),
        .deadline_ms = operation->deadline_ms,
    };
    validation->waiter.done = lookup_found;
    metrics_add(METRIC_CACHE_MISSES, 1);
    lookup_begin(operation->context->worker, &request, &validation->waiter);
}

/* By what this node knows. */
static bool answer_at_once(struct validation *validation)
{
    struct operation *operation = &validation->validate->base;
    bool answered = tenant_refuses(operation, validation->key.session, ERR_TOKEN_INVALID) ||
                    has_outlived(validation);
    if (!answered && answer_from_memory(validation)) {
        metrics_add(METRIC_CACHE_HITS, 1);
        answered = true;
    }
    if (answered)
        end_validation(validation);
    return answered;
}

static void ask_with_tenant(struct operation *operation)
{
    struct validation *validation = operation->domain;
    if (operation->err != ERR_OK)
        end_validation(validation);
    else if (!answer_at_once(validation))
        ask_redis(validation, false);
}

void session_expect(struct session_worker *worker, struct text token)
{
    struct user_tag claimed;
    if (!token_claimed_owner(token, &claimed))
        return;
    cache_prefetch(worker->service->cache, owner_bytes(&claimed), PREFETCH_CHAIN);
    journal_prefetch(worker->service->journal, owner_bytes(&claimed));
}

void session_validate(struct validate *validate)
{
    struct operation *operation = &validate->base;
    struct token *token = &validate->parsed;
    if (!operation_open_token(operation, TOKEN_ACCESS, validate->token, validate->tenant,
                              validate->tenant_bound, ERR_TOKEN_INVALID, token)) {
        operation_done(operation);
        return;
    }
    struct cache *cache = operation->context->worker->service->cache;
    cache_prefetch(cache, owner_bytes(&token->owner), PREFETCH_ENTRY);
    struct validation *validation = arena_zalloc(operation->arena, sizeof(*validation));
    validation->validate = validate;
    memcpy(validation->key.owner, &token->owner, CACHE_OWNER);
    memcpy(validation->key.session, token->session_id, CACHE_SESSION);
    token_hash_secret(operation->context->keyring, TOKEN_ACCESS, token->session_id, token->secret,
                      validation->hash);
    if (is_revoked_here(validation)) {
        end_validation(validation);
    } else if (!tenant_borrow(operation, token->owner.tenant)) {
        operation->domain = validation;
        tenant_enter(operation, token->owner.tenant, ask_with_tenant);
    } else if (!answer_at_once(validation)) {
        tenant_hold(operation);
        ask_redis(validation, false);
    }
}
