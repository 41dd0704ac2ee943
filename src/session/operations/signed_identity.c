/* Signed identities. The claims are written first: their hash, with the key id, finds a signature
 * in memory that states the same. So a changed fact, key or audience leads to another signature. */
#include <assert.h>

#include "clock.h"
#include "metrics.h"
#include "session/engine/service.h"
#include "session/model/claims.h"
#include "session/model/session_json.h"
#include "session/model/strength.h"
#include "signatures.h"
#include "signing.h"

enum {
    JTI_RANDOM = 16,
    JTI = 22,
    /* Some receivers refuse a JWT that was issued in their future, and their clocks may be behind.
     */
    EARLY_S = CLOCKS_APART_MS / SECOND_MS
};

static struct claims claims_of(const struct validate *validate, const struct audience *audience)
{
    struct authentication authentication = session_json_authentication(validate->session_json);
    return (struct claims){
        .auth_s = authentication.auth_s,
        .acr = authentication.acr,
        .amr = session_json_amr(validate->session_json),
        .issuer = text_of(validate->base.conf->oauth_issuer),
        .audience = audience,
        .session_json = validate->session_json,
        .session_id = validate->base.facts.session_id,
    };
}

static enum identity_verdict judge(const struct validate *validate, const struct claims *claims)
{
    const struct audience *audience = claims->audience;
    const struct operation *operation = &validate->base;
    const struct authentication strength = {.auth_s = claims->auth_s, .acr = claims->acr};
    struct strength_demand demand = {.max_age_s = audience->max_age_s};
    if (audience->acr[0] != '\0')
        demand.acr = text_of(audience->acr);
    if (!claims_fit_tenant(audience, claims->session_json))
        return IDENTITY_OF_OTHER_TENANT;
    if (!claims_fit_roles(audience, claims->session_json))
        return IDENTITY_WITHOUT_ROLE;
    bool strong =
        !strength_is_asked(&demand) || strength_meets(&operation->conf->auth_acr_order, &strength,
                                                      &demand, operation->now_ms / SECOND_MS);
    return strong ? IDENTITY_SIGNED : IDENTITY_TOO_WEAK;
}

/* The second from which the session is over: at the end of the token, or after the last one that is
 * not idle. */
static int64_t end_of(const struct validate *validate)
{
    int64_t idle_s = validate->idle_expires_s + 1;
    return validate->access_expires_s < idle_s ? validate->access_expires_s : idle_s;
}

static void sign_claims(const struct signing_key *key, struct buffer *claims,
                        struct signed_text *signed_text, struct arena *arena)
{
    uint8_t random[JTI_RANDOM];
    char jti[JTI];
    SCOPED(buffer_free) struct buffer header = {0}, jwt = {0};
    struct text id = signing_key_id(key);
    crypto_random(random, sizeof(random));
    text_to_base64url(jti, random, sizeof(random));
    claims_date(claims, signed_text->signed_s, signed_text->expires_s,
                (struct text){jti, sizeof(jti)});
    buffer_addf(&header, "{\"alg\":\"ES256\",\"typ\":\"at+jwt\",\"kid\":\"%.*s\"}", (int)id.length,
                id.data);
    signing_write_jws(key, buffer_text(&header), buffer_text(claims), &jwt);
    signed_text->text = arena_copy(arena, buffer_text(&jwt));
}

/* The signature in memory, or a new one. */
static void sign_or_repeat(const struct validate *validate, const struct audience *audience,
                           const struct signing_key *key, struct buffer *claims,
                           struct signed_text *ret)
{
    const struct operation *operation = &validate->base;
    struct signatures *signatures = operation->context->worker->service->signatures;
    int64_t now_s = operation->now_ms / SECOND_MS, last_s = end_of(validate);
    int64_t signed_s = now_s - (audience->ttl_s > EARLY_S ? EARLY_S : 0);
    const struct text parts[] = {signing_key_id(key), buffer_text(claims)};
    uint8_t statement[SIGNATURES_KEY];
    crypto_keyed_hash(operation->context->keyring, CRYPTO_STATEMENT, parts, 2, statement,
                      sizeof(statement));
    if (last_s > signed_s + audience->ttl_s)
        last_s = signed_s + audience->ttl_s;
    if (signatures_get(signatures, statement, now_s, last_s, operation->arena, ret)) {
        metrics_add(METRIC_IDENTITIES_REPEATED, 1);
        return;
    }
    ret->signed_s = signed_s;
    ret->expires_s = last_s;
    sign_claims(key, claims, ret, operation->arena);
    signatures_put(signatures, statement, ret, (size_t)operation->conf->oauth_identity_bytes);
    metrics_add(METRIC_IDENTITIES_SIGNED, 1);
}

enum identity_verdict session_sign_identity(const struct validate *validate,
                                            const struct audience *audience,
                                            struct signed_identity *ret)
{
    const struct operation *operation = &validate->base;
    assert(operation->out.err == ERR_OK && validate->session_json.data);
    struct claims claims = claims_of(validate, audience);
    enum identity_verdict verdict = judge(validate, &claims);
    const struct signing_key *key = keyring_signer(
        operation->context->keyring, 2 * SECOND_MS * operation->conf->oauth_jwks_max_age);
    SCOPED(buffer_free) struct buffer text = {0};
    if (verdict != IDENTITY_SIGNED)
        return verdict;
    if (!key || !claims_state(&claims, &text))
        return IDENTITY_WITHOUT_KEY;
    struct signed_text signed_text;
    sign_or_repeat(validate, audience, key, &text, &signed_text);
    *ret = (struct signed_identity){signed_text.text, signed_text.expires_s};
    return IDENTITY_SIGNED;
}
