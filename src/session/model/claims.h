/* The statement of a signed identity: the claims of a JWT (RFC 7519) in the profile for access
 * tokens (RFC 9068). Pure. */
#pragma once

#include "session.h"

/* The facts; texts are borrowed. */
struct claims {
    struct text issuer;
    const struct audience *audience;
    struct text session_json; /* as session_json_write() makes it, or more members behind that */
    struct text session_id;   /* 16 hex digits */
    int64_t auth_s;           /* seconds since 1970; 0: unknown */
    struct text acr;          /* absent: unknown */
    struct text amr;          /* a JSON array of strings; absent: unknown */
};

/* Appends a JSON object of all claims but the times and jti, without its closing brace. `sub` is
 * the user's id for an audience of one tenant, else tenant/user_id. `scope` has the roles that are
 * scope tokens (RFC 6749, section 3.3), unless there are none. False if session_json lacks a part.
 */
bool claims_state(const struct claims *claims, struct buffer *out);
/* Completes the object: iat and exp in seconds since 1970, and jti. */
void claims_date(struct buffer *out, int64_t signed_s, int64_t expires_s, struct text id);

/* True if the session is of the audience's tenant; if it has one of the audience's roles. */
bool claims_fit_tenant(const struct audience *audience, struct text session_json);
bool claims_fit_roles(const struct audience *audience, struct text session_json);
