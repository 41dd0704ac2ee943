/* Results of verifications by services: answers to challenges, and re-authentications of an active
 * session. */
#include "begin.h"
#include "handlers.h"
#include "http/exchange/response.h"
#include "request_fields.h"
#include "response_objects.h"

struct verify_body {
    struct text challenge_id, code;
    enum tristate verified;
    struct authentication_body how;
    bool cookie;
};

static const struct json_field verify_fields[] = {
    FIELD(struct verify_body, challenge_id, "challenge_id", JSON_TEXT, true, 1, 128),
    FIELD(struct verify_body, code, "code", JSON_TEXT, false, 1, 32),
    FIELD(struct verify_body, verified, "verified", JSON_TRISTATE, false, 0, 0),
    FIELDS_AUTHENTICATION(struct verify_body),
    FIELD(struct verify_body, cookie, "cookie", JSON_BOOLEAN, false, 0, 0),
};

static enum handled fail_try(struct request *request, const struct verify *verify)
{
    SCOPED(buffer_free) struct buffer members = {0};
    struct json_writer writer = {.out = &members};
    json_member_int(&writer, "attempts_left", verify->attempts_left);
    return response_fail_with(request, ERR_VERIFICATION_FAILED, (struct text){0},
                              buffer_text(&members));
}

/* As a refresh: the session goes on, with the next pair. */
static enum handled answer_session_verified(struct request *request, const struct verify *verify)
{
    const struct login *login = &verify->login;
    const struct pair pair = {.issued = &login->pair, .verified = true, .cookie = login->cookie};
    return api_answer_pair(request, 200, &login->base, &pair);
}

struct cookie_verify {
    struct verify verify; /* first: the operation */
    bool cookie;
};

static enum handled finish_verify(struct request *request, struct operation *operation)
{
    struct verify *verify = (struct verify *)operation;
    request->audit.source_ip = verify->login.ip;
    request->audit.user_agent = verify->login.user_agent;
    if (((const struct cookie_verify *)operation)->cookie)
        verify->login.cookie = true;
    if (operation->out.err == ERR_VERIFICATION_FAILED)
        return fail_try(request, verify);
    if (operation->out.err == ERR_OK && verify->of_session)
        return answer_session_verified(request, verify);
    return api_finish_login(request, operation);
}

/* A call without an answer must not cost a try. */
static enum handled check_answer(struct request *request, const struct verify_body *body)
{
    bool is_code = body->code.data != NULL, is_word = body->verified != TRISTATE_ABSENT;
    if (is_code != is_word)
        return GO_ON;
    return response_fail(
        request, ERR_BODY_INVALID,
        is_code
            ? TEXT("\"code\" and \"verified\" are two ways to answer; give one")
            : TEXT("The answer is missing: \"code\" for method otp, \"verified\" (true or false) "
                   "for method external"));
}

enum handled api_verify(struct request *request)
{
    struct verify_body body = {0};
    struct cookie_verify *work = arena_zalloc(&request->arena, sizeof(*work));
    struct verify *verify = &work->verify;
    if (api_read_body(request, verify_fields, FIELD_COUNT(verify_fields), &body) ||
        check_answer(request, &body) ||
        api_check_authentication(request, &body.how, &verify->stated) ||
        api_check_cookie(request, body.cookie) ||
        api_token_tenant(request, &verify->tenant, &verify->tenant_bound))
        return ANSWERED;
    verify->challenge_id = body.challenge_id;
    verify->code = body.code;
    verify->verified = body.verified == TRISTATE_TRUE;
    work->cookie = body.cookie;
    api_begin_any(request, &verify->login.base, finish_verify);
    session_verify(verify);
    return PENDING;
}

struct authenticated_body {
    struct authentication_body how;
    bool second_factor, cookie;
};

static const struct json_field authenticated_fields[] = {
    FIELDS_AUTHENTICATION(struct authenticated_body),
    FIELD(struct authenticated_body, second_factor, "second_factor", JSON_BOOLEAN, false, 0, 0),
    FIELD(struct authenticated_body, cookie, "cookie", JSON_BOOLEAN, false, 0, 0),
};

struct cookie_authenticated {
    struct authenticated authenticated; /* first: the operation */
    bool cookie;
};

static enum handled answer_authenticated(struct request *request, struct operation *operation)
{
    const struct cookie_authenticated *work = (const struct cookie_authenticated *)operation;
    const struct pair pair = {.issued = &work->authenticated.pair, .cookie = work->cookie};
    return api_answer_pair(request, 200, operation, &pair);
}

enum handled api_authenticated(struct request *request)
{
    struct authenticated_body body = {0};
    struct cookie_authenticated *work = arena_zalloc(&request->arena, sizeof(*work));
    struct authenticated *authenticated = &work->authenticated;
    if (api_read_body(request, authenticated_fields, FIELD_COUNT(authenticated_fields), &body) ||
        api_check_authentication(request, &body.how, &authenticated->authentication) ||
        api_check_cookie(request, body.cookie) ||
        api_token_tenant(request, &authenticated->tenant, &authenticated->tenant_bound))
        return ANSWERED;
    if (body.second_factor)
        authenticated->authentication.amr |= session_find_amr(TEXT("mfa"));
    authenticated->token = request->caller.token;
    work->cookie = body.cookie;
    api_begin(request, &authenticated->base, answer_authenticated);
    session_authenticated(authenticated);
    return PENDING;
}
