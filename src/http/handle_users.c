/* Users: what services learn of one, and the freezing of accounts. */
#include "handlers.h"
#include "objects.h"

/* A freeze that ends by itself does so within ten years: later ones are mistakes, milliseconds
 * mostly. */
#define FREEZE_MOST_S (INT64_C(10) * 366 * 24 * 3600)
#define UNTIL_MEANING "Unix seconds, an integer from now to ten years ahead"

static void finish_user(struct operation *operation)
{
    struct request *request = request_of(operation);
    const struct list_devices *list = (const struct list_devices *)operation;
    request_note(request, operation);
    if (operation->err != ERR_OK) {
        request_fail_operation(request, operation);
        return;
    }
    struct json_writer writer = {.out = request_body(request)};
    json_open_object(&writer);
    json_member_string(&writer, "user_id", list->user_id);
    json_member_bool(&writer, "frozen", list->frozen);
    json_member_string(&writer, "frozen_reason", list->frozen_reason);
    if (list->frozen_until_s > 0)
        json_member_int(&writer, "until", list->frozen_until_s);
    json_member_int(&writer, "devices", (int64_t)list->count);
    json_member_int(&writer, "not_before", list->not_before_s);
    json_close_object(&writer);
    request_answer(request, 200, true);
}

void handle_user(struct request *request)
{
    struct list_devices *list = arena_zalloc(&request->arena, sizeof(*list));
    if (!named_user(request, &list->tenant, &list->user_id))
        return;
    request_begin(request, &list->base, finish_user);
    session_list(list);
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
static bool check_until(struct request *request, int64_t until_s)
{
    int64_t now_s = request->wall_ms / 1000;
    if (until_s == 0 || (until_s > now_s && until_s <= now_s + FREEZE_MOST_S))
        return true;
    request_fail(request, ERR_BODY_INVALID,
                 arena_format(&request->arena, "\"until\" must be " UNTIL_MEANING ", not %lld",
                              (long long)until_s),
                 (struct text){0});
    return false;
}

void handle_freeze(struct request *request)
{
    struct freeze_body body = {0};
    struct freeze *freeze = arena_zalloc(&request->arena, sizeof(*freeze));
    if (!request_read_body(request, freeze_fields, FIELD_COUNT(freeze_fields), &body) ||
        !named_user(request, &freeze->tenant, &freeze->user_id) ||
        !check_reason(request, body.reason, REASON_FROZEN, ERR_BODY_INVALID, &freeze->why) ||
        !check_until(request, body.until))
        return;
    freeze->until_s = body.until;
    freeze->base.demand = demand_of(request, DEMAND_NONE, true);
    request_begin(request, &freeze->base, finish_ended);
    session_freeze(freeze);
}

void handle_unfreeze(struct request *request)
{
    struct freeze_body body = {0};
    struct freeze *freeze = arena_zalloc(&request->arena, sizeof(*freeze));
    if (!request_read_body(request, freeze_fields, 1, &body) ||
        !named_user(request, &freeze->tenant, &freeze->user_id) ||
        !check_reason(request, body.reason, "unfrozen", ERR_BODY_INVALID, &freeze->why))
        return;
    freeze->lift = true;
    freeze->base.demand = demand_of(request, DEMAND_NONE, true);
    request_begin(request, &freeze->base, finish_ended);
    session_freeze(freeze);
}
