/* The read of one session from Redis: shared by all waiters of this worker, and stored in the
 * cache. */
#pragma once

#include "freshness.h"
#include "session/model/state.h"

enum found_kind {
    FOUND_MISSING, /* Redis has nothing under this id */
    FOUND_ACTIVE,  /* not ended, whatever the time */
    FOUND_ENDED,   /* ended for ever */
    FOUND_REFUSED  /* frozen, or does not open */
};

/* The result. Lies in the lookup's memory, valid during `done`. */
struct found {
    enum err err; /* other than ERR_OK: nothing is known */
    enum found_kind kind;
    int64_t epoch;              /* of the user's state, unless err */
    bool overtaken;             /* the user changed meanwhile: the cache did not store it */
    struct text value;          /* FOUND_ACTIVE: the cache value */
    struct tombstone tombstone; /* FOUND_ENDED, FOUND_REFUSED: why */
    struct names names;         /* unless FOUND_ACTIVE; absent if unknown */
};

/* Embedded in the caller's memory until `done`. */
struct lookup_waiter {
    void (*done)(struct lookup_waiter *waiter, const struct found *found);
    struct lookup_waiter *next;
    struct lookup *lookup; /* set by lookup_begin() */
    bool joined;           /* set by lookup_begin(): shares a read that began before */
};

/* The session and the keys to read it with. Borrowed until `done`. */
struct lookup_request {
    const struct user_tag *owner;
    const uint8_t *session_id;
    struct keyring *keyring;
    bool encrypt;
    int64_t known_version; /* of the user's state, as the cache has it; 0: unknown */
    int64_t known_seen_s;  /* last use of the session, as far as this node knows; 0: unknown */
    bool alone;            /* do not join another read */
    bool bound;            /* the policy checks bindings */
    size_t cache_quota;    /* of the tenant; SIZE_MAX: all */
    int64_t deadline_ms;
};

/* The tenant's cache quota in bytes, as the cache wants it; SIZE_MAX: no quota. */
static inline size_t lookup_quota(const struct policy *policy)
{
    return policy->cache_quota > 0 ? (size_t)policy->cache_quota : SIZE_MAX;
}

/* A request for one session, read as its tenant's policy needs it. */
struct lookup_request lookup_request_of(const struct user_tag *owner, const uint8_t *session_id,
                                        struct keyring *keyring, const struct conf *conf,
                                        const struct policy *policy, int64_t deadline_ms);

/* Reads the session from Redis, or joins a read in flight for it, unless the user changed since
 * that read began. ERR_STORE_BEHIND if the state is older than what this node saw within the last
 * minute: its version below known_version, or its epoch below the epoch floor.
 *
 * A joined waiter's token may be newer than the read; for it FOUND_MISSING is not authoritative. */
void lookup_begin(struct session_worker *worker, const struct lookup_request *request,
                  struct lookup_waiter *waiter);
/* Stops waiting; `done` is not called. The read goes on, alone if need be, and is stored in the
 * cache. */
void lookup_leave(struct lookup_waiter *waiter);
/* Frees the lookups kept for reuse. None may be in flight. */
void lookup_free_idle(struct session_worker *worker);
