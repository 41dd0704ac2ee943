/* The cache on disk, as a sealed file of entries:
 *
 *     entry  owner 14, session 8, wall-clock time of verification in ms 8, final 1, length 2, value
 *
 * Numbers are big-endian. */
#include <assert.h>

#include "bytes.h"
#include "cache_private.h"
#include "clock.h"
#include "services/files/sealed_file.h"

enum { ENTRY_HEAD = OWNER_TAG + SESSION_ID + 8 + 1 + 2 };

static const struct sealed_kind kind = {"sd-cache", 1, {"cache snapshot", 14}, "the cache"};
static_assert(ENTRY_HEAD + CACHE_VALUE_MAX <= SEALED_CHUNK, "every entry fits in a chunk");

/* --- writing --- */

struct saving {
    struct cache *cache;
    struct sealed_writer *writer;
    int64_t (*verified)(void *user, const struct cache_entry *entry);
    void *user;
    int64_t wall_offset_ms; /* to be added to monotonic times */
};

static void write_entry(void *user, const struct cache_key *key, const struct cache_entry *entry)
{
    const struct saving *saving = user;
    int64_t verified_ms = entry->verified_ms;
    int64_t later_ms = saving->verified ? saving->verified(saving->user, entry) : verified_ms;
    if (later_ms > verified_ms)
        verified_ms = later_ms;
    if (__builtin_add_overflow(verified_ms, saving->wall_offset_ms, &verified_ms))
        return; /* never verified; no load would accept it */
    struct buffer *plain = sealed_file_entry(saving->writer, ENTRY_HEAD + entry->value.length);
    if (!plain)
        return;
    buffer_add(plain, key->owner, OWNER_TAG);
    buffer_add(plain, key->session, SESSION_ID);
    bytes_add(plain, (uint64_t)verified_ms, 8);
    bytes_add(plain, entry->final, 1);
    bytes_add(plain, entry->value.length, 2);
    buffer_add_text(plain, entry->value);
}

static void write_entries(void *user, struct sealed_writer *writer)
{
    struct saving *saving = user;
    saving->writer = writer;
    cache_each(saving->cache, write_entry, saving);
}

bool cache_save(struct cache *cache, struct keyring *keyring, const char *path,
                int64_t (*verified)(void *user, const struct cache_entry *entry), void *user,
                struct buffer *error)
{
    struct saving saving = {.cache = cache,
                            .verified = verified,
                            .user = user,
                            .wall_offset_ms = clock_file_ms() - clock_boot_ms()};
    return sealed_file_save(&kind, keyring, path, write_entries, &saving, error);
}

/* --- reading --- */

struct loading {
    struct cache *cache;
    int64_t now_ms, max_age_ms;
    size_t stored;
};

/* The file is older than this cache, whose leases began at 0: entries of an owner that was
 * forgotten since are not stored. */
static void load_entry(struct loading *loading, const struct cache_key *key, int64_t verified_ms,
                       bool final, struct text value)
{
    int64_t age_ms;
    if (!sealed_file_age_ms(verified_ms, &age_ms) || age_ms > loading->max_age_ms)
        return;
    struct cache_entry entry = {
        .value = value, .verified_ms = loading->now_ms - age_ms, .final = final};
    loading->stored += cache_put_absent(loading->cache, key, &entry, 0);
}

static bool load_entries(void *user, struct text entries)
{
    struct loading *loading = user;
    struct cursor left = {entries.data, entries.length, false};
    while (left.left > 0) {
        struct cache_key key = {0};
        bytes_copy(&left, key.owner, OWNER_TAG);
        bytes_copy(&left, key.session, SESSION_ID);
        int64_t verified_ms = (int64_t)bytes_number(&left, 8);
        bool final = bytes_number(&left, 1) != 0;
        size_t length = bytes_number(&left, 2);
        struct text value = bytes_take(&left, length);
        if (left.broken || length > CACHE_VALUE_MAX)
            return false;
        load_entry(loading, &key, verified_ms, final, value);
    }
    return true;
}

bool cache_load(struct cache *cache, const struct keyring *keyring, const char *path,
                int64_t max_age_ms, size_t *loaded, struct buffer *error)
{
    struct loading loading = {.cache = cache, .now_ms = clock_boot_ms(), .max_age_ms = max_age_ms};
    bool whole = sealed_file_load(&kind, keyring, path, load_entries, &loading, error);
    *loaded = loading.stored;
    return whole;
}
