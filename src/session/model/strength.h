/* How strongly the user of a session has authenticated, and whether that meets a demand. */
#pragma once

#include "conf.h"
#include "session.h"

struct strength {
    int64_t auth_s;  /* time of the last authentication, seconds since 1970; 0: unknown */
    struct text acr; /* its class; absent: unknown */
};

/* True if the demand asks for anything. */
bool strength_is_asked(const struct strength_demand *demand);
/* True if the strength meets the demand now. An unknown time is too old, an unknown class too weak.
 * A class meets a demand for itself, and for the classes before it in the order. */
bool strength_meets(const struct conf_list *order, const struct strength *strength,
                    const struct strength_demand *demand, int64_t now_s);
