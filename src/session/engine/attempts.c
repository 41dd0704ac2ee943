/* A list, newest first. */
#include "attempts.h"

#include <assert.h>

void attempts_add(struct attempts *attempts, struct arena *arena, const struct text *sets,
                  size_t set_count)
{
    assert(set_count % 2 == 0);
    struct attempts *before = arena_alloc(arena, sizeof(*before));
    *before = *attempts;
    *attempts = (struct attempts){sets, set_count, before};
}

bool attempts_have(const struct attempts *attempts, struct text field, struct text value)
{
    for (; attempts; attempts = attempts->before)
        for (size_t i = 0; i < attempts->set_count; i += 2)
            if (text_equal(attempts->sets[i], field) && text_equal(attempts->sets[i + 1], value))
                return true;
    return false;
}
