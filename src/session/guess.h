/* Wrong codes, counted for the user over all challenges (guesses.h). */
#pragma once

#include "operation.h"

/* Counts one, then calls `then`; operation->err tells whether it could be written. The operation's
 * tenant must have been entered. */
void guess_note(struct operation *operation, const struct user_tag *owner,
                void (*then)(struct operation *operation));
