/* Is a login's device or location new, and what does policy verify.on do about it?
 *
 * Known is what the user's sessions in Redis and contexts (contexts.h) have. A device is known by
 * its id, else by its fingerprint, else not at all. For a user that the service has never met
 * everything is new. A login without an address has no location, which is not a new one. */
#pragma once

#include "session.h"
#include "session/model/edit.h"

/* Sets new_device, new_location and first_location. */
void login_risk_judge(struct login *login, const struct user_state *state);
/* True if the login was refused: with ERR_VERIFICATION_REQUIRED, if the policy wants additional
 * verification of something new and the login brings none; with ERR_CHALLENGE_OVER, if the user was
 * logged out everywhere (cutoff_ms) while the challenge was pending; with ERR_TOO_MANY_GUESSES, if
 * a code would be needed but is refused. */
bool login_risk_stops(struct login *login, const struct user_state *state,
                      const struct policy *policy, int64_t cutoff_ms);
/* Remembers device and location, if the policy will check them. Overwrites contexts of a foreign
 * key only with a second factor. */
void login_risk_remember(const struct login *login, struct user_state *state,
                         const struct policy *policy, struct edit *edit);
