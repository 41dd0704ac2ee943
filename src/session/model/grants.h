/* The granters of a session's roles. A role whose granter is not known is a mere word.
 *
 * Items without gaps: role (1), granter (2), each after its length in so many bytes. A granter is
 * "key:NAME", a service key, or "user:TENANT/USER", an operator. */
#pragma once

#include "text.h"

/* Appends an item. False, with nothing appended, for a role or granter too long or empty. */
bool grants_add(struct buffer *out, struct text role, struct text granter);
/* The granter of a role, borrowed from the items; absent if none is known. */
struct text grants_find(struct text grants, struct text role);
