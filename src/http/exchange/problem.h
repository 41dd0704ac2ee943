/* Refusals as problem+json (RFC 9457), or on OAuth routes as RFC 6749 wants them, with the headers
 * that belong to them. */
#pragma once

#include "request_private.h"

/* Replaces the answer by the problem `err`: type, title, status, detail, code, request_id, then
 * `members`, JSON members without braces. Adds WWW-Authenticate for 401, and Retry-After, Allow and
 * Accept-Patch where they belong. `detail` and `members` may be absent. OAuth errors
 * have "error" and "error_description" instead, and no members. */
void problem_write(struct request *request, enum err err, struct text detail, struct text members);
