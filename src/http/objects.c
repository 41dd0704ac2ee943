/* Writing the objects that callers get, and the checks that handlers share. */
#include "objects.h"

#include "address.h"
#include "cookies.h"
#include "rates.h"

/* Also where an answer has no body, the caller learns how old the word is. */
static void note_staleness(struct request *request, const struct validate *validate)
{
    if (!validate->stale)
        return;
    request->audit.stale = true;
    request->audit.stale_for_s = validate->stale_for_s;
    request_header(request, "X-Session-Stale",
                   arena_format(&request->arena, "%lld", (long long)validate->stale_for_s));
}

void answer_session(struct request *request, const struct validate *validate)
{
    struct json_writer writer = {.out = request_body(request)};
    note_staleness(request, validate);
    json_open_object(&writer);
    json_member_bool(&writer, "active", true);
    json_raw(&writer, validate->shown);
    json_member_int(&writer, "expires_at", validate->access_expires_s);
    json_member_int(&writer, "idle_expires_at", validate->idle_expires_s);
    json_member_string(&writer, "source", validate->from_cache ? TEXT("cache") : TEXT("redis"));
    json_member_bool(&writer, "stale", validate->stale);
    if (validate->stale)
        json_member_int(&writer, "stale_for", validate->stale_for_s);
    json_close_object(&writer);
    request_answer(request, 200, true);
}

void write_listed(struct json_writer *writer, const struct listed_session *session,
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
    json_close_object(writer);
}

void answer_devices(struct request *request, const struct list_devices *list)
{
    struct json_writer writer = {.out = request_body(request)};
    json_open_object(&writer);
    json_name(&writer, "devices");
    json_open_array(&writer);
    for (size_t i = 0; i < list->count; i++)
        write_listed(&writer, &list->sessions[i], true);
    json_close_array(&writer);
    json_member_int(&writer, "total", (int64_t)list->count);
    json_member_int(&writer, "limit", list->limit);
    json_close_object(&writer);
    request_answer(request, 200, true);
}

void answer_ended(struct request *request, const struct operation *operation)
{
    struct json_writer writer = {.out = request_body(request)};
    json_open_object(&writer);
    json_member_int(&writer, "ended", (int64_t)operation->ended_count);
    json_name(&writer, "sessions");
    json_open_array(&writer);
    for (size_t i = 0; i < operation->ended_count; i++)
        json_text(&writer, operation->ended[i]);
    json_close_array(&writer);
    json_member_string(&writer, "durability", durability_name(operation->durability));
    json_close_object(&writer);
    request_answer(request, operation->durability == DURABILITY_PENDING ? 202 : 200, true);
}

void write_challenge(struct json_writer *writer, const struct request *request,
                     const struct operation *operation)
{
    const struct offered_challenge *challenge = operation->challenge;
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

void write_sessions(struct json_writer *writer, const char *name,
                    const struct replaced_session *sessions, size_t count)
{
    json_name(writer, name);
    json_open_array(writer);
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

/* Sets the cookie that goes with a pair, and tells of it. It outlives the browser only for who
 * wants to be remembered, and never its token. */
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
    json_name(writer, "set_cookie");
    json_open_array(writer);
    json_text(writer, cookie);
    json_close_array(writer);
}

void answer_pair(struct request *request, unsigned status, const struct operation *operation,
                 const struct pair *pair)
{
    const struct issued_pair *issued = pair->issued;
    int64_t now_s = operation->now_ms / 1000;
    struct text access = {issued->access_token, TOKEN_LENGTH};
    struct text refresh = {issued->refresh_token, TOKEN_LENGTH};
    struct json_writer writer = {.out = request_body(request)};
    json_open_object(&writer);
    if (pair->verified)
        json_member_bool(&writer, "verified", true);
    json_member_string(&writer, "tenant", operation->tenant);
    json_member_string(&writer, "user_id", operation->user_id);
    json_member_string(&writer, "session_id", operation->session_id);
    json_member_string(&writer, "access_token", access);
    json_member_string(&writer, "token_type", TEXT("Bearer"));
    json_member_int(&writer, "expires_in", issued->access_expires_s - now_s);
    json_member_string(&writer, "refresh_token", refresh);
    json_member_int(&writer, "refresh_expires_in", issued->refresh_expires_s - now_s);
    json_member_raw(&writer, "device", issued->device_json);
    json_member_bool(&writer, "new_device", pair->new_device);
    json_member_bool(&writer, "new_location", pair->new_location);
    write_sessions(&writer, "replaced", pair->replaced, pair->replaced_count);
    /* What waited for its verification may have begun before the cookie was switched off. */
    if (pair->cookie && request->conf->browser_cookie)
        give_cookie(&writer, request, operation, issued);
    json_close_object(&writer);
    request_answer(request, status, true);
}

bool check_cookie(struct request *request, bool wanted)
{
    bool good = !wanted || request->conf->browser_cookie;
    if (!good)
        request_fail(request, ERR_BODY_INVALID,
                     TEXT("\"cookie\" must be false or absent, not true: the session cookie is off "
                          "here (browser.cookie = no)"),
                     (struct text){0});
    return good;
}

bool token_tenant(struct request *request, struct text *tenant, bool *bound)
{
    *tenant = (struct text){0};
    *bound = caller_is_bound(&request->caller);
    if (request->caller.kind != CALLER_SERVICE)
        return true;
    struct text named = request_query(request, "tenant");
    if (!*bound && !named.data)
        return rates_admit_token(request, TOKEN_ACCESS, request->caller.token);
    return request_tenant(request, named, tenant);
}

bool named_user(struct request *request, struct text *tenant, struct text *user_id)
{
    *user_id = request->parameters[0];
    if (user_id->length > USER_ID_MAX) {
        request_fail(request, ERR_BAD_REQUEST, TEXT("\"user_id\" must be 1 to 128 bytes"),
                     (struct text){0});
        return false;
    }
    return request_tenant(request, request_query(request, "tenant"), tenant);
}

bool check_address(struct request *request, struct text address)
{
    struct ip_address parsed;
    if (!address.data || ip_parse(address, &parsed))
        return true;
    request_fail(request, ERR_BODY_INVALID, TEXT("\"ip\" must be " ADDRESS_MEANING),
                 (struct text){0});
    return false;
}

bool check_reason(struct request *request, struct text given, const char *otherwise,
                  enum err refusal, struct text *ret)
{
    bool good = given.length >= 1 && given.length <= 32;
    if (!given.data) {
        *ret = text_of(otherwise);
        return true;
    }
    for (size_t i = 0; i < given.length && good; i++)
        good = (given.data[i] >= 'a' && given.data[i] <= 'z') || given.data[i] == '_';
    *ret = given;
    if (!good)
        request_fail(request, refusal, TEXT("\"reason\" must be " REASON_MEANING),
                     (struct text){0});
    return good;
}

enum demand demand_of(const struct request *request, enum demand self_service, bool ends)
{
    if (request->caller.kind == CALLER_USER)
        return self_service;
    return caller_is_bound(&request->caller) && ends ? DEMAND_FORCE_LOGOUT : DEMAND_NONE;
}
