/* Orders freezes and lifts. Pure: reads only records and revocations. */
#include "freezing.h"

#include <assert.h>

#include "rules.h"

static bool is_decision(const struct revocation *revocation)
{
    return revocation->kind == REVOKE_FREEZE || revocation->kind == REVOKE_LIFT;
}

const struct revocation *freezing_last(const struct revocation *list, size_t count)
{
    const struct revocation *last = NULL;
    for (size_t i = 0; i < count; i++)
        if (is_decision(&list[i]) && (!last || list[i].before_ms >= last->before_ms))
            last = &list[i];
    return last;
}

/* If a wrong clock hides the order, an unconfirmed freeze wins. */
static bool overtakes(const struct user_record *user, const struct revocation *last, int64_t now_ms)
{
    return last->kind == REVOKE_FREEZE && !last->confirmed &&
           rules_is_ahead(user->decided_ms, now_ms) && !rules_is_ahead(last->before_ms, now_ms);
}

bool freezing_apply(struct user_record *user, const struct revocation *last, int64_t now_ms)
{
    bool newer = last && last->before_ms > user->decided_ms;
    if (!last || (!newer && !overtakes(user, last, now_ms)))
        return false;
    int64_t before_ms = user->decided_ms;
    user->decided_ms = newer ? last->before_ms : before_ms + 1;
    assert(user->decided_ms > before_ms);
    user->frozen = last->kind == REVOKE_FREEZE;
    user->frozen_until_s = user->frozen ? last->until_s : 0;
    user->frozen_reason = user->frozen ? last->reason : (struct text){0};
    return true;
}

int64_t freezing_next_stamp(const struct user_record *user, int64_t now_ms)
{
    return now_ms > user->decided_ms ? now_ms : user->decided_ms + 1;
}
