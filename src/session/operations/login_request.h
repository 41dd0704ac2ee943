/* A login as it was asked, kept while its second verification is pending.
 *
 * Bytes: flags 1 (bit 0 remember, 1 second factor, 2 cookie), number of roles 1, then texts, each
 * with its length in 2 bytes before it, an empty one reading as absent: tenant, user id, device id,
 * type, name, fingerprint, ip, user agent, attributes, roles. */
#pragma once

#include "session.h"

void login_request_write(const struct login *login, struct buffer *out);
/* Sets what the caller of session_login() sets, but for `base`; the texts are borrowed from the
 * bytes. False, with those members undefined, for anything that was not written so. */
bool login_request_read(struct text bytes, struct arena *arena, struct login *login);
