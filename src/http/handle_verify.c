/* The answer to a second verification. */
#include "handlers.h"
#include "objects.h"

struct verify_body {
    struct text challenge_id, code;
    enum tristate verified;
    bool cookie;
};

static const struct json_field verify_fields[] = {
    FIELD(struct verify_body, challenge_id, "challenge_id", JSON_TEXT, true, 1, 128),
    FIELD(struct verify_body, code, "code", JSON_TEXT, false, 1, 32),
    FIELD(struct verify_body, verified, "verified", JSON_TRISTATE, false, 0, 0),
    FIELD(struct verify_body, cookie, "cookie", JSON_BOOLEAN, false, 0, 0),
};

static void fail_try(struct request *request, const struct verify *verify)
{
    struct buffer members = {0};
    struct json_writer writer = {.out = &members};
    json_member_int(&writer, "attempts_left", verify->attempts_left);
    request_fail(request, ERR_VERIFICATION_FAILED, (struct text){0},
                 arena_copy(&request->arena, buffer_text(&members)));
    buffer_free(&members);
}

/* As a refresh: the session goes on, with the next pair. */
static void answer_session_verified(struct request *request, const struct verify *verify)
{
    const struct login *login = &verify->login;
    const struct pair pair = {.issued = &login->pair, .verified = true, .cookie = login->cookie};
    answer_pair(request, 200, &login->base, &pair);
}

struct cookie_verify {
    struct verify verify; /* first: the operation */
    bool cookie;
};

static void finish_verify(struct operation *operation)
{
    struct request *request = request_of(operation);
    struct verify *verify = (struct verify *)operation;
    request_note(request, operation);
    request->audit.source_ip = verify->login.ip;
    request->audit.user_agent = verify->login.user_agent;
    if (((const struct cookie_verify *)operation)->cookie)
        verify->login.cookie = true;
    if (operation->err == ERR_VERIFICATION_FAILED)
        fail_try(request, verify);
    else if (operation->err == ERR_OK && verify->of_session)
        answer_session_verified(request, verify);
    else
        finish_login(operation);
}

/* What is no answer at all must not cost a try. */
static bool is_one_answer(struct request *request, const struct verify_body *body)
{
    bool is_code = body->code.data != NULL, is_word = body->verified != TRISTATE_ABSENT;
    if (is_code != is_word)
        return true;
    request_fail(request, ERR_BODY_INVALID,
                 is_code
                     ? TEXT("\"code\" and \"verified\" are two ways to answer; give one")
                     : TEXT("The answer is missing: \"code\" for method otp, \"verified\" (true "
                            "or false) for method external"),
                 (struct text){0});
    return false;
}

void handle_verify(struct request *request)
{
    struct verify_body body = {0};
    struct cookie_verify *work = arena_zalloc(&request->arena, sizeof(*work));
    struct verify *verify = &work->verify;
    if (!request_read_body(request, verify_fields, FIELD_COUNT(verify_fields), &body) ||
        !is_one_answer(request, &body) || !check_cookie(request, body.cookie) ||
        !token_tenant(request, &verify->tenant, &verify->tenant_bound))
        return;
    verify->challenge_id = body.challenge_id;
    verify->code = body.code;
    verify->verified = body.verified == TRISTATE_TRUE;
    work->cookie = body.cookie;
    request_begin(request, &verify->login.base, finish_verify);
    session_verify(verify);
}
