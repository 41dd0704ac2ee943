/* The reason codes of end causes, and the codes reserved for the service. */
#include <assert.h>

#include "rules.h"

struct text reasons_of_cause(enum end_cause cause)
{
    static const char *const words[] = {
        [CAUSE_NONE] = NULL,
        [CAUSE_EXPIRED] = REASON_EXPIRED,
        [CAUSE_IDLE] = REASON_IDLE,
        [CAUSE_FROZEN] = REASON_FROZEN,
        [CAUSE_REVOKED] = REASON_REVOKED,
        [CAUSE_TENANT_CUTOFF] = NULL,
        [CAUSE_REUSE] = REASON_REUSE,
        [CAUSE_UNKNOWN] = REASON_UNKNOWN,
    };
    assert((size_t)cause < sizeof(words) / sizeof(words[0]));
    return words[cause] ? text_of(words[cause]) : (struct text){0};
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
        /* reasons of a refused token whose session is active */
        "verification_required",
        REASON_INSUFFICIENT,
        /* reasons of a policy to end sessions */
        "new_location",
        "new_device",
        "wrong_codes",
    };
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        if (text_equal(word, text_of(own[i])))
            return true;
    return false;
}
