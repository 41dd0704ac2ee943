/* Read, decide, write for session_tenant().
 *
 *   enter ──► read ──► decide ──► write ──► remember ──► answer
 *                        ▲          └─ conflict: the script answers with the state it found
 *
 * States are compared as stored bytes. They are sealed with a random nonce, so after a write of
 * unknown outcome the bytes of the next read tell whether that write happened. */
#include "tenant_update.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "attempts.h"
#include "background.h"
#include "clock.h"
#include "metrics.h"
#include "operation.h"
#include "session/model/keys.h"
#include "session/model/rules.h"
#include "tenant.h"
#include "tenant_record.h"

enum { ROUNDS_MAX = 100 };

/* KEYS[1] the tenant's state. ARGV: the expected bytes ("": none), the new bytes. Returns 1, or on
 * conflict a list of the bytes found. */
static struct store_script write_script = {
    .source = "local found = redis.call('GET', KEYS[1]) or ''\n"
              "if found ~= ARGV[1] then return {found} end\n"
              "redis.call('SET', KEYS[1], ARGV[2])\n"
              "return 1\n",
};

void tenant_update_prepare(void)
{
    store_script_prepare(&write_script);
}

struct tenant_change {
    struct store_call store;
    struct tenant_call *call;
    struct waiter waiter;
    uint8_t tag[TENANT_TAG];
    char key[KEYS_TENANT_LENGTH];
    struct text arguments[2];
    struct text present;      /* stored bytes, "" for none */
    struct text *written;     /* the key, and the bytes sent */
    struct attempts attempts; /* writes of unknown outcome */
    struct tenant *next;      /* the state to write; a reference */
    struct tenant *known;     /* a state to restore, a reference; NULL for a caller's change */
    unsigned rounds;
};

static struct tenant_change *tenant_update_of(struct store_call *store)
{
    return (struct tenant_change *)store;
}

/* --- the answer --- */

static void note_policy(struct tenant_call *call, const struct policy_document *document)
{
    const struct operation *operation = &call->base;
    struct buffer printed = {0};
    policy_print(operation->conf, document, &printed);
    call->policy = arena_copy(operation->arena, buffer_text(&printed));
    buffer_free(&printed);
    const struct text parts[] = {call->tenant, policy_json(document), call->policy};
    etag_print(operation->context->keyring, parts, 3, call->etag);
}

static void note_changes(struct tenant_call *call, const struct policy_document *before,
                         const struct policy_document *after)
{
    SCOPED(buffer_free) struct buffer list = {0};
    struct changes changes = {.out = &list};
    changes_add_json(&changes, policy_json(before), policy_json(after));
    changes_end(&changes);
    call->changes = arena_copy(call->base.arena, buffer_text(&list));
}

static void end_tenant_update(struct tenant_change *work, enum err err)
{
    tenant_state_unref(&work->next);
    tenant_state_unref(&work->known);
    if (err != ERR_OK)
        work->call->base.out.err = err;
    naming_done(&work->call->base);
}

static void refuse_policy(struct operation *operation, enum err err, const struct buffer *sentence)
{
    operation_refuse(operation, err, (struct text){0});
    operation->out.detail = arena_copy(operation->arena, buffer_text(sentence));
}

/* --- deciding --- */

/* The policy as the caller asks for it. NULL for none, or with a sentence in *error. */
static struct policy_document *read_given_policy(const struct tenant_call *call,
                                                 const struct tenant *present, struct buffer *error)
{
    const struct conf *conf = call->base.conf;
    switch (call->action) {
    case TENANT_PUT:
        return policy_parse(conf, call->given, error);
    case TENANT_PATCH:
        return policy_patch(conf, present->policy, call->given, error);
    case TENANT_DELETE:
        return NULL;
    default:
        return policy_ref(present->policy);
    }
}

/* The resulting policy, NULL for none. False with the operation refused. */
static bool make_policy(struct tenant_call *call, const struct tenant *present,
                        struct policy_document **ret)
{
    SCOPED(buffer_free) struct buffer error = {0};
    enum err err = ERR_OK;
    bool whole = call->action != TENANT_PATCH;
    *ret = read_given_policy(call, present, &error);
    if (error.length > 0) {
        err = ERR_BODY_INVALID;
    } else if (call->bound &&
               !policy_keep_platform(call->base.conf, present->policy, whole, ret, &error)) {
        err = ERR_FORBIDDEN;
    } else if (policy_json(*ret).length > POLICY_MAX) {
        buffer_addf(&error, "The policy takes %zu bytes of JSON; at most %d are allowed",
                    policy_json(*ret).length, POLICY_MAX);
        err = ERR_TOO_LARGE;
    }
    if (err != ERR_OK) {
        policy_unref(ret);
        refuse_policy(&call->base, err, &error);
    }
    return err == ERR_OK;
}

static bool condition_holds(struct tenant_call *call, const struct tenant *present)
{
    if (!call->if_match.given)
        return true;
    note_policy(call, present->policy);
    if (etag_holds(&call->if_match, call->etag))
        return true;
    operation_refuse(&call->base, ERR_PRECONDITION_FAILED, (struct text){0});
    return false;
}

static void set_cutoff(const struct tenant_call *call, struct tenant *next)
{
    assert(call->action == TENANT_END_ALL);
    int64_t now_ms = call->base.now_ms;
    next->not_before_ms = rules_cutoff_ms(next->not_before_ms, now_ms);
    next->ended_s = now_ms / 1000;
    next->reason = call->why;
    next->actor = call->base.actor;
}

static bool is_changed(const struct tenant_call *call, const struct tenant *present,
                       const struct tenant *next)
{
    return call->action == TENANT_END_ALL || (present->policy == NULL) != (next->policy == NULL) ||
           !text_equal(policy_json(present->policy), policy_json(next->policy));
}

/* Sets work->next if there is something to write. False if the operation was refused. */
static bool decide_tenant(struct tenant_change *work, const struct tenant *present)
{
    assert(!work->next);
    struct tenant_call *call = work->call;
    struct tenant next = *present;
    if (work->known) {
        work->next = present->version < work->known->version ? tenant_state_ref(work->known) : NULL;
        return true;
    }
    if (!condition_holds(call, present) || !make_policy(call, present, &next.policy))
        return false;
    note_policy(call, next.policy);
    next.version = rules_next_version(present->version, call->base.now_ms);
    if (call->action == TENANT_END_ALL)
        set_cutoff(call, &next);
    note_changes(call, present->policy, next.policy);
    if (is_changed(call, present, &next))
        work->next = tenant_state_create(&next);
    else
        policy_unref(&next.policy);
    return true;
}

/* --- writing --- */

static void send_tenant_read(struct tenant_change *work);
static void decide_and_write_tenant(struct tenant_change *work, struct text present);

/* This node knows at once; the others get an invalidation of the key. */
static void remember_written(struct tenant_change *work)
{
    assert(work->next);
    struct session_service *service = work->call->base.context->worker->service;
    bool behind;
    tenant_forget(service, work->tag);
    uint32_t lease = tenants_lease(service->tenants, work->tag);
    tenants_put(service->tenants, work->tag, work->next, 0, clock_boot_ms(), lease, &behind);
}

static void tenant_written(struct store_call *store, enum err err, const struct store_reply *reply)
{
    struct tenant_change *work = tenant_update_of(store);
    struct operation *operation = &work->call->base;
    if (err == ERR_STORE_UNAVAILABLE && clock_monotonic_ms() < operation->deadline_ms) {
        attempts_add(&work->attempts, operation->arena, work->written, 2);
        send_tenant_read(work);
    } else if (err != ERR_OK) {
        end_tenant_update(work, err);
    } else if (store_reply_type(reply) == STORE_ARRAY) {
        metrics_add(METRIC_STORE_CONFLICTS, 1);
        decide_and_write_tenant(work, store_reply_text(store_reply_element(reply, 0)));
    } else {
        bool replicated = store->replicas > 0;
        operation->out.durability = replicated ? DURABILITY_REPLICATED : DURABILITY_ACCEPTED;
        metrics_add(METRIC_WRITES_UNREPLICATED, !replicated);
        remember_written(work);
        end_tenant_update(work, ERR_OK);
    }
}

static void
send_tenant_call(struct tenant_change *work, const struct store_script *script, unsigned flags,
                 void (*done)(struct store_call *, enum err, const struct store_reply *))
{
    const struct operation *operation = &work->call->base;
    work->store = (struct store_call){
        .key = {work->key, KEYS_TENANT_LENGTH},
        .script = script,
        .arguments = work->arguments,
        .argument_count = 2,
        .flags = flags,
        .deadline_ms = operation->deadline_ms,
        .done = done,
    };
    store_send(operation->context->worker->link, &work->store);
}

static void write_next_tenant(struct tenant_change *work)
{
    assert(work->next);
    const struct operation *operation = &work->call->base;
    struct buffer bytes = {0};
    tenant_record_write(operation->context->keyring,
                        operation->conf->keys_encryption != ENCRYPTION_NONE, work->tag, work->next,
                        &bytes);
    work->written = arena_alloc(operation->arena, 2 * sizeof(*work->written));
    work->written[0] = (struct text){work->key, KEYS_TENANT_LENGTH};
    work->written[1] = arena_copy(operation->arena, buffer_text(&bytes));
    buffer_free(&bytes);
    work->arguments[0] = work->present;
    work->arguments[1] = work->written[1];
    send_tenant_call(work, &write_script, STORE_DURABLE, tenant_written);
}

/* The state in these bytes, a new reference. NULL with *err if they do not open. */
static struct tenant *open_stored_tenant(const struct tenant_change *work, struct text stored,
                                         enum err *err)
{
    const struct operation *operation = &work->call->base;
    const struct keyring *keyring = operation->context->keyring;
    if (stored.length == 0)
        return tenant_state_nothing();
    if (record_is_foreign(keyring, stored)) {
        *err = ERR_SEAL_KEY_UNKNOWN;
        return NULL;
    }
    struct tenant *tenant =
        tenant_record_read(keyring, operation->conf->keys_encryption != ENCRYPTION_NONE, work->tag,
                           stored, operation->arena);
    if (tenant)
        return tenant;
    metrics_add(METRIC_RECORDS_UNREADABLE, 1);
    *err = ERR_STORE_PROTOCOL;
    return NULL;
}

static void decide_and_write_tenant(struct tenant_change *work, struct text present)
{
    struct operation *operation = &work->call->base;
    enum err err = ++work->rounds > ROUNDS_MAX ? ERR_STORE_CONTENDED : ERR_OK;
    work->present = present.length > 0 ? arena_copy(operation->arena, present) : TEXT("");
    if (attempts_have(&work->attempts, (struct text){work->key, KEYS_TENANT_LENGTH},
                      work->present)) {
        operation->out.durability = DURABILITY_ACCEPTED;
        remember_written(work);
        end_tenant_update(work, ERR_OK);
        return;
    }
    struct tenant *state = err == ERR_OK ? open_stored_tenant(work, work->present, &err) : NULL;
    if (!state) {
        end_tenant_update(work, err);
        return;
    }
    tenant_state_unref(&work->next);
    bool agreed = decide_tenant(work, state);
    tenant_state_unref(&state);
    if (agreed && work->next)
        write_next_tenant(work);
    else
        end_tenant_update(work, ERR_OK);
}

static void tenant_state_read(struct store_call *store, enum err err,
                              const struct store_reply *reply)
{
    struct tenant_change *work = tenant_update_of(store);
    if (err == ERR_OK && store_reply_type(reply) != STORE_NIL &&
        store_reply_type(reply) != STORE_STRING)
        err = ERR_STORE_PROTOCOL;
    if (err != ERR_OK)
        end_tenant_update(work, err);
    else
        decide_and_write_tenant(work, store_reply_text(reply));
}

static void send_tenant_read(struct tenant_change *work)
{
    work->arguments[0] = TEXT("GET");
    work->arguments[1] = (struct text){work->key, KEYS_TENANT_LENGTH};
    send_tenant_call(work, NULL, STORE_REPEATABLE, tenant_state_read);
}

/* --- restoring --- */

/* A change that no request waits for. */
struct restoring {
    struct tenant_call call;
    struct tenant_change change;
    struct background background;
};

static void end_restoring(struct operation *operation)
{
    struct restoring *restoring = container_of(operation, struct restoring, call.base);
    assert(operation->context->worker->restores_tenant);
    operation->context->worker->restores_tenant = false;
    background_end(&restoring->background, operation);
    free(restoring);
}

void tenant_update_restore(struct session_worker *worker, struct keyring *keyring,
                           const uint8_t tag[TENANT_TAG], struct tenant *known)
{
    if (worker->restores_tenant || worker->closing)
        return;
    worker->restores_tenant = true;
    struct restoring *restoring = xcalloc(1, sizeof(*restoring));
    background_begin(&restoring->background, &restoring->call.base, worker, keyring);
    restoring->call.base.done = end_restoring;
    restoring->change.call = &restoring->call;
    restoring->change.known = tenant_state_ref(known);
    memcpy(restoring->change.tag, tag, TENANT_TAG);
    keys_tenant(tag, restoring->change.key);
    send_tenant_read(&restoring->change);
}

/* --- the call --- */

static void tenant_entered_for_update(struct waiter *waiter)
{
    struct tenant_change *work = container_of(waiter, struct tenant_change, waiter);
    struct tenant_call *call = work->call;
    const struct operation *operation = &call->base;
    if (operation->out.err == ERR_OK && call->action == TENANT_SHOW)
        note_policy(call, operation->tenancy->policy);
    if (operation->out.err != ERR_OK || call->action == TENANT_SHOW)
        end_tenant_update(work, ERR_OK);
    else
        send_tenant_read(work);
}

void session_tenant(struct tenant_call *call)
{
    struct operation *operation = &call->base;
    struct tenant_change *work = arena_zalloc(operation->arena, sizeof(*work));
    work->call = call;
    crypto_keyed_hash(operation->context->keyring, CRYPTO_TENANT_TAG, &call->tenant, 1, work->tag,
                      TENANT_TAG);
    keys_tenant(work->tag, work->key);
    operation->facts.tenant = call->tenant;
    tenant_enter(operation, work->tag, waiter_of(&work->waiter, tenant_entered_for_update));
}
