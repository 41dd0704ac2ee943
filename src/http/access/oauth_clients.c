/* Reads a client's credentials where RFC 6749 allows them. */
#include "oauth_clients.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

#include "callers.h"
#include "credential.h"
#include "http/exchange/request_private.h"
#include "http/exchange/router.h"

/* Longest decoded "name:key" in which each byte may be percent-encoded. */
enum { BASIC_MAX = 768 };

struct client_credentials {
    struct text name, key;
};

static bool has_scheme(struct text authorization, const char *scheme)
{
    size_t length = strlen(scheme);
    return authorization.length > length && authorization.data[length] == ' ' &&
           strncasecmp(authorization.data, scheme, length) == 0;
}

static struct text decode_base64(struct arena *arena, struct text digits)
{
    while (digits.length > 0 && digits.data[digits.length - 1] == '=')
        digits.length--;
    if (digits.length == 0 || digits.length > BASIC_MAX * 4 / 3)
        return (struct text){0};
    char *spelled = arena_alloc(arena, digits.length);
    for (size_t i = 0; i < digits.length; i++)
        spelled[i] = digits.data[i] == '+' ? '-' : digits.data[i] == '/' ? '_' : digits.data[i];
    size_t length = digits.length * 3 / 4;
    char *bytes = arena_alloc(arena, length + 1);
    if (!text_from_base64url(bytes, length, (struct text){spelled, digits.length}))
        return (struct text){0};
    return (struct text){bytes, length};
}

/* Name and key are form-encoded before they are joined, and joined before base64. */
static bool read_basic(struct arena *arena, struct text authorization,
                       struct client_credentials *ret)
{
    static const char scheme[] = "Basic";
    size_t begin = sizeof(scheme) - 1;
    if (!has_scheme(authorization, scheme))
        return false;
    struct text digits =
        text_trim((struct text){authorization.data + begin, authorization.length - begin});
    struct text joined = decode_base64(arena, digits);
    const char *colon = joined.data ? memchr(joined.data, ':', joined.length) : NULL;
    if (!colon)
        return false;
    size_t length = (size_t)(colon - joined.data);
    struct text name = {joined.data, length};
    struct text key = {colon + 1, joined.length - length - 1};
    ret->name = router_decode(arena_alloc(arena, name.length + 1), name, true);
    ret->key = router_decode(arena_alloc(arena, key.length + 1), key, true);
    return ret->name.data && ret->key.data;
}

struct text oauth_clients_basic_key(struct arena *arena, struct text authorization)
{
    struct client_credentials credentials;
    return read_basic(arena, authorization, &credentials) ? credentials.key : (struct text){0};
}

static struct text authorization_of(const struct request *request)
{
    return request->private->headers.values[HEADER_AUTHORIZATION];
}

bool oauth_clients_by_bearer(const struct request *request)
{
    return has_scheme(authorization_of(request), "Bearer");
}

static enum err establish_basic(struct request *request, struct text *detail)
{
    struct client_credentials credentials;
    if (read_basic(&request->arena, authorization_of(request), &credentials))
        return callers_present_key(request, credentials.name, credentials.key, detail);
    *detail = TEXT("Authorization: Basic must be the base64 of NAME:KEY, each form-encoded");
    return ERR_KEY_INVALID;
}

enum err oauth_clients_establish(struct request *request, struct text *detail)
{
    struct text authorization = authorization_of(request);
    assert(request->caller.kind == CALLER_NOBODY);
    if (has_scheme(authorization, "Basic"))
        return establish_basic(request, detail);
    if (oauth_clients_by_bearer(request))
        return callers_present_bearer(request, detail);
    if (!credential_begins(authorization))
        return ERR_OK;
    *detail = TEXT("Authorization must be of the form: Basic <credentials> or Bearer <key>");
    return ERR_KEY_MISSING;
}

static enum err refuse_no_client(struct request *request, struct text *detail)
{
    bool needed = request->route->access == ACCESS_CLIENT;
    if (request->caller.kind == CALLER_SERVICE || !needed)
        return ERR_OK;
    *detail = TEXT("The call needs the name and key of a service: in Authorization: Basic, as "
                   "client_id and client_secret, or the key alone in Authorization: Bearer");
    return ERR_KEY_MISSING;
}

enum err oauth_clients_present(struct request *request, struct text client_id,
                               struct text client_secret, struct text *detail)
{
    if (!client_secret.data)
        return refuse_no_client(request, detail);
    if (request->caller.kind == CALLER_SERVICE) {
        *detail = TEXT("Credentials came twice: as client_secret, and in Authorization or as the "
                       "client certificate");
        return ERR_BAD_REQUEST;
    }
    if (!client_id.data) {
        *detail = TEXT("client_id is missing: client_secret needs the name of its key");
        return ERR_BAD_REQUEST;
    }
    return callers_present_key(request, client_id, client_secret, detail);
}
