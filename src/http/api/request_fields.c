/* Reads and checks the fields of requests. */
#include "request_fields.h"

#include <assert.h>

#include "address.h"
#include "clean.h"
#include "clock.h"
#include "credential.h"
#include "etag.h"
#include "http/access/callers.h"
#include "http/access/proxies.h"
#include "http/access/throttle.h"
#include "http/exchange/request_private.h"
#include "http/exchange/response.h"

/* --- the body and its headers --- */

static enum handled refuse_type(struct request *request, const char *header, const char *wanted,
                                struct text given)
{
    enum { MOST_SHOWN = 64 };
    struct text shown = text_cut(given, MOST_SHOWN);
    return response_fail(request, ERR_MEDIA_TYPE,
                         arena_format(&request->arena, "%s must be %s, not \"%.*s\"", header,
                                      wanted, (int)shown.length, shown.data));
}

enum handled api_check_type(struct request *request, const char *type)
{
    const struct text *values = request->private->headers.values;
    struct text coding = values[HEADER_CONTENT_ENCODING];
    if (coding.data && !text_equal(coding, TEXT("identity")))
        return refuse_type(request, "Content-Encoding", "absent or identity", coding);
    if (guard_media_type(values[HEADER_CONTENT_TYPE], type))
        return GO_ON;
    return refuse_type(request, "Content-Type",
                       arena_format(&request->arena, "%s in UTF-8", type).data,
                       values[HEADER_CONTENT_TYPE]);
}

enum handled api_read_body(struct request *request, const struct json_field *fields, size_t count,
                           void *target)
{
    struct text detail = {0};
    if (request->body.length > 0 && api_check_type(request, "application/json"))
        return ANSWERED;
    if (!json_read(request->body, fields, count, target, &request->arena, &detail))
        return response_fail(request, ERR_BODY_INVALID, detail);
    return GO_ON;
}

static enum handled read_condition(struct request *request, const char *name, enum header header,
                                   struct etag_list *ret)
{
    if (etag_read(request->private->headers.values[header], &request->arena, ret))
        return GO_ON;
    return response_fail(
        request, ERR_HEADER_INVALID,
        arena_format(&request->arena, "%s must be * or entity tags in their quotes", name));
}

enum handled api_check_conditions(struct request *request, struct etag_list *if_match)
{
    struct request_private *private = request->private;
    if (read_condition(request, "If-Match", HEADER_IF_MATCH, &private->if_match) ||
        read_condition(request, "If-None-Match", HEADER_IF_NONE_MATCH, &private->if_none_match))
        return ANSWERED;
    *if_match = private->if_match;
    return GO_ON;
}

/* --- rates --- */

enum handled api_check_rate(struct request *request, bool within)
{
    return within ? GO_ON : response_fail(request, ERR_RATE_LIMITED, throttle_refusal(request));
}

enum handled api_count_forged_token(struct request *request)
{
    return api_check_rate(request, throttle_note_forged_token(request, request->audit.source_ip));
}

/* --- tenants and users --- */

static enum handled choose_tenant(struct request *request, struct text named, struct text *ret)
{
    struct text own = text_of(request->caller.key->tenant);
    bool bound = request_caller_is_bound(&request->caller);
    if (named.data == NULL && !bound)
        return response_fail(request, ERR_QUERY_INVALID,
                             TEXT("\"tenant\" is missing: a key for all tenants says whose user is "
                                  "meant, with ?tenant="));
    if (named.data != NULL && !conf_is_name(named)) {
        bool in_query = request_query(request, "tenant").data != NULL;
        return response_fail(request, in_query ? ERR_QUERY_INVALID : ERR_BODY_INVALID,
                             TEXT("\"tenant\" must match [a-z0-9][a-z0-9._-]{0,62}"));
    }
    if (named.data != NULL && bound && !text_equal(own, named))
        return response_fail(request, ERR_TENANT_FORBIDDEN, (struct text){0});
    *ret = named.data == NULL ? own : named;
    return api_check_rate(request, throttle_admit_tenant(request, *ret));
}

enum handled api_tenant(struct request *request, struct text named, struct text *ret)
{
    *ret = (struct text){0};
    return request->caller.kind == CALLER_SERVICE ? choose_tenant(request, named, ret) : GO_ON;
}

enum handled api_token_tenant(struct request *request, struct text *tenant, bool *bound)
{
    *tenant = (struct text){0};
    *bound = request_caller_is_bound(&request->caller);
    if (request->caller.kind != CALLER_SERVICE)
        return GO_ON;
    struct text named = request_query(request, "tenant");
    if (!*bound && !named.data)
        return api_check_rate(request,
                              throttle_admit_token(request, TOKEN_ACCESS, request->caller.token));
    return api_tenant(request, named, tenant);
}

enum handled api_body_tenant(struct request *request, struct text in_body, struct text *ret)
{
    struct text in_query = request_query(request, "tenant");
    *ret = in_body.data != NULL ? in_body : in_query;
    if (in_body.data == NULL || in_query.data == NULL || text_equal(in_body, in_query))
        return GO_ON;
    return response_fail(request, ERR_QUERY_INVALID, TEXT("The body names another \"tenant\""));
}

enum handled api_named_user(struct request *request, struct text *tenant, struct text *user_id)
{
    struct text in_query = request_query(request, "user_id");
    bool by_query = text_equal(request->parameters[0], TEXT("-"));
    if (by_query != (in_query.data != NULL))
        return response_fail(
            request, ERR_QUERY_INVALID,
            by_query ? TEXT("\"user_id\" must be in the query where the path has -")
                     : TEXT("\"user_id\" may be in the query only where the path has -"));
    *user_id = by_query ? in_query : request->parameters[0];
    if (user_id->length < 1 || user_id->length > USER_ID_MAX || !text_is_clean_utf8(*user_id) ||
        credential_begins(*user_id))
        return response_fail(
            request, by_query ? ERR_QUERY_INVALID : ERR_BAD_REQUEST,
            TEXT("\"user_id\" must be 1 to 255 bytes of clean UTF-8, and no credential"));
    return api_tenant(request, request_query(request, "tenant"), tenant);
}

enum handled api_path_tenant(struct request *request, struct text *ret)
{
    if (conf_is_name(request->parameters[0]))
        return api_tenant(request, request->parameters[0], ret);
    return response_fail(request, ERR_BAD_REQUEST,
                         TEXT("\"tenant\" must match [a-z0-9][a-z0-9._-]{0,62}"));
}

/* --- other fields --- */

enum handled api_check_cookie(struct request *request, bool wanted)
{
    if (!wanted || request->conf->browser_cookie)
        return GO_ON;
    return response_fail(request, ERR_BODY_INVALID,
                         TEXT("\"cookie\" must be false or absent, not true: the session cookie is "
                              "off here (browser.cookie = no)"));
}

static enum handled refuse_method(struct request *request, struct text given)
{
    enum { SHOWN = 32 };
    struct text words = TEXT(""), shown = text_cut(given, SHOWN);
    for (unsigned i = 0; session_amr_word(i).data; i++)
        words = arena_format(&request->arena, "%s%s%s", words.data, i > 0 ? ", " : "",
                             session_amr_word(i).data);
    return response_fail(request, ERR_BODY_INVALID,
                         arena_format(&request->arena,
                                      "\"amr\" must be an array of at most %d words of RFC 8176 "
                                      "(%s), not \"%.*s\"",
                                      AMR_MAX, words.data, (int)shown.length, shown.data));
}

enum handled api_check_authentication(struct request *request,
                                      const struct authentication_body *given,
                                      struct authentication *ret)
{
    int64_t now_s = clock_common_ms() / 1000;
    *ret = (struct authentication){.auth_s = given->auth_time, .acr = given->acr};
    if (given->auth_time > now_s + CLOCKS_APART_MS / 1000)
        return response_fail(request, ERR_BODY_INVALID,
                             TEXT("\"auth_time\" must be " AUTH_TIME_MEANING));
    if (given->auth_time > now_s)
        ret->auth_s = now_s;
    if (given->acr.data && !conf_is_acr(given->acr))
        return response_fail(request, ERR_BODY_INVALID, TEXT("\"acr\" must be " ACR_MEANING));
    for (size_t i = 0; i < given->amr.count; i++) {
        uint32_t bit = session_find_amr(given->amr.items[i]);
        if (bit == 0)
            return refuse_method(request, given->amr.items[i]);
        ret->amr |= bit;
    }
    return GO_ON;
}

static bool is_ordered(const struct conf_list *order, struct text acr)
{
    bool found = order->count == 0;
    for (size_t i = 0; i < order->count && !found; i++)
        found = text_equal(text_of(order->items[i]), acr);
    return found;
}

/* A class that no order knows would be met by nobody, which looks like a user too weak. */
enum handled api_check_acr(struct request *request, struct text acr, enum err refusal)
{
    const struct conf_list *order = &request->conf->auth_acr_order;
    struct text words = TEXT("");
    if (acr.data && !conf_is_acr(acr))
        return response_fail(request, refusal, TEXT("\"acr\" must be " ACR_MEANING));
    if (!acr.data || is_ordered(order, acr))
        return GO_ON;
    for (size_t i = 0; i < order->count; i++)
        words =
            arena_format(&request->arena, "%s%s%s", words.data, i > 0 ? ", " : "", order->items[i]);
    return response_fail(request, refusal,
                         arena_format(&request->arena,
                                      "\"acr\" must be one of auth.acr_order (%s), not \"%.*s\"",
                                      words.data, (int)acr.length, acr.data));
}

enum handled api_query_strength(struct request *request, int64_t *max_age_s, struct text *acr)
{
    struct text max_age = request_query(request, "max_age");
    *max_age_s = -1;
    *acr = request_query(request, "acr");
    if (max_age.data && !text_to_int(max_age, 0, STRENGTH_MAX_AGE, max_age_s))
        return response_fail(request, ERR_QUERY_INVALID,
                             arena_format(&request->arena,
                                          "\"max_age\" must be a number of seconds from 0 to %d",
                                          STRENGTH_MAX_AGE));
    return api_check_acr(request, *acr, ERR_QUERY_INVALID);
}

struct text api_given_address(struct request *request, struct text given)
{
    static const struct text absent;
    struct ip_address address;
    if (!given.data)
        return absent;
    if (proxies_read(&request->private->config->proxies, given, &address))
        return ip_print(&address, arena_alloc(&request->arena, INET6_ADDRSTRLEN));
    callers_note_unreadable(request, given);
    return absent;
}

static bool is_reason_word(struct text text)
{
    bool good = text.length >= 1 && text.length <= 32;
    for (size_t i = 0; i < text.length && good; i++)
        good = (text.data[i] >= 'a' && text.data[i] <= 'z') || text.data[i] == '_';
    return good;
}

enum handled api_check_reason(struct request *request, struct text given, const char *otherwise,
                              enum err refusal, struct text *ret)
{
    struct text fault = TEXT("\"reason\" must be " REASON_MEANING);
    assert(refusal == ERR_QUERY_INVALID || refusal == ERR_BODY_INVALID);
    *ret = given.data ? given : text_of(otherwise);
    if (!given.data || (is_reason_word(given) && !session_owns_reason(given)))
        return GO_ON;
    if (is_reason_word(given))
        fault = arena_format(&request->arena,
                             "\"reason\" must not be \"%.*s\", which this service says of its own "
                             "acts; say what you do: kicked, logged_out, password_changed or "
                             "another word",
                             (int)given.length, given.data);
    return response_fail(request, refusal, fault);
}
