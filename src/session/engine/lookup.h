/* What Redis says of one session: one read, shared by all who ask on this worker meanwhile, and
 * stored in the cache. */
#pragma once

#include "freshness.h"
#include "session/model/state.h"

enum found_kind {
    FOUND_MISSING, /* Redis has nothing under this id */
    FOUND_ACTIVE,  /* not ended, whatever the time */
    FOUND_ENDED,   /* ended for ever */
    FOUND_REFUSED  /* frozen, or does not open */
};

/* Lies in the lookup's memory, valid during `done`. */
struct found {
    enum err err; /* not ERR_OK: nothing is known */
    enum found_kind kind;
    int64_t epoch;              /* of the user's state, unless err */
    bool overtaken;             /* the user was changed meanwhile: the cache has not stored it */
    struct text value;          /* FOUND_ACTIVE: as the cache holds it */
    struct tombstone tombstone; /* FOUND_ENDED, FOUND_REFUSED: why */
    struct names names;         /* unless FOUND_ACTIVE; absent if nothing tells them */
};

/* Lives in the caller's memory until `done`. */
struct lookup_waiter {
    void (*done)(struct lookup_waiter *waiter, const struct found *found);
    struct lookup_waiter *next;
    bool joined; /* set by lookup_begin(): the read had begun before it was asked for */
};

/* What to read and with which keys, borrowed until `done`. */
struct lookup_request {
    const struct user_tag *owner;
    const uint8_t *session_id;
    const struct keyring *keyring;
    bool encrypt;
    int64_t known_version; /* of the user's state, as the cache has it; 0: unknown */
    int64_t known_seen_s;  /* last use of the session, as far as this node knows; 0: unknown */
    bool alone;            /* do not join */
    bool bound;            /* the policy looks at what the session is bound to */
    size_t cache_quota;    /* of the tenant; SIZE_MAX: all */
    int64_t deadline_ms;
};

/* The share of the cache that a policy gives its tenant, as the cache wants it. */
static inline size_t lookup_quota(const struct policy *policy)
{
    return policy->cache_quota > 0 ? (size_t)policy->cache_quota : SIZE_MAX;
}

/* Of a session, as its tenant's policy wants it to be read. */
struct lookup_request lookup_request_of(const struct user_tag *owner, const uint8_t *session_id,
                                        const struct keyring *keyring, const struct conf *conf,
                                        const struct policy *policy, int64_t deadline_ms);

/* Asks Redis, or joins a read that is under way for the same session - unless the user was changed
 * since that read began. A state that is older than what this node has seen within the last
 * minute (its version below known_version, or its epoch below the epoch floor) is ERR_STORE_BEHIND.
 *
 * Who joins may ask for a token that was made after the read began, and must not take its word
 * that there is none. */
void lookup_begin(struct session_worker *worker, const struct lookup_request *request,
                  struct lookup_waiter *waiter);
/* Frees what is kept for later lookups; none may be under way. */
void lookup_free_idle(struct session_worker *worker);
