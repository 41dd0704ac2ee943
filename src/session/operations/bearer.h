/* Judges an access token by the cache value of its session: valid, from there, now? No I/O; the hot
 * path. */
#pragma once

#include "session/engine/binding.h"
#include "session/engine/cache_value.h"
#include "session/engine/operation.h"
#include "session/model/rules.h"

struct bearer {
    struct operation *operation; /* has entered its tenant */
    const struct token *token;   /* its MAC holds */
    struct cache_key key;

    /* Set by bearer_judge(). */
    enum end_cause cause;
    struct client_context context; /* address and device in use ... */
    unsigned breaches;             /* ... and how they break the session's bindings */
};
void bearer_init(struct bearer *ret, struct operation *operation, const struct token *token);

/* An active session's value, opened, and its policy. */
struct known_session {
    struct cache_value cache_value;
    uint8_t hash[SECRET_HASH]; /* of the bearer's token, comparable with the value's */
    struct policy policy;
};
/* Opens a value, which *ret borrows from. False if it is of another kind. */
bool bearer_open(const struct bearer *bearer, struct text value, struct known_session *ret);

enum opinion {
    OPINION_GOOD,
    OPINION_ADOPT,     /* valid, if the session adopts the address */
    OPINION_ELSEWHERE, /* active, but bound to other addresses or devices */
    OPINION_UNBOUND,   /* active, but its bindings are not known */
    OPINION_ENDED      /* not valid: see bearer->cause */
};
/* Judges the token. Notes breaches for the audit line, unless the token is dead. */
enum opinion bearer_judge(struct bearer *bearer, const struct known_session *known);
/* Notes session and breaches for the audit line. */
void bearer_note(struct bearer *bearer, const struct known_session *known);
/* Has memory recognise the token sooner next time; for an entry of memory that it was judged by. */
void bearer_learn(const struct bearer *bearer, const struct known_session *known);
/* True if the token is of the present pair and its time is over, which no other node can change. */
bool bearer_is_over(const struct bearer *bearer, const struct known_session *known);

/* In an outage: true if memory alone vouches for the token, within outage.grace. *age_ms is how
 * long ago the entry was fresh. False if the user changed since: then the entry is outdated. */
bool bearer_vouch(struct bearer *bearer, struct known_session *known, int64_t *age_ms);
