/* The session cookie: an access token that a browser keeps and that no script can read.
 *
 * Its attributes are those that the `__Host-` prefix requires (Secure, Path=/, no Domain;
 * draft-ietf-httpbis-rfc6265bis, section 4.1.3.2), HttpOnly, and SameSite as the policy sets it.
 * Its value is a secret: no log and no problem contains it. */
#pragma once

#include "http/exchange/request.h"

enum cookie_found { COOKIE_ABSENT, COOKIE_FOUND, COOKIE_REPEATED };

/* The value of the cookie of this name in a Cookie header (RFC 6265, section 4.2), borrowed; names
 * are case-sensitive. An empty value counts as absent. Pure, as the next. */
enum cookie_found cookies_find(struct text header, struct text name, struct text *ret);

/* The value of a Set-Cookie header. max_age_s < 0: until the browser is closed; 0: deleted. */
struct text cookies_format(struct arena *arena, const char *name, struct text value,
                           enum same_site same_site, int64_t max_age_s);

/* The session cookie of a request; absent if browser.cookie is off. */
enum cookie_found cookies_presented(const struct request *request, struct text *ret);

/* Sets the session cookie with the answer; returns the header's value for the body. */
struct text cookies_give(struct request *request, const char access_token[TOKEN_LENGTH],
                         enum same_site same_site, int64_t max_age_s);
/* Deletes it with the answer, if the request came with one. */
void cookies_take_back(struct request *request);
