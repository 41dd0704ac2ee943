/* Pages of other origins: whether they may read answers (CORS, the Fetch standard, section 3.2),
 * and whether they may act with a browser's cookie (CSRF).
 *
 * An origin is known if browser.origins has it, byte for byte: browsers print origins in one way
 * only (HTML standard, "serialization of an origin"). Answers on the main listener that differ by
 * origin declare it in Vary; without a configured origin none differs. */
#pragma once

#include "http/exchange/request.h"

/* Notes whether the request comes from a known origin; once its headers are read. */
void cors_note(struct request *request);
/* True for a preflight, the browser's question before a call: OPTIONS with Origin and
 * Access-Control-Request-Method. */
bool cors_is_preflight(const struct request *request);
/* Adds the headers that tell browsers which pages may read the answer. */
void cors_add_headers(struct MHD_Response *response, const struct request *request);

/* Judges a request that the browser's cookie authenticates. Safe methods are allowed; others need
 * an Origin that is known or the service's own, or, if the browser sent none, Sec-Fetch-Site:
 * same-origin. ERR_OK, or ERR_ORIGIN_FORBIDDEN with its *detail. */
enum err cors_admit_cookie(struct request *request, struct text *detail);
/* The same for the request that a gateway asks about: its method, and the service that the browser
 * knows. An unknown method, and a WebSocket handshake, which browsers let every page begin, count
 * as unsafe. A repeated Origin or Sec-Fetch-Site is foreign. */
struct cors_target {
    struct text method; /* absent: unknown */
    struct text host;   /* as in a Host header; absent: unknown */
    const char *scheme; /* "http" or "https" */
    bool upgrades;      /* a WebSocket handshake */
};
enum err cors_admit_cookie_to(struct request *request, const struct cors_target *target,
                              struct text *detail);
/* True if a page of any origin may make a browser send such a request. */
bool cors_is_safe(const struct cors_target *target);
/* The same for a call that gives a browser a new cookie and has a credential of its own: it is also
 * allowed without either header, which is not a browser's. */
enum err cors_admit_new_cookie(struct request *request, struct text *detail);

/* True if the origin is that of a service that the client knows under this Host. Pure. */
bool cors_is_own(struct text origin, struct text host, const char *scheme);
