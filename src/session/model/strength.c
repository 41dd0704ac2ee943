/* The rule for max_age and acr (RFC 9470; OpenID Connect Core 1.0, section 3.1.2.1). */
#include "strength.h"

bool strength_is_asked(const struct strength_demand *demand)
{
    return demand->max_age_s >= 0 || demand->acr.data;
}

/* Position in the order; SIZE_MAX if it is not there. */
static size_t rank_of(const struct conf_list *order, struct text acr)
{
    for (size_t i = 0; i < order->count; i++)
        if (text_equal(text_of(order->items[i]), acr))
            return i;
    return SIZE_MAX;
}

static bool is_recent(int64_t auth_s, int64_t max_age_s, int64_t now_s)
{
    return max_age_s < 0 || (auth_s > 0 && now_s - auth_s <= max_age_s);
}

static bool is_strong(const struct conf_list *order, struct text acr, struct text least)
{
    if (!least.data || text_equal(acr, least))
        return true;
    size_t wanted = rank_of(order, least), had = acr.data ? rank_of(order, acr) : SIZE_MAX;
    return wanted != SIZE_MAX && had != SIZE_MAX && had >= wanted;
}

bool strength_meets(const struct conf_list *order, const struct strength *strength,
                    const struct strength_demand *demand, int64_t now_s)
{
    return is_recent(strength->auth_s, demand->max_age_s, now_s) &&
           is_strong(order, strength->acr, demand->acr);
}
