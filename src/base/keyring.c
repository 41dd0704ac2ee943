/* The key file and the keys in memory.
 *
 * A numbered key is never used itself: BLAKE2b keyed with it, under one personalisation for each
 * use, gives the MAC key and the sealing subkeys. So is the names secret, one personalisation for
 * each purpose. These strings are part of the format: change one and every token and key name of
 * an installation changes with it.
 *
 * All secrets lie in one sodium_malloc() block: guard pages around it, locked against swapping,
 * kept out of core dumps, and read-only once it is filled. */
#include "keyring.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "keyring_signing.h"
#include "log.h"
#include "memory.h"
#include "private_file.h"

#define KEY_LENGTH   32
#define KEY_DIGITS   (2 * KEY_LENGTH)
#define KEY_FILE_MAX 65536
#define OPTION       "keys.file"

static const char *const purposes[CRYPTO_PURPOSES] = {
    [CRYPTO_TENANT_TAG] = "sd tenant tag",
    [CRYPTO_USER_TAG] = "sd user tag",
    [CRYPTO_SECRET_HASH] = "sd secret hash",
    [CRYPTO_SUCCESSOR_ACCESS] = "sd next access",
    [CRYPTO_SUCCESSOR_REFRESH] = "sd next refresh",
    [CRYPTO_HASH_ACCESS] = "sd hash access",
    [CRYPTO_HASH_REFRESH] = "sd hash refresh",
    [CRYPTO_FINGERPRINT] = "sd fingerprint",
    [CRYPTO_JOURNAL] = "sd journal",
    [CRYPTO_ETAG] = "sd etag",
    [CRYPTO_PAGE] = "sd page",
    [CRYPTO_CONTEXT] = "sd context",
    [CRYPTO_CHALLENGE] = "sd challenge",
    [CRYPTO_CODE] = "sd code",
    [CRYPTO_RECOGNITION] = "sd recognition",
    [CRYPTO_STATEMENT] = "sd statement",
};

struct keyring_secrets {
    crypto_generichash_blake2b_state purposes[CRYPTO_PURPOSES];
    struct keyring_key keys[];
};

struct keyring {
    atomic_uint references;
    uint8_t newest;
    uint8_t index_plus_1[KEY_ID_MAX + 1]; /* 1 + index in secrets->keys; 0: not in the ring */
    uint64_t marked;                      /* numbered keys of both kinds, bits by id */
    uint8_t marks[KEY_ID_MAX + 1][KEY_MARK];
    struct keyring_secrets *secrets;
    struct keyring_signing signing;
};

/* The key file while it is read; wiped once the ring is built. */
struct key_file {
    const char *path;
    int64_t age_ms; /* since its last change */
    bool has_names;
    uint8_t names[KEY_LENGTH];
    size_t count, signing_count;
    struct key_entry {
        uint8_t id;
        bool signs;
        uint8_t secret[KEY_LENGTH];
    } entries[KEY_ID_MAX];
};

/* --- Reading the text ------------------------------------------------------------------------ */

static struct text next_word(struct text *rest)
{
    static const char blanks[] = " \t\r";
    size_t start = 0;
    while (start < rest->length && memchr(blanks, rest->data[start], sizeof(blanks) - 1))
        start++;
    size_t end = start;
    while (end < rest->length && !memchr(blanks, rest->data[end], sizeof(blanks) - 1))
        end++;
    struct text word = {rest->data + start, end - start};
    *rest = (struct text){rest->data + end, rest->length - end};
    return word;
}

/* Two ids with one secret would be a rotation in name only. */
static bool secret_is_taken(const struct key_file *file, const uint8_t secret[KEY_LENGTH])
{
    if (file->has_names && crypto_equal(file->names, secret, KEY_LENGTH))
        return true;
    for (size_t i = 0; i < file->count; i++)
        if (crypto_equal(file->entries[i].secret, secret, KEY_LENGTH))
            return true;
    return false;
}

static bool id_is_taken(const struct key_file *file, int64_t id)
{
    for (size_t i = 0; i < file->count; i++)
        if (file->entries[i].id == id)
            return true;
    return false;
}

static const char *const line_allows =
    "expected 'names' and 64 hexadecimal digits, or 'key' or 'sign', a number from 1 to 63 and 64 "
    "hexadecimal digits, or a comment after '#'";

/* False for one in four thousand million random secrets. */
static bool is_signing_secret(const uint8_t secret[KEY_LENGTH])
{
    struct signing_key *key = signing_key_create(secret);
    bool good = key != NULL;
    signing_key_destroy(&key);
    return good;
}

static void add_entry(struct key_file *file, uint8_t id, bool signs,
                      const uint8_t secret[KEY_LENGTH])
{
    struct key_entry *entry = &file->entries[file->count++];
    entry->id = id;
    entry->signs = signs;
    memcpy(entry->secret, secret, KEY_LENGTH);
    file->signing_count += signs ? 1 : 0;
}

/* Adds one entry; returns its fault, or NULL. */
static const char *take_entry(struct key_file *file, struct text kind, struct text id_text,
                              const uint8_t secret[KEY_LENGTH])
{
    bool names = text_equal(kind, TEXT("names")), signs = text_equal(kind, TEXT("sign"));
    int64_t id = 0;
    if (!names &&
        ((!signs && !text_equal(kind, TEXT("key"))) || !text_to_int(id_text, 1, KEY_ID_MAX, &id)))
        return line_allows;
    if (names && file->has_names)
        return "a second 'names' line; there is exactly one";
    if (!names && id_is_taken(file, id))
        return "a second key with this number; every key has its own from 1 to 63";
    if (secret_is_taken(file, secret))
        return "the same digits as in another line; every entry has its own";
    if (signs && !is_signing_secret(secret))
        return "the digits are no private key of P-256; take 64 other random ones";
    if (names) {
        memcpy(file->names, secret, KEY_LENGTH);
        file->has_names = true;
    } else {
        add_entry(file, (uint8_t)id, signs, secret);
    }
    return NULL;
}

static const char *parse_line(struct key_file *file, struct text line)
{
    const char *comment = line.length > 0 ? memchr(line.data, '#', line.length) : NULL;
    if (comment)
        line.length = (size_t)(comment - line.data);

    struct text kind = next_word(&line);
    if (kind.length == 0)
        return NULL;
    struct text id = {0};
    if (!text_equal(kind, TEXT("names")))
        id = next_word(&line);
    struct text digits = next_word(&line);

    uint8_t secret[KEY_LENGTH];
    const char *wrong = line_allows;
    if (next_word(&line).length == 0 && digits.length == KEY_DIGITS &&
        text_from_hex(secret, sizeof(secret), digits))
        wrong = take_entry(file, kind, id, secret);
    crypto_wipe(secret, sizeof(secret));
    return wrong;
}

static bool parse_key_file(struct key_file *file, struct text content, struct buffer *error)
{
    for (size_t number = 1; content.length > 0; number++) {
        const char *newline = memchr(content.data, '\n', content.length);
        size_t length = newline ? (size_t)(newline - content.data) : content.length;
        const char *wrong = parse_line(file, (struct text){content.data, length});
        if (wrong) {
            buffer_addf(error, "%s: %s:%zu: %s\n", OPTION, file->path, number, wrong);
            return false;
        }
        length += newline ? 1 : 0;
        content = (struct text){content.data + length, content.length - length};
    }
    if (!file->has_names || file->count == file->signing_count) {
        buffer_addf(error, "%s: %s: no '%s' line; %s\n", OPTION, file->path,
                    file->has_names ? "key" : "names", line_allows);
        return false;
    }
    return true;
}

/* --- The file -------------------------------------------------------------------------------- */

static bool write_all(int fd, struct text text)
{
    while (text.length > 0) {
        ssize_t written = write(fd, text.data, text.length);
        if (written < 0 && errno != EINTR)
            return false;
        if (written > 0)
            text = (struct text){text.data + written, text.length - (size_t)written};
    }
    return true;
}

static bool write_new_keys(int fd)
{
    static const char format[] =
        "# Keys of sessiond. Whoever can read this file can make tokens and open records; without\n"
        "# it all sessions are lost. Keep a copy in a safe place; all nodes use the same file.\n"
        "# The last 'key' line mints, all of them read. To rotate, add a 'key' line with another\n"
        "# number and 64 random hexadecimal digits above it and reload all nodes, then move it "
        "below\n"
        "# and reload them again; drop the old key when the longest session has ended. Keep "
        "'names'.\n"
        "# A 'sign' line is rotated in one step: append one with another number, reload all "
        "nodes.\n";
    static const struct text starts[] = {
        {"names ", 6},
        {"sign 2 ", 7},
        {"key 1 ", 6},
    };
    uint8_t secret[KEY_LENGTH];
    char line[KEY_DIGITS + 1];
    bool written = write_all(fd, TEXT(format));
    for (size_t i = 0; written && i < sizeof(starts) / sizeof(starts[0]); i++) {
        crypto_random(secret, KEY_LENGTH);
        text_to_hex(line, secret, KEY_LENGTH);
        line[KEY_DIGITS] = '\n';
        written = write_all(fd, starts[i]) && write_all(fd, (struct text){line, sizeof(line)});
    }
    crypto_wipe(secret, sizeof(secret));
    crypto_wipe(line, sizeof(line));
    return written && fsync(fd) == 0;
}

static bool sync_directory(const char *path)
{
    char *copy = xstrdup(path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool synced = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    free(copy);
    return synced;
}

/* Creates the file under a name of its own first; link() then publishes it complete, for the first
 * of several processes only: the others get EEXIST and read the winner's keys. */
static bool create_file(const char *path, struct buffer *error)
{
    static const char suffix[] = ".new-XXXXXX";
    size_t length = strlen(path);
    char *draft = xmalloc(length + sizeof(suffix));
    memcpy(draft, path, length);
    memcpy(draft + length, suffix, sizeof(suffix));

    int fd = mkostemp(draft, O_CLOEXEC);
    bool created = fd >= 0 && write_new_keys(fd) && (link(draft, path) == 0 || errno == EEXIST) &&
                   sync_directory(path);
    if (!created)
        buffer_addf(error, "%s: %s: cannot be created: %s\n", OPTION, path, strerrordesc_np(errno));
    if (fd >= 0) {
        close(fd);
        unlink(draft);
    }
    free(draft);
    return created;
}

/* The path of the file, which is created if it is missing and `create` is set. Only systemd creates
 * credentials. */
static bool find_file(const char *value, bool create, char path[PRIVATE_FILE_PATH],
                      struct buffer *error)
{
    if (!private_file_find(OPTION, value, path, error))
        return false;
    if (!create || private_file_is_credential(value) || access(path, F_OK) == 0 || errno != ENOENT)
        return true;
    return create_file(path, error);
}

/* How long ago the file was changed, by times that no copying tool sets. A change after it was read
 * makes it younger, never older. */
static int64_t age_of(const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return 0;
    return clock_wall_ms() - status.st_ctim.tv_sec * SECOND_MS - status.st_ctim.tv_nsec / 1000000;
}

static bool read_key_file(struct key_file *file, const char *value, bool create,
                          struct buffer *error)
{
    char path[PRIVATE_FILE_PATH];
    if (!find_file(value, create, path, error))
        return false;
    file->path = path;
    size_t length = 0;
    char *content = xmalloc(KEY_FILE_MAX);
    bool read = private_file_read(OPTION, path, content, KEY_FILE_MAX, &length, error) &&
                parse_key_file(file, (struct text){content, length}, error);
    crypto_wipe(content, length);
    free(content);
    file->age_ms = age_of(path);
    file->path = NULL;
    return read;
}

/* --- The ring -------------------------------------------------------------------------------- */

static void personalise(unsigned char personal[crypto_generichash_blake2b_PERSONALBYTES],
                        const char *use)
{
    assert(strlen(use) <= crypto_generichash_blake2b_PERSONALBYTES);
    memset(personal, 0, crypto_generichash_blake2b_PERSONALBYTES);
    memcpy(personal, use, strlen(use));
}

static void start_hash(crypto_generichash_blake2b_state *state, const uint8_t key[KEY_LENGTH],
                       const char *use, size_t output)
{
    unsigned char personal[crypto_generichash_blake2b_PERSONALBYTES];
    personalise(personal, use);
    crypto_generichash_blake2b_init_salt_personal(state, key, KEY_LENGTH, output, NULL, personal);
}

static void fill_secrets(struct keyring_secrets *secrets, const struct key_file *file)
{
    for (size_t i = 0; i < CRYPTO_PURPOSES; i++)
        start_hash(&secrets->purposes[i], file->names, purposes[i], 32);
    struct keyring_key *key = secrets->keys;
    for (const struct key_entry *entry = file->entries; entry < file->entries + file->count;
         entry++) {
        if (entry->signs)
            continue;
        start_hash(&key->subkey, entry->secret, "sd record key", KEYRING_SUBKEY);
        crypto_generichash_blake2b_state state;
        start_hash(&state, entry->secret, "sd token mac", sizeof(key->mac));
        crypto_generichash_blake2b_final(&state, key->mac, sizeof(key->mac));
        crypto_wipe(&state, sizeof(state));
        key++;
    }
}

static void make_mark(uint8_t out[KEY_MARK], const uint8_t key[KEY_LENGTH], const char *use)
{
    uint8_t hash[crypto_generichash_blake2b_BYTES_MIN];
    crypto_generichash_blake2b_state state;
    start_hash(&state, key, use, sizeof(hash));
    crypto_generichash_blake2b_final(&state, hash, sizeof(hash));
    memcpy(out, hash, KEY_MARK);
    crypto_wipe(&state, sizeof(state));
    crypto_wipe(hash, sizeof(hash));
}

/* sodium_malloc() hides a failure to lock; a second lock shows it. */
static struct keyring_secrets *protected_memory(size_t size, struct buffer *error)
{
    struct keyring_secrets *secrets = sodium_malloc(size);
    if (!secrets) {
        buffer_addf(error, "no protected memory for the keys: %s\n", strerrordesc_np(errno));
        return NULL;
    }
    if (sodium_mlock(secrets, size) != 0)
        log_warning("keys_not_locked",
                    "error=\"%s\" hint=\"raise LimitMEMLOCK, or keys may be "
                    "swapped to disk\"",
                    strerrordesc_np(errno));
    return secrets;
}

/* The secrets of all keys but the signing keys. */
static struct keyring_secrets *make_secrets(const struct key_file *file, struct buffer *error)
{
    /* A multiple of the states' alignment, which sodium_malloc() needs to return aligned memory. */
    size_t count = file->count - file->signing_count;
    size_t size = sizeof(struct keyring_secrets) + count * sizeof(struct keyring_key);
    struct keyring_secrets *secrets = protected_memory(size, error);
    if (!secrets)
        return NULL;
    fill_secrets(secrets, file);
    sodium_mprotect_readonly(secrets);
    return secrets;
}

static void index_keys(struct keyring *keyring, const struct key_file *file)
{
    uint8_t index_plus_1 = 0;
    make_mark(keyring->marks[0], file->names, "sd key mark");
    for (const struct key_entry *entry = file->entries; entry < file->entries + file->count;
         entry++) {
        make_mark(keyring->marks[entry->id], entry->secret,
                  entry->signs ? "sd sign mark" : "sd key mark");
        keyring->marked |= UINT64_C(1) << entry->id;
        if (entry->signs)
            continue;
        keyring->index_plus_1[entry->id] = ++index_plus_1;
        keyring->newest = entry->id;
    }
}

static void load_signing_keys(struct keyring_signing *signing, const struct key_file *file)
{
    for (size_t i = 0; i < file->count; i++)
        if (file->entries[i].signs)
            keyring_signing_add(signing, file->entries[i].secret);
    keyring_signing_complete(signing, file->age_ms);
}

static struct keyring *make_keyring(const struct key_file *file, struct buffer *error)
{
    struct keyring *keyring = xcalloc(1, sizeof(*keyring));
    atomic_init(&keyring->references, 1);
    keyring->secrets = make_secrets(file, error);
    if (keyring->secrets) {
        index_keys(keyring, file);
        load_signing_keys(&keyring->signing, file);
    } else {
        keyring_unref(&keyring);
    }
    return keyring;
}

struct keyring *keyring_load(const char *value, bool create, struct buffer *error)
{
    assert(value && error);
    struct key_file file = {0};
    struct keyring *keyring = NULL;
    if (read_key_file(&file, value, create, error))
        keyring = make_keyring(&file, error);
    crypto_wipe(&file, sizeof(file));
    return keyring;
}

struct keyring *keyring_ref(struct keyring *keyring)
{
    assert(keyring);
    atomic_fetch_add_explicit(&keyring->references, 1, memory_order_relaxed);
    return keyring;
}

void keyring_unref(struct keyring **keyring)
{
    struct keyring *own = *keyring;
    *keyring = NULL;
    if (!own || atomic_fetch_sub_explicit(&own->references, 1, memory_order_acq_rel) > 1)
        return;
    sodium_free(own->secrets); /* wipes read-only memory, too */
    keyring_signing_free(&own->signing);
    free(own);
}

uint8_t keyring_newest(const struct keyring *keyring)
{
    return keyring->newest;
}

bool keyring_has(const struct keyring *keyring, uint8_t key_id)
{
    return keyring_find(keyring, key_id) != NULL;
}

const uint8_t *keyring_mark(const struct keyring *keyring, uint8_t key_id)
{
    bool marked = key_id == 0 || (key_id <= KEY_ID_MAX && keyring->marked >> key_id & 1);
    return marked ? keyring->marks[key_id] : NULL;
}

const struct keyring_key *keyring_find(const struct keyring *keyring, uint8_t key_id)
{
    uint8_t index_plus_1 = key_id <= KEY_ID_MAX ? keyring->index_plus_1[key_id] : 0;
    return index_plus_1 > 0 ? &keyring->secrets->keys[index_plus_1 - 1] : NULL;
}

const crypto_generichash_blake2b_state *keyring_purpose(const struct keyring *keyring,
                                                        enum crypto_purpose purpose)
{
    assert(purpose < CRYPTO_PURPOSES);
    return &keyring->secrets->purposes[purpose];
}

/* --- Signing keys ---------------------------------------------------------------------------- */

bool keyring_signs(const struct keyring *keyring, uint8_t key_id)
{
    return !keyring_has(keyring, key_id) && key_id > 0 && keyring_mark(keyring, key_id);
}

const struct signing_key *keyring_signer(const struct keyring *keyring, int64_t published_ms)
{
    return keyring_signing_choose(&keyring->signing, published_ms);
}

struct text keyring_jwks(const struct keyring *keyring)
{
    return buffer_text(&keyring->signing.jwks);
}

void keyring_succeed(struct keyring *keyring, const struct keyring *before)
{
    keyring_signing_inherit(&keyring->signing, &before->signing);
}
