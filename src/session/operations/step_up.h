/* Step-up authentication of an active session that is used from elsewhere (binding.h), if the
 * policy wants it: offers the challenge, then adds the new context to the session's bindings.
 *
 * Body of the challenge: session id 8, tenant and user id, each after its length in 1 byte, then
 * the context to verify, as binding.h's items. */
#pragma once

#include "session/engine/binding.h"
#include "session/engine/operation.h"
#include "session/engine/waiter.h"
#include "session/model/rules.h"

/* Offers a challenge for this session and the claims that break its bindings; the same one while it
 * is pending. Tenant and user id are the operation's. Sets operation->out.err to
 * ERR_STEP_UP_REQUIRED, or to the error of the offer (ERR_TOO_MANY_CHALLENGES: the user has the
 * most allowed), then goes on. */
void step_up_offer(struct operation *operation, const struct user_tag *owner,
                   const uint8_t session_id[SESSION_ID], const struct client_context *context,
                   unsigned breaches, struct waiter *waiter);

/* Notes tenant and user id of a challenge's body. */
void step_up_note(struct operation *operation, struct text body);
/* Ends the operation after the challenge was solved: the session may be used from there. It gets
 * its next pair, since the holder of the previous pair is unknown (rotation.h). If the verification
 * raises the session's strength (strength_verified()), that pair is fresh and the previous one
 * over. ERR_CHALLENGE_OVER if the session is over, or the challenge older than a cutoff. */
void step_up_accept(struct operation *operation, const struct user_tag *owner, int64_t issued_ms,
                    struct text body, const struct authentication *stated, struct issued_pair *ret);

/* Makes the session adopt the caller's address, if it still has none, then goes on.
 * operation->out.err is ERR_TOKEN_INVALID if it got another address meanwhile, or ended. */
struct adoption {
    struct waiter waiter;
    enum end_cause cause; /* ERR_TOKEN_INVALID: why the session ended, if it did */
};
void step_up_adopt(struct operation *operation, const struct user_tag *owner,
                   const uint8_t session_id[SESSION_ID], const struct client_context *context,
                   struct adoption *adoption, void (*then)(struct waiter *waiter));
