/* Is what Redis answers as new as what this node knows, and for how long does it hold?
 *
 * Every read of a user's state is guarded: what is known before it is sent is noted
 * (freshness_begin()) and the answer is held against it (freshness_check()). A state is *behind* if
 * its epoch is lower than one that was seen before, or its version than one in memory, within the
 * last minute (epoch floor.h): Redis has lost changes, and nothing is concluded from it. No state
 * at all is not behind: it shows nobody alive. What is not behind is seen from then on, whoever has
 * read it. */
#pragma once

#include "service.h"

struct read_guard {
    uint32_t lease;        /* of the cache (cache.h), or of the tenants (tenants.h) */
    uint32_t generation;   /* of the watch of the key's slot, 0: none */
    int64_t sent_ms;       /* clock_boot_ms(): what is read holds from then */
    int64_t floor_ms;      /* the highest epoch seen, 0: none */
    int64_t known_version; /* of the state, as memory has it, 0: unknown; the reader's to set */
};
/* Before a read of what lies in this slot: a user's, or (the answer is not held against anything
 * here: tenants_put() tells) a tenant's. */
struct read_guard freshness_begin(struct session_worker *worker, const struct user_tag *owner,
                                  unsigned slot);
struct read_guard freshness_begin_tenant(struct session_worker *worker,
                                         const uint8_t tag[TENANT_TAG], unsigned slot);
/* ERR_STORE_BEHIND, and counted, or ERR_OK and the epoch is seen. */
enum err freshness_check(struct session_service *service, const struct read_guard *guard,
                         const struct user_tag *owner, int64_t version, int64_t epoch) MUST_CHECK;
/* True if the user was changed since: who asks now is not to be given what the read brings. */
bool freshness_is_overtaken(const struct session_service *service, const struct read_guard *guard,
                            const struct user_tag *owner);

/* An epoch that this node has made. */
void freshness_note(struct session_service *service, const struct user_tag *owner, int64_t epoch);
/* True if no token of the user is known to have died after this version of the state. */
bool freshness_is_last(const struct session_service *service, const struct user_tag *owner,
                       int64_t version);

/* True if what was read from this slot under a generation is known to hold now. */
bool freshness_holds(const struct session_service *service, uint32_t generation, unsigned slot,
                     int64_t now_ms);
/* When what was read so, at verified_ms, was known to be true last. */
int64_t freshness_verified_ms(const struct session_service *service, uint32_t generation,
                              int64_t verified_ms, unsigned slot);
