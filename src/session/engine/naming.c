/* Ends every operation, and finds the names of the bearer if a dead token was refused. A tag does
 * not reveal names, so memory is asked, then Redis; Redis' answer stays in memory. */
#include "naming.h"

#include <assert.h>
#include <string.h>

#include "cache_value.h"
#include "clock.h"
#include "due.h"
#include "lookup.h"
#include "session/index/index.h"
#include "tenant.h"

struct naming {
    struct lookup_waiter waiter;
    struct due due;
    struct operation *operation;
};

/* `done` may free the operation. */
static void finish_operation(struct operation *operation)
{
    assert(operation->done);
    assert(operation->out.ended_count == 0 || operation->out.ended);
    assert(operation->out.err != ERR_STEP_UP_REQUIRED || operation->out.challenge);
    assert(operation->out.err != ERR_VERIFICATION_REQUIRED || operation->out.challenge);
    struct tenant *tenancy = operation->own.tenancy_held ? operation->tenancy : NULL;
    operation->own.tenancy_held = false;
    if (operation->out.ended_count > 0)
        index_note_ended(operation);
    operation->done(operation);
    tenant_state_unref(&tenancy);
}

static bool is_nameless(const struct operation *operation)
{
    return operation->own.bears_token && !operation->facts.user_id.data &&
           (operation->out.err == ERR_TOKEN_INVALID || operation->out.err == ERR_REFRESH_INVALID);
}

void naming_note(struct operation *operation, const struct names *names)
{
    operation->own.names_sought = true;
    operation->facts.tenant = arena_copy(operation->arena, names->tenant);
    operation->facts.user_id = arena_copy(operation->arena, names->user_id);
}

/* --- memory --- */

static bool note_cached_names(struct operation *operation, struct text value)
{
    struct cache_value cache_value;
    if (!cache_value_read_active(value, operation->own.bearer_session, &cache_value))
        return false;
    cache_value_note(operation, &cache_value);
    return true;
}

/* True if memory has the names, or has that there are none. An ended session may still be active in
 * memory, if something other than its record ended it. */
static bool find_names_in_memory(struct operation *operation)
{
    struct cache *cache = operation->context->worker->service->cache;
    struct cache_entry entry;
    struct names names;
    struct cache_key key = {0};
    memcpy(key.owner, &operation->own.bearer, OWNER_TAG);
    memcpy(key.session, operation->own.bearer_session, SESSION_ID);
    if (cache_get(cache, &key, operation->arena, &entry) &&
        note_cached_names(operation, entry.value))
        return true;
    memset(key.session, 0, SESSION_ID);
    if (!cache_get(cache, &key, operation->arena, &entry) ||
        !cache_value_read_names(entry.value, &names))
        return false;
    naming_note(operation, &names);
    return true;
}

void naming_keep(struct operation *operation, const struct user_tag *owner)
{
    struct session_worker *worker = operation->context->worker;
    struct cache *cache = worker->service->cache;
    const struct names names = {operation->facts.tenant, operation->facts.user_id};
    struct cache_key key = {0};
    SCOPED(buffer_free) struct buffer value = {0};
    struct policy policy;
    if (!names.user_id.data)
        return;
    memcpy(key.owner, owner, OWNER_TAG);
    session_known_policy(worker, operation->conf, owner->tenant, &policy);
    cache_value_write_names(&value, &names);
    const struct cache_entry entry = {
        .value = buffer_text(&value),
        .final = true,
        .quota = lookup_quota(&policy),
    };
    (void)cache_put(cache, &key, &entry, cache_lease(cache, key.owner));
}

/* --- Redis --- */

static void found_names(struct lookup_waiter *waiter, const struct found *found)
{
    struct naming *naming = container_of(waiter, struct naming, waiter);
    struct operation *operation = naming->operation;
    due_end(operation->context->worker, &naming->due);
    if (found->err == ERR_OK && found->kind == FOUND_ACTIVE)
        (void)note_cached_names(operation, arena_copy(operation->arena, found->value));
    else if (found->err == ERR_OK)
        naming_note(operation, &found->names);
    finish_operation(operation);
}

static void names_overdue(struct due *due)
{
    struct naming *naming = container_of(due, struct naming, due);
    lookup_leave(&naming->waiter);
    finish_operation(naming->operation);
}

/* False if there is nothing to ask, or no time. */
static bool look_names_up(struct operation *operation)
{
    struct session_worker *worker = operation->context->worker;
    int64_t now_ms = clock_monotonic_ms();
    /* The refusal stands; only the audit line waits for this. */
    int64_t until_ms = store_patience_ms(now_ms, operation_answer_by_ms(operation));
    struct policy policy;
    if (operation->own.names_sought || worker->closing || until_ms <= now_ms)
        return false;
    struct naming *naming = arena_zalloc(operation->arena, sizeof(*naming));
    *naming = (struct naming){.waiter.done = found_names, .operation = operation};
    if (operation->tenancy && !operation->own.tenancy_held)
        tenant_hold(operation);
    session_known_policy(worker, operation->conf, operation->own.bearer.tenant, &policy);
    const struct lookup_request request = lookup_request_of(
        &operation->own.bearer, operation->own.bearer_session, operation->context->keyring,
        operation->conf, &policy, operation->deadline_ms);
    due_begin(worker, &naming->due, until_ms, names_overdue);
    lookup_begin(worker, &request, &naming->waiter);
    return true;
}

void naming_done(struct operation *operation)
{
    if (!is_nameless(operation) || find_names_in_memory(operation) || !look_names_up(operation))
        finish_operation(operation);
}
