/* Devices: calls of users about their own, and of services about a user's. */
#include "begin.h"
#include "handlers.h"
#include "http/exchange/response.h"
#include "request_fields.h"
#include "response_objects.h"

enum handled api_devices(struct request *request)
{
    struct list_devices *list = arena_zalloc(&request->arena, sizeof(*list));
    if (api_token_tenant(request, &list->tenant, &list->tenant_bound))
        return ANSWERED;
    list->token = request->caller.token;
    api_begin(request, &list->base, api_answer_devices);
    session_list(list);
    return PENDING;
}

enum handled api_kick(struct request *request)
{
    struct end_sessions *end = arena_zalloc(&request->arena, sizeof(*end));
    if (api_check_reason(request, request_query(request, "reason"), REASON_KICKED,
                         ERR_QUERY_INVALID, &end->why) ||
        api_token_tenant(request, &end->tenant, &end->tenant_bound))
        return ANSWERED;
    end->token = request->caller.token;
    end->scope = END_ONE;
    end->target = request->parameters[0];
    api_begin(request, &end->base, api_finish_own_ended);
    session_end(end);
    return PENDING;
}

enum handled api_user_devices(struct request *request)
{
    struct list_devices *list = arena_zalloc(&request->arena, sizeof(*list));
    if (api_named_user(request, &list->tenant, &list->user_id))
        return ANSWERED;
    api_begin(request, &list->base, api_answer_devices);
    session_list(list);
    return PENDING;
}

enum handled api_user_kick(struct request *request)
{
    struct end_sessions *end = arena_zalloc(&request->arena, sizeof(*end));
    if (api_named_user(request, &end->tenant, &end->user_id) ||
        api_check_reason(request, request_query(request, "reason"), REASON_KICKED,
                         ERR_QUERY_INVALID, &end->why))
        return ANSWERED;
    end->scope = END_ONE;
    end->target = request->parameters[1];
    api_begin(request, &end->base, api_answer_ended);
    session_end(end);
    return PENDING;
}

struct end_all_body {
    struct text reason, keep_session;
};

static const struct json_field end_all_fields[] = {
    FIELD_REASON(struct end_all_body),
    FIELD_TEXT(struct end_all_body, keep_session, "keep_session", 2 * SESSION_ID, 2 * SESSION_ID,
               SESSION_MEANING),
};

enum handled api_user_logout_all(struct request *request)
{
    struct end_all_body body = {0};
    struct end_sessions *end = arena_zalloc(&request->arena, sizeof(*end));
    uint8_t kept[SESSION_ID];
    if (api_read_body(request, end_all_fields, FIELD_COUNT(end_all_fields), &body) ||
        api_named_user(request, &end->tenant, &end->user_id) ||
        api_check_reason(request, body.reason, REASON_LOGGED_OUT, ERR_BODY_INVALID, &end->why))
        return ANSWERED;
    if (body.keep_session.data && !text_from_hex(kept, SESSION_ID, body.keep_session))
        return response_fail(request, ERR_BODY_INVALID,
                             TEXT("\"keep_session\" must be " SESSION_MEANING));
    end->scope = END_ALL;
    end->keep = body.keep_session;
    api_begin(request, &end->base, api_answer_ended);
    session_end(end);
    return PENDING;
}
