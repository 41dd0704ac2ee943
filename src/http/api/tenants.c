/* Tenants: their policies, and the end of all their sessions. */
#include "begin.h"
#include "handlers.h"
#include "http/exchange/response.h"
#include "request_fields.h"
#include "response_objects.h"

static enum handled finish_policy(struct request *request, struct operation *operation)
{
    const struct tenant_call *call = (const struct tenant_call *)operation;
    request->audit.changes = call->changes;
    return response_answer_tagged(request, call->policy, call->etag);
}

/* `why`: of TENANT_END_ALL. */
static enum handled begin_tenant_call(struct request *request, enum tenant_action action,
                                      struct text why, finish_fn *finish)
{
    struct tenant_call *call = arena_zalloc(&request->arena, sizeof(*call));
    if (api_path_tenant(request, &call->tenant) || api_check_conditions(request, &call->if_match))
        return ANSWERED;
    call->action = action;
    call->given = request->body;
    call->bound = request_caller_is_bound(&request->caller);
    call->why = why;
    api_begin(request, &call->base, finish);
    session_tenant(call);
    return PENDING;
}

enum handled api_policy(struct request *request)
{
    return begin_tenant_call(request, TENANT_SHOW, (struct text){0}, finish_policy);
}

enum handled api_set_policy(struct request *request)
{
    if (api_check_type(request, "application/json"))
        return ANSWERED;
    return begin_tenant_call(request, TENANT_PUT, (struct text){0}, finish_policy);
}

enum handled api_patch_policy(struct request *request)
{
    if (api_check_type(request, MERGE_PATCH))
        return ANSWERED;
    return begin_tenant_call(request, TENANT_PATCH, (struct text){0}, finish_policy);
}

enum handled api_delete_policy(struct request *request)
{
    return begin_tenant_call(request, TENANT_DELETE, (struct text){0}, finish_policy);
}

struct end_tenant_body {
    struct text reason;
};

static const struct json_field end_tenant_fields[] = {
    FIELD_REASON(struct end_tenant_body),
};

enum handled api_tenant_logout_all(struct request *request)
{
    struct end_tenant_body body = {0};
    struct text why;
    if (api_read_body(request, end_tenant_fields, FIELD_COUNT(end_tenant_fields), &body) ||
        api_check_reason(request, body.reason, REASON_LOGGED_OUT, ERR_BODY_INVALID, &why))
        return ANSWERED;
    return begin_tenant_call(request, TENANT_END_ALL, why, api_answer_ended);
}
