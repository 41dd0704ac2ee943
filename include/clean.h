/* Decorative texts of callers: names, user agents, fingerprints, operators. They are cleaned and
 * never a reason to refuse a call. Ids are not cleaned: they are accepted as they are or refused.
 */
#pragma once

#include "memory.h"
#include "text.h"

/* The text as it is stored and shown: well-formed UTF-8 of at most `most` bytes without control
 * characters and without credentials.
 *
 * A run of control characters (C0, C1, DEL) becomes one blank, at the ends nothing. A byte that is
 * no UTF-8 is read as ISO 8859-1, the former encoding of HTTP headers (RFC 9110, section 5.5). Each
 * credential becomes its prefix and "[redacted]". A long text is cut between characters. Absent if
 * nothing is left. A text that needs no change is returned itself, still owned by its owner; any
 * other lies in the arena. */
struct text clean_text(struct text given, size_t most, struct arena *arena);
