/* This node's state of tenants: their policies and cutoffs. It is read from Redis when a tenant is
 * first used, and kept through an outage and a restart.
 *
 * A row holds one tenant's state and its freshness, as a cache entry does (cache.h): a generation
 * that the caller compares, and a time of verification. The table is bounded; the least recently
 * used rows are evicted. Leases work as in cache.h: a reader takes one before the read and stores
 * nothing if the tenant was forgotten meanwhile. */
#pragma once

#include "crypto.h"
#include "ids.h"
#include "policy.h"

/* Immutable and reference-counted. */
struct tenant {
    struct policy_document *policy; /* a reference; NULL: the defaults */
    int64_t version;                /* of the state in Redis; 0: Redis has none */
    int64_t not_before_ms;          /* the cutoff: sessions created before are ended; 0: none */
    struct text reason, actor;      /* of the cutoff; its own copies */
    int64_t ended_s;                /* when the cutoff was set */
};
/* Copies the content; the policy's reference goes with it. One reference for the caller. */
struct tenant *tenant_state_create(const struct tenant *content);
struct tenant *tenant_state_ref(struct tenant *tenant);
void tenant_state_unref(struct tenant **tenant);
/* The state of a tenant without one in Redis: defaults, no cutoff. Never freed; ref and unref
 * accept it. */
struct tenant *tenant_state_nothing(void);

struct tenants;
struct tenants *tenants_create(size_t most_bytes);
void tenants_destroy(struct tenants **tenants);

/* A thread's own view, which finds a row without a lock while the row has not changed. */
struct tenants_view;
struct tenants_view *tenants_view_create(struct tenants *tenants);
void tenants_view_destroy(struct tenants_view **view);

struct tenant_row {
    struct tenant *tenant; /* borrowed from the view until its next call; ref it to keep it */
    uint32_t generation;   /* 0: unverified */
    int64_t verified_ms;   /* clock_boot_ms() of the verification */
};
/* False if nothing is known of this tenant. Counts as a use. */
bool tenants_find(struct tenants_view *view, const uint8_t tag[TENANT_TAG], struct tenant_row *ret);

/* Any thread, as the next three. */
uint32_t tenants_lease(const struct tenants *tenants, const uint8_t tag[TENANT_TAG]);
/* Stores or replaces. False if the tenant was forgotten since the lease. While the row is younger
 * than a minute, a state of a lower version is not stored either: Redis has lost a change that this
 * node has seen; false, and *behind is set. Takes a reference. */
bool tenants_put(struct tenants *tenants, const uint8_t tag[TENANT_TAG], struct tenant *tenant,
                 uint32_t generation, int64_t verified_ms, uint32_t lease, bool *behind);
/* The tenant has changed: its row stays as last known, with generation 0; its leases are void. */
void tenants_forget(struct tenants *tenants, const uint8_t tag[TENANT_TAG]);

struct tenants_usage {
    size_t rows, bytes;
};
void tenants_usage(struct tenants *tenants, struct tenants_usage *ret);

/* On disk, beside the cache's snapshot and under the same conditions (cache.h): sealed, written
 * whole, renamed. Loaded rows have generation 0 and never replace present ones. Both calls block.
 */
#define TENANTS_SUFFIX ".tenants" /* appended to the path of cache.snapshot */
bool tenants_save(struct tenants *tenants, struct keyring *keyring, const char *path,
                  struct buffer *error);
bool tenants_load(struct tenants *tenants, const struct keyring *keyring, const char *path,
                  size_t *loaded, struct buffer *error);
