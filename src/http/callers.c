/* Reading Authorization and the cookie, finding the key, unwrapping proxies. */
#include "callers.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>
#include <strings.h>

#include "clock.h"
#include "cookies.h"
#include "cors.h"
#include "log.h"
#include "metrics.h"
#include "objects.h"
#include "rates.h"
#include "worker.h"

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

/* The memo saves hashing the same key for every request of a connection. What was presented is
 * compared whole and in constant time, as its digest would be. */
static const struct service_key *recall_key(const struct request *request, struct text presented)
{
    const struct key_memo *memo = &request->private->client->memo;
    if (memo->generation != request->private->snapshot->generation ||
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
    if (key != NULL) {
        struct key_memo *memo = &request->private->client->memo;
        memcpy(memo->presented, presented.data, presented.length);
        memo->length = presented.length;
        memo->key = key;
        memo->generation = request->private->snapshot->generation;
    }
    return key;
}

static enum err find_key(struct request *request, struct text presented, struct text *detail)
{
    const struct service_key *key = NULL;
    if (presented.length <= MOST_KEY) {
        key = recall_key(request, presented);
        if (key == NULL)
            key = look_key_up(request, presented);
    }
    if (key == NULL) {
        metrics_add(METRIC_KEYS_REJECTED, 1);
        return rates_note_wrong_key(request, detail);
    }
    request->caller.kind = CALLER_SERVICE;
    request->caller.key = key;
    return ERR_OK;
}

static enum err accept_operator(struct request *request, struct text *detail)
{
    struct text name = request->private->headers.values[HEADER_OPERATOR];
    if (name.data == NULL)
        return ERR_OK;
    if (name.length < 1 || name.length > MOST_OPERATOR || !text_is_clean_utf8(name)) {
        *detail = TEXT("X-Operator must be 1 to 128 bytes of UTF-8");
        return ERR_HEADER_INVALID;
    }
    request->caller.operator_name = name;
    return ERR_OK;
}

static enum err refuse_scope(struct request *request, struct text *detail)
{
    struct buffer wanted = {0};
    conf_name_scopes(request->route->scope, &wanted);
    *detail =
        arena_format(&request->arena, "The service key \"%s\" lacks the scope of this call:%.*s",
                     request->caller.key->name, (int)wanted.length, wanted.data);
    buffer_free(&wanted);
    return ERR_SCOPE_MISSING;
}

static enum err establish_service(struct request *request, struct text presented,
                                  struct text *detail)
{
    enum err err = find_key(request, presented, detail);
    if (err != ERR_OK)
        return err;
    unsigned scope = request->route->scope;
    if ((request->caller.key->scopes & scope) != scope)
        return refuse_scope(request, detail);
    return accept_operator(request, detail);
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
    if (err != ERR_OK)
        return err;
    request->caller.token = request->private->headers.values[HEADER_SESSION_TOKEN];
    if (request->caller.token.length == 0) {
        *detail = TEXT("A service names the user's access token in X-Session-Token");
        return ERR_KEY_MISSING;
    }
    return ERR_OK;
}

/* A browser sends its cookie whoever wrote the page that calls; so the page is judged, too. What
 * the cookie holds is never taken for a service key. */
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
    return establish_service(request, bearer, detail);
}

/* A proxy that writes what nobody can read makes one client of all its clients: that is told, but
 * not with every request. */
static void tell_unreadable(const struct ip_address *proxy, struct text element)
{
    enum { INTERVAL_MS = 60000 };
    static _Atomic int64_t told_ms;
    int64_t now_ms = clock_monotonic_ms(), last_ms = atomic_load(&told_ms);
    if ((last_ms != 0 && now_ms - last_ms < INTERVAL_MS) ||
        !atomic_compare_exchange_strong(&told_ms, &last_ms, now_ms))
        return;
    char printed[INET6_ADDRSTRLEN], quoted[64];
    ip_print(proxy, printed);
    log_warning("forwarded_for_unreadable", "proxy=%s element=\"%s\"", printed,
                log_quote(quoted, sizeof(quoted), element));
}

/* Where the call comes from; X-Forwarded-For counts only if a trusted proxy wrote it. */
static void find_address(struct request *request)
{
    const struct client *connection = request->private->client;
    const struct proxies *proxies = &request->private->snapshot->proxies;
    request->caller.address = request->caller.peer;
    request->caller.user_agent = request->private->headers.values[HEADER_USER_AGENT];
    if (proxies->count == 0 || connection->local)
        return;
    struct text odd;
    struct ip_address client =
        proxies_unwrap(proxies, &connection->address,
                       request->private->headers.values[HEADER_FORWARDED_FOR], &odd);
    if (odd.data != NULL)
        tell_unreadable(&connection->address, odd);
    request->caller.address = ip_print(&client, arena_alloc(&request->arena, INET6_ADDRSTRLEN));
}

/* No device has a longer one: bodies cannot tell it. */
static bool check_fingerprint(const struct request *request, struct text *detail)
{
    bool good = request->private->headers.values[HEADER_FINGERPRINT].length <= FINGERPRINT_MAX;
    if (!good)
        *detail = TEXT("X-Device-Fingerprint must be at most 256 bytes");
    return good;
}

enum err callers_establish(struct request *request, struct text *detail)
{
    find_address(request);
    if (!check_fingerprint(request, detail))
        return ERR_HEADER_INVALID;
    enum access access = request->route->access;
    if (access == ACCESS_PUBLIC)
        return ERR_OK;
    struct text authorization = request->private->headers.values[HEADER_AUTHORIZATION];
    if (authorization.data == NULL && access == ACCESS_REFRESH)
        return ERR_OK;
    if (authorization.data == NULL && access == ACCESS_TOKEN)
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
