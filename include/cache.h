/* Sessions in memory, so that most validations need no Redis and an outage logs nobody out.
 *
 * A cache holds values (opaque bytes) by owner and session, in shards with one mutex each, held for
 * a copy at most. It is bounded in bytes, everything counted (headers, tables, the allocator's
 * share). No tenant has more than its quota: the one that came with its latest entry, or
 * cache.tenant_state_bytes. Entries that were not used since the clock's hand last came by are
 * evicted first (CLOCK). A tenant over its quota makes room from its own entries. A user has at
 * most 1024 entries; one more evicts the oldest.
 *
 * A value read from Redis may be out of date before it is stored. So a reader takes a lease before
 * the read (cache_lease) and stores with it: if the owner was forgotten meanwhile, nothing is
 * stored. Leases come from an array of counters by hash of the owner; a collision can only
 * refuse a store needlessly. */
#pragma once

#include "conf.h"
#include "crypto.h"
#include "ids.h"
#include "memory.h"

/* A longer value is not stored. */
#define CACHE_VALUE_MAX 16384

struct cache;

struct cache_key {
    uint8_t owner[OWNER_TAG];
    uint8_t session[SESSION_ID];
};

struct cache_entry {
    struct text value;
    uint32_t generation; /* the caller's: tells when the entry stops being fresh */
    int64_t verified_ms; /* clock_boot_ms() at which it was known to be fresh; may be negative */
    bool final;          /* never changes: stays when the owner is forgotten */
    size_t quota;        /* cache_put: bytes that its tenant may have from now on; SIZE_MAX: all, 0:
                            cache.tenant_state_bytes. Not set by cache_get. */
};

/* Options cache.bytes and cache.tenant_state_bytes (0: as large as the cache). */
struct cache *cache_create(const struct conf *conf);
void cache_destroy(struct cache **cache);
/* Sets new bounds; surplus entries are evicted as room is needed. Any thread, as all that follow.
 */
void cache_resize(struct cache *cache, const struct conf *conf);

/* Copies the entry, its value into the arena. False if there is none. Counts as a use. */
bool cache_get(struct cache *cache, const struct cache_key *key, struct arena *arena,
               struct cache_entry *ret);

/* Prefetches what cache_get() will read: among a million entries it waits longer for memory than it
 * works. PREFETCH_CHAIN comes first, as soon as the owner is known, or only claimed, since nothing
 * is revealed. PREFETCH_ENTRY follows when the chain may have arrived. Some hundred nanoseconds of
 * other work belong before each next step. */
enum cache_prefetch { PREFETCH_CHAIN, PREFETCH_ENTRY };
void cache_prefetch(struct cache *cache, const uint8_t owner[OWNER_TAG], enum cache_prefetch what);

/* To be taken before the read whose result cache_put() stores. */
uint32_t cache_lease(const struct cache *cache, const uint8_t owner[OWNER_TAG]);
/* Stores or replaces. False if it was not stored: the owner was forgotten since the lease, the
 * value is too long, or the tenant has no room. A final entry is only replaced by a final one. */
bool cache_put(struct cache *cache, const struct cache_key *key, const struct cache_entry *entry,
               uint32_t lease);
/* Overwrites bytes within the value of an entry. Does nothing if there is none, or if it is final
 * or too short. */
void cache_patch(struct cache *cache, const struct cache_key *key, size_t offset, const void *bytes,
                 size_t length);
/* Overwrites the begin of the value of an entry, if it still is as expected. */
void cache_patch_if(struct cache *cache, const struct cache_key *key, const void *expected,
                    const void *bytes, size_t length);
/* Voids all leases of the owner and removes the owner's entries that are not final. `gone` (may be
 * NULL) is called for each removed session, without the lock. */
void cache_forget(struct cache *cache, const uint8_t owner[OWNER_TAG],
                  void (*gone)(void *user, const struct cache_key *key), void *user);

/* `bytes` counts entries, their tables and tenants, as the bounds do; the shards and counters,
 * always about 300 KB, are not included. */
struct cache_usage {
    size_t entries, bytes, tenants;
};
void cache_usage(struct cache *cache, struct cache_usage *ret);

/* Calls `visit` for every entry. Entries are copied some at a time under the lock of their shard;
 * `visit` runs without it. Entries that come and go meanwhile may be missed, and one may be visited
 * twice. The value is valid during the call. */
void cache_each(struct cache *cache,
                void (*visit)(void *user, const struct cache_key *key,
                              const struct cache_entry *entry),
                void *user);

/* --- on disk (services/cache/cache_file.c) ---
 *
 * A file of sealed chunks, written beside the old one and renamed over it, so that a crash leaves
 * one or the other. It is bound to the keyring: another installation's file does not open. Times of
 * verification are kept as wall-clock times. Both calls block on the disk: not for loop threads. */

/* Writes every entry. `verified` (may be NULL) may return a later time of verification than the
 * entry's own. False with *error. */
bool cache_save(struct cache *cache, struct keyring *keyring, const char *path,
                int64_t (*verified)(void *user, const struct cache_entry *entry), void *user,
                struct buffer *error);
/* Stores the file's entries with generation 0. It leaves out entries verified longer than
 * max_age_ms ago or more than 10 s in the future (of unknown age), entries of owners forgotten
 * since the cache was created, and entries that are there already. False with *error if the file is
 * foreign, damaged (entries read until then stay) or cannot be read; a missing file is no error. */
bool cache_load(struct cache *cache, const struct keyring *keyring, const char *path,
                int64_t max_age_ms, size_t *loaded, struct buffer *error);

/* The thread that saves to cache.snapshot (as of the start) every cache.snapshot_interval, and once
 * more at its stop. It saves the tenants (tenants.h) too, if given. Without a path there is no
 * thread: NULL, which the other two calls accept. */
struct cache_saver;
struct tenants;
struct cache_saver *
cache_saver_start(struct cache *cache, struct tenants *tenants, struct keyring *keyring,
                  int64_t (*verified)(void *user, const struct cache_entry *entry), void *user);
/* Replaces the keyring; takes a reference. */
void cache_saver_rekey(struct cache_saver *saver, struct keyring *keyring);
void cache_saver_stop(struct cache_saver **saver);
