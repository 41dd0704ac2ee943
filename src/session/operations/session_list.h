/* The living sessions in a user's state, as lists show them. */
#pragma once

#include "session/engine/operation.h"

/* Brings to the state what holds besides it: the policies of its sessions, what this node's journal
 * knows, the tenant's cutoff. */
void session_list_prepare(struct operation *operation, const struct user_tag *owner,
                          struct user_state *state);
/* The sessions of a prepared state that ended, the last to end first, in the arena: those with a
 * tombstone, and those whose time is over while nothing has tidied them up yet. */
size_t session_list_ended(struct operation *operation, const struct user_state *state,
                          struct ended_session **ret);
/* The sessions of a prepared state that live, newest first, in the arena; `current` is marked. */
size_t session_list_list(struct operation *operation, const struct user_state *state,
                         const struct session *current, struct listed_session **ret);
/* What holds for the user; texts are the record's. */
struct user_status session_list_user(const struct user_record *user, int64_t now_s);
