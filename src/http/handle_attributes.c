/* Attributes of the presented token's session. */
#include "handlers.h"
#include "objects.h"

static void finish_attributes(struct operation *operation)
{
    struct request *request = request_of(operation);
    const struct attributes *attributes = (const struct attributes *)operation;
    request_note(request, operation);
    if (operation->err == ERR_OK)
        request_answer_tagged(request, attributes->json, attributes->etag);
    else
        request_fail_operation(request, operation);
}

static void begin(struct request *request, enum attributes_action action, struct text given)
{
    struct attributes *attributes = arena_zalloc(&request->arena, sizeof(*attributes));
    if (!token_tenant(request, &attributes->tenant, &attributes->tenant_bound))
        return;
    attributes->token = request->caller.token;
    attributes->action = action;
    attributes->given = given;
    if (!request_condition(request, &attributes->if_match))
        return;
    request_begin(request, &attributes->base, finish_attributes);
    session_attributes(attributes);
}

void handle_attributes(struct request *request)
{
    begin(request, ATTRIBUTES_GET, (struct text){0});
}

/* The body's object, compact; `given` lies in the arena. False if the request was answered. */
static bool read_object(struct request *request, struct text *given)
{
    struct buffer text = {0};
    struct json_view *view = json_view_open(request->body, &text);
    if (!view) {
        request_fail(request, ERR_BODY_INVALID, buffer_text(&text), (struct text){0});
        buffer_free(&text);
        return false;
    }
    json_view_print(view, &text);
    json_view_close(&view);
    *given = arena_copy(&request->arena, buffer_text(&text));
    buffer_free(&text);
    return true;
}

void handle_put_attributes(struct request *request)
{
    struct text given;
    if (request_is_of_type(request, "application/json") && read_object(request, &given))
        begin(request, ATTRIBUTES_PUT, given);
}

void handle_patch_attributes(struct request *request)
{
    if (request_is_of_type(request, MERGE_PATCH))
        begin(request, ATTRIBUTES_PATCH, request->body);
}
