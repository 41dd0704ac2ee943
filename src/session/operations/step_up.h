/* A living session that is used from elsewhere than it is bound to (binding.h), under a policy that
 * has it verified: the challenge, and the session that may be used from one place more.
 *
 * Body of the challenge: session id 8, tenant and user id, each with its length in 1 byte before
 * it, then what is to be verified, as binding.h's items. */
#pragma once

#include "binding.h"
#include "session/engine/operation.h"
#include "session/model/rules.h"
#include "session/engine/waiter.h"

/* Offers a challenge for this session and what of that which is shown breaks its bounds: the same
 * one for as long as it is pending. Tenant and user id are the operation's. Sets operation->out.err
 * to ERR_STEP_UP_REQUIRED, or to why none could be offered (ERR_TOO_MANY_CHALLENGES: the user has
 * as many as he may), then goes on. */
void step_up_offer(struct operation *operation, const struct user_tag *owner,
                   const uint8_t session_id[SESSION_ID], const struct client_context *context,
                   unsigned breaches, struct waiter *waiter);

/* Notes tenant and user id of a challenge's body. */
void step_up_note(struct operation *operation, struct text body);
/* The challenge was solved: the session may be used from there, and gets its next pair, since who
 * knew the one before is not known (rotation.h). Ends the operation; with ERR_CHALLENGE_OVER if the
 * session is dead, or the challenge older than a cutoff. */
void step_up_accept(struct operation *operation, const struct user_tag *owner, int64_t issued_ms,
                    struct text body, struct issued_pair *ret);

/* The session takes the address that is shown for its own, if it still has none; sets
 * operation->out.err to ERR_TOKEN_INVALID if it got another one meanwhile, or died. Then goes on.
 */
struct adoption {
    struct waiter waiter;
    enum end_cause cause; /* ERR_TOKEN_INVALID: of what the session died, if it did */
};
void step_up_adopt(struct operation *operation, const struct user_tag *owner,
                   const uint8_t session_id[SESSION_ID], const struct client_context *context,
                   struct adoption *adoption, void (*then)(struct waiter *waiter));
