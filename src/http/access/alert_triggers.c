/* Decides on the rows of routes and the facts of operations, never on texts, which callers may
 * choose. */
#include "alert_triggers.h"

#include <assert.h>

#include "alerts.h"
#include "http/server/worker.h"

static struct alerts *alerts_of(const struct request *request)
{
    return request->worker->server->services.alerts;
}

/* --- refresh tokens that come again --- */

static void raise_refresh(const struct request *request, enum alert_kind kind)
{
    const struct audit_record *record = &request->audit;
    const struct alert alert = {.kind = kind,
                                .tenant = record->tenant,
                                .user_id = record->user_id,
                                .session_id = record->session_id,
                                .address = record->source_ip};
    alerts_raise(alerts_of(request), &alert);
}

static bool is_reuse(const struct request *request)
{
    const struct operation *operation = request->operation;
    return operation != NULL && operation->out.reused;
}

static void raise_reuse(const struct request *request)
{
    raise_refresh(request, ALERT_REFRESH_REUSE);
}

static bool is_repeated_apart(const struct request *request)
{
    const struct operation *operation = request->operation;
    return operation != NULL && operation->out.repeated_apart;
}

static void raise_repeated(const struct request *request)
{
    raise_refresh(request, ALERT_REFRESH_REPEATED);
}

/* --- forced logouts --- */

static bool has_ended_sessions(const struct request *request)
{
    const struct operation *operation = request->operation;
    if (operation == NULL || request->route->ends == ENDS_NOTHING)
        return false;
    return request->route->ends == ENDS_ALL || operation->out.ended_count > 0 ||
           operation->out.durability == DURABILITY_PENDING;
}

/* A service ended sessions of a user without the user's token. */
static bool is_forced_logout(const struct request *request)
{
    const struct caller *caller = &request->caller;
    return caller->kind == CALLER_SERVICE && caller->token.data == NULL && !request->audit.failed &&
           has_ended_sessions(request);
}

static void count_forced_logout(const struct request *request)
{
    const struct caller *caller = &request->caller;
    const struct service_key *key = caller->key;
    struct text named = text_of(key->name), bound_to = text_of(key->tenant);
    if (text_equal(bound_to, TEXT("*")))
        bound_to = (struct text){0};
    const struct forced_logout logout = {
        .key = named,
        .key_tenant = bound_to,
        .actor = caller->operator_name.length > 0 ? caller->operator_name : named,
        .address = caller->address,
        .tenant = request->audit.tenant,
        .user_id = request->audit.user_id};
    alerts_count_forced_logout(alerts_of(request), &logout);
}

/* --- guessing --- */

/* A token that a service passes on is its user's guess, not the service's; it counts if the service
 * names the user's address. */
static bool is_forged_token(const struct request *request)
{
    const struct operation *operation = request->operation;
    bool tells = request->caller.kind != CALLER_SERVICE ||
                 !text_equal(request->audit.source_ip, request->caller.address);
    return operation != NULL && operation->out.forged && tells;
}

/* A guess that is over a limit is on record as a guess, too. */
static bool is_guess(const struct request *request)
{
    return is_forged_token(request) || request->caller.wrong_key;
}

static void count_guess(const struct request *request)
{
    alerts_count_guess(alerts_of(request), request->audit.source_ip);
}

void alert_triggers_guess(const struct request *request, struct text address)
{
    alerts_count_guess(alerts_of(request), address);
}

/* --- quotas --- */

static bool is_over_quota(const struct request *request)
{
    const struct operation *operation = request->operation;
    return operation != NULL && operation->out.err == ERR_TENANT_QUOTA;
}

static void raise_quota(const struct request *request)
{
    const struct operation *operation = request->operation;
    const struct alert alert = {.kind = ALERT_TENANT_QUOTA,
                                .tenant = request->audit.tenant,
                                .detail = operation->out.detail};
    alerts_raise(alerts_of(request), &alert);
}

/* --- all of them --- */

static const struct trigger {
    bool (*applies)(const struct request *request);
    void (*raise)(const struct request *request);
} triggers[] = {
    {is_reuse, raise_reuse},
    {is_repeated_apart, raise_repeated},
    {is_forced_logout, count_forced_logout},
    {is_guess, count_guess},
    {is_over_quota, raise_quota},
};

void alert_triggers_look(const struct request *request)
{
    assert(request_is_answered(request));
    for (size_t i = 0; i < sizeof(triggers) / sizeof(triggers[0]); i++)
        if (triggers[i].applies(request))
            triggers[i].raise(request);
}

void alert_triggers_tenant_rate(const struct request *request, struct text tenant)
{
    const struct alert alert = {.kind = ALERT_TENANT_RATE, .tenant = tenant};
    alerts_raise(alerts_of(request), &alert);
}

void alert_triggers_new_location(const struct request *request, const struct operation *operation)
{
    const struct alert alert = {.kind = ALERT_NEW_LOCATION,
                                .tenant = operation->facts.tenant,
                                .user_id = operation->facts.user_id,
                                .session_id = operation->facts.session_id,
                                .address = request->audit.source_ip.length > 0
                                               ? request->audit.source_ip
                                               : request->caller.address};
    alerts_raise(alerts_of(request), &alert);
}
