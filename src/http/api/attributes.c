/* Attributes of the presented token's session. */
#include "begin.h"
#include "handlers.h"
#include "http/exchange/response.h"
#include "request_fields.h"
#include "response_objects.h"

static enum handled answer_attributes(struct request *request, struct operation *operation)
{
    const struct attributes *attributes = (const struct attributes *)operation;
    return response_answer_tagged(request, attributes->json, attributes->etag);
}

static enum handled begin_attributes(struct request *request, enum attributes_action action,
                                     struct text given)
{
    struct attributes *attributes = arena_zalloc(&request->arena, sizeof(*attributes));
    if (api_token_tenant(request, &attributes->tenant, &attributes->tenant_bound) ||
        api_check_conditions(request, &attributes->if_match))
        return ANSWERED;
    attributes->token = request->caller.token;
    attributes->action = action;
    attributes->given = given;
    api_begin(request, &attributes->base, answer_attributes);
    session_attributes(attributes);
    return PENDING;
}

enum handled api_attributes(struct request *request)
{
    return begin_attributes(request, ATTRIBUTES_GET, (struct text){0});
}

/* Reads the body's object, compact; `given` lies in the arena. */
static enum handled read_attributes(struct request *request, struct text *given)
{
    SCOPED(buffer_free) struct buffer text = {0};
    SCOPED(json_view_close) struct json_view *view = json_view_open(request->body, &text);
    if (view)
        json_view_print(view, &text);
    *given = arena_copy(&request->arena, buffer_text(&text));
    if (!view)
        return response_fail(request, ERR_BODY_INVALID, *given);
    return GO_ON;
}

enum handled api_put_attributes(struct request *request)
{
    struct text given;
    if (api_check_type(request, "application/json") || read_attributes(request, &given))
        return ANSWERED;
    return begin_attributes(request, ATTRIBUTES_PUT, given);
}

enum handled api_patch_attributes(struct request *request)
{
    if (api_check_type(request, MERGE_PATCH))
        return ANSWERED;
    return begin_attributes(request, ATTRIBUTES_PATCH, request->body);
}
