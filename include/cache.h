/* Sessions in memory, so that most validations need no Redis and an outage logs nobody out.
 *
 * A cache holds values (opaque bytes) by owner and session, in shards with one mutex each, held for
 * a copy at most. It is bounded in bytes, everything counted (heads, tables, the allocator's
 * share), and no tenant has more than its quota: that which came with its latest
 * entry, or cache.tenant_state_bytes. What was not used since the clock's hand came by
 * last is given up first (CLOCK); who needs room takes it from the tenant that is over its quota,
 * itself. A user has at most 1024 entries; one more drives out the oldest.
 *
 * A value read from Redis may be out of date before it is stored. So whoever reads takes a ticket
 * first (cache_lease) and stores with it: if the owner was forgotten meanwhile, nothing is stored.
 * Tickets are an array of counters by hash of the owner; a collision refuses a store, never more.
 */
#pragma once

#include "conf.h"
#include "crypto.h"
#include "memory.h"

#define CACHE_OWNER   14 /* tenant tag 6, user tag 8 */
#define CACHE_TENANT  6
#define CACHE_SESSION 8
/* A longer value is not stored. */
#define CACHE_VALUE_MAX 16384

struct cache;

struct cache_key {
    uint8_t owner[CACHE_OWNER];
    uint8_t session[CACHE_SESSION];
};

struct cache_entry {
    struct text value;
    uint32_t generation; /* the caller's word on when it stops being fresh */
    int64_t verified_ms; /* clock_boot_ms() at which it was known to be true; may be negative */
    bool final;          /* will always be true: stays when the owner is forgotten */
    size_t quota; /* cache_put: the most bytes that its tenant may have from now on, SIZE_MAX: all;
                     0: cache.tenant_state_bytes. Not set by cache_get. */
};

/* Options cache.bytes and cache.tenant_state_bytes (0: as large as the cache). */
struct cache *cache_create(const struct conf *conf);
void cache_destroy(struct cache **cache);
/* New bounds; what is too much goes as room is needed. Any thread, as all that follow. */
void cache_resize(struct cache *cache, const struct conf *conf);

/* The entry, its value copied into the arena. False if there is none. Counts as a use. */
bool cache_get(struct cache *cache, const struct cache_key *key, struct arena *arena,
               struct cache_entry *ret);

/* What cache_get() will look for comes nearer to the processor: among a million entries it waits
 * longer for memory than it works. First PREFETCH_CHAIN, as soon as the owner is known (or claimed:
 * nothing is told), and PREFETCH_ENTRY when that may be there, with work of some hundred
 * nanoseconds before each next step. */
enum cache_prefetch { PREFETCH_CHAIN, PREFETCH_ENTRY };
void cache_prefetch(struct cache *cache, const uint8_t owner[CACHE_OWNER],
                    enum cache_prefetch what);

/* To be taken before the read whose result is to be stored. */
uint32_t cache_lease(const struct cache *cache, const uint8_t owner[CACHE_OWNER]);
/* Stores or replaces. False if it was not stored: the owner was forgotten since the ticket, the
 * value is too long, or there is no room for this tenant. A final entry is only replaced by a final
 * one. */
bool cache_put(struct cache *cache, const struct cache_key *key, const struct cache_entry *entry,
               uint32_t lease);
/* Overwrites bytes within the value of an entry that is there, not final, and long enough; else
 * does nothing. */
void cache_patch(struct cache *cache, const struct cache_key *key, size_t offset, const void *bytes,
                 size_t length);
/* Makes all tickets of the owner void and removes the owner's entries that are not final. `gone`
 * (may be NULL) is told each removed session, after the lock was given back. */
void cache_forget(struct cache *cache, const uint8_t owner[CACHE_OWNER],
                  void (*gone)(void *user, const struct cache_key *key), void *user);

/* The bytes are those of the entries, their tables and tenants, as the bounds count them; the
 * shards and counters, some 300 KB that are always there, are not among them. */
struct cache_usage {
    size_t entries, bytes, tenants;
};
void cache_usage(struct cache *cache, struct cache_usage *ret);

/* Calls `visit` for every entry, some at a time (the entries of a step are copied under the lock of
 * their shard; `visit` runs without it). Entries that come and go meanwhile may be missed, and one
 * may be visited twice. The value is valid during the call. */
void cache_each(struct cache *cache,
                void (*visit)(void *user, const struct cache_key *key,
                              const struct cache_entry *entry),
                void *user);

/* --- on disk (services/cache_file.c) ---
 *
 * A file of sealed chunks, written beside the old one and renamed over it, so that a crash leaves
 * one or the other. Bound to the keyring: another installation's file does not open. Times are kept
 * as wall-clock times of verification. Both calls block on the disk: not for loop threads. */

/* Writes every entry. `verified` (may be NULL) may give an entry a later time of verification than
 * its own. False with *error. */
bool cache_save(struct cache *cache, struct keyring *keyring, const char *path,
                int64_t (*verified)(void *user, const struct cache_entry *entry), void *user,
                struct buffer *error);
/* Stores what the file holds with generation 0. Left out are entries verified longer than
 * max_age_ms ago or more than 10 s in the future (their age is unknown), those of owners that were
 * forgotten since the cache was created, and those that are there already. False with *error if the
 * file is foreign, damaged (what was read until then stays), or cannot be read; a missing one is
 * none of these. */
bool cache_load(struct cache *cache, const struct keyring *keyring, const char *path,
                int64_t max_age_ms, size_t *loaded, struct buffer *error);

/* The thread that saves to cache.snapshot (as of the start) every cache.snapshot_interval, and once
 * more when it is stopped; so it does with the tenants (tenants.h), if there are any. Without a
 * path there is none: NULL, which the other two calls take. */
struct cache_saver;
struct tenants;
struct cache_saver *
cache_saver_start(struct cache *cache, struct tenants *tenants, struct keyring *keyring,
                  int64_t (*verified)(void *user, const struct cache_entry *entry), void *user);
/* A new keyring, of which a reference is taken. */
void cache_saver_rekey(struct cache_saver *saver, struct keyring *keyring);
void cache_saver_stop(struct cache_saver **saver);
