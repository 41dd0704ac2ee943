/* Settings that a gateway's operator writes into the path of its calls. Pure.
 *
 * `-` for none, else name=value joined by `;`. A value may have the bytes that RFC 3986 allows in a
 * segment (section 3.3) but `;` and `=`; all others are percent-encoded, once. Names are literal.
 * The query has none: gateways hand on their users' queries. */
#pragma once

#include "memory.h"

enum { AUTHZ_MOST_ROLES = 32 };

struct authz_settings {
    struct text tenant; /* the session must be of it; absent: of any */
    struct text roles[AUTHZ_MOST_ROLES];
    size_t role_count;    /* the session must have one of them; 0: any session */
    int64_t max_age_s;    /* seconds since the user authenticated; -1: any */
    struct text acr;      /* absent: any */
    struct text audience; /* of the signed identity; absent: none is wanted */
    bool untouched;       /* touch=no: the call is no use of the session */
    bool optional;        /* callers without a credential are let through */
};

/* Reads a segment of the path as it came; an absent one stands for `-`. Values are decoded in the
 * arena. False, with *detail a sentence that names the setting, for settings that are unknown,
 * repeated (but for role), without a value, encoded twice, or of another form. */
bool authz_settings_read(struct text segment, struct arena *arena, struct authz_settings *ret,
                         struct text *detail);
