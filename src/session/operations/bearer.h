/* An access token, and what a cached value tells of its session: is it good, from there, now? No
 * I/O; the hot path. */
#pragma once

#include "binding.h"
#include "session/engine/cache_value.h"
#include "session/engine/operation.h"
#include "session/model/rules.h"

struct bearer {
    struct operation *operation; /* has entered its tenant */
    const struct token *token;   /* its MAC holds */
    struct cache_key key;
    uint8_t hash[SECRET_HASH]; /* of its secret */

    /* Set by bearer_judge(). */
    enum end_cause cause;
    struct client_context context; /* where it comes from ... */
    unsigned breaches;             /* ... and what of that the session is not bound to */
};
void bearer_init(struct bearer *ret, struct operation *operation, const struct token *token);

/* A living session's value, opened, and the policy that holds for it. */
struct known_session {
    struct cache_value cache_value;
    struct policy policy;
};
/* False for a value that is no such thing, from which the result borrows. */
bool bearer_open(const struct bearer *bearer, struct text value, struct known_session *ret);

enum opinion {
    OPINION_GOOD,
    OPINION_ADOPT,     /* good, if the session takes the address that is shown for its own */
    OPINION_ELSEWHERE, /* alive, but not bound to where it is used */
    OPINION_UNBOUND,   /* alive, but what it is bound to is not known */
    OPINION_ENDED      /* no good, of bearer->cause */
};
/* Of one that is not dead the breaches are noted for the audit line. */
enum opinion bearer_judge(struct bearer *bearer, const struct known_session *known);
/* Notes for the audit line whose session it is, and the breaches. */
void bearer_note(struct bearer *bearer, const struct known_session *known);
/* True for the present pair's token after its time: so it is whatever happened elsewhere. */
bool bearer_is_over(const struct bearer *bearer, const struct known_session *known);

/* While Redis is away: does memory alone vouch for the token, within outage.grace? Then *age_ms is
 * how long ago that was true. Not if the user was seen to be changed since: then the entry is older
 * than what is known. */
bool bearer_vouch(struct bearer *bearer, struct known_session *known, int64_t *age_ms);
