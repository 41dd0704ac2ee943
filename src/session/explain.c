/* Explaining a token: everybody who may know is asked and quoted, then judged as a validation
 * would. Nothing is changed: no touch, no repair. */
#include <string.h>

#include "cached.h"
#include "clock.h"
#include "freezing.h"
#include "metrics.h"
#include "operation.h"
#include "revocation.h"
#include "rules.h"
#include "shown.h"
#include "tenant.h"

struct explanation {
    struct explain *explain;
    enum token_kind kind;
    struct token token;
    struct cache_key name; /* of its session */
    uint8_t hash[SECRET_HASH];
    bool whole; /* the record has the hashes of refresh tokens, too; memory has not */
    struct store_call call;
    struct text arguments[2];
    char key[USER_KEY_LENGTH];
    int64_t fence_ms; /* as it was when the state was asked for */
};

static const struct statement nothing = {.says = SAYS_NOTHING};

static void end_explanation(struct explanation *work)
{
    crypto_wipe(&work->token, sizeof(work->token));
    operation_done(&work->explain->base);
}

static struct statement dead(struct text reason)
{
    return (struct statement){.says = SAYS_DEAD, .reason = reason};
}

static struct statement buried(struct arena *arena, const struct tombstone *tombstone)
{
    return (struct statement){
        .says = SAYS_DEAD,
        .reason = arena_copy(arena, tombstone->reason),
        .actor = arena_copy(arena, tombstone->actor),
        .at_s = tombstone->ended_s,
    };
}

/* --- the token against a record --- */

/* Why the token is no good, absent if it is. */
static struct text judge(const struct explanation *work, const struct user_record *user,
                         const struct session *session, const struct policy *policy)
{
    int64_t now_ms = work->explain->base.now_ms;
    struct text reason;
    if (work->kind == TOKEN_ACCESS)
        return rules_judge_access(user, session, work->hash, policy, now_ms);
    if (!work->whole)
        return rules_dead(user, session, policy, now_ms);
    if (rules_judge_refresh(user, session, work->hash, policy, now_ms, &reason) == REFRESH_REUSE)
        return TEXT(REASON_REUSE);
    return reason;
}

static struct text pair_of(const struct explanation *work, const struct record *record)
{
    bool access = work->kind == TOKEN_ACCESS;
    const uint8_t *present = access ? record->access_hash : record->refresh_hash;
    const uint8_t *previous = access ? record->previous_access_hash : record->previous_refresh_hash;
    if (!access && !work->whole)
        return (struct text){0};
    if (crypto_equal(work->hash, present, SECRET_HASH))
        return TEXT("present");
    if (record->has_previous && crypto_equal(work->hash, previous, SECRET_HASH))
        return TEXT("previous");
    return TEXT("older");
}

/* `shown` is complete, and in the arena. */
static void describe(const struct explanation *work, const struct session *session,
                     struct text shown, const struct policy *policy)
{
    struct explain *explain = work->explain;
    struct lifetimes lifetimes = rules_lifetimes(session, policy);
    explain->shown = shown;
    explain->pair = pair_of(work, &session->record);
    explain->remember = session->record.remember;
    explain->issued_s = session->record.issued_ms / 1000;
    explain->last_seen_s = session->last_seen_s;
    explain->access_expires_s = lifetimes.access_s;
    explain->idle_expires_s = lifetimes.idle_s;
    explain->session_expires_s = lifetimes.session_s;
}

static struct statement word_on(const struct explanation *work, const struct user_record *user,
                                const struct session *session, const struct policy *policy)
{
    struct text reason = judge(work, user, session, policy);
    return reason.data ? dead(reason) : (struct statement){.says = SAYS_ALIVE};
}

/* --- this node --- */

static void ask_journal(struct explanation *work)
{
    struct explain *explain = work->explain;
    struct journal *journal = explain->base.context->worker->service->journal;
    struct revocation found;
    if (!journal_find(journal, work->name.owner, work->name.session,
                      token_session_created_ms(work->name.session), explain->base.arena, &found))
        return;
    explain->journal = dead(revocation_reason(&found));
    explain->journal.actor = found.actor;
    explain->journal.at_s = found.at_ms / 1000;
    explain->journal_pending = !found.settled;
}

static void ask_memory(struct explanation *work)
{
    static const struct user_record nothing_holds;
    struct explain *explain = work->explain;
    struct operation *operation = &explain->base;
    const struct session_service *service = operation->context->worker->service;
    struct cache_entry entry;
    struct cached cached;
    struct tombstone tombstone;
    struct policy policy;
    if (!cache_get(service->cache, &work->name, operation->arena, &entry))
        return;
    if (cached_kind(entry.value) == CACHED_DEAD) {
        cached_read_dead(entry.value, &tombstone);
        explain->memory = buried(operation->arena, &tombstone);
        explain->memory_fresh = true; /* that stays true */
        return;
    }
    if (!cached_read_live(entry.value, work->name.session, &cached))
        return;
    int64_t now_ms = clock_monotonic_ms();
    int64_t verified_ms = cached_verified_ms(service, &entry, cached.head.slot);
    operation_session_policy(operation, cached.shown, cached_device_type(&cached, operation->arena),
                             &policy);
    explain->memory = word_on(work, &nothing_holds, &cached.session, &policy);
    explain->memory_fresh = cached_is_fresh(service, &entry, cached.head.slot, now_ms);
    explain->memory_age_s = now_ms > verified_ms ? (now_ms - verified_ms) / 1000 : 0;
    cached_note(operation, &cached);
    describe(work, &cached.session, cached.shown, &policy);
}

/* --- Redis --- */

static struct statement word_of_state(const struct explanation *work,
                                      const struct user_state *state, const struct policy *policy)
{
    const struct session *session = state_find(state, work->token.session_id);
    const struct grave *grave = state_find_grave(state, work->token.session_id);
    if (session)
        return word_on(work, &state->user, session, policy);
    return grave ? buried(work->explain->base.arena, &grave->tombstone) : nothing;
}

static void tell_user(struct explain *explain, const struct user_record *user)
{
    explain->user_known = true;
    explain->frozen = rules_frozen(user, explain->base.now_ms / 1000);
    explain->not_before_s = user->not_before_ms / 1000;
    if (explain->frozen) {
        explain->frozen_reason = user->frozen_reason;
        explain->frozen_until_s = user->frozen_until_s;
    }
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
    explain->redis = word_of_state(work, state, &policy);
    if (session) {
        operation_note_session(operation, session);
        describe(work, session,
                 shown_complete(operation->arena, session->record.shown, session->id), &policy);
    }
    (void)revocation_apply(operation, state, &work->token.owner, NULL, &policy);
    explain->verdict = word_of_state(work, state, &policy);
    tell_user(explain, &state->user);
}

/* Everybody of the tenant was logged out. */
static struct statement word_of_tenant(const struct operation *operation)
{
    const struct tenant *tenant = operation->tenancy;
    struct tombstone tombstone = {tenant->reason, tenant->actor, tenant->ended_s, 0};
    return buried(operation->arena, &tombstone);
}

/* Who knows it is dead is right. Else Redis' word counts; without it memory's, if there is one. */
static void conclude(struct explanation *work)
{
    struct explain *explain = work->explain;
    struct operation *operation = &explain->base;
    struct policy policy;
    bool forgotten = explain->redis.says == SAYS_NOTHING;
    explain->from_cache = explain->redis.says == SAYS_UNAVAILABLE;
    if (explain->journal.says == SAYS_DEAD) {
        explain->verdict = explain->journal;
    } else if (token_session_created_ms(work->token.session_id) <
               operation->tenancy->not_before_ms) {
        explain->verdict = word_of_tenant(operation);
    } else if (explain->from_cache || (forgotten && explain->memory.says == SAYS_DEAD)) {
        explain->verdict = explain->memory;
    } else if (forgotten) {
        operation_policy(operation, &policy);
        explain->verdict =
            dead(rules_judge_missing(work->token.session_id, &policy, operation->now_ms));
    }
    end_explanation(work);
}

static bool is_behind(const struct explanation *work, const struct user_state *state)
{
    return state->version > 0 && state->epoch < work->fence_ms;
}

static void state_came(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct explanation *work =
        (struct explanation *)((char *)call - offsetof(struct explanation, call));
    struct explain *explain = work->explain;
    struct state_codec codec = operation_codec(&explain->base, &work->token.owner);
    struct user_state state;
    if (err == ERR_OK)
        err = state_read(&codec, reply, explain->base.arena, &state);
    if (err == ERR_OK && is_behind(work, &state))
        err = ERR_STORE_BEHIND;
    if (err == ERR_OK) {
        explain_state(work, &state);
    } else {
        explain->redis.says = SAYS_UNAVAILABLE;
        explain->redis_err = err;
    }
    conclude(work);
}

static void ask_redis(struct explanation *work)
{
    const struct operation *operation = &work->explain->base;
    struct session_worker *worker = operation->context->worker;
    token_user_key(&work->token.owner, 'u', work->key);
    work->fence_ms = fence_of(worker->service->fence, &work->token.owner, clock_wall_ms());
    work->arguments[0] = TEXT("HGETALL");
    work->arguments[1] = (struct text){work->key, USER_KEY_LENGTH};
    work->call = (struct store_call){
        .key = work->arguments[1],
        .arguments = work->arguments,
        .argument_count = 2,
        .flags = STORE_REPEATABLE,
        .deadline_ms = operation->deadline_ms,
        .done = state_came,
    };
    store_send(worker->link, &work->call);
}

/* --- what it is --- */

static struct text tag_text(struct arena *arena, const uint8_t *tag, size_t length)
{
    char *digits = arena_alloc(arena, (length * 4 + 2) / 3);
    return (struct text){digits, text_to_base64url(digits, tag, length)};
}

static void name_token(struct explanation *work)
{
    struct explain *explain = work->explain;
    struct operation *operation = &explain->base;
    const struct token *token = &work->token;
    explain->issued = true;
    explain->key_id = token->key_id;
    explain->tenant_tag = tag_text(operation->arena, token->owner.tenant, TENANT_TAG);
    explain->user_tag = tag_text(operation->arena, token->owner.user, USER_TAG);
    explain->created_s = token_session_created_ms(token->session_id) / 1000;
    operation->session_id = operation_session_id(operation, token->session_id);
    memcpy(work->name.owner, &token->owner, CACHE_OWNER);
    memcpy(work->name.session, token->session_id, CACHE_SESSION);
    token_hash_secret(operation->context->keyring, work->kind, token->session_id, token->secret,
                      work->hash);
}

/* The first three characters tell what it claims to be. */
static bool claims(struct text token, const char *prefix)
{
    return token.length >= 3 && memcmp(token.data, prefix, 3) == 0;
}

static bool open_token(struct explanation *work)
{
    struct explain *explain = work->explain;
    work->kind = claims(explain->token, "sr_") ? TOKEN_REFRESH : TOKEN_ACCESS;
    bool open = operation_open_token(&explain->base, work->kind, explain->token, explain->tenant,
                                     explain->tenant_bound, ERR_TOKEN_INVALID, &work->token);
    bool shaped = open || text_equal(explain->base.reason, TEXT(REASON_UNKNOWN));
    explain->kind = work->kind == TOKEN_REFRESH ? TEXT("refresh") : TEXT("access");
    if (!shaped)
        explain->kind = TEXT("unknown");
    return open;
}

static void ask_with_tenant(struct operation *operation)
{
    struct explanation *work = operation->domain;
    if (operation->err != ERR_OK) {
        end_explanation(work);
        return;
    }
    ask_journal(work);
    ask_memory(work);
    ask_redis(work);
}

void session_explain(struct explain *explain)
{
    struct operation *operation = &explain->base;
    struct explanation *work = arena_zalloc(operation->arena, sizeof(*work));
    work->explain = explain;
    if (!open_token(work)) {
        if (operation->err == ERR_TOKEN_INVALID) {
            explain->verdict = dead(operation->reason);
            operation->err = ERR_OK;
            operation->reason = (struct text){0};
        }
        end_explanation(work);
        return;
    }
    name_token(work);
    operation->domain = work;
    tenant_enter_blindly(operation, work->token.owner.tenant, ask_with_tenant);
}
