/* The living sessions in a user's state, as lists show them. */
#pragma once

#include "operation.h"

/* A state whose epoch is lower than the fence was when it was asked for has lost changes; counted.
 * No state at all is not behind: it shows nobody alive. */
bool living_is_behind(const struct user_state *state, int64_t fence_ms);
/* Brings to the state what holds besides it: the policies of its sessions, what this node's journal
 * knows, the tenant's cutoff. */
void living_prepare(struct operation *operation, const struct user_tag *owner,
                    struct user_state *state);
/* The sessions of a prepared state that live, newest first, in the arena; `current` is marked. */
size_t living_list(struct operation *operation, const struct user_state *state,
                   const struct session *current, struct listed_session **ret);
