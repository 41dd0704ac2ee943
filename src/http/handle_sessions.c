/* Login, validation, refresh, logout: the calls that carry a token of their own. */
#include "alarms.h"
#include "cookies.h"
#include "cors.h"
#include "handlers.h"
#include "rates.h"
#include "objects.h"

struct login_body {
    struct text tenant, user_id, ip, user_agent, attributes;
    struct json_texts roles;
    struct device device;
    bool remember, second_factor, cookie;
};

static const struct json_field device_fields[] = {
    FIELD(struct device, id, "id", JSON_TEXT, false, 1, DEVICE_TEXT_MAX),
    FIELD(struct device, type, "type", JSON_TEXT, false, 1, DEVICE_TEXT_MAX),
    FIELD(struct device, name, "name", JSON_TEXT, false, 1, DEVICE_TEXT_MAX),
    FIELD(struct device, fingerprint, "fingerprint", JSON_TEXT, false, 1, FINGERPRINT_MAX),
};

static const struct json_field login_fields[] = {
    FIELD(struct login_body, user_id, "user_id", JSON_TEXT, true, 1, USER_ID_MAX),
    FIELD_TEXT(struct login_body, tenant, "tenant", 1, 63, TENANT_MEANING),
    FIELD(struct login_body, roles, "roles", JSON_TEXT_ARRAY, false, 0, ROLES_MAX),
    {.name = "device",
     .kind = JSON_MEMBERS,
     .offset = offsetof(struct login_body, device),
     .members = device_fields,
     .member_count = FIELD_COUNT(device_fields)},
    FIELD_ADDRESS(struct login_body),
    FIELD(struct login_body, user_agent, "user_agent", JSON_TEXT, false, 0, INT32_MAX),
    FIELD(struct login_body, attributes, "attributes", JSON_ANY_OBJECT, false, 2, ATTRIBUTES_MAX),
    FIELD(struct login_body, second_factor, "second_factor", JSON_BOOLEAN, false, 0, 0),
    FIELD(struct login_body, remember, "remember", JSON_BOOLEAN, false, 0, 0),
    FIELD(struct login_body, cookie, "cookie", JSON_BOOLEAN, false, 0, 0),
};

static void fail_device_limit(struct request *request, const struct login *login)
{
    struct buffer members = {0};
    struct json_writer writer = {.out = &members};
    json_member_int(&writer, "limit", login->limit);
    write_sessions(&writer, "devices", login->replaced, login->replaced_count);
    request_fail(request, ERR_DEVICE_LIMIT, (struct text){0},
                 arena_copy(&request->arena, buffer_text(&members)));
    buffer_free(&members);
}

void finish_login(struct operation *operation)
{
    struct request *request = request_of(operation);
    const struct login *login = (const struct login *)operation;
    struct pair pair = {
        .issued = &login->pair,
        .new_device = login->new_device,
        .new_location = login->new_location,
        .replaced = login->replaced,
        .replaced_count = login->replaced_count,
        .cookie = login->cookie,
    };
    request_note(request, operation);
    bool let_in = operation->err == ERR_OK || operation->err == ERR_VERIFICATION_REQUIRED;
    if (let_in && login->new_location && !login->first_location)
        alarms_new_location(request, operation);
    if (operation->err == ERR_OK)
        answer_pair(request, 201, operation, &pair);
    else if (operation->err == ERR_DEVICE_LIMIT)
        fail_device_limit(request, login);
    else
        request_fail_operation(request, operation);
}

/* The tenant stands in the body or in the query; if in both, it must be one. */
static bool named_tenant(struct request *request, struct text in_body, struct text *ret)
{
    struct text in_query = request_query(request, "tenant");
    if (in_body.data != NULL && in_query.data != NULL && !text_equal(in_body, in_query)) {
        request_fail(request, ERR_QUERY_INVALID, TEXT("The body names another \"tenant\""),
                     (struct text){0});
        return false;
    }
    return request_tenant(request, in_body.data != NULL ? in_body : in_query, ret);
}

/* Services pass on what the client sent, and no client is locked out for that: nothing is as
 * absent, too much is cut. */
static struct text fitting_user_agent(struct text told)
{
    static const struct text absent;
    return told.length == 0 ? absent : text_cut(told, USER_AGENT_MAX);
}

void handle_login(struct request *request)
{
    struct login_body body = {0};
    struct text tenant;
    if (!request_read_body(request, login_fields, FIELD_COUNT(login_fields), &body) ||
        !check_address(request, body.ip) || !check_cookie(request, body.cookie) ||
        !named_tenant(request, body.tenant, &tenant) ||
        !rates_admit_login(request, tenant, body.user_id))
        return;
    struct login *login = arena_zalloc(&request->arena, sizeof(*login));
    login->tenant = tenant;
    login->user_id = body.user_id;
    login->roles = body.roles.items;
    login->role_count = body.roles.count;
    login->device = body.device;
    login->ip = body.ip;
    login->user_agent = fitting_user_agent(body.user_agent);
    login->attributes = body.attributes;
    login->remember = body.remember;
    login->cookie = body.cookie;
    login->second_factor = body.second_factor;
    request->audit.source_ip = body.ip;
    request->audit.user_agent = login->user_agent;
    request_begin(request, &login->base, finish_login);
    session_login(login);
}

/* An answer that says in its body, not in its status, that a token is dead. */
static void answer_inactive(struct request *request, const struct operation *operation)
{
    struct json_writer writer = {.out = request_body(request)};
    if (operation->forged && !rates_note_forged_token(request, request->audit.source_ip))
        return;
    json_open_object(&writer);
    json_member_bool(&writer, "active", false);
    json_member_string(&writer, "reason", operation->reason);
    if (operation->ended_at_s > 0)
        json_member_int(&writer, "ended_at", operation->ended_at_s);
    if (operation->ended_actor.data)
        json_member_string(&writer, "actor", operation->ended_actor);
    write_challenge(&writer, request, operation);
    json_close_object(&writer);
    request->audit.reason = operation->reason;
    request_answer(request, 200, true);
}

static void finish_validate(struct operation *operation)
{
    struct request *request = request_of(operation);
    request_note(request, operation);
    if (operation->err == ERR_OK)
        answer_session(request, (const struct validate *)operation);
    else
        request_fail_operation(request, operation);
}

static void finish_service_validate(struct operation *operation)
{
    if (operation->err == ERR_STEP_UP_REQUIRED)
        operation->reason = text_of(err_code(operation->err));
    if (operation->err == ERR_TOKEN_INVALID || operation->err == ERR_STEP_UP_REQUIRED) {
        request_note(request_of(operation), operation);
        answer_inactive(request_of(operation), operation);
    } else {
        finish_validate(operation);
    }
}

void handle_validate(struct request *request)
{
    struct validate *validate = arena_zalloc(&request->arena, sizeof(*validate));
    if (!token_tenant(request, &validate->tenant, &validate->tenant_bound))
        return;
    validate->token = request->caller.token;
    validate->touch = true;
    request_begin(request, &validate->base, finish_validate);
    session_validate(validate);
}

struct validate_body {
    struct text token, ip, device_fingerprint;
    bool touch;
};

static const struct json_field validate_fields[] = {
    FIELD(struct validate_body, token, "token", JSON_TEXT, true, 1, 4096),
    FIELD_ADDRESS(struct validate_body),
    FIELD(struct validate_body, device_fingerprint, "device_fingerprint", JSON_TEXT, false, 0,
          FINGERPRINT_MAX),
    FIELD(struct validate_body, touch, "touch", JSON_BOOLEAN, false, 0, 0),
};

void handle_service_validate(struct request *request)
{
    struct validate_body body = {.touch = true};
    struct validate *validate = arena_zalloc(&request->arena, sizeof(*validate));
    if (!request_read_body(request, validate_fields, FIELD_COUNT(validate_fields), &body) ||
        !check_address(request, body.ip) ||
        !token_tenant(request, &validate->tenant, &validate->tenant_bound) ||
        !rates_admit_token(request, TOKEN_ACCESS, body.token))
        return;
    validate->token = body.token;
    validate->touch = body.touch;
    request->audit.source_ip = body.ip;
    request_begin(request, &validate->base, finish_service_validate);
    validate->base.presented = (struct presented){body.ip, body.device_fingerprint};
    session_validate(validate);
}

struct refresh_body {
    struct text refresh_token, ip, device_fingerprint;
    bool cookie;
};

struct cookie_refresh {
    struct refresh refresh; /* first: the operation */
    bool cookie;
};

static const struct json_field refresh_fields[] = {
    FIELD(struct refresh_body, refresh_token, "refresh_token", JSON_TEXT, true, 1, 4096),
    FIELD_ADDRESS(struct refresh_body),
    FIELD(struct refresh_body, device_fingerprint, "device_fingerprint", JSON_TEXT, false, 0,
          FINGERPRINT_MAX),
    FIELD(struct refresh_body, cookie, "cookie", JSON_BOOLEAN, false, 0, 0),
};

static void finish_refresh(struct operation *operation)
{
    struct request *request = request_of(operation);
    const struct refresh *refresh = (const struct refresh *)operation;
    struct pair pair = {
        .issued = &refresh->pair,
        .cookie = ((const struct cookie_refresh *)operation)->cookie,
    };
    request_note(request, operation);
    if (operation->err == ERR_OK)
        answer_pair(request, 200, operation, &pair);
    else
        request_fail_operation(request, operation);
}

/* A page that could hand a browser the cookie of a session of its own would have its visitors act
 * in that session unawares. False if the request was answered. */
static bool check_gift(struct request *request, bool cookie)
{
    struct text detail = {0};
    enum err err = cookie ? cors_admit_gift(request, &detail) : ERR_OK;
    if (err != ERR_OK)
        request_fail(request, err, detail, (struct text){0});
    return err == ERR_OK;
}

/* Where a service says the user is; who shows no key is where the connection comes from, whatever
 * the body says. */
static void present_refresh(const struct request *request, const struct refresh_body *body,
                            struct presented *presented)
{
    if (body->device_fingerprint.data)
        presented->fingerprint = body->device_fingerprint;
    if (request->caller.kind == CALLER_SERVICE)
        presented->ip = body->ip;
}

void handle_refresh(struct request *request)
{
    struct refresh_body body = {0};
    struct cookie_refresh *work = arena_zalloc(&request->arena, sizeof(*work));
    struct refresh *refresh = &work->refresh;
    if (!request_read_body(request, refresh_fields, FIELD_COUNT(refresh_fields), &body) ||
        !check_address(request, body.ip) || !check_cookie(request, body.cookie) ||
        !check_gift(request, body.cookie) ||
        !token_tenant(request, &refresh->tenant, &refresh->tenant_bound) ||
        !rates_admit_token(request, TOKEN_REFRESH, body.refresh_token))
        return;
    work->cookie = body.cookie;
    refresh->refresh_token = body.refresh_token;
    if (request->caller.kind == CALLER_SERVICE && body.ip.data) {
        refresh->ip = body.ip;
        request->audit.source_ip = body.ip;
    }
    request_begin(request, &refresh->base, finish_refresh);
    present_refresh(request, &body, &refresh->base.presented);
    session_refresh(refresh);
}

void finish_ended(struct operation *operation)
{
    struct request *request = request_of(operation);
    request_note(request, operation);
    if (operation->err == ERR_OK)
        answer_ended(request, operation);
    else
        request_fail_operation(request, operation);
}

/* The session of the presented token is over; so is its cookie. A token that was never issued is
 * over, too, but who comes with many of them is no better than with other calls. */
static void finish_logout(struct operation *operation)
{
    struct request *request = request_of(operation);
    const struct end_sessions *end = (const struct end_sessions *)operation;
    if (operation->err == ERR_OK && operation->forged &&
        !rates_note_forged_token(request, request->audit.source_ip))
        return;
    if (operation->err == ERR_OK && !end->keep_presented)
        cookies_take_back(request);
    finish_ended(operation);
}

void handle_logout(struct request *request)
{
    struct end_sessions *end = arena_zalloc(&request->arena, sizeof(*end));
    if (!request_read_body(request, NULL, 0, NULL) ||
        !token_tenant(request, &end->tenant, &end->tenant_bound))
        return;
    end->token = request->caller.token;
    end->scope = END_PRESENTED;
    end->why = TEXT(REASON_LOGGED_OUT);
    request_begin(request, &end->base, finish_logout);
    session_end(end);
}

struct logout_all_body {
    bool keep_current;
};

static const struct json_field logout_all_fields[] = {
    FIELD(struct logout_all_body, keep_current, "keep_current", JSON_BOOLEAN, false, 0, 0),
};

void handle_logout_all(struct request *request)
{
    struct logout_all_body body = {0};
    struct end_sessions *end = arena_zalloc(&request->arena, sizeof(*end));
    if (!request_read_body(request, logout_all_fields, FIELD_COUNT(logout_all_fields), &body) ||
        !token_tenant(request, &end->tenant, &end->tenant_bound))
        return;
    end->token = request->caller.token;
    end->scope = END_ALL;
    end->keep_presented = body.keep_current;
    end->why = TEXT(REASON_LOGGED_OUT);
    request_begin(request, &end->base, finish_logout);
    end->base.demand = demand_of(request, DEMAND_SELF_LOGOUT_ALL, true);
    session_end(end);
}
