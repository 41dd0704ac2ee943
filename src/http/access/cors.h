/* Pages of other origins: which may read answers (CORS, the Fetch standard, section 3.2), and which
 * may act with a browser's cookie (CSRF).
 *
 * An origin is known if browser.origins has it, byte for byte: browsers print origins in one way
 * only (HTML standard, "serialization of an origin"). Answers on the main listener that differ by
 * origin say so in Vary; where no origin is configured none does. */
#pragma once

#include "http/exchange/request.h"

/* Notes whether the request comes from a known origin; once its headers are there. */
void cors_note(struct request *request);
/* True for the question that a browser asks before a call: OPTIONS with Origin and
 * Access-Control-Request-Method. */
bool cors_is_preflight(const struct request *request);
/* The headers that tell browsers which pages may read the answer. */
void cors_add_headers(struct MHD_Response *response, const struct request *request);

/* May a request that the browser's cookie authenticates do what it asks? Safe methods may; others
 * need an Origin that is known or the service's own, or, if the browser sent none, Sec-Fetch-Site:
 * same-origin. ERR_OK, or ERR_ORIGIN_FORBIDDEN with its *detail. */
enum err cors_admit_cookie(struct request *request, struct text *detail);
/* The same for a call that hands a browser a new cookie and has a credential of its own: who is no
 * browser, and sends neither header, may. */
enum err cors_admit_new_cookie(struct request *request, struct text *detail);

/* True if the origin is that of a service which the client knows under this Host. Pure. */
bool cors_is_own(struct text origin, struct text host, const char *scheme);
