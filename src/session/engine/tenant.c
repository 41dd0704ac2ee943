/* State of tenants: from memory, from Redis, or the last known.
 *
 * A tenant's state and its users' states lie in slots of different servers. A server that does not
 * answer for the tenant must not use up the time that the operation needs for its user. So a waiter
 * goes on with the last known state after part of its time. Later callers go on at once until the
 * server answers. */
#include "tenant.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "freshness.h"
#include "metrics.h"
#include "session/model/keys.h"
#include "tenant_record.h"
#include "tenant_update.h"

struct tenant_waiter {
    struct operation *operation;
    struct waiter *waiter;
    uint8_t tag[TENANT_TAG];
    bool accepts_defaults;
    int64_t asked_ms;    /* clock_boot_ms() */
    int64_t patience_ms; /* when it goes on with the last known state */
    struct tenant_waiter *next;
};

/* A read of a tenant's state, shared by the operations that wait for it. */
struct tenant_read {
    struct store_call call;
    struct tenant_read *next;
    struct session_worker *worker;
    struct keyring *keyring;
    bool encrypt;
    uint8_t tag[TENANT_TAG];
    char key[KEYS_TENANT_LENGTH];
    struct text arguments[2];
    struct read_guard guard;
    int64_t timeout_ms;
    struct tenant_waiter *waiters, **waiters_end;
};

/* --- the last known state --- */

/* Tags are keyed hashes: any bits will do. */
static size_t tenant_row_of(const uint8_t tag[TENANT_TAG])
{
    return ((size_t)tag[0] << 8 | tag[1]) % TENANT_ROWS;
}

static struct tenant_slot *kept_slot(struct session_worker *worker, const uint8_t tag[TENANT_TAG])
{
    struct tenant_slot *kept = &worker->tenant_slots[tenant_row_of(tag)];
    if (kept->slot == 0 || memcmp(kept->tag, tag, TENANT_TAG) != 0) {
        char key[KEYS_TENANT_LENGTH];
        keys_tenant(tag, key);
        *kept = (struct tenant_slot){
            .slot = (uint16_t)(store_slot((struct text){key, sizeof(key)}) + 1)};
        memcpy(kept->tag, tag, TENANT_TAG);
    }
    return kept;
}

static unsigned tenant_slot_of(struct session_worker *worker, const uint8_t tag[TENANT_TAG])
{
    return kept_slot(worker, tag)->slot - 1u;
}

static bool is_fresh(struct session_worker *worker, const struct tenant_row *row,
                     const uint8_t tag[TENANT_TAG])
{
    return row->generation != 0 && freshness_holds(worker->service, row->generation,
                                                   tenant_slot_of(worker, tag), clock_boot_ms());
}

bool tenant_borrow(struct operation *operation, const uint8_t tag[TENANT_TAG])
{
    assert(!operation->own.tenancy_held);
    struct session_worker *worker = operation->context->worker;
    struct tenant_row row;
    if (!tenants_find(worker->tenants, tag, &row) || !is_fresh(worker, &row, tag))
        return false;
    operation->tenancy = row.tenant;
    return true;
}

void tenant_hold(struct operation *operation)
{
    assert(operation->tenancy && !operation->own.tenancy_held);
    operation->tenancy = tenant_state_ref(operation->tenancy);
    operation->own.tenancy_held = true;
}

void tenant_release(struct operation *operation)
{
    if (operation->own.tenancy_held)
        tenant_state_unref(&operation->tenancy);
    operation->tenancy = NULL;
    operation->own.tenancy_held = false;
}

/* Uses the last known state, fresh or not. */
static bool take_known(struct operation *operation, const uint8_t tag[TENANT_TAG])
{
    struct tenant_row row;
    if (!tenants_find(operation->context->worker->tenants, tag, &row))
        return false;
    operation->tenancy = row.tenant;
    tenant_hold(operation);
    return true;
}

void session_known_policy(struct session_worker *worker, const struct conf *conf,
                          const uint8_t tag[TENANT_TAG], struct policy *ret)
{
    struct tenant_row row;
    bool known = tenants_find(worker->tenants, tag, &row);
    policy_of_tenant(conf, known ? row.tenant->policy : NULL, ret);
}

void tenant_forget(struct session_service *service, const uint8_t tag[TENANT_TAG])
{
    tenants_forget(service->tenants, tag);
}

/* --- entering --- */

static const struct permission_row {
    size_t member; /* of struct policy */
    const char *refusal;
} demands[] = {
    [PERMISSION_SELF_DEVICES] = {offsetof(struct policy, self_devices),
                                 "self_service.devices: users may not list their devices here"},
    [PERMISSION_SELF_KICK] = {offsetof(struct policy, self_kick),
                              "self_service.kick: users may not log out one of their devices here"},
    [PERMISSION_SELF_LOGOUT_ALL] =
        {offsetof(struct policy, self_logout_all),
         "self_service.logout_all: users may not log out all their devices here"},
    [PERMISSION_FORCE_LOGOUT] =
        {offsetof(struct policy, force_logout),
         "force_logout: the tenant's own keys may not end sessions, freeze or unfreeze here"},
};

static void check_permission(struct operation *operation)
{
    assert(operation->tenancy);
    struct policy policy;
    int64_t allowed;
    if (operation->permission == PERMISSION_NONE)
        return;
    const struct permission_row *row = &demands[operation->permission];
    operation_policy(operation, &policy);
    memcpy(&allowed, (const char *)&policy + row->member, sizeof(allowed));
    if (allowed)
        return;
    operation->out.err = ERR_FORBIDDEN;
    operation->out.detail = text_of(row->refusal);
}

static void enter_done(struct operation *operation, struct waiter *waiter)
{
    assert(operation->own.tenancy_held || operation->tenancy_unknown || operation->out.err);
    if (operation->context->worker->closing)
        operation->out.err = ERR_SHUTTING_DOWN;
    if (operation->out.err == ERR_OK)
        check_permission(operation);
    waiter_go_on(waiter);
}

/* How long ago the state was last fresh, at least 1; 0 means fresh. */
static int64_t age_of(struct session_worker *worker, const struct tenant_row *row,
                      const uint8_t tag[TENANT_TAG])
{
    int64_t age_ms =
        clock_boot_ms() - freshness_verified_ms(worker->service, row->generation, row->verified_ms,
                                                tenant_slot_of(worker, tag));
    return age_ms > 0 ? age_ms : 1;
}

/* True if the last known state may be used without asking. One older than outage.grace is no reason
 * to wait less for Redis. */
static bool is_known(struct operation *operation, const uint8_t tag[TENANT_TAG])
{
    struct session_worker *worker = operation->context->worker;
    struct tenant_row row;
    struct policy policy;
    if (!tenants_find(worker->tenants, tag, &row))
        return false;
    policy_of_tenant(operation->conf, row.tenant->policy, &policy);
    return age_of(worker, &row, tag) <= policy.outage_grace * 1000;
}

/* Goes on with the last known state, because Redis cannot be asked. */
static void enter_with_known(const struct tenant_waiter *waiter, enum err err)
{
    assert(err != ERR_OK);
    struct operation *operation = waiter->operation;
    assert(!operation->tenancy);
    struct tenant_row row;
    if (tenants_find(operation->context->worker->tenants, waiter->tag, &row)) {
        operation->tenancy = row.tenant;
        operation->tenancy_age_ms = age_of(operation->context->worker, &row, waiter->tag);
        operation->own.tenancy_asked_ms = waiter->asked_ms;
        tenant_hold(operation);
    } else if (waiter->accepts_defaults) {
        operation->tenancy = tenant_state_nothing();
        operation->tenancy_unknown = err;
    } else {
        operation->out.err = err;
    }
    enter_done(operation, waiter->waiter);
}

static void enter_all_with_known(struct tenant_waiter *waiters, enum err err)
{
    struct tenant_waiter *next;
    for (struct tenant_waiter *waiter = waiters; waiter; waiter = next) {
        next = waiter->next;
        enter_with_known(waiter, err);
    }
}

/* --- a server that does not answer --- */

/* Starts or extends the silence. During it callers still send a read if none is in flight, so
 * recovery is noticed soon. After it some caller has to wait again. */
static void note_silence(const struct tenant_read *read)
{
    struct tenant_slot *kept = kept_slot(read->worker, read->tag);
    kept->silent_until_ms = clock_monotonic_ms() + 2 * read->timeout_ms;
    kept->silent_lease = read->guard.lease;
}

/* False if the tenant changed since: then a newer state can be had. */
static bool is_silent(struct session_worker *worker, const uint8_t tag[TENANT_TAG])
{
    const struct tenant_slot *kept = kept_slot(worker, tag);
    return clock_monotonic_ms() < kept->silent_until_ms &&
           kept->silent_lease == tenants_lease(worker->service->tenants, tag);
}

/* Moves the waiters whose time is up to *ret. Returns when the next one's is. */
static int64_t take_impatient(struct tenant_read *read, int64_t now_ms, struct tenant_waiter **ret)
{
    int64_t next_ms = INT64_MAX;
    struct tenant_waiter **at = &read->waiters;
    while (*at) {
        struct tenant_waiter *waiter = *at;
        if (waiter->patience_ms > now_ms) {
            next_ms = waiter->patience_ms < next_ms ? waiter->patience_ms : next_ms;
            at = &waiter->next;
            continue;
        }
        *at = waiter->next;
        waiter->next = *ret;
        *ret = waiter;
        note_silence(read);
    }
    read->waiters_end = at;
    return next_ms;
}

static void watch_patience(struct session_worker *worker, int64_t until_ms);

static void on_patience(uv_timer_t *patience)
{
    struct session_worker *worker = patience->data;
    struct tenant_waiter *impatient = NULL;
    int64_t now_ms = clock_monotonic_ms(), next_ms = INT64_MAX;
    for (size_t row = 0; row < TENANT_ROWS; row++)
        for (struct tenant_read *read = worker->tenant_reads[row]; read; read = read->next) {
            int64_t its_ms = take_impatient(read, now_ms, &impatient);
            next_ms = its_ms < next_ms ? its_ms : next_ms;
        }
    watch_patience(worker, next_ms);
    /* Last: an operation that goes on may begin or end reads. */
    enter_all_with_known(impatient, ERR_STORE_TIMEOUT);
}

static void watch_patience(struct session_worker *worker, int64_t until_ms)
{
    if (until_ms == INT64_MAX || worker->closing)
        return;
    int64_t left_ms = until_ms - clock_monotonic_ms();
    uint64_t wait_ms = left_ms > 0 ? (uint64_t)left_ms : 0;
    uv_update_time(worker->patience.loop);
    if (!uv_is_active((const uv_handle_t *)&worker->patience) ||
        uv_timer_get_due_in(&worker->patience) > wait_ms)
        uv_timer_start(&worker->patience, on_patience, wait_ms, 0);
}

/* --- reading --- */

static enum err open_tenant_reply(const struct tenant_read *read, const struct store_reply *reply,
                                  struct tenant **ret)
{
    struct arena arena = {0};
    struct text stored;
    if (store_reply_type(reply) == STORE_NIL) {
        *ret = tenant_state_nothing();
        return ERR_OK;
    }
    if (store_reply_type(reply) != STORE_STRING)
        return ERR_STORE_PROTOCOL;
    stored = store_reply_text(reply);
    if (record_is_foreign(read->keyring, stored))
        return ERR_SEAL_KEY_UNKNOWN;
    *ret = tenant_record_read(read->keyring, read->encrypt, read->tag, stored, &arena);
    arena_free(&arena);
    if (*ret)
        return ERR_OK;
    metrics_add(METRIC_RECORDS_UNREADABLE, 1);
    return ERR_STORE_PROTOCOL;
}

static void restore_known(const struct tenant_read *read)
{
    struct tenant_row row;
    metrics_add(METRIC_STORE_BEHIND, 1);
    if (tenants_find(read->worker->tenants, read->tag, &row))
        tenant_update_restore(read->worker, read->keyring, read->tag, row.tenant);
}

/* Stores the state and gives it to the waiters. If the tenant changed meanwhile, or the state is
 * older than one seen before, only these waiters get it. */
static void give_to_waiters(struct tenant_read *read, struct tenant *tenant)
{
    bool behind = false;
    tenants_put(read->worker->service->tenants, read->tag, tenant, read->guard.generation,
                read->guard.sent_ms, read->guard.lease, &behind);
    if (behind)
        restore_known(read);
    struct tenant_waiter *next;
    for (struct tenant_waiter *waiter = read->waiters; waiter; waiter = next) {
        next = waiter->next;
        struct operation *operation = waiter->operation;
        assert(!operation->tenancy && !operation->own.tenancy_held);
        if (!behind || !take_known(operation, read->tag)) {
            operation->tenancy = tenant;
            tenant_hold(operation);
        }
        enter_done(operation, waiter->waiter);
    }
}

static void remove_tenant_read(struct tenant_read *read)
{
    struct tenant_read **at = &read->worker->tenant_reads[tenant_row_of(read->tag)];
    while (*at != read)
        at = &(*at)->next;
    *at = read->next;
    assert(read->worker->tenant_read_count > 0);
    read->worker->tenant_read_count--;
}

static void tenant_read_done(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct tenant_read *read = (struct tenant_read *)call;
    struct tenant *tenant = NULL;
    remove_tenant_read(read);
    if (err == ERR_OK)
        err = open_tenant_reply(read, reply, &tenant);
    if (err == ERR_OK) {
        kept_slot(read->worker, read->tag)->silent_until_ms = 0;
        give_to_waiters(read, tenant);
        tenant_state_unref(&tenant);
    } else {
        note_silence(read);
        enter_all_with_known(read->waiters, err);
    }
    keyring_unref(&read->keyring);
    free(read);
}

/* A read in flight that began after the tenant's last known change, which the caller must see. */
static struct tenant_read *find_tenant_read(struct session_worker *worker,
                                            const uint8_t tag[TENANT_TAG])
{
    struct tenant_read *read = worker->tenant_reads[tenant_row_of(tag)];
    while (read && (memcmp(read->tag, tag, TENANT_TAG) != 0 ||
                    read->guard.lease != tenants_lease(worker->service->tenants, tag)))
        read = read->next;
    return read;
}

static struct tenant_read *begin_tenant_read(struct operation *operation,
                                             const uint8_t tag[TENANT_TAG])
{
    struct session_worker *worker = operation->context->worker;
    struct tenant_read *read = xcalloc(1, sizeof(*read));
    read->worker = worker;
    read->keyring = keyring_ref(operation->context->keyring);
    read->encrypt = operation->conf->keys_encryption != ENCRYPTION_NONE;
    read->waiters_end = &read->waiters;
    memcpy(read->tag, tag, TENANT_TAG);
    keys_tenant(tag, read->key);
    read->next = worker->tenant_reads[tenant_row_of(tag)];
    worker->tenant_reads[tenant_row_of(tag)] = read;
    worker->tenant_read_count++;
    read->arguments[0] = TEXT("GET");
    read->arguments[1] = (struct text){read->key, KEYS_TENANT_LENGTH};
    read->guard = freshness_begin_tenant(worker, tag, store_slot(read->arguments[1]));
    read->timeout_ms = operation->deadline_ms - clock_monotonic_ms();
    read->call = (struct store_call){
        .key = read->arguments[1],
        .arguments = read->arguments,
        .argument_count = 2,
        .flags = STORE_REPEATABLE,
        .deadline_ms = operation->deadline_ms,
        .done = tenant_read_done,
    };
    store_send(worker->link, &read->call);
    return read;
}

static void join_tenant_read(struct tenant_read *read, struct tenant_waiter *waiter)
{
    assert(!waiter->next && !*read->waiters_end);
    *read->waiters_end = waiter;
    read->waiters_end = &waiter->next;
    watch_patience(read->worker, waiter->patience_ms);
}

static void enter_tenant_as(struct operation *operation, const uint8_t tag[TENANT_TAG],
                            struct waiter *entered, bool accepts_defaults)
{
    assert(!operation->tenancy && entered->then);
    struct session_worker *worker = operation->context->worker;
    if (tenant_borrow(operation, tag)) {
        tenant_hold(operation);
        enter_done(operation, entered);
        return;
    }
    struct tenant_waiter *waiter = arena_alloc(operation->arena, sizeof(*waiter));
    int64_t now_ms = clock_monotonic_ms();
    bool known = is_known(operation, tag);
    *waiter = (struct tenant_waiter){
        .operation = operation,
        .waiter = entered,
        .accepts_defaults = accepts_defaults,
        .patience_ms =
            known ? store_patience_ms(now_ms, operation_answer_by_ms(operation)) : INT64_MAX,
    };
    memcpy(waiter->tag, tag, TENANT_TAG);
    struct tenant_read *read = find_tenant_read(worker, tag);
    if (!read)
        read = begin_tenant_read(operation, tag);
    waiter->asked_ms = read->guard.sent_ms;
    if (known && is_silent(worker, tag))
        enter_with_known(waiter, ERR_STORE_TIMEOUT);
    else
        join_tenant_read(read, waiter);
}

static struct tenant_waiter *take_waiter(struct session_worker *worker,
                                         const struct operation *operation,
                                         const uint8_t tag[TENANT_TAG])
{
    struct tenant_read *read = worker->tenant_reads[tenant_row_of(tag)];
    for (; read; read = read->next)
        for (struct tenant_waiter **at = &read->waiters; *at; at = &(*at)->next) {
            struct tenant_waiter *waiter = *at;
            if (waiter->operation != operation)
                continue;
            *at = waiter->next;
            if (read->waiters_end == &waiter->next)
                read->waiters_end = at;
            note_silence(read);
            return waiter;
        }
    return NULL;
}

void tenant_enter_now(struct operation *operation, const uint8_t tag[TENANT_TAG])
{
    struct tenant_waiter *waiter = take_waiter(operation->context->worker, operation, tag);
    assert(waiter);
    enter_with_known(waiter, ERR_STORE_TIMEOUT);
}

bool tenant_renew(struct operation *operation, const uint8_t tag[TENANT_TAG])
{
    struct tenant_row row;
    if (operation->tenancy_age_ms == 0 ||
        !tenants_find(operation->context->worker->tenants, tag, &row) ||
        row.verified_ms < operation->own.tenancy_asked_ms)
        return false;
    assert(operation->own.tenancy_held);
    tenant_release(operation);
    operation->tenancy = row.tenant;
    operation->tenancy_age_ms = 0;
    tenant_hold(operation);
    return true;
}

void tenant_enter(struct operation *operation, const uint8_t tag[TENANT_TAG], struct waiter *waiter)
{
    enter_tenant_as(operation, tag, waiter, false);
}

void tenant_enter_or_defaults(struct operation *operation, const uint8_t tag[TENANT_TAG],
                              struct waiter *waiter)
{
    enter_tenant_as(operation, tag, waiter, true);
}

/* --- the cutoff --- */

/* An error if too little is known: a cutoff since then may have ended all sessions of the
 * tenant. */
static enum err check_age(const struct operation *operation)
{
    struct policy policy;
    if (operation->tenancy_unknown || operation->tenancy_age_ms == 0)
        return operation->tenancy_unknown;
    operation_policy(operation, &policy);
    return operation->tenancy_age_ms > policy.outage_grace * 1000 ? ERR_STORE_UNAVAILABLE : ERR_OK;
}

bool tenant_refuses(struct operation *operation, const uint8_t session_id[SESSION_ID], enum err err)
{
    assert(operation->tenancy);
    assert(err != ERR_OK);
    const struct tenant *tenant = operation->tenancy;
    if (token_session_created_ms(session_id) >= tenant->not_before_ms) {
        operation->out.err = check_age(operation);
        return operation->out.err != ERR_OK;
    }
    struct tombstone tombstone = {
        .reason = arena_copy(operation->arena, tenant->reason),
        .actor = arena_copy(operation->arena, tenant->actor),
        .ended_s = tenant->ended_s,
    };
    operation->facts.session_id = operation_session_id(operation, session_id);
    operation_refuse_ended(operation, err, &tombstone);
    return true;
}
