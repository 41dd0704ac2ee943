/* The next pair of an active session: at a refresh, after step-up authentication, and after an
 * authentication that raises its strength, which gets a pair of another kind (rotation_renew()).
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
/* The secrets of a pair from fresh randomness. They are made once for an operation, so that a write
 * of unknown outcome is answered with them; the owner wipes them. */
struct fresh_secrets {
    bool made;
    uint8_t access[SECRET_LENGTH], refresh[SECRET_LENGTH];
};
/* Gives the session a pair that nothing before leads to. The pair before is over at once: its
 * refresh token never yields the new pair. */
void rotation_renew(const struct rotation *rotation, struct fresh_secrets *secrets,
                    struct user_state *state, const struct policy *policy, struct edit *edit,
                    struct issued_pair *ret);
/* Prints that pair again. */
void rotation_reprint(const struct rotation *rotation, const struct fresh_secrets *secrets,
                      const struct policy *policy, struct issued_pair *ret);
/* Prints the present pair again. Without a secret: only a pair that was advanced without one. */
void rotation_repeat(const struct rotation *rotation, const struct policy *policy,
                     struct issued_pair *ret);
