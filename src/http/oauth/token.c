/* The token endpoint: the refresh grant (RFC 6749, section 6) alone, since logins are the account
 * service's. */
#include "http/access/throttle.h"
#include "http/api/begin.h"
#include "http/api/handlers.h"
#include "http/api/request_fields.h"
#include "http/api/response_objects.h"
#include "http/exchange/response.h"
#include "oauth.h"

struct token_form {
    struct oauth_client client;
    struct text grant_type, refresh_token, ip, device_fingerprint;
};

static const struct form_field token_fields[] = {
    OAUTH_CLIENT_FIELDS(struct token_form),
    OAUTH_FIELD(struct token_form, grant_type, FORM_ANY, 0),
    OAUTH_FIELD(struct token_form, refresh_token, FORM_ANY, 0),
    OAUTH_FIELD(struct token_form, ip, FORM_DECORATION, SIZE_MAX),
    OAUTH_FIELD(struct token_form, device_fingerprint, FORM_DECORATION, FINGERPRINT_MAX),
};

/* One shape for every bad token (RFC 6749, section 5.2): the audit line has the reason. A client of
 * OAuth cannot answer a challenge, so a step-up means a new login, too. */
static bool is_bad_grant(enum err err)
{
    return err == ERR_REFRESH_INVALID || err == ERR_TENANT_FORBIDDEN || err == ERR_STEP_UP_REQUIRED;
}

static enum handled refuse_grant(struct request *request, const struct operation *operation)
{
    if (operation->out.forged && api_count_forged_token(request))
        return ANSWERED;
    if (!operation->out.reason.data)
        request->audit.reason = text_of(err_code(operation->out.err));
    return response_fail(request, ERR_REFRESH_INVALID, TEXT("The refresh token is not valid"));
}

static enum handled finish_token(struct request *request, struct operation *operation)
{
    if (is_bad_grant(operation->out.err))
        return refuse_grant(request, operation);
    if (operation->out.err != ERR_OK)
        return api_fail_operation(request, operation);
    const struct issued_pair *pair = &((const struct refresh *)operation)->pair;
    int64_t now_s = operation->now_ms / 1000;
    struct json_writer writer = {.out = request_body(request)};
    json_open_object(&writer);
    json_member_string(&writer, "access_token", (struct text){pair->access_token, TOKEN_LENGTH});
    json_member_string(&writer, "token_type", TEXT("Bearer"));
    json_member_int(&writer, "expires_in", pair->access_expires_s - now_s);
    json_member_string(&writer, "refresh_token", (struct text){pair->refresh_token, TOKEN_LENGTH});
    json_member_int(&writer, "refresh_expires_in", pair->refresh_expires_s - now_s);
    oauth_write_scope(&writer, pair->roles_json);
    json_close_object(&writer);
    return oauth_answer(request);
}

static enum handled check_grant(struct request *request, const struct token_form *form)
{
    if (oauth_demand(request, "grant_type", form->grant_type))
        return ANSWERED;
    if (!text_equal(form->grant_type, TEXT("refresh_token")))
        return response_fail(request, ERR_GRANT_UNSUPPORTED, (struct text){0});
    return oauth_demand(request, "refresh_token", form->refresh_token);
}

/* As with the native call, only a service names the user's address. */
static void present_claims(struct request *request, const struct token_form *form,
                           struct refresh *refresh)
{
    if (form->device_fingerprint.data)
        refresh->base.claims.fingerprint = form->device_fingerprint;
    if (request->caller.kind == CALLER_SERVICE)
        refresh->base.claims.ip = refresh->ip;
}

enum handled oauth_token(struct request *request)
{
    struct token_form form = {0};
    struct refresh *refresh = arena_zalloc(&request->arena, sizeof(*refresh));
    if (oauth_read_form(request, token_fields, FIELD_COUNT(token_fields), &form) ||
        oauth_check_client(request, &form.client) || check_grant(request, &form) ||
        api_token_tenant(request, &refresh->tenant, &refresh->tenant_bound) ||
        api_check_rate(request, throttle_admit_token(request, TOKEN_REFRESH, form.refresh_token)))
        return ANSWERED;
    refresh->refresh_token = form.refresh_token;
    struct text ip = api_given_address(request, form.ip);
    if (request->caller.kind == CALLER_SERVICE && ip.data) {
        refresh->ip = ip;
        request->audit.source_ip = ip;
    }
    api_begin_any(request, &refresh->base, finish_token);
    present_claims(request, &form, refresh);
    session_refresh(refresh);
    return PENDING;
}
