/* Alerts that requests give cause for: read off their audit records, where all is known once. */
#include "alarms.h"

#include "alerts.h"
#include "worker.h"

static struct alerts *alerts_of(const struct request *request)
{
    return request->worker->server->services.alerts;
}

static bool is_reason(const struct request *request, struct text reason)
{
    return text_equal(request->audit.reason, reason);
}

/* --- refresh reuse --- */

static bool is_reuse(const struct request *request)
{
    return request->audit.event == AUDIT_REFRESH && is_reason(request, TEXT(REASON_REUSE));
}

static void raise_reuse(const struct request *request)
{
    const struct audit_record *record = &request->audit;
    const struct alert alert = {.kind = ALERT_REFRESH_REUSE,
                                .tenant = record->tenant,
                                .user_id = record->user_id,
                                .session_id = record->session_id,
                                .address = record->source_ip};
    alerts_raise(alerts_of(request), &alert);
}

/* --- forced logouts --- */

static bool has_ended_sessions(const struct audit_record *record)
{
    switch (record->event) {
    case AUDIT_KICK:
        return record->ended_count > 0;
    case AUDIT_LOGOUT_ALL: /* in an outage nobody knows how many there are */
        return record->ended_count > 0 || text_equal(record->durability, TEXT("pending"));
    case AUDIT_FREEZE:
    case AUDIT_TENANT_LOGOUT_ALL:
        return true; /* those that no node knows of, too */
    default:
        return false;
    }
}

/* A service ended what is a user's, and did not show the user's token. */
static bool is_forced_logout(const struct request *request)
{
    const struct caller *caller = &request->caller;
    return caller->kind == CALLER_SERVICE && caller->token.data == NULL && !request->audit.failed &&
           has_ended_sessions(&request->audit);
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

/* A token that a service passes on is not the service's guess: its user's, if it tells where that
 * is. */
static bool is_forged_token(const struct request *request)
{
    const struct operation *operation = request->operation;
    bool tells = request->caller.kind != CALLER_SERVICE ||
                 !text_equal(request->audit.source_ip, request->caller.address);
    return operation != NULL && operation->forged && tells;
}

/* Those that are over a limit are on record as what they are. */
static bool is_guess(const struct request *request)
{
    return is_forged_token(request) || is_reason(request, text_of(err_code(ERR_KEY_INVALID)));
}

static void count_guess(const struct request *request)
{
    alerts_count_guess(alerts_of(request), request->audit.source_ip);
}

/* --- all of them --- */

static const struct alarm {
    bool (*applies)(const struct request *request);
    void (*sound)(const struct request *request);
} alarms[] = {
    {is_reuse, raise_reuse},
    {is_forced_logout, count_forced_logout},
    {is_guess, count_guess},
};

void alarms_look(const struct request *request)
{
    for (size_t i = 0; i < sizeof(alarms) / sizeof(alarms[0]); i++)
        if (alarms[i].applies(request))
            alarms[i].sound(request);
}

void alarms_tenant_rate(const struct request *request, struct text tenant)
{
    const struct alert alert = {.kind = ALERT_TENANT_RATE, .tenant = tenant};
    alerts_raise(alerts_of(request), &alert);
}

void alarms_new_location(const struct request *request, const struct operation *operation)
{
    const struct alert alert = {.kind = ALERT_NEW_LOCATION,
                                .tenant = operation->tenant,
                                .user_id = operation->user_id,
                                .session_id = operation->session_id,
                                .address = request->audit.source_ip.length > 0
                                               ? request->audit.source_ip
                                               : request->caller.address};
    alerts_raise(alerts_of(request), &alert);
}
