/* Users: their state for services, and the freezing of accounts. */
#include "begin.h"
#include "clock.h"
#include "handlers.h"
#include "http/exchange/response.h"
#include "request_fields.h"
#include "response_objects.h"

/* FREEZE_MOST_S */
#define UNTIL_MEANING "Unix seconds, an integer from now to ten years ahead"

static enum handled answer_user(struct request *request, struct operation *operation)
{
    const struct list_devices *list = (const struct list_devices *)operation;
    struct json_writer writer = {.out = request_body(request)};
    json_open_object(&writer);
    json_member_string(&writer, "tenant", list->tenant);
    json_member_string(&writer, "user_id", list->user_id);
    json_member_bool(&writer, "frozen", list->user.frozen);
    json_member_string(&writer, "frozen_reason", list->user.frozen_reason);
    if (list->user.frozen_until_s > 0)
        json_member_int(&writer, "until", list->user.frozen_until_s);
    json_member_int(&writer, "devices", (int64_t)list->count);
    json_member_int(&writer, "not_before", list->user.not_before_s);
    json_close_object(&writer);
    return response_answer(request, 200, true);
}

enum handled api_user(struct request *request)
{
    struct list_devices *list = arena_zalloc(&request->arena, sizeof(*list));
    if (api_named_user(request, &list->tenant, &list->user_id))
        return ANSWERED;
    api_begin(request, &list->base, answer_user);
    session_list(list);
    return PENDING;
}

static enum handled finish_history(struct request *request, struct operation *operation)
{
    const struct list_devices *list = (const struct list_devices *)operation;
    struct json_writer writer = {.out = request_body(request)};
    json_open_object(&writer);
    json_member_string(&writer, "tenant", list->tenant);
    json_member_string(&writer, "user_id", list->user_id);
    api_write_ended(&writer, list);
    json_close_object(&writer);
    return response_answer(request, 200, true);
}

enum handled api_history(struct request *request)
{
    struct list_devices *list = arena_zalloc(&request->arena, sizeof(*list));
    if (api_named_user(request, &list->tenant, &list->user_id))
        return ANSWERED;
    api_begin(request, &list->base, finish_history);
    session_list(list);
    return PENDING;
}

struct freeze_body {
    struct text reason;
    int64_t until;
};

static const struct json_field freeze_fields[] = {
    FIELD_REASON(struct freeze_body),
    {.name = "until",
     .kind = JSON_INT,
     .offset = offsetof(struct freeze_body, until),
     .minimum = 1,
     .maximum = INT64_MAX,
     .meaning = UNTIL_MEANING},
};

/* Unix seconds, ahead; 0 is "not given". */
static enum handled check_until(struct request *request, int64_t until_s)
{
    int64_t now_s = clock_common_ms() / 1000;
    if (until_s == 0 || (until_s > now_s && until_s <= now_s + FREEZE_MOST_S))
        return GO_ON;
    return response_fail(request, ERR_BODY_INVALID,
                         arena_format(&request->arena,
                                      "\"until\" must be " UNTIL_MEANING ", not %lld",
                                      (long long)until_s));
}

enum handled api_freeze(struct request *request)
{
    struct freeze_body body = {0};
    struct freeze *freeze = arena_zalloc(&request->arena, sizeof(*freeze));
    if (api_read_body(request, freeze_fields, FIELD_COUNT(freeze_fields), &body) ||
        api_named_user(request, &freeze->tenant, &freeze->user_id) ||
        api_check_reason(request, body.reason, REASON_FROZEN, ERR_BODY_INVALID, &freeze->why) ||
        check_until(request, body.until))
        return ANSWERED;
    freeze->until_s = body.until;
    api_begin(request, &freeze->base, api_answer_ended);
    session_freeze(freeze);
    return PENDING;
}

enum handled api_unfreeze(struct request *request)
{
    struct freeze_body body = {0};
    struct freeze *freeze = arena_zalloc(&request->arena, sizeof(*freeze));
    if (api_read_body(request, freeze_fields, 1, &body) ||
        api_named_user(request, &freeze->tenant, &freeze->user_id) ||
        api_check_reason(request, body.reason, "unfrozen", ERR_BODY_INVALID, &freeze->why))
        return ANSWERED;
    freeze->lift = true;
    api_begin(request, &freeze->base, api_answer_ended);
    session_freeze(freeze);
    return PENDING;
}
