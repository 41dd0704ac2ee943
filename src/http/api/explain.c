/* Explains a token or a user: everything that this node can find out, for support staff. */
#include "begin.h"
#include "handlers.h"
#include "http/exchange/response.h"
#include "request_fields.h"
#include "response_objects.h"

struct explain_body {
    struct text token, user_id, session_id, tenant;
};

/* Any text may be asked about; only the body limit bounds it. */
static const struct json_field explain_fields[] = {
    FIELD(struct explain_body, token, "token", JSON_ANY_TEXT, false, 0, 0),
    FIELD(struct explain_body, user_id, "user_id", JSON_ID, false, 1, USER_ID_MAX),
    FIELD_TEXT(struct explain_body, session_id, "session_id", 2 * SESSION_ID, 2 * SESSION_ID,
               SESSION_MEANING),
    FIELD_TEXT(struct explain_body, tenant, "tenant", 1, 63, TENANT_MEANING),
};

static void write_reason(struct json_writer *writer, const struct source_verdict *verdict)
{
    json_member_string(writer, "reason", verdict->reason);
    if (verdict->at_s > 0)
        json_member_int(writer, "ended_at", verdict->at_s);
    if (verdict->actor.data)
        json_member_string(writer, "actor", verdict->actor);
}

static void open_verdict(struct json_writer *writer, const char *name,
                         const struct source_verdict *verdict)
{
    static const struct text names[] = {
        [SOURCE_UNKNOWN] = {"nothing", 7},
        [SOURCE_ACTIVE] = {"alive", 5},
        [SOURCE_ENDED] = {"dead", 4},
        [SOURCE_UNAVAILABLE] = {"unavailable", 11},
    };
    json_member_object(writer, name);
    json_member_string(writer, "says", names[verdict->state]);
    if (verdict->state == SOURCE_ENDED)
        write_reason(writer, verdict);
}

static void write_sources(struct json_writer *writer, const struct explain *explain)
{
    open_verdict(writer, "memory", &explain->memory);
    if (explain->memory.state != SOURCE_UNKNOWN) {
        json_member_bool(writer, "fresh", explain->memory_fresh);
        json_member_int(writer, "age", explain->memory_age_s);
    }
    json_close_object(writer);
    open_verdict(writer, "journal", &explain->journal);
    if (explain->journal.state != SOURCE_UNKNOWN)
        json_member_bool(writer, "pending", explain->journal_pending);
    json_close_object(writer);
    open_verdict(writer, "redis", &explain->redis);
    if (explain->redis.state == SOURCE_UNAVAILABLE)
        json_member_string(writer, "code", text_of(err_code(explain->redis_err)));
    json_close_object(writer);
}

static void write_owner(struct json_writer *writer, struct text tenant, struct text user_id)
{
    json_member_string(writer, "tenant", tenant);
    json_member_string(writer, "user_id", user_id);
}

static void write_token(struct json_writer *writer, const struct explain *explain)
{
    if (explain->token.data)
        json_member_int(writer, "key_id", explain->key_id);
    if (!explain->token.data)
        write_owner(writer, explain->tenant, explain->user_id);
    json_member_string(writer, "tenant_tag", explain->tenant_tag);
    json_member_string(writer, "user_tag", explain->user_tag);
    json_member_string(writer, "session_id", explain->base.facts.session_id);
    json_member_int(writer, "created_at", explain->created_s);
    if (explain->pair.data)
        json_member_string(writer, "pair", explain->pair);
}

static void write_session(struct json_writer *writer, const struct explain *explain)
{
    json_member_object(writer, "session");
    json_raw(writer, explain->session_json);
    json_member_bool(writer, "remember", explain->remember);
    json_member_int(writer, "issued_at", explain->issued_s);
    json_member_int(writer, "last_seen_at", explain->last_seen_s);
    json_member_int(writer, "access_expires_at", explain->access_expires_s);
    json_member_int(writer, "idle_expires_at", explain->idle_expires_s);
    json_member_int(writer, "session_expires_at", explain->session_expires_s);
    json_close_object(writer);
}

static void write_user_status(struct json_writer *writer, const struct user_status *user)
{
    json_member_object(writer, "user");
    json_member_bool(writer, "frozen", user->frozen);
    json_member_string(writer, "frozen_reason", user->frozen_reason);
    if (user->frozen_until_s > 0)
        json_member_int(writer, "until", user->frozen_until_s);
    json_member_int(writer, "not_before", user->not_before_s);
    json_close_object(writer);
}

static void write_verdict(struct json_writer *writer, const struct explain *explain)
{
    const struct source_verdict *verdict = &explain->verdict;
    json_member_string(writer, "kind", explain->kind);
    if (verdict->state == SOURCE_UNKNOWN) {
        json_name(writer, "active"); /* unknown is never invalid */
        json_none(writer);
    } else {
        json_member_bool(writer, "active", verdict->state == SOURCE_ACTIVE);
    }
    if (verdict->state == SOURCE_ENDED)
        write_reason(writer, verdict);
}

static enum handled finish_explain(struct request *request, struct operation *operation)
{
    const struct explain *explain = (const struct explain *)operation;
    struct json_writer writer = {.out = request_body(request)};
    json_open_object(&writer);
    write_verdict(&writer, explain);
    if (explain->issued) {
        write_token(&writer, explain);
        if (explain->session_json.data)
            write_session(&writer, explain);
        if (explain->user_known)
            write_user_status(&writer, &explain->user);
        json_member_string(&writer, "source", explain->from_cache ? TEXT("cache") : TEXT("redis"));
        json_member_bool(&writer, "stale", explain->from_cache);
        write_sources(&writer, explain);
    }
    json_close_object(&writer);
    return response_answer(request, 200, true);
}

/* --- a user as a whole --- */

static enum handled answer_explained_user(struct request *request, struct operation *operation)
{
    const struct list_devices *list = (const struct list_devices *)operation;
    struct json_writer writer = {.out = request_body(request)};
    json_open_object(&writer);
    json_member_string(&writer, "kind", TEXT("user"));
    write_owner(&writer, list->tenant, list->user_id);
    write_user_status(&writer, &list->user);
    json_member_array(&writer, "devices");
    for (size_t i = 0; i < list->count; i++)
        api_write_listed(&writer, &list->sessions[i], false);
    json_close_array(&writer);
    api_write_ended(&writer, list);
    json_close_object(&writer);
    return response_answer(request, 200, true);
}

static enum handled explain_user(struct request *request, struct text tenant, struct text user_id)
{
    struct list_devices *list = arena_zalloc(&request->arena, sizeof(*list));
    list->tenant = tenant;
    list->user_id = user_id;
    api_begin(request, &list->base, answer_explained_user);
    session_list(list);
    return PENDING;
}

/* --- the call --- */

static enum handled check_question(struct request *request, const struct explain_body *body)
{
    uint8_t id[SESSION_ID];
    struct text fault = {0};
    if (!body->token.data && !body->user_id.data)
        fault = TEXT("\"token\" is missing, or \"user_id\", with or without \"session_id\"");
    else if (body->token.data && (body->user_id.data || body->session_id.data))
        fault = TEXT("\"token\" and \"user_id\" are two ways to ask; give one");
    else if (body->session_id.data && !text_from_hex(id, SESSION_ID, body->session_id))
        fault = TEXT("\"session_id\" must be " SESSION_MEANING);
    return fault.data ? response_fail(request, ERR_BODY_INVALID, fault) : GO_ON;
}

/* Without a named tenant, a token's own counts; a user has none. */
static enum handled asked_tenant(struct request *request, const struct explain_body *body,
                                 struct explain *explain)
{
    struct text named;
    if (api_body_tenant(request, body->tenant, &named))
        return ANSWERED;
    if (body->token.data && !named.data)
        return api_token_tenant(request, &explain->tenant, &explain->tenant_bound);
    explain->tenant_bound = request_caller_is_bound(&request->caller);
    return api_tenant(request, named, &explain->tenant);
}

enum handled api_explain(struct request *request)
{
    struct explain_body body = {0};
    struct explain *explain = arena_zalloc(&request->arena, sizeof(*explain));
    if (api_read_body(request, explain_fields, FIELD_COUNT(explain_fields), &body) ||
        check_question(request, &body) || asked_tenant(request, &body, explain))
        return ANSWERED;
    if (body.user_id.data && !body.session_id.data)
        return explain_user(request, explain->tenant, body.user_id);
    explain->token = body.token;
    explain->user_id = body.user_id;
    explain->session_id = body.session_id;
    api_begin(request, &explain->base, finish_explain);
    session_explain(explain);
    return PENDING;
}
