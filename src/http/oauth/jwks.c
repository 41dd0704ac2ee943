/* The public keys of signed identities (RFC 7517, section 5). */
#include "http/api/handlers.h"
#include "http/exchange/request_private.h"
#include "http/exchange/response.h"
#include "http/server/worker.h"

enum handled oauth_jwks(struct request *request)
{
    if (request->conf->oauth_issuer[0] == '\0')
        return response_fail(request, ERR_NOT_FOUND, TEXT("oauth.issuer is not configured"));
    const struct http_services *services = &request->worker->server->services;
    if (session_keys(services->sessions, NULL) == SESSION_KEYS_FOREIGN)
        return response_fail(request, ERR_KEYS_FOREIGN, (struct text){0});
    struct text caching = arena_format(&request->arena, "public, max-age=%lld",
                                       (long long)request->conf->oauth_jwks_max_age);
    request_header(request, "Cache-Control", caching);
    buffer_add_text(request_body(request), keyring_jwks(request->private->config->context.keyring));
    return response_answer(request, MHD_HTTP_OK, false);
}
