/* How long a gateway may keep an allowing answer. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct authz_lifetime {
    int64_t most_s;       /* authz.cache */
    bool identified;      /* the answer names a session */
    bool stale;           /* from memory in an outage, or beyond the token's own end */
    bool bound;           /* the policy checks the session's bindings, at each use */
    bool forgeable;       /* the cookie counted only because of the calling page */
    int64_t now_s;        /* the times are Unix seconds */
    int64_t access_end_s; /* of the token */
    int64_t idle_end_s;   /* of the session, if it is not used */
    int64_t fresh_end_s;  /* of the setting max_age; 0: there is none */
    int64_t jwt_ttl_s;    /* what is left of the signed identity; 0: there is none */
};
/* Seconds for max-age; 0: the answer must not be stored. */
int64_t authz_lifetime_of(const struct authz_lifetime *of);
