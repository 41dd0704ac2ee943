/* What is new about a login: is the device known, is the place; and what follows from it by policy
 * verify.on.
 *
 * Known is what a session of the user that Redis still holds was seen with, and what the user's
 * contexts (contexts.h) remember. A device is known by its id, without one by its fingerprint,
 * without either not at all. To a service that has never met the user everything is new; a login
 * without an address is from no place, which is not a new one. */
#pragma once

#include "session.h"
#include "state.h"

/* Sets new_device, new_location and first_location. */
void login_risk_judge(struct login *login, const struct user_state *state);
/* True if the login may not go on: refused with ERR_VERIFICATION_REQUIRED, since the policy wants a
 * second verification of what is new and the login brings none; or with ERR_CHALLENGE_OVER, since
 * the user was logged out everywhere (cutoff_ms) while it was pending; or, where a code would
 * decide, with ERR_TOO_MANY_GUESSES. */
bool login_risk_stops(struct login *login, const struct user_state *state,
                      const struct policy *policy, int64_t cutoff_ms);
/* Remembers device and place, if the policy will ask for them; over contexts that are foreign only
 * with a second factor. */
void login_risk_remember(const struct login *login, struct user_state *state,
                         const struct policy *policy, struct edit *edit);
