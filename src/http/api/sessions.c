/* Login, validation, refresh, logout: the calls that carry a token of their own. */
#include "begin.h"
#include "handlers.h"
#include "http/access/alert_triggers.h"
#include "http/access/cookies.h"
#include "http/access/cors.h"
#include "http/access/throttle.h"
#include "http/exchange/response.h"
#include "request_fields.h"
#include "response_objects.h"

struct login_body {
    struct text tenant, user_id, ip, user_agent, attributes;
    struct json_texts roles;
    struct device device;
    struct authentication_body how;
    bool remember, second_factor, cookie;
};

static const struct json_field device_fields[] = {
    FIELD(struct device, id, "id", JSON_ID, false, 1, DEVICE_TEXT_MAX),
    FIELD(struct device, type, "type", JSON_ID, false, 1, DEVICE_TEXT_MAX),
    FIELD(struct device, name, "name", JSON_DECORATION, false, 1, DEVICE_TEXT_MAX),
    FIELD(struct device, fingerprint, "fingerprint", JSON_DECORATION, false, 1, FINGERPRINT_MAX),
};

static const struct json_field login_fields[] = {
    FIELD(struct login_body, user_id, "user_id", JSON_ID, true, 1, USER_ID_MAX),
    FIELD_TEXT(struct login_body, tenant, "tenant", 1, 63, TENANT_MEANING),
    FIELD(struct login_body, roles, "roles", JSON_TEXT_ARRAY, false, 0, ROLES_MAX),
    {.name = "device",
     .kind = JSON_MEMBERS,
     .offset = offsetof(struct login_body, device),
     .members = device_fields,
     .member_count = FIELD_COUNT(device_fields)},
    FIELD_ADDRESS(struct login_body),
    FIELD(struct login_body, user_agent, "user_agent", JSON_DECORATION, false, 1, USER_AGENT_MAX),
    FIELD(struct login_body, attributes, "attributes", JSON_ANY_OBJECT, false, 2, ATTRIBUTES_MAX),
    FIELDS_AUTHENTICATION(struct login_body),
    FIELD(struct login_body, second_factor, "second_factor", JSON_BOOLEAN, false, 0, 0),
    FIELD(struct login_body, remember, "remember", JSON_BOOLEAN, false, 0, 0),
    FIELD(struct login_body, cookie, "cookie", JSON_BOOLEAN, false, 0, 0),
};

static enum handled fail_device_limit(struct request *request, const struct login *login)
{
    SCOPED(buffer_free) struct buffer members = {0};
    struct json_writer writer = {.out = &members};
    json_member_int(&writer, "limit", login->limit);
    api_write_sessions(&writer, "devices", login->replaced, login->replaced_count);
    return response_fail_with(request, ERR_DEVICE_LIMIT, (struct text){0}, buffer_text(&members));
}

enum handled api_finish_login(struct request *request, struct operation *operation)
{
    const struct login *login = (const struct login *)operation;
    struct pair pair = {
        .issued = &login->pair,
        .new_device = login->new_device,
        .new_location = login->new_location,
        .replaced = login->replaced,
        .replaced_count = login->replaced_count,
        .cookie = login->cookie,
    };
    bool let_in = operation->out.err == ERR_OK || operation->out.err == ERR_VERIFICATION_REQUIRED;
    if (let_in && login->new_location && !login->first_location)
        alert_triggers_new_location(request, operation);
    if (operation->out.err == ERR_OK)
        return api_answer_pair(request, 201, operation, &pair);
    if (operation->out.err == ERR_DEVICE_LIMIT)
        return fail_device_limit(request, login);
    return api_fail_operation(request, operation);
}

/* A platform without tenants need not know of them: its users log in to the default one. */
static enum handled login_tenant(struct request *request, struct text in_body, struct text *ret)
{
    struct text named;
    if (api_body_tenant(request, in_body, &named))
        return ANSWERED;
    if (named.data == NULL && !request_caller_is_bound(&request->caller))
        named = TEXT("default");
    return api_tenant(request, named, ret);
}

enum handled api_login(struct request *request)
{
    struct login_body body = {0};
    struct authentication authentication;
    struct text tenant;
    if (api_read_body(request, login_fields, FIELD_COUNT(login_fields), &body) ||
        api_check_authentication(request, &body.how, &authentication) ||
        api_check_cookie(request, body.cookie) || login_tenant(request, body.tenant, &tenant) ||
        api_check_rate(request, throttle_admit_login(request, tenant, body.user_id)))
        return ANSWERED;
    struct login *login = arena_zalloc(&request->arena, sizeof(*login));
    login->tenant = tenant;
    login->user_id = body.user_id;
    login->roles = body.roles.items;
    login->role_count = body.roles.count;
    login->device = body.device;
    login->ip = api_given_address(request, body.ip);
    login->user_agent = body.user_agent;
    login->attributes = body.attributes;
    login->remember = body.remember;
    login->cookie = body.cookie;
    login->second_factor = body.second_factor;
    login->authentication = authentication;
    request->audit.source_ip = login->ip;
    request->audit.user_agent = login->user_agent;
    api_begin_any(request, &login->base, api_finish_login);
    session_login(login);
    return PENDING;
}

/* Reports in the body, not in the status, that a token is not active. */
static enum handled answer_inactive(struct request *request, const struct operation *operation)
{
    struct json_writer writer = {.out = request_body(request)};
    if (operation->out.forged && api_count_forged_token(request))
        return ANSWERED;
    api_write_inactive(&writer, request, operation);
    request->audit.reason = operation->out.reason;
    return response_answer(request, 200, true);
}

static enum handled finish_service_validate(struct request *request, struct operation *operation)
{
    if (operation->out.err == ERR_STEP_UP_REQUIRED)
        operation->out.reason = text_of(err_code(operation->out.err));
    if (api_is_inactive(operation->out.err))
        return answer_inactive(request, operation);
    if (operation->out.err != ERR_OK)
        return api_fail_operation(request, operation);
    return api_answer_session(request, operation);
}

enum handled api_validate(struct request *request)
{
    struct validate *validate = arena_zalloc(&request->arena, sizeof(*validate));
    if (api_query_strength(request, &validate->max_age_s, &validate->acr) ||
        api_token_tenant(request, &validate->tenant, &validate->tenant_bound))
        return ANSWERED;
    validate->token = request->caller.token;
    validate->touch = true;
    api_begin(request, &validate->base, api_answer_session);
    session_validate(validate);
    return PENDING;
}

struct validate_body {
    struct text token, ip, device_fingerprint, acr;
    int64_t max_age;
    bool touch;
};

static const struct json_field validate_fields[] = {
    FIELD(struct validate_body, token, "token", JSON_TEXT, true, 1, 4096),
    FIELD_ADDRESS(struct validate_body),
    FIELD(struct validate_body, device_fingerprint, "device_fingerprint", JSON_DECORATION, false, 0,
          FINGERPRINT_MAX),
    FIELD(struct validate_body, touch, "touch", JSON_BOOLEAN, false, 0, 0),
    FIELD(struct validate_body, max_age, "max_age", JSON_INT, false, 0, STRENGTH_MAX_AGE),
    FIELD_TEXT(struct validate_body, acr, "acr", 1, ACR_MAX, ACR_MEANING),
};

enum handled api_service_validate(struct request *request)
{
    struct validate_body body = {.touch = true, .max_age = -1};
    struct validate *validate = arena_zalloc(&request->arena, sizeof(*validate));
    if (api_read_body(request, validate_fields, FIELD_COUNT(validate_fields), &body) ||
        api_check_acr(request, body.acr, ERR_BODY_INVALID) ||
        api_token_tenant(request, &validate->tenant, &validate->tenant_bound) ||
        api_check_rate(request, throttle_admit_token(request, TOKEN_ACCESS, body.token)))
        return ANSWERED;
    validate->token = body.token;
    validate->touch = body.touch;
    validate->max_age_s = body.max_age;
    validate->acr = body.acr;
    struct text ip = api_given_address(request, body.ip);
    request->audit.source_ip = ip;
    api_begin_any(request, &validate->base, finish_service_validate);
    validate->base.claims = (struct client_claims){ip, body.device_fingerprint};
    session_validate(validate);
    return PENDING;
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
    FIELD(struct refresh_body, device_fingerprint, "device_fingerprint", JSON_DECORATION, false, 0,
          FINGERPRINT_MAX),
    FIELD(struct refresh_body, cookie, "cookie", JSON_BOOLEAN, false, 0, 0),
};

static enum handled answer_refresh(struct request *request, struct operation *operation)
{
    const struct refresh *refresh = (const struct refresh *)operation;
    struct pair pair = {
        .issued = &refresh->pair,
        .cookie = ((const struct cookie_refresh *)operation)->cookie,
    };
    return api_answer_pair(request, 200, operation, &pair);
}

/* A page that could give a browser the cookie of a session of its own would make its visitors act
 * in that session unawares. */
static enum handled check_new_cookie(struct request *request, bool cookie)
{
    struct text detail = {0};
    enum err err = cookie ? cors_admit_new_cookie(request, &detail) : ERR_OK;
    return err != ERR_OK ? response_fail(request, err, detail) : GO_ON;
}

/* A service names the user's address; without a key the connection's address counts, whatever the
 * body says. */
static void present_refresh(const struct request *request, const struct refresh_body *body,
                            struct client_claims *claims)
{
    if (body->device_fingerprint.data)
        claims->fingerprint = body->device_fingerprint;
    if (request->caller.kind == CALLER_SERVICE)
        claims->ip = body->ip;
}

enum handled api_refresh(struct request *request)
{
    struct refresh_body body = {0};
    struct cookie_refresh *work = arena_zalloc(&request->arena, sizeof(*work));
    struct refresh *refresh = &work->refresh;
    if (api_read_body(request, refresh_fields, FIELD_COUNT(refresh_fields), &body) ||
        api_check_cookie(request, body.cookie) || check_new_cookie(request, body.cookie) ||
        api_token_tenant(request, &refresh->tenant, &refresh->tenant_bound) ||
        api_check_rate(request, throttle_admit_token(request, TOKEN_REFRESH, body.refresh_token)))
        return ANSWERED;
    work->cookie = body.cookie;
    refresh->refresh_token = body.refresh_token;
    body.ip = api_given_address(request, body.ip);
    if (request->caller.kind == CALLER_SERVICE && body.ip.data) {
        refresh->ip = body.ip;
        request->audit.source_ip = body.ip;
    }
    api_begin(request, &refresh->base, answer_refresh);
    present_refresh(request, &body, &refresh->base.claims);
    session_refresh(refresh);
    return PENDING;
}

/* A forged token's session counts as ended, too; but many of them are limited as with other calls.
 */
enum handled api_finish_own_ended(struct request *request, struct operation *operation)
{
    const struct end_sessions *end = (const struct end_sessions *)operation;
    if (operation->out.forged && api_count_forged_token(request))
        return ANSWERED;
    if (end->own_ended)
        cookies_take_back(request);
    return api_answer_ended(request, operation);
}

enum handled api_logout(struct request *request)
{
    struct end_sessions *end = arena_zalloc(&request->arena, sizeof(*end));
    if (api_read_body(request, NULL, 0, NULL) ||
        api_token_tenant(request, &end->tenant, &end->tenant_bound))
        return ANSWERED;
    end->token = request->caller.token;
    end->scope = END_OWN;
    end->why = TEXT(REASON_LOGGED_OUT);
    api_begin(request, &end->base, api_finish_own_ended);
    session_end(end);
    return PENDING;
}

struct logout_all_body {
    bool keep_current;
};

static const struct json_field logout_all_fields[] = {
    FIELD(struct logout_all_body, keep_current, "keep_current", JSON_BOOLEAN, false, 0, 0),
};

enum handled api_logout_all(struct request *request)
{
    struct logout_all_body body = {0};
    struct end_sessions *end = arena_zalloc(&request->arena, sizeof(*end));
    if (api_read_body(request, logout_all_fields, FIELD_COUNT(logout_all_fields), &body) ||
        api_token_tenant(request, &end->tenant, &end->tenant_bound))
        return ANSWERED;
    end->token = request->caller.token;
    end->scope = END_ALL;
    end->keep_own = body.keep_current;
    end->why = TEXT(REASON_LOGGED_OUT);
    api_begin(request, &end->base, api_finish_own_ended);
    session_end(end);
    return PENDING;
}
