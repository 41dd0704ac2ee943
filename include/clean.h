/* Texts that callers hand on and that merely decorate: names, user agents, fingerprints, operators.
 * They are cleaned, never a reason to refuse a call. Ids are not: they are taken as they are or
 * refused. */
#pragma once

#include "memory.h"
#include "text.h"

/* The text as it is kept and shown: well-formed UTF-8 of at most `most` bytes without control
 * characters and without credentials.
 *
 * A run of control characters (C0, C1, DEL) becomes one blank, at the ends nothing. A byte that is
 * no UTF-8 is read as ISO 8859-1, in which HTTP headers once were (RFC 9110, section 5.5). Each
 * credential becomes its prefix and "[redacted]". What is too long is cut at a character's
 * boundary. Absent if nothing is left. A text that is good as it is comes back unchanged and still
 * belongs to its owner; any other lies in the arena. */
struct text clean_text(struct text given, size_t most, struct arena *arena);
