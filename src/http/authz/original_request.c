/* Reads the headers of each route. */
#include "original_request.h"

#include <string.h>
#include <strings.h>

#include "http/exchange/request_private.h"
#include "http/server/client.h"

#define ALWAYS                                                                \
    "Authorization, Cookie, Upgrade, Sec-WebSocket-Version, Sec-Fetch-Mode, " \
    "X-Device-Fingerprint"

const char *authz_original_headers(enum authz_route route)
{
    static const char *const headers[] = {
        [AUTHZ_FORWARD_AUTH] = ALWAYS ", X-Forwarded-Method",
        [AUTHZ_AUTH_REQUEST] = ALWAYS ", X-Original-Method",
        [AUTHZ_EXT_AUTHZ] = ALWAYS,
    };
    return headers[route];
}

/* --- URLs --- */

/* Bytes that end a host and its port, or make it a list or another thing. */
static bool is_host(struct text host)
{
    for (size_t i = 0; i < host.length; i++)
        if ((unsigned char)host.data[i] <= ' ' || (unsigned char)host.data[i] >= 0x7f ||
            strchr(",/@\\?#;", host.data[i]) != NULL)
            return false;
    return host.length > 0;
}

/* A parameter of a path may be a session id (";jsessionid="). */
static struct text path_alone(struct text uri)
{
    size_t length = 0;
    while (length < uri.length && strchr("?#;", uri.data[length]) == NULL)
        length++;
    return length > 0 ? (struct text){uri.data, length} : (struct text){0};
}

static const char *read_scheme(struct text word)
{
    static const char *const schemes[] = {"http", "https"};
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
        if (word.length == strlen(schemes[i]) &&
            strncasecmp(word.data, schemes[i], word.length) == 0)
            return schemes[i];
    return NULL;
}

struct authz_original authz_original_read(struct text url)
{
    struct authz_original original = {.target.scheme = "https"};
    const char *colon = url.length > 0 ? memmem(url.data, url.length, "://", 3) : NULL;
    struct text scheme = {url.data, colon == NULL ? 0 : (size_t)(colon - url.data)};
    if (colon == NULL || read_scheme(scheme) == NULL) {
        if (url.length > 0 && url.data[0] == '/')
            original.path = path_alone(url);
        return original;
    }
    original.target.scheme = read_scheme(scheme);
    struct text host = {colon + 3, 0};
    size_t left = url.length - scheme.length - 3;
    while (host.length < left && strchr("/?#", host.data[host.length]) == NULL)
        host.length++;
    if (is_host(host))
        original.target.host = host;
    original.path = path_alone((struct text){host.data + host.length, left - host.length});
    return original;
}

/* --- headers --- */

/* Absent if the header is not there, came more than once, or is not to be believed. */
static struct text told(const struct request *request, enum header header)
{
    const struct request_private *private = request->private;
    if (guard_is_repeated(&private->headers, header) ||
        !proxies_include(&private->config->proxies, &private->client->address))
        return (struct text){0};
    return private->headers.values[header];
}

static struct authz_original read_forwarded(const struct request *request)
{
    struct text host = told(request, HEADER_FORWARDED_HOST);
    const char *scheme = read_scheme(told(request, HEADER_FORWARDED_PROTO));
    struct authz_original original = {
        .target.method = told(request, HEADER_FORWARDED_METHOD),
        .target.scheme = scheme != NULL ? scheme : "https",
        .path = path_alone(told(request, HEADER_FORWARDED_URI)),
    };
    if (is_host(host))
        original.target.host = host;
    return original;
}

static struct authz_original read_original(const struct request *request)
{
    struct authz_original original = authz_original_read(told(request, HEADER_ORIGINAL_URL));
    original.target.method = told(request, HEADER_ORIGINAL_METHOD);
    return original;
}

static struct authz_original read_call(const struct request *request)
{
    struct text below = request->parameters[1], path = {0};
    if (below.data != NULL)
        path = path_alone((struct text){below.data - 1, below.length + 1}); /* with its slash */
    return (struct authz_original){
        .target.method = request->method,
        .target.host = request->private->headers.values[HEADER_HOST],
        .target.scheme = "https",
        .path = path,
    };
}

/* Gateways drop Upgrade, which is for one hop; the other signs of a handshake reach us. Pages
 * cannot set any of them. */
static bool is_handshake(const struct request *request)
{
    const struct text *values = request->private->headers.values;
    struct text upgrade = values[HEADER_UPGRADE];
    for (size_t i = 0; i + 9 <= upgrade.length; i++)
        if (strncasecmp(upgrade.data + i, "websocket", 9) == 0)
            return true;
    return values[HEADER_WEBSOCKET_KEY].data != NULL ||
           values[HEADER_WEBSOCKET_VERSION].data != NULL ||
           text_equal(values[HEADER_FETCH_MODE], TEXT("websocket"));
}

struct authz_original authz_original_of(const struct request *request, enum authz_route route)
{
    static struct authz_original (*const readers[])(const struct request *request) = {
        [AUTHZ_FORWARD_AUTH] = read_forwarded,
        [AUTHZ_AUTH_REQUEST] = read_original,
        [AUTHZ_EXT_AUTHZ] = read_call,
    };
    struct authz_original original = readers[route](request);
    original.target.upgrades = is_handshake(request);
    return original;
}
