/* A login as requested, kept while its additional verification is pending.
 *
 * Bytes: flags 1 (bit 0 remember, 1 second factor, 2 cookie, 3 strength present), number of roles
 * 1, then texts, each after its length in 2 bytes, an empty one reading as absent: tenant, user id,
 * device id, type, name, fingerprint, ip, user agent, attributes, roles. With bit 3: auth_s 5, amr
 * 4, and the texts acr and grants. Earlier versions do not read a request with bit 3. */
#pragma once

#include "session.h"

/* `format` is the latest of records that all nodes read. In the first one the strength is left out.
 */
void login_request_write(const struct login *login, unsigned format, struct buffer *out);
/* Sets the input members of session_login() except `base`. The texts are borrowed from the bytes.
 * False, with those members undefined, for bytes that were not written so. */
bool login_request_read(struct text bytes, struct arena *arena, struct login *login);
