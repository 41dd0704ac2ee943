/* Introspection (RFC 7662): a validation, answered in the members that OAuth readers know. */
#include <assert.h>

#include "http/access/throttle.h"
#include "http/api/begin.h"
#include "http/api/handlers.h"
#include "http/api/request_fields.h"
#include "http/api/response_objects.h"
#include "http/exchange/response.h"
#include "oauth.h"
#include "session/model/session_json.h"

struct introspect_form {
    struct oauth_client client;
    struct text token, ip, device_fingerprint, touch, max_age, acr;
};

static const struct form_field introspect_fields[] = {
    OAUTH_CLIENT_FIELDS(struct introspect_form),
    OAUTH_FIELD(struct introspect_form, token, FORM_ANY, 0),
    OAUTH_FIELD(struct introspect_form, ip, FORM_DECORATION, SIZE_MAX),
    OAUTH_FIELD(struct introspect_form, device_fingerprint, FORM_DECORATION, FINGERPRINT_MAX),
    OAUTH_FIELD(struct introspect_form, touch, FORM_TEXT, 8),
    OAUTH_FIELD(struct introspect_form, max_age, FORM_TEXT, 16),
    OAUTH_FIELD(struct introspect_form, acr, FORM_TEXT, ACR_MAX),
};

/* An id of the token that does not tell it: half of its digest. */
enum { TOKEN_ID = 16 };

static void write_token_id(struct json_writer *writer, struct text token)
{
    uint8_t digest[32];
    char spelled[2 * TOKEN_ID];
    crypto_digest(digest, token);
    text_to_hex(spelled, digest, TOKEN_ID);
    json_member_string(writer, "jti", (struct text){spelled, sizeof(spelled)});
}

static void write_claims(struct json_writer *writer, const struct request *request,
                         const struct validate *validate)
{
    const struct facts *facts = &validate->base.facts;
    struct text roles = session_json_roles(validate->session_json);
    json_member_string(writer, "sub", facts->user_id);
    json_member_string(writer, "username", facts->user_id);
    json_member_string(writer, "client_id", facts->tenant);
    oauth_write_scope(writer, roles);
    json_member_string(writer, "token_type", TEXT("Bearer"));
    json_member_int(writer, "exp", validate->access_expires_s);
    json_member_int(writer, "iat", validate->issued_s);
    if (request->conf->oauth_issuer[0] != '\0')
        json_member_string(writer, "iss", text_of(request->conf->oauth_issuer));
    json_member_string(writer, "sid", facts->session_id);
    write_token_id(writer, validate->token);
    json_member_string(writer, "tenant", facts->tenant);
    json_member_raw(writer, "roles", roles);
    json_member_raw(writer, "device", session_json_device(validate->session_json));
    json_raw(writer, session_json_authentication_text(validate->session_json));
}

static enum handled answer_active(struct request *request, const struct validate *validate)
{
    struct json_writer writer = {.out = request_body(request)};
    assert(validate->base.facts.user_id.length > 0 && validate->session_json.length > 0);
    api_note_staleness(request, validate);
    json_open_object(&writer);
    json_member_bool(&writer, "active", true);
    write_claims(&writer, request, validate);
    if (validate->stale) {
        json_member_bool(&writer, "stale", true);
        json_member_int(&writer, "stale_for", validate->stale_for_s);
    }
    json_close_object(&writer);
    return oauth_answer(request);
}

/* The answer does not say why (RFC 7662, section 2.2); the audit line does. */
static enum handled answer_not_active(struct request *request, const struct operation *operation)
{
    if (operation->out.forged && api_count_forged_token(request))
        return ANSWERED;
    request->audit.reason =
        operation->out.reason.data ? operation->out.reason : text_of(err_code(operation->out.err));
    buffer_add_literal(request_body(request), "{\"active\":false}");
    return oauth_answer(request);
}

/* True if the token is not good, or not for this caller, whatever may be done about it. */
static bool is_verdict(enum err err)
{
    return err == ERR_TENANT_FORBIDDEN || api_is_inactive(err);
}

static enum handled finish_introspect(struct request *request, struct operation *operation)
{
    if (is_verdict(operation->out.err))
        return answer_not_active(request, operation);
    if (operation->out.err != ERR_OK)
        return api_fail_operation(request, operation);
    return answer_active(request, (const struct validate *)operation);
}

static enum handled read_touch(struct request *request, struct text given, bool *ret)
{
    *ret = !text_equal(given, TEXT("false"));
    if (!given.data || !*ret || text_equal(given, TEXT("true")))
        return GO_ON;
    return response_fail(request, ERR_BODY_INVALID, TEXT("\"touch\" must be true or false"));
}

static enum handled read_strength(struct request *request, const struct introspect_form *form,
                                  struct validate *validate)
{
    validate->max_age_s = -1;
    validate->acr = form->acr;
    if (form->max_age.data &&
        !text_to_int(form->max_age, 0, STRENGTH_MAX_AGE, &validate->max_age_s))
        return response_fail(request, ERR_BODY_INVALID,
                             TEXT("\"max_age\" must be a number of seconds from 0 to 2147483647"));
    return api_check_acr(request, form->acr, ERR_BODY_INVALID);
}

enum handled oauth_introspect(struct request *request)
{
    struct introspect_form form = {0};
    struct validate *validate = arena_zalloc(&request->arena, sizeof(*validate));
    if (oauth_read_form(request, introspect_fields, FIELD_COUNT(introspect_fields), &form) ||
        oauth_check_client(request, &form.client) || oauth_demand(request, "token", form.token) ||
        read_touch(request, form.touch, &validate->touch) ||
        read_strength(request, &form, validate) ||
        api_token_tenant(request, &validate->tenant, &validate->tenant_bound) ||
        api_check_rate(request, throttle_admit_token(request, TOKEN_ACCESS, form.token)))
        return ANSWERED;
    validate->token = form.token;
    struct text ip = api_given_address(request, form.ip);
    request->audit.source_ip = ip;
    api_begin_any(request, &validate->base, finish_introspect);
    validate->base.claims = (struct client_claims){ip, form.device_fingerprint};
    session_validate(validate);
    return PENDING;
}
