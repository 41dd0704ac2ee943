/* The active and ended sessions in a user's state, as lists show them. */
#pragma once

#include "session/engine/operation.h"

/* Applies to the state its sessions' policies, this node's journal, and the tenant's cutoff. */
void session_list_prepare(struct operation *operation, const struct user_tag *owner,
                          struct user_state *state);
/* The ended sessions of a prepared state, last ended first, in the arena: those with a tombstone,
 * and expired ones that were not tidied up yet. */
size_t session_list_ended(struct operation *operation, const struct user_state *state,
                          struct ended_session **ret);
/* The active sessions of a prepared state, newest first, in the arena; `current` is marked. */
size_t session_list_list(struct operation *operation, const struct user_state *state,
                         const struct session *current, struct listed_session **ret);
/* The user's freeze and cutoff; texts are the record's. */
struct user_status session_list_user(const struct user_record *user, int64_t now_s);
