/* Counts wrong codes of a user over all challenges (guesses.h). */
#pragma once

#include "session/engine/operation.h"
#include "session/engine/waiter.h"
#include "session/model/guesses.h"

/* Counts one, then goes on. operation->out.err tells whether it was written. The operation must
 * have entered its tenant. */
void guess_note(struct operation *operation, const struct user_tag *owner, struct waiter *waiter);

/* True if the operation is refused because of too many guesses: for a while no codes are issued and
 * no answers accepted. */
bool guess_refuses(struct operation *operation, const struct guesses *guesses,
                   const struct policy *policy);
