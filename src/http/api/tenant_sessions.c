/* The sessions of a tenant, page by page. */
#include "begin.h"
#include "handlers.h"
#include "http/exchange/response.h"
#include "request_fields.h"
#include "response_objects.h"

enum { PAGE_SIZE = 20, PAGE_SIZE_MAX = 100 };

static void write_listed_user(struct json_writer *writer, const struct listed_user *user)
{
    json_open_object(writer);
    json_member_string(writer, "user_id", user->user_id);
    json_member_array(writer, "sessions");
    for (size_t i = 0; i < user->count; i++)
        api_write_listed(writer, &user->sessions[i], false);
    json_close_array(writer);
    json_close_object(writer);
}

static enum handled finish_page(struct request *request, struct operation *operation)
{
    const struct list_tenant *list = (const struct list_tenant *)operation;
    struct json_writer writer = {.out = request_body(request)};
    json_open_object(&writer);
    json_member_array(&writer, "users");
    for (size_t i = 0; i < list->count; i++)
        write_listed_user(&writer, &list->users[i]);
    json_close_array(&writer);
    json_member_string(&writer, "next_page_token", list->next_page_token);
    json_member_int(&writer, "total_size", list->total);
    json_member_int(&writer, "total_error", list->total_error);
    json_close_object(&writer);
    return response_answer(request, 200, true);
}

static enum handled read_page_size(struct request *request, int64_t *ret)
{
    struct text given = request_query(request, "page_size");
    *ret = PAGE_SIZE;
    if (!given.data || text_to_int(given, 1, PAGE_SIZE_MAX, ret))
        return GO_ON;
    return response_fail(request, ERR_QUERY_INVALID,
                         arena_format(&request->arena,
                                      "\"page_size\" must be a number from 1 to %d",
                                      PAGE_SIZE_MAX));
}

enum handled api_tenant_sessions(struct request *request)
{
    struct list_tenant *list = arena_zalloc(&request->arena, sizeof(*list));
    if (api_path_tenant(request, &list->tenant) || read_page_size(request, &list->page_size))
        return ANSWERED;
    list->page_token = request_query(request, "page_token");
    api_begin(request, &list->base, finish_page);
    session_list_tenant(list);
    return PENDING;
}
