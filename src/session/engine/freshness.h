/* Guards reads: is the answer of Redis as new as what this node knows, and how long does it hold?
 *
 * freshness_begin() notes what is known before a read is sent; freshness_check() compares the
 * answer with it. A state is *behind* if within the last minute this node saw a higher epoch
 * (epoch_floor.h) or, in memory, a higher version. Then Redis has lost changes, and the state
 * decides nothing. A missing state is not behind, since it shows no active session. A state that is
 * not behind counts as seen, whoever read it. */
#pragma once

#include "service.h"

struct read_guard {
    uint32_t lease;        /* of the cache (cache.h) or the tenants (tenants.h) */
    uint32_t generation;   /* of the key's tracked slot; 0: not tracked */
    int64_t sent_ms;       /* clock_boot_ms(); the answer holds from then on */
    int64_t floor_ms;      /* epoch floor; 0: none */
    int64_t known_version; /* of the state in memory; 0: unknown; set by the reader */
};
/* Call before a read of this slot. freshness_begin() is for a user's state.
 * freshness_begin_tenant() is for a tenant's; its answer is checked by tenants_put(). */
struct read_guard freshness_begin(struct session_worker *worker, const struct user_tag *owner,
                                  unsigned slot);
struct read_guard freshness_begin_tenant(struct session_worker *worker,
                                         const uint8_t tag[TENANT_TAG], unsigned slot);
/* ERR_STORE_BEHIND, counted in metrics, or ERR_OK: then the epoch counts as seen. */
enum err freshness_check(struct session_service *service, const struct read_guard *guard,
                         const struct user_tag *owner, int64_t version, int64_t epoch) MUST_CHECK;
/* True if the user changed since the guard began: the read must not serve later callers. */
bool freshness_is_overtaken(const struct session_service *service, const struct read_guard *guard,
                            const struct user_tag *owner);

/* Notes an epoch that this node has made. */
void freshness_note(struct session_service *service, const struct user_tag *owner, int64_t epoch);
/* True if no token of the user is known to have become invalid after this version. */
bool freshness_is_last(const struct session_service *service, const struct user_tag *owner,
                       int64_t version);

/* True if data read from this slot under this generation is known to be current. */
bool freshness_holds(const struct session_service *service, uint32_t generation, unsigned slot,
                     int64_t now_ms);
/* When data read at verified_ms was last known to be current. */
int64_t freshness_verified_ms(const struct session_service *service, uint32_t generation,
                              int64_t verified_ms, unsigned slot);
