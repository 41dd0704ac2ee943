/* The rule for max_age and acr (RFC 9470; OpenID Connect Core 1.0, section 3.1.2.1). */
#include "strength.h"

/* The methods of RFC 8176, section 2. Their bits are stored with pending logins: new ones go to the
 * end. */
static const char *const methods[] = {
    "face", "fpt", "geo",    "hwk", "iris", "kba", "mca", "mfa",  "otp", "pin", "pop",
    "pwd",  "rba", "retina", "sc",  "sms",  "swk", "tel", "user", "vbm", "wia",
};
enum { METHODS = sizeof(methods) / sizeof(methods[0]) };
_Static_assert(METHODS <= 32, "a bit for each method");

uint32_t session_find_amr(struct text word)
{
    for (unsigned i = 0; i < METHODS; i++)
        if (text_equal(word, text_of(methods[i])))
            return UINT32_C(1) << i;
    return 0;
}

struct text session_amr_word(unsigned number)
{
    return number < METHODS ? text_of(methods[number]) : (struct text){0};
}

uint32_t strength_mfa(void)
{
    return session_find_amr(TEXT("mfa"));
}

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

bool strength_meets(const struct conf_list *order, const struct authentication *authentication,
                    const struct strength_demand *demand, int64_t now_s)
{
    return is_recent(authentication->auth_s, demand->max_age_s, now_s) &&
           is_strong(order, authentication->acr, demand->acr);
}

bool strength_is_unstated(const struct authentication *stated)
{
    return stated->auth_s == 0 && !stated->acr.data && stated->amr == 0;
}

struct authentication strength_verified(const struct authentication *before,
                                        const struct authentication *stated)
{
    struct authentication after = stated->auth_s > 0 ? *stated : *before;
    if (stated->acr.data)
        after.acr = stated->acr;
    if (stated->amr != 0)
        after.amr = stated->amr;
    after.amr |= strength_mfa();
    return after;
}
