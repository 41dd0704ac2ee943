/* Devices: a user's own, and what services do with a user's. */
#include "objects.h"
#include "handlers.h"

static void finish_list(struct operation *operation)
{
    struct request *request = request_of(operation);
    request_note(request, operation);
    if (operation->err == ERR_OK)
        answer_devices(request, (const struct list_devices *)operation);
    else
        request_fail_operation(request, operation);
}

void handle_devices(struct request *request)
{
    struct list_devices *list = arena_zalloc(&request->arena, sizeof(*list));
    if (!token_tenant(request, &list->tenant, &list->tenant_bound))
        return;
    list->token = request->caller.token;
    request_begin(request, &list->base, finish_list);
    list->base.demand = demand_of(request, DEMAND_SELF_DEVICES, false);
    session_list(list);
}

void handle_kick(struct request *request)
{
    struct end_sessions *end = arena_zalloc(&request->arena, sizeof(*end));
    if (!check_reason(request, request_query(request, "reason"), REASON_KICKED, ERR_QUERY_INVALID,
                      &end->why) ||
        !token_tenant(request, &end->tenant, &end->tenant_bound))
        return;
    end->token = request->caller.token;
    end->scope = END_ONE;
    end->target = request->parameters[0];
    request_begin(request, &end->base, finish_ended);
    end->base.demand = demand_of(request, DEMAND_SELF_KICK, true);
    session_end(end);
}

void handle_user_devices(struct request *request)
{
    struct list_devices *list = arena_zalloc(&request->arena, sizeof(*list));
    if (!named_user(request, &list->tenant, &list->user_id))
        return;
    request_begin(request, &list->base, finish_list);
    session_list(list);
}

void handle_user_kick(struct request *request)
{
    struct end_sessions *end = arena_zalloc(&request->arena, sizeof(*end));
    if (!named_user(request, &end->tenant, &end->user_id) ||
        !check_reason(request, request_query(request, "reason"), REASON_KICKED, ERR_QUERY_INVALID,
                      &end->why))
        return;
    end->scope = END_ONE;
    end->target = request->parameters[1];
    request_begin(request, &end->base, finish_ended);
    end->base.demand = demand_of(request, DEMAND_NONE, true);
    session_end(end);
}

struct end_all_body {
    struct text reason, keep_session;
};

static const struct json_field end_all_fields[] = {
    FIELD_REASON(struct end_all_body),
    FIELD_TEXT(struct end_all_body, keep_session, "keep_session", 2 * SESSION_ID, 2 * SESSION_ID,
               SESSION_MEANING),
};

void handle_user_logout_all(struct request *request)
{
    struct end_all_body body = {0};
    struct end_sessions *end = arena_zalloc(&request->arena, sizeof(*end));
    uint8_t kept[SESSION_ID];
    if (!request_read_body(request, end_all_fields, FIELD_COUNT(end_all_fields), &body) ||
        !named_user(request, &end->tenant, &end->user_id) ||
        !check_reason(request, body.reason, REASON_LOGGED_OUT, ERR_BODY_INVALID, &end->why))
        return;
    if (body.keep_session.data && !text_from_hex(kept, SESSION_ID, body.keep_session)) {
        request_fail(request, ERR_BODY_INVALID, TEXT("\"keep_session\" must be " SESSION_MEANING),
                     (struct text){0});
        return;
    }
    end->scope = END_ALL;
    end->keep = body.keep_session;
    request_begin(request, &end->base, finish_ended);
    end->base.demand = demand_of(request, DEMAND_NONE, true);
    session_end(end);
}
