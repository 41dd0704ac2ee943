/* Wrong codes, counted for the user over all challenges (guesses.h). */
#pragma once

#include "session/model/guesses.h"
#include "session/engine/operation.h"
#include "session/engine/waiter.h"

/* Counts one, then goes on; operation->out.err tells whether it could be written. The operation's
 * tenant must have been entered. */
void guess_note(struct operation *operation, const struct user_tag *owner, struct waiter *waiter);

/* Neither new codes nor answers to old ones while somebody guesses: true if the operation is
 * refused, for as long as that. */
bool guess_refuses(struct operation *operation, const struct guesses *guesses,
                   const struct policy *policy);
