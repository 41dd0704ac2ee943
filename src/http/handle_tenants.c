/* Tenants: their policies, and the end of all their sessions. */
#include "handlers.h"
#include "objects.h"

static void finish_policy(struct operation *operation)
{
    struct request *request = request_of(operation);
    const struct tenant_call *call = (const struct tenant_call *)operation;
    request_note(request, operation);
    if (operation->err == ERR_OK)
        request_answer_tagged(request, call->policy, call->etag);
    else
        request_fail_operation(request, operation);
}

bool path_tenant(struct request *request, struct text *ret)
{
    if (conf_is_name(request->parameters[0]))
        return request_tenant(request, request->parameters[0], ret);
    request_fail(request, ERR_BAD_REQUEST, TEXT("\"tenant\" must match [a-z0-9][a-z0-9._-]{0,62}"),
                 (struct text){0});
    return false;
}

/* NULL if the request was answered. */
static struct tenant_call *begin_call(struct request *request, enum tenant_action action)
{
    struct tenant_call *call = arena_zalloc(&request->arena, sizeof(*call));
    call->action = action;
    call->given = request->body;
    call->bound = caller_is_bound(&request->caller);
    if (!path_tenant(request, &call->tenant) || !request_condition(request, &call->if_match))
        return NULL;
    request_begin(request, &call->base, finish_policy);
    return call;
}

static void run(struct request *request, enum tenant_action action)
{
    struct tenant_call *call = begin_call(request, action);
    if (call)
        session_tenant(call);
}

void handle_policy(struct request *request)
{
    run(request, TENANT_SHOW);
}

void handle_set_policy(struct request *request)
{
    if (request_is_of_type(request, "application/json"))
        run(request, TENANT_PUT);
}

void handle_patch_policy(struct request *request)
{
    if (request_is_of_type(request, MERGE_PATCH))
        run(request, TENANT_PATCH);
}

void handle_delete_policy(struct request *request)
{
    run(request, TENANT_DELETE);
}

struct end_tenant_body {
    struct text reason;
};

static const struct json_field end_tenant_fields[] = {
    FIELD_REASON(struct end_tenant_body),
};

void handle_tenant_logout_all(struct request *request)
{
    struct end_tenant_body body = {0};
    struct text why;
    if (!request_read_body(request, end_tenant_fields, FIELD_COUNT(end_tenant_fields), &body) ||
        !check_reason(request, body.reason, REASON_LOGGED_OUT, ERR_BODY_INVALID, &why))
        return;
    struct tenant_call *call = begin_call(request, TENANT_END_ALL);
    if (!call)
        return;
    call->why = why;
    call->base.done = finish_ended;
    call->base.demand = demand_of(request, DEMAND_NONE, true);
    session_tenant(call);
}
