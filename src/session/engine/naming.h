/* Whose token was refused: tenant and user, for the audit line alone. */
#pragma once

#include "operation.h"

/* Notes what a lookup told of them. */
void naming_note(struct operation *operation, const struct names *names);

/* Keeps the operation's names of this user in memory: what was revoked while Redis is away has no
 * other place. */
void naming_keep(struct operation *operation, const struct user_tag *owner);
