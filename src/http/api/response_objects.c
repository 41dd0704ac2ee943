/* Writes the objects of answers. */
#include "response_objects.h"

#include <assert.h>

#include "http/access/cookies.h"
#include "http/exchange/request_private.h"
#include "http/exchange/response.h"
#include "request_fields.h"

void api_note_staleness(struct request *request, const struct validate *validate)
{
    if (!validate->stale)
        return;
    request->audit.stale = true;
    request->audit.stale_for_s = validate->stale_for_s;
    request_header(request, "X-Session-Stale",
                   arena_format(&request->arena, "%lld", (long long)validate->stale_for_s));
}

void api_write_session(struct json_writer *writer, const struct validate *validate)
{
    assert(validate->base.out.err == ERR_OK && validate->session_json.length > 0);
    json_open_object(writer);
    json_member_bool(writer, "active", true);
    json_raw(writer, validate->session_json);
    json_member_int(writer, "expires_at", validate->access_expires_s);
    json_member_int(writer, "idle_expires_at", validate->idle_expires_s);
    json_member_string(writer, "source", validate->from_cache ? TEXT("cache") : TEXT("redis"));
    json_member_bool(writer, "stale", validate->stale);
    if (validate->stale)
        json_member_int(writer, "stale_for", validate->stale_for_s);
    json_close_object(writer);
}

enum handled api_answer_session(struct request *request, struct operation *operation)
{
    const struct validate *validate = (const struct validate *)operation;
    struct json_writer writer = {.out = request_body(request)};
    api_note_staleness(request, validate);
    api_write_session(&writer, validate);
    return response_answer(request, 200, true);
}

bool api_is_inactive(enum err err)
{
    return err == ERR_TOKEN_INVALID || err == ERR_STEP_UP_REQUIRED ||
           err == ERR_INSUFFICIENT_AUTHENTICATION;
}

static void write_demand(struct json_writer *writer, const struct strength_demand *demanded)
{
    if (demanded->max_age_s >= 0)
        json_member_int(writer, "max_age", demanded->max_age_s);
    if (demanded->acr.data)
        json_member_string(writer, "acr", demanded->acr);
}

void api_write_inactive(struct json_writer *writer, const struct request *request,
                        const struct operation *operation)
{
    assert(operation->out.err != ERR_OK);
    struct text reason = operation->out.reason;
    if (operation->out.err == ERR_STEP_UP_REQUIRED || !reason.data)
        reason = text_of(err_code(operation->out.err));
    json_open_object(writer);
    json_member_bool(writer, "active", false);
    json_member_string(writer, "reason", reason);
    if (operation->out.err == ERR_INSUFFICIENT_AUTHENTICATION)
        write_demand(writer, &operation->out.demanded);
    if (operation->out.ended_at_s > 0)
        json_member_int(writer, "ended_at", operation->out.ended_at_s);
    if (operation->out.ended_actor.data)
        json_member_string(writer, "actor", operation->out.ended_actor);
    api_write_challenge(writer, request, operation);
    json_close_object(writer);
}

void api_write_listed(struct json_writer *writer, const struct listed_session *session,
                      bool tells_current)
{
    json_open_object(writer);
    json_member_string(writer, "session_id", session->session_id);
    if (tells_current)
        json_member_bool(writer, "current", session->current);
    json_member_raw(writer, "device", session->device_json);
    json_member_string(writer, "ip", session->ip);
    if (session->location.data)
        json_member_string(writer, "location", session->location);
    json_member_string(writer, "user_agent", session->user_agent);
    json_member_int(writer, "created_at", session->created_s);
    json_member_int(writer, "last_seen_at", session->last_seen_s);
    json_member_int(writer, "expires_at", session->expires_s);
    json_raw(writer, session->authentication_json);
    json_close_object(writer);
}

static void write_ended_session(struct json_writer *writer, const struct ended_session *session)
{
    json_open_object(writer);
    json_member_string(writer, "session_id", session->session_id);
    json_member_string(writer, "reason", session->reason);
    json_member_string(writer, "actor", session->actor);
    json_member_int(writer, "created_at", session->created_s);
    if (session->ended_s > 0)
        json_member_int(writer, "ended_at", session->ended_s);
    if (session->device_json.data)
        json_member_raw(writer, "device", session->device_json);
    json_close_object(writer);
}

void api_write_ended(struct json_writer *writer, const struct list_devices *list)
{
    json_member_array(writer, "sessions");
    for (size_t i = 0; i < list->over_count; i++)
        write_ended_session(writer, &list->over[i]);
    json_close_array(writer);
}

enum handled api_answer_devices(struct request *request, struct operation *operation)
{
    const struct list_devices *list = (const struct list_devices *)operation;
    struct json_writer writer = {.out = request_body(request)};
    json_open_object(&writer);
    json_member_array(&writer, "devices");
    for (size_t i = 0; i < list->count; i++)
        api_write_listed(&writer, &list->sessions[i], true);
    json_close_array(&writer);
    json_member_int(&writer, "total", (int64_t)list->count);
    json_member_int(&writer, "limit", list->limit);
    json_close_object(&writer);
    return response_answer(request, 200, true);
}

/* The tenant that an answer is about, so that its caller cannot confuse users of the same name. */
static struct text tenant_of(const struct request *request, const struct operation *operation)
{
    const struct caller *caller = &request->caller;
    bool named = operation->facts.tenant.data || !request_caller_is_bound(caller);
    return named ? operation->facts.tenant : text_of(caller->key->tenant);
}

enum handled api_answer_ended(struct request *request, struct operation *operation)
{
    struct json_writer writer = {.out = request_body(request)};
    json_open_object(&writer);
    assert(operation->out.durability != DURABILITY_NONE);
    json_member_string(&writer, "tenant", tenant_of(request, operation));
    json_member_int(&writer, "ended", (int64_t)operation->out.ended_count);
    json_member_array(&writer, "sessions");
    for (size_t i = 0; i < operation->out.ended_count; i++)
        json_text(&writer, operation->out.ended[i]);
    json_close_array(&writer);
    json_member_string(&writer, "durability", operation_durability_name(operation->out.durability));
    json_close_object(&writer);
    return response_answer(request, operation->out.durability == DURABILITY_PENDING ? 202 : 200,
                           true);
}

void api_write_challenge(struct json_writer *writer, const struct request *request,
                         const struct operation *operation)
{
    const struct offered_challenge *challenge = operation->out.challenge;
    if (challenge == NULL)
        return;
    bool otp = challenge->method == VERIFY_OTP;
    json_member_string(writer, "challenge_id", (struct text){challenge->id, TOKEN_LENGTH});
    json_member_string(writer, "method", otp ? TEXT("otp") : TEXT("external"));
    json_member_int(writer, "expires_in", challenge->expires_s - operation->now_ms / 1000);
    json_member_int(writer, "attempts", challenge->attempts);
    if (otp && request->caller.kind == CALLER_SERVICE)
        json_member_string(writer, "otp", (struct text){challenge->code, CHALLENGE_CODE});
}

void api_write_sessions(struct json_writer *writer, const char *name,
                        const struct replaced_session *sessions, size_t count)
{
    json_member_array(writer, name);
    for (size_t i = 0; i < count; i++) {
        json_open_object(writer);
        json_member_string(writer, "session_id", sessions[i].session_id);
        json_member_raw(writer, "device", sessions[i].device_json);
        if (sessions[i].reason.data)
            json_member_string(writer, "reason", sessions[i].reason);
        json_close_object(writer);
    }
    json_close_array(writer);
}

/* Sets the cookie of a pair, and shows it in the body. It outlives the browser only with
 * `remember`, and never its token. */
static void give_cookie(struct json_writer *writer, struct request *request,
                        const struct operation *operation, const struct issued_pair *issued)
{
    int64_t left_s = issued->access_expires_s - operation->now_ms / 1000;
    struct policy policy;
    policy_of_tenant(request->conf, operation->tenancy ? operation->tenancy->policy : NULL,
                     &policy);
    struct text cookie =
        cookies_give(request, issued->access_token, (enum same_site)policy.same_site,
                     issued->remember ? left_s : -1);
    json_member_array(writer, "set_cookie");
    json_text(writer, cookie);
    json_close_array(writer);
}

enum handled api_answer_pair(struct request *request, unsigned status,
                             const struct operation *operation, const struct pair *pair)
{
    const struct issued_pair *issued = pair->issued;
    assert(operation->out.err == ERR_OK && operation->facts.session_id.length > 0);
    int64_t now_s = operation->now_ms / 1000;
    struct text access = {issued->access_token, TOKEN_LENGTH};
    struct text refresh = {issued->refresh_token, TOKEN_LENGTH};
    struct json_writer writer = {.out = request_body(request)};
    json_open_object(&writer);
    if (pair->verified)
        json_member_bool(&writer, "verified", true);
    json_member_string(&writer, "tenant", operation->facts.tenant);
    json_member_string(&writer, "user_id", operation->facts.user_id);
    json_member_string(&writer, "session_id", operation->facts.session_id);
    json_member_string(&writer, "access_token", access);
    json_member_string(&writer, "token_type", TEXT("Bearer"));
    json_member_int(&writer, "expires_in", issued->access_expires_s - now_s);
    json_member_string(&writer, "refresh_token", refresh);
    json_member_int(&writer, "refresh_expires_in", issued->refresh_expires_s - now_s);
    json_member_int(&writer, "idle_expires_in", issued->idle_expires_s - now_s);
    json_member_raw(&writer, "device", issued->device_json);
    json_member_bool(&writer, "new_device", pair->new_device);
    json_member_bool(&writer, "new_location", pair->new_location);
    api_write_sessions(&writer, "replaced", pair->replaced, pair->replaced_count);
    /* A verified login may have begun before the cookie was switched off. */
    if (pair->cookie && request->conf->browser_cookie)
        give_cookie(&writer, request, operation, issued);
    json_close_object(&writer);
    return response_answer(request, status, true);
}

static struct text failure_detail(const struct request *request, const struct operation *operation)
{
    if (operation->out.err == ERR_PRECONDITION_FAILED && operation->out.detail.data == NULL &&
        etag_has_weak(&request->private->if_match))
        return TEXT(
            "A weak entity tag (W/\"...\") in If-Match never holds: send the tag without W/");
    return operation->out.detail;
}

enum handled api_fail_operation(struct request *request, struct operation *operation)
{
    assert(operation->out.err != ERR_OK && request->operation == operation);
    SCOPED(buffer_free) struct buffer members = {0};
    struct json_writer writer = {.out = &members};
    if (operation->out.forged && api_count_forged_token(request))
        return ANSWERED;
    if (operation->out.reason.data != NULL)
        json_member_string(&writer, "reason", operation->out.reason);
    if (operation->out.ended_at_s != 0)
        json_member_int(&writer, "ended_at", operation->out.ended_at_s);
    if (operation->out.ended_actor.data != NULL)
        json_member_string(&writer, "actor", operation->out.ended_actor);
    api_write_challenge(&writer, request, operation);
    return response_fail_with(request, operation->out.err, failure_detail(request, operation),
                              buffer_text(&members));
}
