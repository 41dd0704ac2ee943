/* Revocations in this node's journal: checked against tokens, applied to states, made for edits. */
#pragma once

#include "clock.h"
#include "session/model/rules.h"
#include "user_update.h"

/* Refuses with `err` if the session was revoked here, before Redis is asked and also in an outage.
 * False if it was not revoked. */
bool revocation_refuses(struct operation *operation, const struct token *token, enum err err);

/* The reason of the sessions that it ended: as given, but "frozen" for every freeze. */
struct text revocation_reason(const struct revocation *revocation);

/* Applies the journal's revocations of the owner to a state that was read, and to the edit unless
 * it is NULL. Sessions become tombstones, the cutoff is raised, the latest freeze or lift holds.
 * Applies the cutoff of the operation's tenant to the sessions likewise. True if the journal had
 * something that Redis lacked. */
bool revocation_apply(struct operation *operation, struct user_state *state,
                      const struct user_tag *owner, struct edit *edit, const struct policy *policy);

/* Adds a revocation that the journal gets once the edit is written. */
void revocation_add_to_edit(struct edit *edit, struct revocation revocation);

/* The revocation of one session, whose tokens are valid until `alive_until_s` at most. */
struct revocation revocation_of_session(const struct operation *operation,
                                        const struct user_tag *owner,
                                        const uint8_t session_id[SESSION_ID], struct text reason,
                                        int64_t alive_until_s);
/* The revocation of all sessions before a cutoff, except the exempt one (may be NULL).
 * longest_life_s is the longest lifetime of a session from its login. */
struct revocation revocation_before(const struct operation *operation, const struct user_tag *owner,
                                    int64_t before_ms, const uint8_t *exempt, struct text reason,
                                    int64_t longest_life_s);
