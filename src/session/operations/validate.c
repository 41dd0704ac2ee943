/* Validation, the hot path: from memory while it is fresh, else from Redis. In an outage it answers
 * from memory with the age of the entry. No JSON is parsed or built here.
 *
 *   JOURNAL ─► TENANT ─► BOUNDS ─► MEMORY ─► ASK ─► FOUND ─┬─► ADOPT ──┬─► DONE
 *                                             ▲      │     ├─► OFFER ──┤
 *                                             │      │     └─► STALE ──┤
 *                                             └──────┴─ alone          │
 * Each step names the next; any may name DONE once the answer is there. */
#include <assert.h>

#include "bearer.h"
#include "clock.h"
#include "metrics.h"
#include "session/engine/due.h"
#include "session/engine/lookup.h"
#include "session/engine/naming.h"
#include "session/engine/revocation.h"
#include "session/engine/tenant.h"
#include "session/engine/user_update.h"
#include "session/index/index.h"
#include "session/model/session_json.h"
#include "session/model/strength.h"
#include "step_up.h"

/* The step being done, and how it ends. */
enum step {
    STEP_JOURNAL, /* at once: was the session revoked here? */
    STEP_TENANT,  /* waits for tenant_entered(), unless the tenant is known */
    STEP_BOUNDS,  /* at once: the tenant's cutoff and the longest lifetime */
    STEP_MEMORY,  /* at once: answers from a fresh entry */
    STEP_ASK,     /* waits for session_looked_up(), the read of the session */
    STEP_FOUND,   /* at once: judges the answer of Redis, valid during this step */
    STEP_STALE,   /* at once: answers from memory with its age, Redis being no help */
    STEP_ADOPT,   /* waits for address_adopted(), the write of an address */
    STEP_OFFER,   /* waits for validation_offered(), the challenge */
    STEP_DONE,    /* ends the operation */
    STEPS,
    STEP_NONE = STEPS /* nothing to do before the waited step is done */
};

struct validation {
    struct bearer bearer;
    struct validate *validate;
    enum step step;
    struct due due; /* operation->answer_by_ms */
    bool late;      /* it has passed: nothing is waited for any more ... */
    bool answered;  /* ... but the step that goes on, whose outcome no longer matters */
    struct waiter waiter;
    struct lookup_waiter lookup;
    struct adoption adoption;
    int64_t known_version; /* of the entry in memory; 0: none */
    int64_t known_seen_s;
    bool alone;                     /* Redis is asked again, joining no other read ... */
    bool bound;                     /* ... and for the session's bindings too */
    bool readopts;                  /* another address was adopted meanwhile */
    const struct found *found;      /* valid in STEP_FOUND and the steps at once after it */
    struct known_session *adopting; /* STEP_ADOPT */
};

static void run_validation(struct validation *validation, enum step step);

/* Continues after a step that waited. */
static void resume_validation(struct validation *validation, enum step waiting, enum step next)
{
    assert(validation->step == waiting);
    run_validation(validation, next);
}

static struct operation *operation_of(const struct validation *validation)
{
    return &validation->validate->base;
}

/* --- accepting --- */

static void note_use(struct validation *validation, const struct known_session *known,
                     struct lifetimes *lifetimes)
{
    struct operation *operation = operation_of(validation);
    const struct cache_value *cache_value = &known->cache_value;
    const struct user_tag *owner = &validation->validate->parsed.owner;
    int64_t now_s = operation->now_ms / 1000;
    bool away = validation->step == STEP_STALE;
    bool owed = cache_value->head.touch_owed && !away;
    bool behind = rules_is_ahead(cache_value->session.last_seen_s * 1000, operation->now_ms);
    /* A clock that no other confirms moves no use back. */
    if (behind && clock_trust() != CLOCK_AGREED)
        return;
    if (!validation->validate->touch ||
        (!owed && !rules_touch_due(&cache_value->session, &known->policy, now_s)))
        return;
    struct session touched = cache_value->session;
    touched.last_seen_s = now_s;
    *lifetimes = rules_lifetimes(&touched, &known->policy, now_s);
    cache_value_touch(operation->context->worker->service, &validation->bearer.key, cache_value,
                      now_s, away);
    if (away)
        return;
    user_update_touch(operation, owner, touched.id, now_s, lifetimes->session_s * 1000);
    if (owed || index_is_due(cache_value->session.last_seen_s, now_s))
        index_note(operation, owner, &touched);
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

/* Refuses if the caller asks for more than the session's strength. That is fixed with its pair:
 * what raises it makes another pair, so memory's word is the last one. */
static bool is_too_weak(struct validate *validate, const struct known_session *known)
{
    struct operation *operation = &validate->base;
    const struct strength_demand demand = {validate->max_age_s, validate->acr};
    if (!strength_is_asked(&demand))
        return false;
    struct authentication authentication =
        session_json_authentication(known->cache_value.session_json);
    if (strength_meets(&operation->conf->auth_acr_order, &authentication, &demand,
                       operation->now_ms / 1000))
        return false;
    operation_refuse(operation, ERR_INSUFFICIENT_AUTHENTICATION, TEXT(REASON_INSUFFICIENT));
    operation->out.demanded = demand;
    return true;
}

/* The value's texts must lie in the operation's arena. */
static void accept_session(struct validation *validation, const struct known_session *known)
{
    struct validate *validate = validation->validate;
    struct lifetimes lifetimes =
        rules_lifetimes(&known->cache_value.session, &known->policy, validate->base.now_ms / 1000);
    assert(validate->base.out.err == ERR_OK && !validate->session_json.data);
    cache_value_note(&validate->base, &known->cache_value);
    if (is_too_weak(validate, known))
        return;
    note_use(validation, known, &lifetimes);
    validate->session_json = known->cache_value.session_json;
    validate->issued_s = known->cache_value.session.record.issued_ms / 1000;
    validate->access_expires_s = lifetimes.access_s;
    validate->idle_expires_s = lifetimes.idle_s;
    validate->bound = binding_counts(&known->policy);
    validate->from_cache = validation->step == STEP_MEMORY || validation->step == STEP_STALE;
    if (validate->base.tenancy_age_ms > 0)
        mark_stale(validate, validate->base.tenancy_age_ms);
}

/* --- in time --- */

static const struct found found_nothing_in_time = {.err = ERR_STORE_TIMEOUT};

/* An active session that is about to adopt an address is accepted. */
static void answer_early(struct validation *validation)
{
    struct operation *operation = operation_of(validation);
    enum err err = ERR_STORE_TIMEOUT;
    validation->answered = true;
    if (validation->step == STEP_ADOPT && operation->out.err == ERR_OK) {
        accept_session(validation, validation->adopting);
        err = operation->out.err;
    }
    operation->overdue(operation, err);
}

static void validation_overdue(struct due *due)
{
    struct validation *validation = container_of(due, struct validation, due);
    validation->late = true;
    metrics_add(METRIC_VALIDATIONS_HURRIED, 1);
    if (validation->step == STEP_TENANT) {
        tenant_enter_now(operation_of(validation), validation->validate->parsed.owner.tenant);
    } else if (validation->step == STEP_ASK) {
        lookup_leave(&validation->lookup);
        validation->found = &found_nothing_in_time;
        resume_validation(validation, STEP_ASK, STEP_FOUND);
    } else {
        answer_early(validation);
    }
}

/* Called by each step that waits for the store: others need no timer. */
static void watch_time(struct validation *validation)
{
    struct operation *operation = operation_of(validation);
    if (operation->answer_by_ms != 0 && !validation->late && !validation->due.passed)
        due_begin(operation->context->worker, &validation->due, operation->answer_by_ms,
                  validation_overdue);
}

/* --- by this node's knowledge --- */

static bool is_revoked_here(struct validation *validation)
{
    return revocation_refuses(operation_of(validation), &validation->validate->parsed,
                              ERR_TOKEN_INVALID);
}

static enum step check_own_journal(struct validation *validation)
{
    return is_revoked_here(validation) ? STEP_DONE : STEP_TENANT;
}

static void tenant_entered(struct waiter *waiter)
{
    struct validation *validation = container_of(waiter, struct validation, waiter);
    bool known = operation_of(validation)->out.err == ERR_OK;
    resume_validation(validation, STEP_TENANT, known ? STEP_BOUNDS : STEP_DONE);
}

static enum step enter_tenant(struct validation *validation)
{
    struct operation *operation = operation_of(validation);
    const uint8_t *tag = validation->validate->parsed.owner.tenant;
    if (tenant_borrow(operation, tag))
        return STEP_BOUNDS;
    watch_time(validation);
    tenant_enter(operation, tag, waiter_of(&validation->waiter, tenant_entered));
    return STEP_NONE;
}

/* A token older than any session can be is refused without asking Redis, whichever clock is
 * right. */
static enum step check_bounds(struct validation *validation)
{
    assert(operation_of(validation)->tenancy);
    struct operation *operation = operation_of(validation);
    const uint8_t *id = validation->bearer.key.session;
    if (tenant_refuses(operation, id, ERR_TOKEN_INVALID))
        return STEP_DONE;
    int64_t longest_s = operation_longest_life_s(operation);
    if (!operation_outlived(operation, id, longest_s))
        return STEP_MEMORY;
    operation->facts.session_id = operation_session_id(operation, id);
    operation_refuse(operation, ERR_TOKEN_INVALID, reasons_of_cause(CAUSE_EXPIRED));
    operation->own.names_sought = true;
    return STEP_DONE;
}

static void refuse_ended(struct validation *validation, struct text value)
{
    struct tombstone tombstone;
    struct operation *operation = operation_of(validation);
    cache_value_read_ended(value, &tombstone);
    operation->facts.session_id = operation_session_id(operation, validation->bearer.key.session);
    operation_refuse_ended(operation, ERR_TOKEN_INVALID, &tombstone);
}

/* Memory may have missed a refresh, a use elsewhere or a new binding. So it refuses only a token
 * whose time is surely over. */
static bool answer_by_value(struct validation *validation, const struct known_session *known)
{
    enum opinion opinion = bearer_judge(&validation->bearer, known);
    if (opinion == OPINION_GOOD) {
        bearer_learn(&validation->bearer, known);
        accept_session(validation, known);
    } else if (opinion == OPINION_ENDED && bearer_is_over(&validation->bearer, known)) {
        cache_value_note(operation_of(validation), &known->cache_value);
        operation_refuse(operation_of(validation), ERR_TOKEN_INVALID,
                         reasons_of_cause(CAUSE_EXPIRED));
    } else {
        return false;
    }
    return true;
}

static bool answer_from_memory(struct validation *validation)
{
    struct operation *operation = operation_of(validation);
    const struct session_service *service = operation->context->worker->service;
    struct cache_entry entry;
    struct known_session known;
    if (!cache_get(service->cache, &validation->bearer.key, operation->arena, &entry))
        return false;
    if (cache_value_kind(entry.value) == CACHE_VALUE_ENDED) {
        refuse_ended(validation, entry.value);
        return true;
    }
    if (!bearer_open(&validation->bearer, entry.value, &known))
        return false;
    validation->known_version = known.cache_value.head.version;
    validation->known_seen_s = known.cache_value.head.last_seen_s;
    return cache_value_is_fresh(service, &entry, known.cache_value.head.slot, clock_boot_ms()) &&
           answer_by_value(validation, &known);
}

static enum step try_memory(struct validation *validation)
{
    if (!answer_from_memory(validation))
        return STEP_ASK;
    metrics_add(METRIC_CACHE_HITS, 1);
    return STEP_DONE;
}

/* --- Redis --- */

static void session_looked_up(struct lookup_waiter *waiter, const struct found *found)
{
    struct validation *validation = container_of(waiter, struct validation, lookup);
    assert(!validation->alone || !waiter->joined);
    validation->found = found;
    resume_validation(validation, STEP_ASK, STEP_FOUND);
}

static enum step send_session_lookup(struct validation *validation)
{
    struct operation *operation = operation_of(validation);
    const struct token *token = &validation->validate->parsed;
    struct policy policy;
    if (!operation->own.tenancy_held)
        tenant_hold(operation);
    operation_policy(operation, &policy);
    struct lookup_request request =
        lookup_request_of(&token->owner, token->session_id, operation->context->keyring,
                          operation->conf, &policy, operation->deadline_ms);
    request.known_version = validation->known_version;
    request.known_seen_s = validation->known_seen_s;
    request.alone = validation->alone;
    validation->bound = request.bound;
    validation->lookup.done = session_looked_up;
    metrics_add(METRIC_CACHE_MISSES, 1);
    lookup_begin(operation->context->worker, &request, &validation->lookup);
    watch_time(validation);
    if (!validation->late)
        return STEP_NONE;
    lookup_leave(&validation->lookup);
    validation->found = &found_nothing_in_time;
    return STEP_FOUND;
}

static enum step look_up_alone(struct validation *validation)
{
    validation->alone = true;
    return STEP_ASK;
}

/* A joined read may be older than the token's refresh or a new binding. A policy that changed
 * meanwhile may need bindings that were not read. Then the session is looked up again, alone. */
static bool is_no_last_word(const struct validation *validation, enum opinion opinion)
{
    return validation->lookup.joined || (opinion == OPINION_UNBOUND && !validation->bound);
}

/* The policy decides: refuse, or offer a step-up. */
static enum step refuse_elsewhere(struct validation *validation, const struct policy *policy)
{
    struct operation *operation = operation_of(validation);
    if (!binding_refuses(operation, policy, validation->bearer.breaches, ERR_TOKEN_INVALID))
        operation->out.err = ERR_INTERNAL; /* an entry without the bindings asked for */
    if (operation->out.err != ERR_STEP_UP_REQUIRED)
        return STEP_DONE;
    operation->out.err = ERR_OK;
    return STEP_OFFER;
}

static enum step refuse_judged(struct validation *validation)
{
    assert(validation->bearer.cause != CAUSE_NONE);
    struct operation *operation = operation_of(validation);
    enum end_cause cause = validation->bearer.cause;
    operation_refuse(operation, ERR_TOKEN_INVALID,
                     cause == CAUSE_TENANT_CUTOFF ? operation->tenancy->reason
                                                  : reasons_of_cause(cause));
    return STEP_DONE;
}

static enum step judge_active(struct validation *validation)
{
    struct operation *operation = operation_of(validation);
    struct text value = arena_copy(operation->arena, validation->found->value);
    struct known_session known;
    if (!bearer_open(&validation->bearer, value, &known)) {
        operation->out.err = ERR_INTERNAL;
        return STEP_DONE;
    }
    enum opinion opinion = bearer_judge(&validation->bearer, &known);
    if (opinion == OPINION_GOOD) {
        accept_session(validation, &known);
        return STEP_DONE;
    }
    if (is_no_last_word(validation, opinion))
        return look_up_alone(validation);
    bearer_note(&validation->bearer, &known);
    if (opinion == OPINION_ENDED)
        return refuse_judged(validation);
    if (opinion != OPINION_ADOPT)
        return refuse_elsewhere(validation, &known.policy);
    validation->adopting = arena_alloc(operation->arena, sizeof(known));
    *validation->adopting = known;
    return STEP_ADOPT;
}

static enum step refuse_found(struct operation *operation, const struct found *found)
{
    struct tombstone tombstone = found->tombstone;
    tombstone.reason = arena_copy(operation->arena, tombstone.reason);
    tombstone.actor = arena_copy(operation->arena, tombstone.actor);
    operation_refuse_ended(operation, ERR_TOKEN_INVALID, &tombstone);
    return STEP_DONE;
}

/* A session in memory but not in Redis is lost, if its time is not over: unknown to Redis, not
 * invalid. But if tokens of the user died since, it may be one of them, and its tombstone gone. */
static bool is_lost(const struct validation *validation)
{
    return validation->found->epoch <= validation->known_version && validation->known_version > 0;
}

static enum step refuse_missing(struct validation *validation)
{
    static const struct user_state nothing;
    operation_refuse_missing(operation_of(validation), &nothing, &validation->validate->parsed,
                             ERR_TOKEN_INVALID);
    return STEP_DONE;
}

static enum step judge_found(struct validation *validation)
{
    switch (validation->found->kind) {
    case FOUND_ACTIVE:
        return judge_active(validation);
    case FOUND_MISSING:
        return is_lost(validation) ? STEP_STALE : refuse_missing(validation);
    case FOUND_ENDED:
    case FOUND_REFUSED:
        break;
    }
    return refuse_found(operation_of(validation), validation->found);
}

static enum step use_found(struct validation *validation)
{
    assert(validation->found && operation_of(validation)->own.tenancy_held);
    struct operation *operation = operation_of(validation);
    const struct found *found = validation->found;
    const struct cache_key *key = &validation->bearer.key;
    operation->facts.session_id = operation_session_id(operation, key->session);
    if (found->err == ERR_OK && found->kind != FOUND_ACTIVE)
        naming_note(operation, &found->names);
    /* It may have been revoked here meanwhile, or Redis may have sent the tenant's state. */
    if (is_revoked_here(validation) || (tenant_renew(operation, key->owner) &&
                                        tenant_refuses(operation, key->session, ERR_TOKEN_INVALID)))
        return STEP_DONE;
    if (found->err == ERR_OK)
        return judge_found(validation);
    if (err_is_outage(found->err))
        return STEP_STALE;
    operation->out.err = found->err;
    return STEP_DONE;
}

/* --- in an outage --- */

static enum step try_stale_memory(struct validation *validation)
{
    struct known_session known;
    int64_t age_ms;
    assert(validation->found && validation->found->kind != FOUND_ACTIVE);
    if (bearer_vouch(&validation->bearer, &known, &age_ms)) {
        accept_session(validation, &known);
        if (operation_of(validation)->out.err == ERR_OK)
            mark_stale(validation->validate, age_ms);
    } else if (validation->found->err == ERR_OK) {
        return refuse_missing(validation);
    } else {
        operation_of(validation)->out.err = validation->found->err;
    }
    return STEP_DONE;
}

/* --- use from elsewhere --- */

static void validation_offered(struct waiter *waiter)
{
    resume_validation(container_of(waiter, struct validation, waiter), STEP_OFFER, STEP_DONE);
}

static enum step offer_challenge(struct validation *validation)
{
    const struct bearer *bearer = &validation->bearer;
    step_up_offer(operation_of(validation), &bearer->token->owner, bearer->key.session,
                  &bearer->context, bearer->breaches,
                  waiter_of(&validation->waiter, validation_offered));
    return STEP_NONE;
}

/* Another address of the session's family may have been adopted first. */
static void address_adopted(struct waiter *waiter)
{
    struct validation *validation = container_of(waiter, struct validation, adoption.waiter);
    struct operation *operation = operation_of(validation);
    bool idle = validation->adoption.cause == CAUSE_IDLE;
    if (validation->answered) {
        resume_validation(validation, STEP_ADOPT, STEP_DONE);
        return;
    }
    operation->out.durability = DURABILITY_NONE;
    if (operation->out.err == ERR_TOKEN_INVALID && !idle && !validation->readopts) {
        validation->readopts = true;
        operation_refuse(operation, ERR_OK, (struct text){0});
        resume_validation(validation, STEP_ADOPT, look_up_alone(validation));
        return;
    }
    /* An active session is not refused because Redis does not accept a write, or lacks a use so
     * far. It adopts the address another time. */
    if (err_is_undecided(operation->out.err) || idle)
        operation_refuse(operation, ERR_OK, (struct text){0});
    if (operation->out.err == ERR_OK)
        accept_session(validation, validation->adopting);
    resume_validation(validation, STEP_ADOPT, STEP_DONE);
}

static enum step adopt_address(struct validation *validation)
{
    const struct bearer *bearer = &validation->bearer;
    step_up_adopt(operation_of(validation), &bearer->token->owner, bearer->key.session,
                  &bearer->context, &validation->adoption, address_adopted);
    return STEP_NONE;
}

/* --- the steps --- */

static enum step end_validation(struct validation *validation)
{
    assert(validation->step == STEP_DONE);
    struct validate *validate = validation->validate;
    crypto_wipe(&validate->parsed, sizeof(validate->parsed));
    due_end(validate->base.context->worker, &validation->due);
    naming_done(&validate->base);
    return STEP_NONE;
}

/* A step that waits may end the whole validation before it returns. */
static void run_validation(struct validation *validation, enum step step)
{
    static enum step (*const steps[STEPS])(struct validation * validation) = {
        [STEP_JOURNAL] = check_own_journal, [STEP_TENANT] = enter_tenant,
        [STEP_BOUNDS] = check_bounds,       [STEP_MEMORY] = try_memory,
        [STEP_ASK] = send_session_lookup,   [STEP_FOUND] = use_found,
        [STEP_STALE] = try_stale_memory,    [STEP_ADOPT] = adopt_address,
        [STEP_OFFER] = offer_challenge,     [STEP_DONE] = end_validation,
    };
    while (step != STEP_NONE) {
        assert(step < STEPS);
        assert(step > validation->step || validation->step == STEP_JOURNAL ||
               (step == STEP_ASK && validation->alone));
        validation->step = step;
        step = steps[step](validation);
    }
}

size_t session_validated_roles(const struct validate *validate, struct text *ret, size_t most)
{
    struct text rest = session_json_roles(validate->session_json);
    size_t count = 0;
    while (count < most && session_json_next_role(&rest, validate->base.arena, &ret[count]))
        count++;
    return count;
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
        naming_done(operation);
        return;
    }
    struct cache *cache = operation->context->worker->service->cache;
    cache_prefetch(cache, owner_bytes(&token->owner), PREFETCH_ENTRY);
    struct validation *validation = arena_zalloc(operation->arena, sizeof(*validation));
    validation->validate = validate;
    bearer_init(&validation->bearer, operation, token);
    run_validation(validation, STEP_JOURNAL);
}
