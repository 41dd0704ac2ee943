/* The verdict on a gateway's request: may its client go on, and who is it? Settings, original
 * request, credential, rate and validation are looked at in this order, then what the settings
 * demand.
 *
 * Exactly 200 without a body lets it go on, with every X-Session-… header; all else is a problem:
 * 400 for settings that are wrong, 401, 403, 429, 503. No answer sets a cookie. */
#include "clean.h"
#include "gateway_identity.h"
#include "gateway_settings.h"
#include "http/access/callers.h"
#include "http/access/throttle.h"
#include "http/api/begin.h"
#include "http/api/handlers.h"
#include "http/api/request_fields.h"
#include "http/api/response_objects.h"
#include "http/exchange/response.h"
#include "identity_headers.h"
#include "original_request.h"
#include "session/model/session_json.h"
#include "verdict_lifetime.h"

struct authorization {
    struct validate validate; /* first: the operation */
    enum authz_route route;
    struct authz_settings settings;
    struct authz_original original;
    struct authz_signing signing;
};

static void note_original(struct request *request, const struct authz_original *original)
{
    enum { LONGEST_HOST = 255, LONGEST_PATH = 512 };
    struct audit_record *record = &request->audit;
    struct arena *arena = &request->arena;
    record->original_method = clean_text(original->target.method, METHOD_MAX, arena);
    record->original_host = clean_text(original->target.host, LONGEST_HOST, arena);
    record->original_path = clean_text(original->path, LONGEST_PATH, arena);
}

/* --- allowing --- */

static struct text deciding_headers(struct request *request, const struct authorization *work)
{
    return arena_format(&request->arena, "%s%s", authz_original_headers(work->route),
                        work->signing.audience != NULL ? ", X-Gateway-Key" : "");
}

static void add_caching(struct request *request, const struct authorization *work, int64_t seconds)
{
    request_header(
        request, "Cache-Control",
        seconds == 0 ? TEXT("no-store")
                     : arena_format(&request->arena, "private, max-age=%lld", (long long)seconds));
    request_header(request, "Vary", deciding_headers(request, work));
}

static enum handled let_through(struct request *request, const struct authorization *work,
                                const struct authz_identity *identity, int64_t cached_s)
{
    authz_add_identity(request, identity);
    add_caching(request, work, cached_s);
    return response_answer_as(request, MHD_HTTP_OK, NULL);
}

/* When the user will have authenticated too long ago; 0: never. */
static int64_t fresh_end_s(const struct authorization *work)
{
    const struct authentication authentication =
        session_json_authentication(work->validate.session_json);
    return work->settings.max_age_s < 0 ? 0 : authentication.auth_s + work->settings.max_age_s;
}

static int64_t cached_s(const struct request *request, const struct authorization *work,
                        int64_t jwt_left_s)
{
    const struct validate *validate = &work->validate;
    const struct authz_lifetime of = {
        .most_s = request->conf->authz_cache,
        .identified = true,
        .stale = validate->stale,
        .bound = validate->bound,
        .forgeable = request->caller.by_cookie && !cors_is_safe(&work->original.target),
        .now_s = validate->base.now_ms / 1000,
        .access_end_s = validate->access_expires_s,
        .idle_end_s = validate->idle_expires_s,
        .fresh_end_s = fresh_end_s(work),
        .jwt_ttl_s = jwt_left_s,
    };
    return authz_lifetime_of(&of);
}

static enum handled allow_session(struct request *request, const struct authorization *work,
                                  const struct text *roles, size_t role_count, struct text jwt,
                                  int64_t jwt_left_s)
{
    const struct validate *validate = &work->validate;
    const struct facts *facts = &validate->base.facts;
    const struct authz_identity identity = {
        .authenticated = true,
        .user = facts->user_id,
        .tenant = facts->tenant,
        .session_id = facts->session_id,
        .device = facts->device_id,
        .device_type = facts->device_type,
        .roles = roles,
        .role_count = role_count,
        .expires_s = validate->access_expires_s,
        .stale = validate->stale,
        .stale_for_s = validate->stale_for_s,
        .jwt = jwt,
    };
    request->audit.stale = validate->stale;
    request->audit.stale_for_s = validate->stale_for_s;
    return let_through(request, work, &identity, cached_s(request, work, jwt_left_s));
}

/* --- denying --- */

/* A problem that names the reason of a token that was refused before it was looked up. */
static enum handled deny(struct request *request, enum err err, struct text detail)
{
    SCOPED(buffer_free) struct buffer members = {0};
    struct json_writer writer = {.out = &members};
    if (err == ERR_TOKEN_INVALID)
        json_member_string(&writer, "reason", request->audit.reason);
    return response_fail_with(request, err, detail, buffer_text(&members));
}

static bool has_demanded_role(const struct authz_settings *settings, const struct text *roles,
                              size_t count)
{
    for (size_t i = 0; i < settings->role_count; i++)
        for (size_t j = 0; j < count; j++)
            if (text_equal(settings->roles[i], roles[j]))
                return true;
    return settings->role_count == 0;
}

static enum handled finish_accepted(struct request *request, struct authorization *work)
{
    struct text roles[ROLES_MAX];
    size_t count = session_validated_roles(&work->validate, roles, ROLES_MAX);
    if (!has_demanded_role(&work->settings, roles, count))
        return deny(request, ERR_ROLE_MISSING,
                    TEXT("The session has none of the roles that this gateway demands"));
    struct text jwt, detail = {0};
    int64_t jwt_left_s;
    enum err err = authz_sign(&work->validate, &work->signing, &jwt, &jwt_left_s, &detail);
    if (err == ERR_OK)
        return allow_session(request, work, roles, count, jwt, jwt_left_s);
    if (err != ERR_INSUFFICIENT_AUTHENTICATION)
        return deny(request, err, detail);
    work->validate.base.out.err = err;
    return api_fail_operation(request, &work->validate.base);
}

static enum handled finish_authorization(struct request *request, struct operation *operation)
{
    struct authorization *work = (struct authorization *)operation;
    if (operation->out.err == ERR_OK)
        return finish_accepted(request, work);
    if (operation->out.err == ERR_TENANT_FORBIDDEN)
        return deny(request, ERR_TENANT_FORBIDDEN,
                    TEXT("The session is not of the tenant that this gateway demands"));
    return api_fail_operation(request, operation);
}

/* --- the call --- */

static enum handled check_settings(struct request *request, struct authorization *work)
{
    struct authz_settings *settings = &work->settings;
    struct text detail = {0};
    if (!authz_settings_read(request->parameters[0], &request->arena, settings, &detail))
        return response_fail(request, ERR_SETTING_INVALID, detail);
    if (api_check_acr(request, settings->acr, ERR_SETTING_INVALID))
        return ANSWERED;
    enum err err = authz_admit_gateway(request, settings, &work->signing, &detail);
    return err == ERR_OK ? GO_ON : deny(request, err, detail);
}

static enum handled find_user(struct request *request, const struct authorization *work)
{
    static const struct authz_identity nobody;
    struct text detail = {0};
    enum err err = callers_establish_user(request, &work->original.target, &detail);
    if (err == ERR_OK)
        return api_check_rate(request, throttle_admit_authz(request));
    if (err == ERR_KEY_MISSING && work->settings.optional)
        return let_through(request, work, &nobody, 0);
    return deny(request, err, detail);
}

static void validate_session(struct request *request, struct authorization *work)
{
    struct validate *validate = &work->validate;
    validate->token = request->caller.token;
    validate->touch = !work->settings.untouched;
    validate->tenant = work->settings.tenant;
    validate->tenant_bound = true;
    validate->max_age_s = work->settings.max_age_s;
    validate->acr = work->settings.acr;
    api_begin_any(request, &validate->base, finish_authorization);
    validate->base.answer_by_ms =
        request->deadline_ms - request->conf->redis_timeout + request->conf->authz_timeout;
    session_validate(validate);
}

static enum handled authorize(struct request *request, enum authz_route route)
{
    struct authorization *work = arena_zalloc(&request->arena, sizeof(*work));
    work->route = route;
    if (check_settings(request, work))
        return ANSWERED;
    work->original = authz_original_of(request, route);
    note_original(request, &work->original);
    if (find_user(request, work))
        return ANSWERED;
    validate_session(request, work);
    return PENDING;
}

enum handled authz_forward_auth(struct request *request)
{
    return authorize(request, AUTHZ_FORWARD_AUTH);
}

enum handled authz_auth_request(struct request *request)
{
    return authorize(request, AUTHZ_AUTH_REQUEST);
}

enum handled authz_ext_authz(struct request *request)
{
    return authorize(request, AUTHZ_EXT_AUTHZ);
}
