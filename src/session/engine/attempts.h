/* Writes of an update whose outcome is unknown because the connection broke.
 *
 * Records are sealed under random nonces, so no two writers make the same bytes. A value in Redis
 * that equals the bytes sent is this update's own work; any other value is not. Plain records
 * (keys.encryption = none) may be another writer's who did the very same in the same second. */
#pragma once

#include "memory.h"
#include "text.h"

/* Lies in an arena. Zeroed: no attempts. */
struct attempts {
    const struct text *sets; /* of the newest attempt: field, value, field, value ... */
    size_t set_count;
    const struct attempts *before;
};

/* Adds an attempt. Borrows the sets, which must lie in the arena too. */
void attempts_add(struct attempts *attempts, struct arena *arena, const struct text *sets,
                  size_t set_count);
/* True if one of the attempts set the field to this value. */
bool attempts_have(const struct attempts *attempts, struct text field, struct text value);
