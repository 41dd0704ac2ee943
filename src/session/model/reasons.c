/* The words of why a session died, and which of them belong to the service. */
#include <assert.h>

#include "rules.h"

struct text reasons_of_death(enum death death)
{
    static const char *const words[] = {
        [DEATH_NONE] = NULL,
        [DEATH_EXPIRED] = REASON_EXPIRED,
        [DEATH_IDLE] = REASON_IDLE,
        [DEATH_FROZEN] = REASON_FROZEN,
        [DEATH_REVOKED] = REASON_REVOKED,
        [DEATH_OF_TENANT] = NULL,
        [DEATH_REUSE] = REASON_REUSE,
        [DEATH_UNKNOWN] = REASON_UNKNOWN,
    };
    assert((size_t)death < sizeof(words) / sizeof(words[0]));
    return words[death] ? text_of(words[death]) : (struct text){0};
}

bool session_owns_reason(struct text word)
{
    static const char *const own[] = {
        REASON_MALFORMED,
        REASON_UNKNOWN,
        REASON_EXPIRED,
        REASON_IDLE,
        REASON_REPLACED,
        REASON_FROZEN,
        REASON_REFRESH_REUSE,
        REASON_REUSE,
        REASON_REPEATED,
        REASON_REVOKED,
        REASON_BINDING,
        REASON_BINDING_FAMILY,
        /* what a token is refused for although its session lives */
        "verification_required",
        "insufficient_authentication",
        /* what gives a policy cause to end sessions */
        "new_location",
        "new_device",
        "wrong_codes",
    };
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        if (text_equal(word, text_of(own[i])))
            return true;
    return false;
}
