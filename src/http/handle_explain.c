/* What is the matter with a token: everything this node can find out, for the one who has to
 * explain it to a user. */
#include "handlers.h"
#include "objects.h"

struct explain_body {
    struct text token;
};

/* Any text may be asked about; what is longer than the body limit is refused as such. */
static const struct json_field explain_fields[] = {
    FIELD(struct explain_body, token, "token", JSON_TEXT, true, 0, INT32_MAX),
};

static void write_reason(struct json_writer *writer, const struct statement *word)
{
    json_member_string(writer, "reason", word->reason);
    if (word->at_s > 0)
        json_member_int(writer, "ended_at", word->at_s);
    if (word->actor.data)
        json_member_string(writer, "actor", word->actor);
}

static void open_word(struct json_writer *writer, const char *name, const struct statement *word)
{
    static const struct text names[] = {
        [SAYS_NOTHING] = {"nothing", 7},
        [SAYS_ALIVE] = {"alive", 5},
        [SAYS_DEAD] = {"dead", 4},
        [SAYS_UNAVAILABLE] = {"unavailable", 11},
    };
    json_name(writer, name);
    json_open_object(writer);
    json_member_string(writer, "says", names[word->says]);
    if (word->says == SAYS_DEAD)
        write_reason(writer, word);
}

static void write_sources(struct json_writer *writer, const struct explain *explain)
{
    open_word(writer, "memory", &explain->memory);
    if (explain->memory.says != SAYS_NOTHING) {
        json_member_bool(writer, "fresh", explain->memory_fresh);
        json_member_int(writer, "age", explain->memory_age_s);
    }
    json_close_object(writer);
    open_word(writer, "journal", &explain->journal);
    if (explain->journal.says != SAYS_NOTHING)
        json_member_bool(writer, "pending", explain->journal_pending);
    json_close_object(writer);
    open_word(writer, "redis", &explain->redis);
    if (explain->redis.says == SAYS_UNAVAILABLE)
        json_member_string(writer, "code", text_of(err_code(explain->redis_err)));
    json_close_object(writer);
}

static void write_token(struct json_writer *writer, const struct explain *explain)
{
    json_member_int(writer, "key_id", explain->key_id);
    json_member_string(writer, "tenant_tag", explain->tenant_tag);
    json_member_string(writer, "user_tag", explain->user_tag);
    json_member_string(writer, "session_id", explain->base.session_id);
    json_member_int(writer, "created_at", explain->created_s);
    if (explain->pair.data)
        json_member_string(writer, "pair", explain->pair);
}

static void write_session(struct json_writer *writer, const struct explain *explain)
{
    json_name(writer, "session");
    json_open_object(writer);
    json_raw(writer, explain->shown);
    json_member_bool(writer, "remember", explain->remember);
    json_member_int(writer, "issued_at", explain->issued_s);
    json_member_int(writer, "last_seen_at", explain->last_seen_s);
    json_member_int(writer, "access_expires_at", explain->access_expires_s);
    json_member_int(writer, "idle_expires_at", explain->idle_expires_s);
    json_member_int(writer, "session_expires_at", explain->session_expires_s);
    json_close_object(writer);
}

static void write_user(struct json_writer *writer, const struct explain *explain)
{
    json_name(writer, "user");
    json_open_object(writer);
    json_member_bool(writer, "frozen", explain->frozen);
    json_member_string(writer, "frozen_reason", explain->frozen_reason);
    if (explain->frozen_until_s > 0)
        json_member_int(writer, "until", explain->frozen_until_s);
    json_member_int(writer, "not_before", explain->not_before_s);
    json_close_object(writer);
}

static void write_verdict(struct json_writer *writer, const struct explain *explain)
{
    const struct statement *verdict = &explain->verdict;
    json_member_string(writer, "kind", explain->kind);
    if (verdict->says == SAYS_NOTHING) {
        json_name(writer, "active"); /* unknown is never invalid */
        json_none(writer);
    } else {
        json_member_bool(writer, "active", verdict->says == SAYS_ALIVE);
    }
    if (verdict->says == SAYS_DEAD)
        write_reason(writer, verdict);
}

static void answer_explanation(struct request *request, const struct explain *explain)
{
    struct json_writer writer = {.out = request_body(request)};
    json_open_object(&writer);
    write_verdict(&writer, explain);
    if (explain->issued) {
        write_token(&writer, explain);
        if (explain->shown.data)
            write_session(&writer, explain);
        if (explain->user_known)
            write_user(&writer, explain);
        json_member_string(&writer, "source", explain->from_cache ? TEXT("cache") : TEXT("redis"));
        json_member_bool(&writer, "stale", explain->from_cache);
        write_sources(&writer, explain);
    }
    json_close_object(&writer);
    request_answer(request, 200, true);
}

static void finish_explain(struct operation *operation)
{
    struct request *request = request_of(operation);
    request_note(request, operation);
    if (operation->err == ERR_OK)
        answer_explanation(request, (const struct explain *)operation);
    else
        request_fail_operation(request, operation);
}

void handle_explain(struct request *request)
{
    struct explain_body body = {0};
    struct explain *explain = arena_zalloc(&request->arena, sizeof(*explain));
    if (!request_read_body(request, explain_fields, FIELD_COUNT(explain_fields), &body) ||
        !token_tenant(request, &explain->tenant, &explain->tenant_bound))
        return;
    explain->token = body.token;
    request_begin(request, &explain->base, finish_explain);
    session_explain(explain);
}
