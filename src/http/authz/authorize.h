/* The verdict on a gateway's request: may its client go on, and who is it?
 *
 * Exactly 200 without a body lets it go on, with every X-Session-… header; all else is a problem:
 * 400 for settings that are wrong, 401, 403, 429, 503. No answer sets a cookie. */
#pragma once

#include "original_request.h"

/* Handles a call of one of the routes /authz/…; request->parameters[0] is its settings. */
enum handled authz_authorize(struct request *request, enum authz_route route);
