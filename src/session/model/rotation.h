/* The next pair of a living session: at a refresh, and when the session was verified.
 *
 * The session keeps its id. Its generation goes up by one, the pair before stays good for
 * refresh_grace, and while it does the next pair can be had again with the refresh token before:
 * whoever lost an answer asks for a refresh, whether the pair came of a refresh or of a
 * verification. */
#pragma once

#include "session/engine/operation.h"

struct rotation {
    struct operation *operation;
    const struct user_tag *owner;
    struct session *session;
    const uint8_t *secret; /* that the caller's refresh token has: of the present pair to advance,
                              of the one before to repeat; NULL: the caller has none */
};

/* Notes when the session's present pair ends. */
void rotation_note_times(const struct session *session, const struct policy *policy, int64_t now_ms,
                         struct issued_pair *ret);
/* Gives the session its next pair, in its record and the edit, and settles the edit. */
void rotation_advance(const struct rotation *rotation, struct user_state *state,
                      const struct policy *policy, struct edit *edit, struct issued_pair *ret);
/* The present pair again. Without a secret only a pair that was advanced without one. */
void rotation_repeat(const struct rotation *rotation, const struct policy *policy,
                     struct issued_pair *ret);
