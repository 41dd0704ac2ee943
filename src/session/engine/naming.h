/* The names of the user whose token was refused, for the audit line only. */
#pragma once

#include "operation.h"

/* Notes the names that a lookup found. */
void naming_note(struct operation *operation, const struct names *names);

/* Keeps the operation's names of this user in memory. A revocation in an outage has no other store
 * for them. */
void naming_keep(struct operation *operation, const struct user_tag *owner);
