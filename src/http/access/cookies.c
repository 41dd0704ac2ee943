/* Reads Cookie headers, writes Set-Cookie headers. */
#include "cookies.h"

#include <assert.h>
#include <string.h>

#include "http/exchange/request_private.h"

/* Cuts the first pair off, with its separator. */
static struct text take_pair(struct text *rest)
{
    const char *end = memchr(rest->data, ';', rest->length);
    size_t length = end == NULL ? rest->length : (size_t)(end - rest->data);
    size_t step = end == NULL ? length : length + 1;
    struct text pair = {rest->data, length};
    rest->data += step;
    rest->length -= step;
    return pair;
}

/* A pair without "=" is a cookie without a name, whatever its value looks like. */
static bool split_pair(struct text pair, struct text *name, struct text *value)
{
    const char *equals = memchr(pair.data, '=', pair.length);
    if (equals == NULL)
        return false;
    size_t length = (size_t)(equals - pair.data);
    *name = text_trim((struct text){pair.data, length});
    *value = text_trim((struct text){equals + 1, pair.length - length - 1});
    return true;
}

/* A value may be in quotes, which do not belong to it (RFC 6265, section 4.1.1). */
static struct text without_quotes(struct text value)
{
    bool quoted = value.length >= 2 && value.data[0] == '"' && value.data[value.length - 1] == '"';
    return quoted ? (struct text){value.data + 1, value.length - 2} : value;
}

enum cookie_found cookies_find(struct text header, struct text name, struct text *ret)
{
    size_t count = 0;
    while (header.length > 0) {
        struct text pair_name, value;
        if (!split_pair(take_pair(&header), &pair_name, &value) || !text_equal(pair_name, name))
            continue;
        if (++count > 1)
            return COOKIE_REPEATED;
        *ret = without_quotes(value);
    }
    return count == 1 && ret->length > 0 ? COOKIE_FOUND : COOKIE_ABSENT;
}

struct text cookies_format(struct arena *arena, const char *name, struct text value,
                           enum same_site same_site, int64_t max_age_s)
{
    assert(same_site == SAME_SITE_LAX || same_site == SAME_SITE_STRICT);
    static const char *const words[] = {[SAME_SITE_LAX] = "Lax", [SAME_SITE_STRICT] = "Strict"};
    struct text max_age =
        max_age_s < 0 ? TEXT("") : arena_format(arena, "; Max-Age=%lld", (long long)max_age_s);
    return arena_format(arena, "%s=%.*s; Path=/; Secure; HttpOnly; SameSite=%s%.*s", name,
                        (int)value.length, value.data, words[same_site], (int)max_age.length,
                        max_age.data);
}

enum cookie_found cookies_presented(const struct request *request, struct text *ret)
{
    struct text header = request->private->headers.values[HEADER_COOKIE];
    if (header.data == NULL || !request->conf->browser_cookie)
        return COOKIE_ABSENT;
    return cookies_find(header, text_of(request->conf->browser_cookie_name), ret);
}

struct text cookies_give(struct request *request, const char access_token[TOKEN_LENGTH],
                         enum same_site same_site, int64_t max_age_s)
{
    struct text cookie =
        cookies_format(&request->arena, request->conf->browser_cookie_name,
                       (struct text){access_token, TOKEN_LENGTH}, same_site, max_age_s);
    request_header(request, "Set-Cookie", cookie);
    return cookie;
}

void cookies_take_back(struct request *request)
{
    struct text presented;
    if (cookies_presented(request, &presented) == COOKIE_ABSENT)
        return;
    request_header(request, "Set-Cookie",
                   cookies_format(&request->arena, request->conf->browser_cookie_name, TEXT(""),
                                  SAME_SITE_STRICT, 0));
}
