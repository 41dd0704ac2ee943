/* Explains a token: asks memory, journal and Redis, reports each, then judges as a validation
 * would. Changes nothing: no touch, no repair. */
#include <assert.h>
#include <string.h>

#include "clock.h"
#include "session/engine/cache_value.h"
#include "session/engine/operation.h"
#include "session/engine/revocation.h"
#include "session/engine/tenant.h"
#include "session/engine/user_read.h"
#include "session/model/rules.h"
#include "session/model/session_json.h"
#include "session_list.h"

struct explanation {
    struct explain *explain;
    struct waiter waiter;
    enum token_kind kind;
    struct token token;
    struct cache_key name; /* of its session */
    uint8_t hash[SECRET_HASH];
    bool named; /* a session by name, without a token */
    bool whole; /* the record has the hashes of refresh tokens too; memory lacks them */
    struct user_read read;
};

static const struct source_verdict nothing = {.state = SOURCE_UNKNOWN};

static void end_explanation(struct explanation *work)
{
    crypto_wipe(&work->token, sizeof(work->token));
    naming_done(&work->explain->base);
}

static struct source_verdict ended_for(struct text reason)
{
    return (struct source_verdict){.state = SOURCE_ENDED, .reason = reason};
}

static struct source_verdict ended_with(struct arena *arena, const struct tombstone *tombstone)
{
    return (struct source_verdict){
        .state = SOURCE_ENDED,
        .reason = arena_copy(arena, tombstone->reason),
        .actor = arena_copy(arena, tombstone->actor),
        .at_s = tombstone->ended_s,
    };
}

/* --- the token against a record --- */

/* Why the token is not valid, or the session over; else CAUSE_NONE. */
static enum end_cause judge_explained(const struct explanation *work,
                                      const struct user_record *user, const struct session *session,
                                      const struct policy *policy)
{
    int64_t now_ms = work->explain->base.now_ms;
    enum end_cause cause;
    if (work->named)
        return rules_end_cause(user, session, policy, now_ms);
    if (work->kind == TOKEN_ACCESS)
        return rules_judge_access(user, session, work->hash, policy, now_ms);
    if (!work->whole)
        return rules_end_cause(user, session, policy, now_ms);
    if (rules_judge_refresh(user, session, work->hash, policy, now_ms, &cause) == REFRESH_REUSE)
        return CAUSE_REUSE;
    return cause;
}

static struct text pair_of(const struct explanation *work, const struct record *record)
{
    bool access = work->kind == TOKEN_ACCESS;
    const uint8_t *present = access ? record->access_hash : record->refresh_hash;
    const uint8_t *previous = access ? record->previous_access_hash : record->previous_refresh_hash;
    if (work->named || (!access && !work->whole))
        return (struct text){0};
    if (crypto_equal(work->hash, present, SECRET_HASH))
        return TEXT("present");
    if (record->has_previous && crypto_equal(work->hash, previous, SECRET_HASH))
        return TEXT("previous");
    return TEXT("older");
}

/* `session_json` is complete, and in the arena. */
static void describe_session(const struct explanation *work, const struct session *session,
                             struct text session_json, const struct policy *policy)
{
    struct explain *explain = work->explain;
    struct lifetimes lifetimes = rules_lifetimes(session, policy, explain->base.now_ms / 1000);
    explain->session_json = session_json;
    explain->created_s = rules_began_s(session);
    explain->pair = pair_of(work, &session->record);
    explain->remember = session->record.remember;
    explain->issued_s = session->record.issued_ms / 1000;
    explain->last_seen_s = session->last_seen_s;
    explain->access_expires_s = lifetimes.access_s;
    explain->idle_expires_s = lifetimes.idle_s;
    explain->session_expires_s = lifetimes.session_s;
}

static struct source_verdict verdict_on(const struct explanation *work,
                                        const struct user_record *user,
                                        const struct session *session, const struct policy *policy)
{
    enum end_cause cause = judge_explained(work, user, session, policy);
    return cause ? ended_for(reasons_of_cause(cause))
                 : (struct source_verdict){.state = SOURCE_ACTIVE};
}

/* --- this node --- */

static void explain_from_journal(struct explanation *work)
{
    assert(work->explain->issued);
    struct explain *explain = work->explain;
    struct journal *journal = explain->base.context->worker->service->journal;
    struct revocation found;
    if (!journal_find(journal, work->name.owner, work->name.session,
                      token_session_created_ms(work->name.session), explain->base.arena, &found))
        return;
    explain->journal = ended_for(revocation_reason(&found));
    explain->journal.actor = found.actor;
    explain->journal.at_s = found.at_ms / 1000;
    explain->journal_pending = !found.confirmed;
}

static void explain_from_memory(struct explanation *work)
{
    static const struct user_record nothing_holds;
    struct explain *explain = work->explain;
    struct operation *operation = &explain->base;
    const struct session_service *service = operation->context->worker->service;
    struct cache_entry entry;
    struct cache_value cache_value;
    struct tombstone tombstone;
    struct policy policy;
    if (!cache_get(service->cache, &work->name, operation->arena, &entry))
        return;
    if (cache_value_kind(entry.value) == CACHE_VALUE_ENDED) {
        cache_value_read_ended(entry.value, &tombstone);
        explain->memory = ended_with(operation->arena, &tombstone);
        explain->memory_fresh = true; /* an ended session stays ended */
        return;
    }
    if (!cache_value_read_active(entry.value, work->name.session, &cache_value))
        return;
    uint8_t mac[SECRET_HASH];
    if (work->kind == TOKEN_ACCESS && !work->named &&
        cache_value_recognise(service, &cache_value, &work->token, mac))
        memcpy(cache_value.session.record.access_hash, work->hash, SECRET_HASH);
    int64_t now_ms = clock_boot_ms();
    int64_t verified_ms = cache_value_verified_ms(service, &entry, cache_value.head.slot);
    operation_session_policy(operation, cache_value.session_json,
                             cache_value_device_type(&cache_value, operation->arena), &policy);
    explain->memory = verdict_on(work, &nothing_holds, &cache_value.session, &policy);
    explain->memory_fresh = cache_value_is_fresh(service, &entry, cache_value.head.slot, now_ms);
    explain->memory_age_s = now_ms > verified_ms ? (now_ms - verified_ms) / 1000 : 0;
    cache_value_note(operation, &cache_value);
    describe_session(work, &cache_value.session, cache_value.session_json, &policy);
}

/* --- Redis --- */

static struct source_verdict verdict_of_state(const struct explanation *work,
                                              const struct user_state *state,
                                              const struct policy *policy)
{
    const struct session *session = state_find(state, work->token.session_id);
    const struct tombstone_entry *tombstone = state_find_tombstone(state, work->token.session_id);
    if (session)
        return verdict_on(work, &state->user, session, policy);
    return tombstone ? ended_with(work->explain->base.arena, &tombstone->tombstone) : nothing;
}

static void explain_state(struct explanation *work, struct user_state *state)
{
    struct explain *explain = work->explain;
    struct operation *operation = &explain->base;
    struct session *session = state_find(state, work->token.session_id);
    struct policy policy;
    operation_policy(operation, &policy);
    operation_apply_policies(operation, state);
    work->whole = true;
    explain->redis = verdict_of_state(work, state, &policy);
    if (session) {
        operation_note_session(operation, session);
        describe_session(work, session,
                         session_json_complete(operation->arena, session->record.session_json,
                                               session->id, rules_began_s(session)),
                         &policy);
    }
    (void)revocation_apply(operation, state, &work->token.owner, NULL, &policy);
    explain->verdict = verdict_of_state(work, state, &policy);
    explain->user_known = true;
    explain->user = session_list_user(&state->user, operation->now_ms / 1000);
}

/* All sessions of the tenant were ended. */
static struct source_verdict verdict_of_tenant(const struct operation *operation)
{
    const struct tenant *tenant = operation->tenancy;
    struct tombstone tombstone = {tenant->reason, tenant->actor, tenant->ended_s, 0};
    return ended_with(operation->arena, &tombstone);
}

/* A source that has the session as ended is right. Otherwise Redis decides, or without it
 * memory. */
static void conclude_verdict(struct explanation *work)
{
    assert(work->explain->base.tenancy);
    struct explain *explain = work->explain;
    struct operation *operation = &explain->base;
    struct policy policy;
    bool forgotten = explain->redis.state == SOURCE_UNKNOWN;
    explain->from_cache = explain->redis.state == SOURCE_UNAVAILABLE;
    if (explain->journal.state == SOURCE_ENDED) {
        explain->verdict = explain->journal;
    } else if (token_session_created_ms(work->token.session_id) <
               operation->tenancy->not_before_ms) {
        explain->verdict = verdict_of_tenant(operation);
    } else if (explain->from_cache || (forgotten && explain->memory.state == SOURCE_ENDED)) {
        explain->verdict = explain->memory;
    } else if (forgotten) {
        operation_policy(operation, &policy);
        explain->verdict = ended_for(reasons_of_cause(
            rules_judge_missing(work->token.session_id, &policy, operation->now_ms)));
    }
    end_explanation(work);
}

static void state_read_for(struct user_read *read, enum err err, struct user_state *state)
{
    struct explanation *work = container_of(read, struct explanation, read);
    if (err == ERR_OK) {
        explain_state(work, state);
    } else {
        work->explain->redis.state = SOURCE_UNAVAILABLE;
        work->explain->redis_err = err;
    }
    conclude_verdict(work);
}

/* --- the token itself --- */

static struct text tag_text(struct arena *arena, const uint8_t *tag, size_t length)
{
    char *digits = arena_alloc(arena, (length * 4 + 2) / 3);
    return (struct text){digits, text_to_base64url(digits, tag, length)};
}

static void name_session(struct explanation *work)
{
    struct explain *explain = work->explain;
    struct operation *operation = &explain->base;
    const struct token *token = &work->token;
    explain->issued = true;
    explain->key_id = token->key_id;
    explain->tenant_tag = tag_text(operation->arena, token->owner.tenant, TENANT_TAG);
    explain->user_tag = tag_text(operation->arena, token->owner.user, USER_TAG);
    explain->created_s = token_session_created_ms(token->session_id) / 1000;
    operation->facts.session_id = operation_session_id(operation, token->session_id);
    memcpy(work->name.owner, &token->owner, OWNER_TAG);
    memcpy(work->name.session, token->session_id, SESSION_ID);
}

/* The first three characters claim the kind. */
static bool claims_kind(struct text token, const char *prefix)
{
    return token.length >= 3 && memcmp(token.data, prefix, 3) == 0;
}

static bool open_token(struct explanation *work)
{
    struct explain *explain = work->explain;
    work->kind = claims_kind(explain->token, "sr_") ? TOKEN_REFRESH : TOKEN_ACCESS;
    bool open = operation_open_token(&explain->base, work->kind, explain->token, explain->tenant,
                                     explain->tenant_bound, ERR_TOKEN_INVALID, &work->token);
    bool shaped = open || token_is_shaped(work->kind, explain->token);
    explain->kind = work->kind == TOKEN_REFRESH ? TEXT("refresh") : TEXT("access");
    if (!shaped)
        explain->kind = TEXT("unknown");
    if (open)
        token_hash_secret(explain->base.context->keyring, work->kind, work->token.session_id,
                          work->token.secret, work->hash);
    return open;
}

/* A name cannot be invalid: an unused one is merely unknown. */
static bool open_name(struct explanation *work)
{
    struct explain *explain = work->explain;
    struct operation *operation = &explain->base;
    struct token *token = &work->token;
    work->named = true;
    work->kind = TOKEN_ACCESS;
    token_tag_user(operation->context->keyring, explain->tenant, explain->user_id, &token->owner);
    explain->kind = TEXT("session");
    operation->facts.tenant = explain->tenant;
    operation->facts.user_id = explain->user_id;
    return text_from_hex(token->session_id, SESSION_ID, explain->session_id);
}

static void ask_with_tenant(struct waiter *waiter)
{
    struct explanation *work = container_of(waiter, struct explanation, waiter);
    struct operation *operation = &work->explain->base;
    if (operation->out.err != ERR_OK) {
        end_explanation(work);
        return;
    }
    explain_from_journal(work);
    explain_from_memory(work);
    work->read = (struct user_read){
        .done = state_read_for, .operation = operation, .owner = work->token.owner};
    user_read_begin(&work->read, false);
}

void session_explain(struct explain *explain)
{
    struct operation *operation = &explain->base;
    struct explanation *work = arena_zalloc(operation->arena, sizeof(*work));
    work->explain = explain;
    if (!(explain->token.data ? open_token(work) : open_name(work))) {
        if (operation->out.err == ERR_TOKEN_INVALID) {
            explain->verdict = ended_for(operation->out.reason);
            operation->out.err = ERR_OK;
            operation->out.reason = (struct text){0};
        }
        end_explanation(work);
        return;
    }
    name_session(work);
    tenant_enter_or_defaults(operation, work->token.owner.tenant,
                             waiter_of(&work->waiter, ask_with_tenant));
}
