/* What this node knows of tenants: their policies, and since when none of their older sessions
 * counts. Filled from Redis when a tenant is first met, kept through an outage and a restart.
 *
 * A row holds one tenant's state, and how far it is known to be true, as a cache entry does
 * (cache.h): a generation that the caller compares, and a time of verification. Bounded; the rows
 * that were not used for longest go first. Tickets as in cache.h: who reads takes one first, and
 * stores nothing if the tenant was forgotten meanwhile. */
#pragma once

#include "crypto.h"
#include "policy.h"

#define TENANT_TAG 6

/* Immutable and counted. */
struct tenant {
    struct policy_document *policy; /* a reference; NULL: the defaults */
    int64_t version;                /* of the state in Redis; 0: Redis has none */
    int64_t not_before_ms;          /* sessions created before are dead; 0: none */
    struct text reason, actor;      /* of that, its own copies */
    int64_t ended_s;                /* when it was said */
};
/* A copy of all that; takes over the reference of the policy. One reference for the caller. */
struct tenant *tenant_state_create(const struct tenant *content);
struct tenant *tenant_state_ref(struct tenant *tenant);
void tenant_state_unref(struct tenant **tenant);
/* The tenant of whom Redis holds nothing: defaults, no cutoff. Never freed; ref and unref take it.
 */
struct tenant *tenant_state_nothing(void);

struct tenants;
struct tenants *tenants_create(size_t most_bytes);
void tenants_destroy(struct tenants **tenants);

/* A thread's own view: finds without a lock while no tenant's row has changed. */
struct tenants_view;
struct tenants_view *tenants_view_create(struct tenants *tenants);
void tenants_view_destroy(struct tenants_view **view);

struct tenant_row {
    struct tenant *tenant; /* borrowed from the view until its next call; ref it to keep it */
    uint32_t generation;   /* 0: not known to be true now */
    int64_t verified_ms;   /* clock_boot_ms() at which it was */
};
/* False if nothing is known of this tenant. Counts as a use. */
bool tenants_find(struct tenants_view *view, const uint8_t tag[TENANT_TAG], struct tenant_row *ret);

/* Any thread, as the next three. */
uint32_t tenants_lease(const struct tenants *tenants, const uint8_t tag[TENANT_TAG]);
/* Stores or replaces. False if the tenant was forgotten since the ticket. A state whose version is
 * lower than that of the row is not stored while the row is younger than a minute (Redis has lost a
 * change that this node has seen): false, and *behind. A reference is taken. */
bool tenants_put(struct tenants *tenants, const uint8_t tag[TENANT_TAG], struct tenant *tenant,
                 uint32_t generation, int64_t verified_ms, uint32_t lease, bool *behind);
/* It has changed: the row stays as what was last known, with generation 0; tickets are void. */
void tenants_forget(struct tenants *tenants, const uint8_t tag[TENANT_TAG]);

struct tenants_usage {
    size_t rows, bytes;
};
void tenants_usage(struct tenants *tenants, struct tenants_usage *ret);

/* On disk, beside the cache's snapshot and under the same conditions (cache.h): sealed, written
 * whole and renamed; loaded rows have generation 0, and never replace what is there. Both block. */
#define TENANTS_SUFFIX ".tenants" /* behind the path of cache.snapshot */
bool tenants_save(struct tenants *tenants, struct keyring *keyring, const char *path,
                  struct buffer *error);
bool tenants_load(struct tenants *tenants, const struct keyring *keyring, const char *path,
                  size_t *loaded, struct buffer *error);
