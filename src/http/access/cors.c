/* The rules for origins. */
#include "cors.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

#include "http/exchange/request_private.h"
#include "http/server/worker.h"

/* Headers that pages may read besides those that the Fetch standard always allows. */
#define ANSWER_HEADERS                                                   \
    "ETag, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, " \
    "X-Request-Id, X-Session-Stale"

static struct text header_of(const struct request *request, enum header header)
{
    return request->private->headers.values[header];
}

/* The configuration's own text of a known origin, which ends in a NUL; NULL for others. */
static const char *find_origin(const struct conf_list *origins, struct text origin)
{
    for (size_t i = 0; i < origins->count; i++)
        if (text_equal(text_of(origins->items[i]), origin))
            return origins->items[i];
    return NULL;
}

void cors_note(struct request *request)
{
    assert(request->private->known_origin == NULL);
    struct text origin = header_of(request, HEADER_ORIGIN);
    if (guard_is_repeated(&request->private->headers, HEADER_ORIGIN))
        return;
    if (origin.data != NULL && request->worker->plane == PLANE_MAIN)
        request->private->known_origin = find_origin(&request->conf->browser_origins, origin);
}

bool cors_is_preflight(const struct request *request)
{
    return text_equal(request->method, TEXT("OPTIONS")) &&
           header_of(request, HEADER_ORIGIN).data != NULL &&
           header_of(request, HEADER_WANTED_METHOD).data != NULL;
}

void cors_add_headers(struct MHD_Response *response, const struct request *request)
{
    const char *known = request->private->known_origin;
    if (request->route != NULL && request->route->access == ACCESS_GATEWAY)
        return; /* the answer is for the gateway, not for a page */
    if (request->caller.by_cookie) {
        /* A page that embeds the answer, as an image or a script, must not get it into its process.
         */
        MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
        MHD_add_response_header(response, "Cross-Origin-Resource-Policy", "same-origin");
    }
    if (request->conf->browser_origins.count == 0 || request->worker->plane != PLANE_MAIN)
        return;
    if (cors_is_preflight(request)) {
        MHD_add_response_header(response, "Vary",
                                "Origin, Access-Control-Request-Method, "
                                "Access-Control-Request-Headers");
    } else {
        MHD_add_response_header(response, "Vary", "Origin");
    }
    if (known == NULL)
        return;
    MHD_add_response_header(response, "Access-Control-Allow-Origin", known);
    MHD_add_response_header(response, "Access-Control-Allow-Credentials", "true");
    MHD_add_response_header(response, "Access-Control-Expose-Headers", ANSWER_HEADERS);
}

/* Cuts the prefix off; false if it is not there. */
static bool cut_prefix(struct text *text, const char *prefix)
{
    size_t length = strlen(prefix);
    if (text->length < length || memcmp(text->data, prefix, length) != 0)
        return false;
    text->data += length;
    text->length -= length;
    return true;
}

/* A client may name the port that the scheme implies; an origin never does. */
static struct text without_default_port(struct text host, const char *scheme)
{
    struct text port = strcmp(scheme, "https") == 0 ? TEXT(":443") : TEXT(":80");
    if (host.length > port.length &&
        memcmp(host.data + host.length - port.length, port.data, port.length) == 0)
        host.length -= port.length;
    return host;
}

bool cors_is_own(struct text origin, struct text host, const char *scheme)
{
    host = without_default_port(host, scheme);
    return host.length > 0 && cut_prefix(&origin, scheme) && cut_prefix(&origin, "://") &&
           origin.length == host.length && strncasecmp(origin.data, host.data, host.length) == 0;
}

/* The first element of a list to which each proxy appends. Empty elements do not count (RFC 9110,
 * section 5.6.1). */
static struct text first_element(struct text list)
{
    struct text element = {0};
    while (element.length == 0 && list.length > 0) {
        const char *end = memchr(list.data, ',', list.length);
        size_t length = end != NULL ? (size_t)(end - list.data) : list.length;
        size_t step = end != NULL ? length + 1 : length;
        element = text_trim((struct text){list.data, length});
        list = (struct text){list.data + step, list.length - step};
    }
    return element;
}

/* Browsers come through a proxy that speaks TLS with them, whether it says so or not. Only a
 * trusted proxy can declare the contrary. */
static const char *own_scheme(const struct request *request)
{
    const struct client *client = request->private->client;
    struct text forwarded = header_of(request, HEADER_FORWARDED_PROTO);
    struct text first = first_element(forwarded);
    bool plain = first.length == 4 && strncasecmp(first.data, "http", 4) == 0 &&
                 proxies_include(&request->private->config->proxies, &client->address);
    return plain ? "http" : "https";
}

bool cors_is_safe(const struct cors_target *target)
{
    return !target->upgrades &&
           (text_equal(target->method, TEXT("GET")) || text_equal(target->method, TEXT("HEAD")) ||
            text_equal(target->method, TEXT("OPTIONS")));
}

static struct cors_target own_target(const struct request *request)
{
    return (struct cors_target){
        .method = request->method,
        .host = header_of(request, HEADER_HOST),
        .scheme = own_scheme(request),
    };
}

/* The calling page by the browser's word: known or our own, foreign, or not named. */
enum page { PAGE_ALLOWED, PAGE_FOREIGN, PAGE_UNKNOWN };

static enum page judge_page(const struct request *request, const struct cors_target *target)
{
    const struct headers *headers = &request->private->headers;
    struct text origin = header_of(request, HEADER_ORIGIN);
    struct text site = header_of(request, HEADER_FETCH_SITE);
    bool own = text_equal(site, TEXT("same-origin"));
    if (guard_is_repeated(headers, HEADER_ORIGIN) || guard_is_repeated(headers, HEADER_FETCH_SITE))
        return PAGE_FOREIGN;
    /* A page without referrer sends Origin: null even when it posts to its own origin. */
    if (origin.data != NULL && !(own && text_equal(origin, TEXT("null")))) {
        bool allowed = request->private->known_origin != NULL ||
                       cors_is_own(origin, target->host, target->scheme);
        return allowed ? PAGE_ALLOWED : PAGE_FOREIGN;
    }
    if (site.data == NULL)
        return PAGE_UNKNOWN;
    return own ? PAGE_ALLOWED : PAGE_FOREIGN;
}

static enum err refuse_page(struct request *request, struct text *detail)
{
    enum { MOST_SHOWN = 128 };
    struct text origin = header_of(request, HEADER_ORIGIN);
    if (origin.data == NULL) {
        *detail =
            TEXT("A call with a cookie needs an Origin header, or Sec-Fetch-Site: same-origin");
        return ERR_ORIGIN_FORBIDDEN;
    }
    size_t shown = origin.length < MOST_SHOWN ? origin.length : MOST_SHOWN;
    *detail = arena_format(&request->arena,
                           "Origin \"%.*s\" is neither in browser.origins nor that of this service",
                           (int)shown, origin.data);
    return ERR_ORIGIN_FORBIDDEN;
}

enum err cors_admit_cookie(struct request *request, struct text *detail)
{
    const struct cors_target target = own_target(request);
    return cors_admit_cookie_to(request, &target, detail);
}

enum err cors_admit_cookie_to(struct request *request, const struct cors_target *target,
                              struct text *detail)
{
    bool admitted = cors_is_safe(target) || judge_page(request, target) == PAGE_ALLOWED;
    return admitted ? ERR_OK : refuse_page(request, detail);
}

enum err cors_admit_new_cookie(struct request *request, struct text *detail)
{
    const struct cors_target target = own_target(request);
    return judge_page(request, &target) == PAGE_FOREIGN ? refuse_page(request, detail) : ERR_OK;
}
