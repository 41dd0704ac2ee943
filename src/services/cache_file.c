/* The cache on disk.
 *
 *     head   "sd-cache", version 1, key id 1, zeros 6, random 16
 *     chunk  frame 4: the highest bit marks the last chunk, the others count the sealed bytes
 *            sealed: nonce, entries, tag
 *     entry  owner 14, session 8, wall-clock time of verification in ms 8, final 1, length 2, value
 *
 * Numbers are big-endian. Each chunk is bound to the head, its number and its frame: one that was
 * altered, moved, left out, doubled or taken from another file does not open, nor does a file end
 * but where it was meant to. */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache_private.h"
#include "clock.h"
#include "directory.h"
#include "metrics.h"

#define MAGIC   "sd-cache"
#define SUBJECT TEXT("cache snapshot")

enum {
    VERSION = 1,
    MAGIC_LENGTH = sizeof(MAGIC) - 1,
    HEAD = 32,
    HEAD_VERSION = 8,
    HEAD_KEY = 9,
    HEAD_RANDOM = 16,
    FRAME = 4,
    BINDING = HEAD + 4 + FRAME,
    ENTRY_HEAD = CACHE_OWNER + CACHE_SESSION + 8 + 1 + 2,
    CHUNK = 65536,
    /* The host's clock may have been set back by so much since the file was written. */
    CLOCK_SLACK_MS = 10000
};

static const uint32_t last_bit = UINT32_C(1) << 31;
static_assert(ENTRY_HEAD + CACHE_VALUE_MAX <= CHUNK, "every entry fits in a chunk");

/* One file, written or read. */
struct snapshot {
    int fd;
    const struct keyring *keyring;
    uint8_t head[HEAD];
    uint32_t number;     /* of the chunk at hand */
    struct buffer plain; /* its entries */
    struct buffer sealed;
};

static void close_snapshot(struct snapshot *snapshot)
{
    buffer_free(&snapshot->plain);
    buffer_free(&snapshot->sealed);
    if (snapshot->fd >= 0)
        close(snapshot->fd);
    snapshot->fd = -1;
}

static void bind(const struct snapshot *snapshot, const uint8_t frame[FRAME], uint8_t out[BINDING])
{
    uint32_t number = htobe32(snapshot->number);
    memcpy(out, snapshot->head, HEAD);
    memcpy(out + HEAD, &number, sizeof(number));
    memcpy(out + HEAD + sizeof(number), frame, FRAME);
}

static struct text bytes_of(const void *data, size_t length)
{
    return (struct text){data, length};
}

/* --- writing --- */

struct saving {
    struct snapshot snapshot;
    int error; /* errno of the first failure; nothing is written after it */
    int64_t (*verified)(void *user, const struct cache_entry *entry);
    void *user;
    int64_t wall_offset_ms; /* to be added to monotonic times */
};

static void write_all(struct saving *saving, const void *data, size_t length)
{
    size_t done = 0;
    while (saving->error == 0 && done < length) {
        ssize_t count = write(saving->snapshot.fd, (const char *)data + done, length - done);
        if (count > 0)
            done += (size_t)count;
        else if (count == 0 || errno != EINTR)
            saving->error = count == 0 ? EIO : errno;
    }
}

static void write_head(struct saving *saving, uint8_t key_id)
{
    uint8_t *head = saving->snapshot.head;
    memcpy(head, MAGIC, MAGIC_LENGTH);
    head[HEAD_VERSION] = VERSION;
    head[HEAD_KEY] = key_id;
    crypto_random(head + HEAD_RANDOM, HEAD - HEAD_RANDOM);
    write_all(saving, head, HEAD);
}

static void write_chunk(struct saving *saving, bool last)
{
    struct snapshot *snapshot = &saving->snapshot;
    size_t length = snapshot->plain.length + CRYPTO_SEAL_OVERHEAD;
    uint32_t frame = htobe32((uint32_t)length | (last ? last_bit : 0));
    uint8_t binding[BINDING];
    bind(snapshot, (uint8_t *)&frame, binding);
    snapshot->sealed.length = 0;
    buffer_add(&snapshot->sealed, &frame, FRAME);
    char *out = buffer_reserve(&snapshot->sealed, length);
    bool sealed = crypto_seal(snapshot->keyring, snapshot->head[HEAD_KEY], SUBJECT,
                              bytes_of(binding, BINDING), buffer_text(&snapshot->plain), out);
    assert(sealed); /* with the newest key of the ring */
    (void)sealed;
    write_all(saving, snapshot->sealed.data, FRAME + length);
    snapshot->plain.length = 0;
    snapshot->number++;
}

static void write_entry(void *user, const struct cache_key *key, const struct cache_entry *entry)
{
    struct saving *saving = user;
    struct buffer *plain = &saving->snapshot.plain;
    if (saving->error != 0)
        return;
    if (plain->length + ENTRY_HEAD + entry->value.length > CHUNK)
        write_chunk(saving, false);
    int64_t verified_ms = entry->verified_ms;
    int64_t later_ms = saving->verified ? saving->verified(saving->user, entry) : verified_ms;
    if (later_ms > verified_ms)
        verified_ms = later_ms;
    if (__builtin_add_overflow(verified_ms, saving->wall_offset_ms, &verified_ms))
        return; /* never verified; nobody would load it */
    uint64_t time = htobe64((uint64_t)verified_ms);
    uint16_t length = htobe16((uint16_t)entry->value.length);
    buffer_add(plain, key->owner, CACHE_OWNER);
    buffer_add(plain, key->session, CACHE_SESSION);
    buffer_add(plain, &time, sizeof(time));
    buffer_add_char(plain, entry->final ? 1 : 0);
    buffer_add(plain, &length, sizeof(length));
    buffer_add_text(plain, entry->value);
}

static void write_content(struct saving *saving, struct cache *cache)
{
    buffer_reserve(&saving->snapshot.plain, CHUNK);
    write_head(saving, keyring_newest(saving->snapshot.keyring));
    cache_each(cache, write_entry, saving);
    if (saving->error == 0)
        write_chunk(saving, true);
    if (saving->error == 0 && fsync(saving->snapshot.fd) != 0)
        saving->error = errno;
}

/* Writes the file under a name of its own and gives it the right one when it is whole. Returns
 * errno. */
static int write_and_rename(struct saving *saving, struct cache *cache, const char *path,
                            const char *new_path)
{
    /* What a crash left behind; O_EXCL then makes sure that the file is ours. */
    unlink(new_path);
    saving->snapshot.fd = open(new_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (saving->snapshot.fd < 0)
        return errno;
    write_content(saving, cache);
    if (saving->error == 0 && rename(new_path, path) != 0)
        saving->error = errno;
    if (saving->error != 0)
        unlink(new_path);
    else if (!directory_sync_of(path))
        saving->error = errno;
    return saving->error;
}

bool cache_save(struct cache *cache, struct keyring *keyring, const char *path,
                int64_t (*verified)(void *user, const struct cache_entry *entry), void *user,
                struct buffer *error)
{
    struct saving saving = {.snapshot = {.fd = -1, .keyring = keyring},
                            .verified = verified,
                            .user = user,
                            .wall_offset_ms = clock_wall_ms() - clock_monotonic_ms()};
    struct buffer new_path = {0};
    buffer_addf(&new_path, "%s.new", path);
    buffer_add_char(&new_path, '\0');
    int cause = write_and_rename(&saving, cache, path, new_path.data);
    close_snapshot(&saving.snapshot);
    buffer_free(&new_path);
    if (cause != 0)
        buffer_addf(error, "snapshot %s cannot be written: %s", path, strerrordesc_np(cause));
    metrics_add(cause == 0 ? METRIC_SNAPSHOT_SAVES : METRIC_SNAPSHOT_ERRORS, 1);
    return cause == 0;
}

/* --- reading --- */

struct loading {
    struct snapshot snapshot;
    struct cache *cache;
    int64_t wall_ms, monotonic_ms, max_age_ms;
    size_t stored;
    bool last;
    const char *path;
    struct buffer *error;
};

static bool __attribute__((format(printf, 2, 3)))
refuse(struct loading *loading, const char *format, ...)
{
    char why[128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, sizeof(why), format, arguments);
    va_end(arguments);
    buffer_addf(loading->error, "snapshot %s %s", loading->path, why);
    return false;
}

static bool refuse_damaged(struct loading *loading)
{
    return refuse(loading, "is damaged or of another installation, at chunk %u",
                  loading->snapshot.number);
}

/* Reads so many bytes, or fewer at the end of the file. False if reading fails. */
static bool read_some(struct loading *loading, void *out, size_t length, size_t *ret)
{
    *ret = 0;
    while (*ret < length) {
        ssize_t count = read(loading->snapshot.fd, (char *)out + *ret, length - *ret);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return refuse(loading, "cannot be read: %s", strerrordesc_np(errno));
        if (count == 0)
            break;
        *ret += (size_t)count;
    }
    return true;
}

static bool read_exactly(struct loading *loading, void *out, size_t length)
{
    size_t count;
    if (!read_some(loading, out, length, &count))
        return false;
    return count == length || refuse(loading, "is cut off in chunk %u", loading->snapshot.number);
}

static bool read_head(struct loading *loading)
{
    uint8_t *head = loading->snapshot.head;
    size_t count;
    if (!read_some(loading, head, HEAD, &count))
        return false;
    if (count < HEAD || memcmp(head, MAGIC, MAGIC_LENGTH) != 0)
        return refuse(loading, "is not a snapshot of the cache");
    if (head[HEAD_VERSION] != VERSION)
        return refuse(loading, "is of the unknown version %u", head[HEAD_VERSION]);
    if (!keyring_has(loading->snapshot.keyring, head[HEAD_KEY]))
        return refuse(loading, "is sealed with key %u, which the keyring does not have",
                      head[HEAD_KEY]);
    return true;
}

/* Reads and opens a chunk into `plain`. */
static bool read_chunk(struct loading *loading)
{
    struct snapshot *snapshot = &loading->snapshot;
    uint8_t frame[FRAME];
    if (!read_exactly(loading, frame, FRAME))
        return false;
    uint32_t number;
    memcpy(&number, frame, FRAME);
    number = be32toh(number);
    size_t length = number & ~last_bit;
    if (length < CRYPTO_SEAL_OVERHEAD || length > CHUNK + CRYPTO_SEAL_OVERHEAD)
        return refuse_damaged(loading);
    snapshot->sealed.length = 0;
    if (!read_exactly(loading, buffer_reserve(&snapshot->sealed, length), length))
        return false;
    uint8_t binding[BINDING];
    bind(snapshot, frame, binding);
    snapshot->plain.length = 0;
    char *out = buffer_reserve(&snapshot->plain, CHUNK);
    if (!crypto_open(snapshot->keyring, snapshot->head[HEAD_KEY], SUBJECT,
                     bytes_of(binding, BINDING), bytes_of(snapshot->sealed.data, length), out))
        return refuse_damaged(loading);
    snapshot->plain.length = length - CRYPTO_SEAL_OVERHEAD;
    loading->last = (number & last_bit) != 0;
    return true;
}

/* An entry from further in the future than the clock may have been set back has no known age. What
 * the file holds is older than this cache, whose tickets began at 0: of an owner that was forgotten
 * since, nothing is stored. */
static void store_entry(struct loading *loading, const struct cache_key *key, int64_t verified_ms,
                        bool final, struct text value)
{
    int64_t age_ms;
    if (__builtin_sub_overflow(loading->wall_ms, verified_ms, &age_ms) ||
        age_ms > loading->max_age_ms || age_ms < -CLOCK_SLACK_MS)
        return;
    if (age_ms < 0)
        age_ms = 0;
    struct cache_entry entry = {
        .value = value, .verified_ms = loading->monotonic_ms - age_ms, .final = final};
    loading->stored += cache_put_absent(loading->cache, key, &entry, 0);
}

static bool store_entries(struct loading *loading)
{
    const char *at = loading->snapshot.plain.data;
    size_t left = loading->snapshot.plain.length;
    while (left > 0) {
        struct cache_key key;
        uint64_t time;
        uint16_t length;
        if (left < ENTRY_HEAD)
            return refuse_damaged(loading);
        memcpy(key.owner, at, CACHE_OWNER);
        memcpy(key.session, at + CACHE_OWNER, CACHE_SESSION);
        memcpy(&time, at + CACHE_OWNER + CACHE_SESSION, sizeof(time));
        memcpy(&length, at + ENTRY_HEAD - sizeof(length), sizeof(length));
        bool final = at[ENTRY_HEAD - sizeof(length) - 1] != 0;
        length = be16toh(length);
        if (length > CACHE_VALUE_MAX || length > left - ENTRY_HEAD)
            return refuse_damaged(loading);
        store_entry(loading, &key, (int64_t)be64toh(time), final,
                    bytes_of(at + ENTRY_HEAD, length));
        at += ENTRY_HEAD + length;
        left -= ENTRY_HEAD + (size_t)length;
    }
    return true;
}

static bool read_content(struct loading *loading)
{
    if (!read_head(loading))
        return false;
    while (!loading->last) {
        if (!read_chunk(loading) || !store_entries(loading))
            return false;
        loading->snapshot.number++;
    }
    char more;
    size_t count;
    if (!read_some(loading, &more, 1, &count))
        return false;
    return count == 0 || refuse(loading, "goes on behind its end");
}

static bool load(struct loading *loading)
{
    /* O_NONBLOCK is for pipes, which would hold the start up for ever. */
    int fd = open(loading->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return true;
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0)
        return refuse(loading, "cannot be read: %s", strerrordesc_np(errno));
    loading->snapshot.fd = fd;
    return S_ISREG(status.st_mode) ? read_content(loading)
                                   : refuse(loading, "is not a regular file");
}

bool cache_load(struct cache *cache, const struct keyring *keyring, const char *path,
                int64_t max_age_ms, size_t *loaded, struct buffer *error)
{
    struct loading loading = {.snapshot = {.fd = -1, .keyring = keyring},
                              .cache = cache,
                              .wall_ms = clock_wall_ms(),
                              .monotonic_ms = clock_monotonic_ms(),
                              .max_age_ms = max_age_ms,
                              .path = path,
                              .error = error};
    bool whole = load(&loading);
    close_snapshot(&loading.snapshot);
    *loaded = loading.stored;
    if (!whole)
        metrics_add(METRIC_SNAPSHOT_ERRORS, 1);
    return whole;
}
