/* The next pair of an active session: at a refresh, and after step-up authentication.
 *
 * The session keeps its id and its generation goes up by one. The previous pair stays valid for
 * refresh_grace. During it the previous refresh token yields the next pair again, for a client that
 * lost the answer, whether the pair came from a refresh or a step-up. */
#pragma once

#include "operation.h"
#include "session/model/edit.h"

struct rotation {
    struct operation *operation;
    const struct user_tag *owner;
    struct session *session;
    const uint8_t *secret; /* of the caller's refresh token: of the present pair to advance, of the
                              previous one to repeat; NULL: the caller has none */
};

/* Notes when the session's present pair ends. */
void rotation_note_times(const struct session *session, const struct policy *policy, int64_t now_ms,
                         struct issued_pair *ret);
/* Gives the session its next pair, in its record and the edit, and tidies the edit. */
void rotation_advance(const struct rotation *rotation, struct user_state *state,
                      const struct policy *policy, struct edit *edit, struct issued_pair *ret);
/* Prints the present pair again. Without a secret: only a pair that was advanced without one. */
void rotation_repeat(const struct rotation *rotation, const struct policy *policy,
                     struct issued_pair *ret);
