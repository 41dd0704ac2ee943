/* A login as requested, kept while its additional verification is pending.
 *
 * Bytes: flags 1 (bit 0 remember, 1 second factor, 2 cookie), number of roles 1, then texts, each
 * after its length in 2 bytes, an empty one reading as absent: tenant, user id, device id, type,
 * name, fingerprint, ip, user agent, attributes, roles. */
#pragma once

#include "session.h"

void login_request_write(const struct login *login, struct buffer *out);
/* Sets the input members of session_login() except `base`. The texts are borrowed from the bytes.
 * False, with those members undefined, for bytes that were not written so. */
bool login_request_read(struct text bytes, struct arena *arena, struct login *login);
