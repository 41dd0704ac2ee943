/* Revocation (RFC 7009): a logout by whoever holds a token of the session. */
#include <string.h>

#include "credential.h"
#include "http/access/throttle.h"
#include "http/api/begin.h"
#include "http/api/handlers.h"
#include "http/api/request_fields.h"
#include "http/api/response_objects.h"
#include "http/exchange/response.h"
#include "oauth.h"

struct revoke_form {
    struct oauth_client client;
    struct text token;
};

static const struct form_field revoke_fields[] = {
    OAUTH_CLIENT_FIELDS(struct revoke_form),
    OAUTH_FIELD(struct revoke_form, token, FORM_ANY, 0),
};

static bool begins_with(struct text text, struct text prefix)
{
    return text.length >= prefix.length && memcmp(text.data, prefix.data, prefix.length) == 0;
}

/* A JWT, a service key, a challenge: success would say that it is over, and it is not. */
static bool is_of_other_type(struct text token)
{
    bool key = credential_begins(token) && !begins_with(token, TEXT("sa_")) &&
               !begins_with(token, TEXT("sr_"));
    return key || (begins_with(token, TEXT("eyJ")) && memchr(token.data, '.', token.length));
}

/* Clients ignore the body (RFC 7009, section 2.2), but some parse it. */
static enum handled answer_revoked(struct request *request, struct operation *operation)
{
    if (operation->out.forged && api_count_forged_token(request))
        return ANSWERED;
    buffer_add_literal(request_body(request), "{}");
    return oauth_answer(request);
}

enum handled oauth_revoke(struct request *request)
{
    struct revoke_form form = {0};
    struct end_sessions *end = arena_zalloc(&request->arena, sizeof(*end));
    if (oauth_read_form(request, revoke_fields, FIELD_COUNT(revoke_fields), &form) ||
        oauth_check_client(request, &form.client) || oauth_demand(request, "token", form.token) ||
        api_token_tenant(request, &end->tenant, &end->tenant_bound))
        return ANSWERED;
    if (is_of_other_type(form.token))
        return response_fail(request, ERR_TOKEN_UNSUPPORTED,
                             TEXT("Only access and refresh tokens of sessiond can be revoked"));
    request->caller.token = form.token;
    if (api_check_rate(request, throttle_admit_end(request)))
        return ANSWERED;
    end->token = form.token;
    end->scope = END_OWN;
    end->why = TEXT(REASON_LOGGED_OUT);
    api_begin(request, &end->base, answer_revoked);
    session_end(end);
    return PENDING;
}
