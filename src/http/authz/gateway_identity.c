#include "gateway_identity.h"

#include <string.h>

#include "clock.h"
#include "http/access/callers.h"
#include "http/server/client.h"

/* --- before the validation --- */

static bool is_known_by_connection(const struct request *request)
{
    const struct client *client = request->private->client;
    return client->local || proxies_include(&request->private->config->proxies, &client->address);
}

static enum err admit_by_key(struct request *request, const struct service_key **ret,
                             struct text *detail)
{
    enum err err = callers_find_gateway(request, ret, detail);
    if (err == ERR_RATE_LIMITED)
        return err;
    if (err != ERR_OK) {
        *detail = TEXT("Setting \"jwt\" needs the Unix socket, a proxy of server.trusted_proxies, "
                       "or a service key of scope validate in X-Gateway-Key");
        return ERR_FORBIDDEN;
    }
    if (((*ret)->scopes & SCOPE_VALIDATE) != 0)
        return ERR_OK;
    *detail = arena_format(&request->arena, "The service key \"%s\" lacks the scope validate",
                           (*ret)->name);
    return ERR_SCOPE_MISSING;
}

/* The stricter of two conditions holds. If setting and audience name different classes, the
 * setting's is demanded first, and the audience's when the identity is signed; so it is with
 * tenants and roles.
 */
static void narrow(struct authz_settings *settings, const struct audience *audience)
{
    if (settings->tenant.data == NULL && strcmp(audience->tenant, "*") != 0)
        settings->tenant = text_of(audience->tenant);
    if (audience->max_age_s >= 0 &&
        (settings->max_age_s < 0 || settings->max_age_s > audience->max_age_s))
        settings->max_age_s = audience->max_age_s;
    if (settings->acr.data == NULL && audience->acr[0] != '\0')
        settings->acr = text_of(audience->acr);
}

enum err authz_admit_gateway(struct request *request, struct authz_settings *settings,
                             struct authz_signing *ret, struct text *detail)
{
    *ret = (struct authz_signing){0};
    if (settings->audience.data == NULL)
        return ERR_OK;
    ret->audience = conf_find_audience(request->conf, settings->audience);
    if (ret->audience == NULL) {
        *detail =
            arena_format(&request->arena, "Setting \"jwt\" names \"%.*s\", which is no audience",
                         (int)settings->audience.length, settings->audience.data);
        return ERR_SETTING_INVALID;
    }
    narrow(settings, ret->audience);
    return is_known_by_connection(request) ? ERR_OK : admit_by_key(request, &ret->key, detail);
}

/* --- after it --- */

static bool is_foreign(const struct service_key *key, struct text tenant)
{
    return key != NULL && strcmp(key->tenant, "*") != 0 &&
           !text_equal(text_of(key->tenant), tenant);
}

static enum err refuse_identity(struct operation *operation, const struct audience *audience,
                                enum identity_verdict verdict, struct text *detail)
{
    static const struct {
        enum err err;
        const char *lacks;
    } refusals[] = {
        [IDENTITY_OF_OTHER_TENANT] = {ERR_TENANT_FORBIDDEN, "is not of the tenant"},
        [IDENTITY_WITHOUT_ROLE] = {ERR_ROLE_MISSING, "has none of the roles"},
        [IDENTITY_TOO_WEAK] = {ERR_INSUFFICIENT_AUTHENTICATION, "has not the authentication"},
    };
    if (verdict == IDENTITY_WITHOUT_KEY) {
        *detail = TEXT("This node has no signing key");
        return ERR_SETTING_INVALID;
    }
    *detail = arena_format(operation->arena, "The session %s that the audience \"%s\" demands",
                           refusals[verdict].lacks, audience->name);
    if (verdict == IDENTITY_TOO_WEAK) {
        operation->out.demanded.max_age_s = audience->max_age_s;
        if (audience->acr[0] != '\0')
            operation->out.demanded.acr = text_of(audience->acr);
    }
    return refusals[verdict].err;
}

enum err authz_sign(struct validate *validate, const struct authz_signing *signing,
                    struct text *ret, int64_t *left_s, struct text *detail)
{
    struct operation *operation = &validate->base;
    struct signed_identity identity;
    *ret = (struct text){0};
    *left_s = 0;
    if (signing->audience == NULL)
        return ERR_OK;
    if (is_foreign(signing->key, operation->facts.tenant)) {
        *detail = TEXT("The service key in X-Gateway-Key belongs to another tenant");
        return ERR_TENANT_FORBIDDEN;
    }
    enum identity_verdict verdict = session_sign_identity(validate, signing->audience, &identity);
    if (verdict != IDENTITY_SIGNED)
        return refuse_identity(operation, signing->audience, verdict, detail);
    *ret = identity.jwt;
    *left_s = identity.expires_s - operation->now_ms / SECOND_MS;
    return ERR_OK;
}
