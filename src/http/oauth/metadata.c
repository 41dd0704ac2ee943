/* Metadata (RFC 8414): what works, and nothing else. OpenID clients look for the same document
 * under a name of their own. */
#include "http/api/handlers.h"
#include "http/exchange/response.h"
#include "oauth.h"

static void write_endpoint(struct json_writer *writer, struct request *request, const char *name,
                           const char *path)
{
    json_member_string(writer, name,
                       arena_format(&request->arena, "%s%s", request->conf->oauth_issuer, path));
}

/* How clients authenticate; `needed`: they must. */
static void write_methods(struct json_writer *writer, const char *name, bool needed)
{
    json_member_array(writer, name);
    json_text(writer, TEXT("client_secret_basic"));
    json_text(writer, TEXT("client_secret_post"));
    if (!needed)
        json_text(writer, TEXT("none"));
    json_close_array(writer);
}

static void write_document(struct json_writer *writer, struct request *request)
{
    json_open_object(writer);
    write_endpoint(writer, request, "issuer", "");
    write_endpoint(writer, request, "jwks_uri", "/.well-known/jwks.json");
    write_endpoint(writer, request, "token_endpoint", "/oauth2/token");
    write_methods(writer, "token_endpoint_auth_methods_supported", false);
    json_member_array(writer, "grant_types_supported");
    json_text(writer, TEXT("refresh_token"));
    json_close_array(writer);
    /* Required, and empty: there is no authorization endpoint. */
    json_member_array(writer, "response_types_supported");
    json_close_array(writer);
    write_endpoint(writer, request, "introspection_endpoint", "/oauth2/introspect");
    write_methods(writer, "introspection_endpoint_auth_methods_supported", true);
    write_endpoint(writer, request, "revocation_endpoint", "/oauth2/revoke");
    write_methods(writer, "revocation_endpoint_auth_methods_supported", false);
    json_close_object(writer);
}

enum handled oauth_metadata(struct request *request)
{
    struct json_writer writer = {.out = request_body(request)};
    if (request->conf->oauth_issuer[0] == '\0')
        return response_fail(request, ERR_NOT_FOUND, TEXT("This service has no oauth.issuer"));
    write_document(&writer, request);
    request_header(request, "Cache-Control", TEXT("public, max-age=300"));
    return response_answer(request, MHD_HTTP_OK, false);
}
