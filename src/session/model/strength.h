/* How strongly the user of a session has authenticated: whether that meets a demand, and what a
 * later authentication makes of it. */
#pragma once

#include "conf.h"
#include "session.h"

/* True if the demand asks for anything. */
bool strength_is_asked(const struct strength_demand *demand);
/* True if the authentication meets the demand now. An unknown time is too old, an unknown class too
 * weak. A class meets a demand for itself, and for the classes before it in the order. */
bool strength_meets(const struct conf_list *order, const struct authentication *authentication,
                    const struct strength_demand *demand, int64_t now_s);

/* True if nothing is stated. */
bool strength_is_unstated(const struct authentication *stated);
/* The result of a verification that adds `stated` to what was known `before`. With a time it
 * is another authentication, which replaces all: an old class must not pass for a recent one.
 * Without, its members replace theirs. It always adds the method mfa. */
struct authentication strength_verified(const struct authentication *before,
                                        const struct authentication *stated);
/* The method that stands for several: a second factor was checked. */
uint32_t strength_mfa(void);
