/* Revocations: what this node's journal knows, held against tokens, states and Redis. */
#pragma once

#include "user_update.h"
#include "clock.h"
#include "session/model/rules.h"

/* Refuses with `err` for a session that was revoked here; false if it was not. What this node knows
 * to be dead is refused before Redis is asked, and also where it does not answer. */
bool revocation_refuses(struct operation *operation, const struct token *token, enum err err);

/* Why a session died of it: the reason that was given, but "frozen" for all that a freeze ends. */
struct text revocation_reason(const struct revocation *revocation);

/* Applies the journal's revocations of the owner to a state that was read: the sessions become
 * tombstones, the cutoff is raised, the user is frozen or not as was said last; in the edit too,
 * unless that is NULL. True if there was something that Redis had not. The cutoff of the
 * operation's tenant is applied likewise, to the sessions. */
bool revocation_apply(struct operation *operation, struct user_state *state,
                      const struct user_tag *owner, struct edit *edit, const struct policy *policy);

/* The journal is to have it once the edit is written. */
void revocation_add_to_edit(struct edit *edit, struct revocation revocation);

/* The revocation of one session, which lives until `alive_until_s` at most. */
struct revocation revocation_of_session(const struct operation *operation,
                                        const struct user_tag *owner,
                                        const uint8_t session_id[SESSION_ID], struct text reason,
                                        int64_t alive_until_s);
/* The revocation of all sessions before a cutoff, but for the exempt one (may be NULL). No session
 * lives longer than longest_life_s from its login. */
struct revocation revocation_before(const struct operation *operation, const struct user_tag *owner,
                                    int64_t before_ms, const uint8_t *exempt, struct text reason,
                                    int64_t longest_life_s);
