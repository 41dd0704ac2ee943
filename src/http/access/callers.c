/* Reads Authorization and the cookie, finds the key, unwraps proxies. */
#include "callers.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

#include "clean.h"
#include "client_certificate.h"
#include "cookies.h"
#include "credential.h"
#include "log.h"
#include "metrics.h"
#include "oauth_clients.h"
#include "throttle.h"

#define KEY_PREFIX   "sk_"
#define TOKEN_PREFIX "sa_"

enum { MOST_KEY = 128, MOST_OPERATOR = 128 };

static bool starts_with(struct text text, const char *prefix)
{
    size_t length = strlen(prefix);
    return text.length >= length && memcmp(text.data, prefix, length) == 0;
}

/* Credential of "Bearer <credential>"; absent for everything else. */
static struct text bearer_of(struct text authorization)
{
    static const char scheme[] = "Bearer ";
    size_t length = sizeof(scheme) - 1;
    if (!authorization.data || authorization.length <= length ||
        strncasecmp(authorization.data, scheme, length) != 0)
        return (struct text){0};
    struct text bearer = {authorization.data + length, authorization.length - length};
    while (bearer.length > 0 && bearer.data[0] == ' ') {
        bearer.data++;
        bearer.length--;
    }
    return bearer.length > 0 ? bearer : (struct text){0};
}

/* The memo saves hashing the same key for every request of a connection. The presented key is
 * compared whole and in constant time, as its digest would be. */
static const struct service_key *recall_key(const struct request *request, struct text presented)
{
    const struct key_memo *memo = &request->private->client->memo;
    if (memo->generation != request->private->config->generation ||
        memo->length != presented.length ||
        !crypto_equal(memo->presented, presented.data, presented.length))
        return NULL;
    return memo->key;
}

static const struct service_key *look_key_up(struct request *request, struct text presented)
{
    uint8_t digest[32];
    crypto_digest(digest, presented);
    const struct service_key *key = conf_find_key(request->conf, digest);
    assert(presented.length <= sizeof(request->private->client->memo.presented));
    if (key != NULL) {
        struct key_memo *memo = &request->private->client->memo;
        memcpy(memo->presented, presented.data, presented.length);
        memo->length = presented.length;
        memo->key = key;
        memo->generation = request->private->config->generation;
    }
    return key;
}

static enum err refuse_wrong_key(struct request *request, struct text *detail)
{
    metrics_add(METRIC_KEYS_REJECTED, 1);
    request->caller.wrong_key = true;
    return throttle_note_wrong_key(request, detail);
}

/* NULL if there is no such key. */
static const struct service_key *known_key(struct request *request, struct text presented)
{
    if (presented.length > MOST_KEY)
        return NULL;
    const struct service_key *key = recall_key(request, presented);
    return key != NULL ? key : look_key_up(request, presented);
}

static enum err find_service_key(struct request *request, struct text presented,
                                 struct text *detail)
{
    const struct service_key *key = known_key(request, presented);
    if (key == NULL)
        return refuse_wrong_key(request, detail);
    request->caller.kind = CALLER_SERVICE;
    request->caller.key = key;
    return ERR_OK;
}

/* A badly spelled name must not prevent a kick: it is recorded as far as it is readable. */
static void accept_operator(struct request *request)
{
    request->caller.operator_name = clean_text(request->private->headers.values[HEADER_OPERATOR],
                                               MOST_OPERATOR, &request->arena);
}

static enum err refuse_scope(struct request *request, struct text *detail)
{
    SCOPED(buffer_free) struct buffer wanted = {0};
    conf_name_scopes(request->route->scope, &wanted);
    *detail =
        arena_format(&request->arena, "The service key \"%s\" lacks the scope of this call:%.*s",
                     request->caller.key->name, (int)wanted.length, wanted.data);
    return ERR_SCOPE_MISSING;
}

static enum err admit_service(struct request *request, struct text *detail)
{
    unsigned scope = request->route->scope;
    assert(request->caller.kind == CALLER_SERVICE && request->caller.key != NULL && scope != 0);
    if ((request->caller.key->scopes & scope) != scope)
        return refuse_scope(request, detail);
    accept_operator(request);
    return ERR_OK;
}

static enum err establish_service(struct request *request, struct text presented,
                                  struct text *detail)
{
    enum err err = find_service_key(request, presented, detail);
    return err == ERR_OK ? admit_service(request, detail) : err;
}

static enum err take_session_token(struct request *request, struct text *detail)
{
    request->caller.token = request->private->headers.values[HEADER_SESSION_TOKEN];
    if (request->caller.token.length > 0)
        return ERR_OK;
    *detail = TEXT("A service names the user's access token in X-Session-Token");
    return ERR_KEY_MISSING;
}

static enum err establish_for_token(struct request *request, struct text bearer,
                                    struct text *detail)
{
    if (!starts_with(bearer, KEY_PREFIX)) {
        request->caller.kind = CALLER_USER;
        request->caller.token = bearer;
        return ERR_OK;
    }
    enum err err = establish_service(request, bearer, detail);
    return err == ERR_OK ? take_session_token(request, detail) : err;
}

static enum err establish_certified(struct request *request, const struct service_key *key,
                                    struct text *detail)
{
    request->caller.kind = CALLER_SERVICE;
    request->caller.key = key;
    enum access access = request->route->access;
    bool with_token = access == ACCESS_TOKEN || access == ACCESS_SERVICE_TOKEN;
    enum err err = admit_service(request, detail);
    return err == ERR_OK && with_token ? take_session_token(request, detail) : err;
}

/* A browser sends its cookie for every page, so the calling page is judged, too. The cookie's value
 * is never used as a service key. */
static enum err establish_by_cookie(struct request *request, struct text *detail)
{
    struct text token;
    switch (cookies_presented(request, &token)) {
    case COOKIE_ABSENT:
        *detail = request->conf->browser_cookie
                      ? TEXT("The call needs Authorization: Bearer <credential>, or the session "
                             "cookie")
                      : TEXT("The call needs Authorization: Bearer <credential>");
        return ERR_KEY_MISSING;
    case COOKIE_REPEATED:
        *detail = TEXT("The session cookie came more than once");
        return ERR_HEADER_INVALID;
    case COOKIE_FOUND:
        break;
    }
    request->caller.kind = CALLER_USER;
    request->caller.token = token;
    request->caller.by_cookie = true;
    return cors_admit_cookie(request, detail);
}

static enum err establish_for_service(struct request *request, struct text bearer,
                                      struct text *detail)
{
    if (starts_with(bearer, TOKEN_PREFIX)) {
        *detail = TEXT("This call takes a service key, not a user's token");
        return ERR_FORBIDDEN;
    }
    enum err err = establish_service(request, bearer, detail);
    if (err != ERR_OK || request->route->access != ACCESS_SERVICE_TOKEN)
        return err;
    return take_session_token(request, detail);
}

/* A proxy that writes unreadable addresses makes one client of all its clients: this is logged, at
 * most once a minute. */
static void log_unreadable(const struct ip_address *proxy, struct text element)
{
    static struct log_pause pause;
    if (!log_pause_over(&pause))
        return;
    char printed[INET6_ADDRSTRLEN], quoted[64];
    if (proxy->family == AF_UNSPEC)
        snprintf(printed, sizeof(printed), "unix");
    else
        ip_print(proxy, printed);
    log_warning("forwarded_for_unreadable", "proxy=%s element=\"%s\"", printed,
                log_quote(quoted, sizeof(quoted), element));
}

void callers_note_unreadable(struct request *request, struct text given)
{
    enum { MOST_NOTED = 64 };
    request->audit.unreadable_ip = clean_text(given, MOST_NOTED, &request->arena);
}

void callers_locate(struct request *request)
{
    const struct client *client = request->private->client;
    const struct proxies *proxies = &request->private->config->proxies;
    assert(request->caller.peer.data != NULL && request->caller.address.data == NULL);
    request->caller.address = request->caller.peer;
    request->caller.user_agent = clean_text(request->private->headers.values[HEADER_USER_AGENT],
                                            USER_AGENT_MAX, &request->arena);
    if (client->local ? !proxies->local : proxies->count == 0)
        return;
    struct text unreadable;
    struct ip_address origin =
        proxies_unwrap(proxies, &client->address,
                       request->private->headers.values[HEADER_FORWARDED_FOR], &unreadable);
    if (unreadable.data != NULL) {
        log_unreadable(&client->address, unreadable);
        callers_note_unreadable(request, unreadable);
    }
    if (origin.family != AF_UNSPEC)
        request->caller.address = ip_print(&origin, arena_alloc(&request->arena, INET6_ADDRSTRLEN));
}

/* Cleaned as in bodies, or it would be another device's; empty: the device has none. */
static void clean_fingerprint(struct request *request)
{
    struct text *fingerprint = &request->private->headers.values[HEADER_FINGERPRINT];
    if (fingerprint->data == NULL)
        return;
    *fingerprint = clean_text(*fingerprint, FINGERPRINT_MAX, &request->arena);
    if (fingerprint->data == NULL)
        *fingerprint = TEXT("");
}

enum err callers_present_key(struct request *request, struct text name, struct text key,
                             struct text *detail)
{
    enum err err = establish_service(request, key, detail);
    const struct service_key *found = request->caller.key;
    if (found == NULL || name.data == NULL || text_equal(name, text_of(found->name)))
        return err;
    request->caller.kind = CALLER_NOBODY;
    request->caller.key = NULL;
    return refuse_wrong_key(request, detail);
}

enum err callers_present_bearer(struct request *request, struct text *detail)
{
    struct text bearer = bearer_of(request->private->headers.values[HEADER_AUTHORIZATION]);
    if (bearer.data != NULL && !starts_with(bearer, TOKEN_PREFIX))
        return callers_present_key(request, (struct text){0}, bearer, detail);
    *detail = TEXT("Authorization: Bearer takes a service key here, not a user's token");
    return ERR_KEY_INVALID;
}

/* Authorization of another scheme is not for us but, for example, for a proxy that asks for a
 * password (RFC 9110, section 11.4). A credential without its scheme is a mistake that must be
 * reported. */
static bool is_for_others(struct text authorization)
{
    static const char ours[] = "Bearer";
    const char *blank = memchr(authorization.data, ' ', authorization.length);
    size_t length = blank != NULL ? (size_t)(blank - authorization.data) : authorization.length;
    return length > 0 && !credential_begins(authorization) &&
           (length != strlen(ours) || strncasecmp(authorization.data, ours, length) != 0);
}

static enum err establish_by_headers(struct request *request, enum access access,
                                     struct text *detail)
{
    if (access == ACCESS_CLIENT || access == ACCESS_HOLDER)
        return oauth_clients_establish(request, detail);
    struct text authorization = request->private->headers.values[HEADER_AUTHORIZATION];
    bool none = authorization.data == NULL || is_for_others(authorization);
    if (none && access == ACCESS_REFRESH)
        return ERR_OK;
    if (none && access == ACCESS_TOKEN)
        return establish_by_cookie(request, detail);
    struct text bearer = bearer_of(authorization);
    if (bearer.data == NULL) {
        *detail = TEXT("Authorization must be of the form: Bearer <credential>");
        return ERR_KEY_MISSING;
    }
    if (access == ACCESS_TOKEN)
        return establish_for_token(request, bearer, detail);
    return establish_for_service(request, bearer, detail);
}

/* --- for gateways --- */

static enum err refuse_token(struct request *request, struct text *detail, const char *why)
{
    request->audit.reason = TEXT(REASON_MALFORMED);
    *detail = text_of(why);
    return ERR_TOKEN_INVALID;
}

static enum err establish_user_by_cookie(struct request *request, const struct cors_target *target,
                                         struct text *detail)
{
    struct text token;
    switch (cookies_presented(request, &token)) {
    case COOKIE_ABSENT:
        *detail = TEXT("The request has neither an access token nor a session cookie");
        return ERR_KEY_MISSING;
    case COOKIE_REPEATED:
        return refuse_token(request, detail, "The session cookie came more than once");
    case COOKIE_FOUND:
        break;
    }
    request->caller.kind = CALLER_USER;
    request->caller.token = token;
    request->caller.by_cookie = true;
    return cors_admit_cookie_to(request, target, detail);
}

enum err callers_establish_user(struct request *request, const struct cors_target *target,
                                struct text *detail)
{
    assert(request->caller.kind == CALLER_NOBODY);
    const struct headers *headers = &request->private->headers;
    struct text authorization = headers->values[HEADER_AUTHORIZATION];
    if (guard_is_repeated(headers, HEADER_AUTHORIZATION))
        return refuse_token(request, detail, "Authorization came more than once");
    if (authorization.data == NULL || is_for_others(authorization))
        return establish_user_by_cookie(request, target, detail);
    struct text bearer = bearer_of(authorization);
    if (bearer.data == NULL)
        return refuse_token(request, detail,
                            "Authorization must be of the form: Bearer <access token>");
    if (starts_with(bearer, KEY_PREFIX))
        return refuse_token(request, detail, "A service key is no user's access token");
    request->caller.kind = CALLER_USER;
    request->caller.token = bearer;
    return ERR_OK;
}

enum err callers_find_gateway(struct request *request, const struct service_key **ret,
                              struct text *detail)
{
    const struct headers *headers = &request->private->headers;
    struct text presented = headers->values[HEADER_GATEWAY_KEY];
    if (presented.data == NULL || guard_is_repeated(headers, HEADER_GATEWAY_KEY))
        return ERR_KEY_MISSING;
    *ret = known_key(request, presented);
    return *ret != NULL ? ERR_OK : refuse_wrong_key(request, detail);
}

enum err callers_establish(struct request *request, struct text *detail)
{
    clean_fingerprint(request);
    assert(request->caller.kind == CALLER_NOBODY && request->caller.address.data != NULL);
    enum access access = request->route->access;
    if (access == ACCESS_PUBLIC || access == ACCESS_GATEWAY)
        return ERR_OK;
    const struct service_key *certified;
    struct text ignored = {0};
    enum err err = client_certificate_establish(request, &certified, &ignored);
    if (err == ERR_OK && certified != NULL)
        return establish_certified(request, certified, detail);
    if (err == ERR_OK)
        err = establish_by_headers(request, access, detail);
    else
        *detail = ignored;
    if (err == ERR_KEY_MISSING && ignored.data != NULL)
        *detail = ignored;
    return err;
}

/* --- genuine credentials --- */

static bool is_issued(const struct request *request, enum token_kind kind, struct text text)
{
    struct token token;
    bool issued = text.data != NULL &&
                  token_read(request->private->config->context.keyring, kind, text, &token);
    crypto_wipe(token.secret, sizeof(token.secret));
    return issued;
}

static bool is_known_key(const struct request *request, struct text presented)
{
    uint8_t digest[32];
    if (presented.data == NULL || presented.length > MOST_KEY ||
        !starts_with(presented, KEY_PREFIX))
        return false;
    crypto_digest(digest, presented);
    return conf_find_key(request->conf, digest) != NULL;
}

static bool shows_certificate(const struct request *request)
{
    const struct client_certificate *certificate = &request->private->client->certificate;
    return certificate->shown && conf_find_certificate(request->conf, certificate->pin) != NULL;
}

/* For a call that ended before its credentials were checked, or whose first credential was wrong.
 */
static bool shows_genuine(struct request *request)
{
    const struct text *values = request->private->headers.values;
    struct text bearer = bearer_of(values[HEADER_AUTHORIZATION]), cookie;
    struct text key = oauth_clients_basic_key(&request->arena, values[HEADER_AUTHORIZATION]);
    return shows_certificate(request) || is_known_key(request, bearer) ||
           is_known_key(request, key) || is_issued(request, TOKEN_ACCESS, bearer) ||
           is_issued(request, TOKEN_REFRESH, bearer) ||
           is_issued(request, TOKEN_ACCESS, values[HEADER_SESSION_TOKEN]) ||
           (cookies_presented(request, &cookie) == COOKIE_FOUND &&
            is_issued(request, TOKEN_ACCESS, cookie));
}

bool callers_are_genuine(struct request *request)
{
    const struct operation *operation = request->operation;
    if (request->caller.key != NULL)
        return true;
    return operation != NULL ? !operation->out.forged : shows_genuine(request);
}
