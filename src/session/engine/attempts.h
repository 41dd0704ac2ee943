/* What a change has written, or tried to: whether it did is not known, since the connection ended.
 *
 * Records are sealed under random nonces, so nobody else ever makes the same bytes: what lies in
 * Redis byte for byte as it was sent is this change's own work, and nothing else is, however much
 * it looks like it. Plain records (keys.encryption = none) may be another's who did the very same
 * in the same second. */
#pragma once

#include "memory.h"
#include "text.h"

/* Lies in an arena; zeroed: none. */
struct attempts {
    const struct text *sets; /* field, value, field, value ... of the last */
    size_t set_count;
    const struct attempts *before;
};

/* The sets are borrowed, and must lie in the arena, too. */
void attempts_add(struct attempts *attempts, struct arena *arena, const struct text *sets,
                  size_t set_count);
/* True if one of them set the field to this value. */
bool attempts_have(const struct attempts *attempts, struct text field, struct text value);
