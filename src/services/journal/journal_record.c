/* The journal's format: header, records, checksums. Pure: bytes in, structs out. */
#include "journal_record.h"

#include <assert.h>
#include <string.h>

#include "bytes.h"

enum {
    VERSION = 1,
    CHECKSUM = 8,
    KIND_MARK = 16, /* revocations have the numbers of enum revocation_kind */
    FLAG_CONFIRMED = 1,
    FLAG_EXEMPT = 2,

    /* Offsets of the fields of a record. */
    AT_KIND = 2,
    AT_FLAGS = 3,
    AT_NUMBER = 4,
    AT_WHEN = 12,
    AT_BEFORE = 20,
    AT_FORGET = 28,
    AT_OWNER = 36,
    AT_SESSION = AT_OWNER + OWNER_TAG,
    AT_REASON_LENGTH = AT_SESSION + SESSION_ID,
    AT_ACTOR_LENGTH,
    AT_TEXTS,
    MARK_LENGTH = AT_WHEN + CHECKSUM,
    SHORTEST = AT_TEXTS + CHECKSUM,

    /* Offsets of the fields of the header. */
    HEAD_VERSION = 16,
    HEAD_NEXT = 24,
    HEAD_NONCE = 32,
    HEAD_KEYRING = HEAD_NONCE + JOURNAL_NONCE,
    HEAD_DIGEST = HEAD_KEYRING + CHECKSUM,
};

static const char magic[HEAD_VERSION] = "sessiond journal"; /* without NUL */

_Static_assert(HEAD_DIGEST + CHECKSUM == JOURNAL_HEAD, "the head is as long as told");
_Static_assert(SHORTEST + 2 * UINT8_MAX == JOURNAL_RECORD_MAX, "so is a record");

/* --- head --- */

static void tag_keyring(const struct keyring *keyring, uint8_t out[CHECKSUM])
{
    const struct text part = TEXT("this file belongs to this keyring");
    crypto_keyed_hash(keyring, CRYPTO_JOURNAL, &part, 1, out, CHECKSUM);
}

/* Unkeyed, to tell a header of another keyring from a damaged one. */
static void digest_head(const uint8_t head[JOURNAL_HEAD], uint8_t out[CHECKSUM])
{
    uint8_t digest[32];
    crypto_digest(digest, (struct text){(const char *)head, HEAD_DIGEST});
    memcpy(out, digest, CHECKSUM);
}

void journal_head_write(uint8_t out[JOURNAL_HEAD], const struct journal_head *head,
                        const struct keyring *keyring)
{
    memset(out, 0, JOURNAL_HEAD);
    memcpy(out, magic, sizeof(magic));
    bytes_put(out + HEAD_VERSION, VERSION, 4);
    bytes_put(out + HEAD_NEXT, head->next_number, 8);
    memcpy(out + HEAD_NONCE, head->nonce, JOURNAL_NONCE);
    tag_keyring(keyring, out + HEAD_KEYRING);
    digest_head(out, out + HEAD_DIGEST);
}

enum journal_head_reading journal_head_read(const uint8_t in[JOURNAL_HEAD],
                                            const struct keyring *keyring, struct journal_head *ret)
{
    uint8_t digest[CHECKSUM], tag[CHECKSUM];
    digest_head(in, digest);
    if (memcmp(in, magic, sizeof(magic)) != 0 || !crypto_equal(digest, in + HEAD_DIGEST, CHECKSUM))
        return JOURNAL_HEAD_BAD;
    if (bytes_get(in + HEAD_VERSION, 4) != VERSION)
        return JOURNAL_HEAD_NEWER;
    tag_keyring(keyring, tag);
    if (!crypto_equal(tag, in + HEAD_KEYRING, CHECKSUM))
        return JOURNAL_HEAD_FOREIGN;
    ret->next_number = bytes_get(in + HEAD_NEXT, 8);
    memcpy(ret->nonce, in + HEAD_NONCE, JOURNAL_NONCE);
    return JOURNAL_HEAD_GOOD;
}

/* --- writing records --- */

size_t journal_record_size(const struct revocation *revocation)
{
    return SHORTEST + revocation->reason.length + revocation->actor.length;
}

static void begin_record(char *out, size_t length, int kind, int flags, uint64_t number)
{
    bytes_put(out, length, 2);
    out[AT_KIND] = (char)kind;
    out[AT_FLAGS] = (char)flags;
    bytes_put(out + AT_NUMBER, number, 8);
    memset(out + length - CHECKSUM, 0, CHECKSUM);
}

void journal_record_add(struct buffer *out, const struct revocation *revocation)
{
    struct text reason = revocation->reason, actor = revocation->actor;
    size_t length = journal_record_size(revocation);
    char *at = buffer_reserve(out, length);
    int flags = (revocation->confirmed ? FLAG_CONFIRMED : 0) | //
                (revocation->has_exempt ? FLAG_EXEMPT : 0);
    assert(reason.length <= UINT8_MAX && actor.length <= UINT8_MAX);
    begin_record(at, length, (int)revocation->kind, flags, revocation->number);
    bytes_put(at + AT_WHEN, (uint64_t)revocation->at_ms, 8);
    bytes_put(at + AT_BEFORE, (uint64_t)revocation->before_ms, 8);
    bytes_put(at + AT_FORGET, (uint64_t)revocation->forget_s, 8);
    memcpy(at + AT_OWNER, revocation->owner, OWNER_TAG);
    if (revocation->kind == REVOKE_FREEZE)
        bytes_put(at + AT_SESSION, (uint64_t)revocation->until_s, SESSION_ID);
    else
        memcpy(at + AT_SESSION, revocation->session, SESSION_ID);
    bytes_put(at + AT_REASON_LENGTH, reason.length, 1);
    bytes_put(at + AT_ACTOR_LENGTH, actor.length, 1);
    if (reason.length > 0)
        memcpy(at + AT_TEXTS, reason.data, reason.length);
    if (actor.length > 0)
        memcpy(at + AT_TEXTS + reason.length, actor.data, actor.length);
    out->length += length;
}

void journal_record_add_mark(struct buffer *out, uint64_t number)
{
    begin_record(buffer_reserve(out, MARK_LENGTH), MARK_LENGTH, KIND_MARK, 0, number);
    out->length += MARK_LENGTH;
}

size_t journal_record_length(const char *data)
{
    return (size_t)bytes_get(data, 2);
}

static void record_checksum(const struct journal_seal *seal, int64_t position, const char *record,
                            size_t length, uint8_t out[CHECKSUM])
{
    char place[8];
    bytes_put(place, (uint64_t)position, sizeof(place));
    const struct text parts[] = {{(const char *)seal->nonce, JOURNAL_NONCE},
                                 {place, sizeof(place)},
                                 {record, length - CHECKSUM}};
    crypto_keyed_hash(seal->keyring, CRYPTO_JOURNAL, parts, 3, out, CHECKSUM);
}

void journal_record_seal(const struct journal_seal *seal, int64_t position, char *record)
{
    size_t length = journal_record_length(record);
    record_checksum(seal, position, record, length, (uint8_t *)record + length - CHECKSUM);
}

/* --- reading records --- */

static bool is_revocation(unsigned kind)
{
    return kind >= REVOKE_SESSION && kind <= REVOKE_LIFT;
}

/* True if the bytes can begin a record. Lengths are stored twice, so that a damaged length is not
 * taken for a torn record. */
static bool is_plausible(struct text bytes)
{
    size_t length = bytes.length >= 2 ? journal_record_length(bytes.data) : SHORTEST;
    unsigned kind = bytes.length > AT_KIND ? (uint8_t)bytes.data[AT_KIND] : REVOKE_SESSION;
    unsigned flags = bytes.length > AT_FLAGS ? (uint8_t)bytes.data[AT_FLAGS] : 0;
    if (bytes.length <= AT_KIND)
        return length == MARK_LENGTH || (length >= SHORTEST && length <= JOURNAL_RECORD_MAX);
    if (kind == KIND_MARK)
        return length == MARK_LENGTH && flags == 0;
    if (!is_revocation(kind) || (flags & ~(unsigned)(FLAG_CONFIRMED | FLAG_EXEMPT)) != 0)
        return false;
    if (bytes.length <= AT_ACTOR_LENGTH)
        return length >= SHORTEST && length <= JOURNAL_RECORD_MAX;
    return length == (size_t)SHORTEST + (uint8_t)bytes.data[AT_REASON_LENGTH] +
                         (uint8_t)bytes.data[AT_ACTOR_LENGTH];
}

static void read_record_fields(const char *data, struct journal_record *ret)
{
    unsigned kind = (uint8_t)data[AT_KIND];
    *ret = (struct journal_record){.is_mark = kind == KIND_MARK};
    struct revocation *revocation = &ret->revocation;
    revocation->number = bytes_get(data + AT_NUMBER, 8);
    if (ret->is_mark)
        return;
    revocation->kind = (enum revocation_kind)kind;
    revocation->confirmed = data[AT_FLAGS] & FLAG_CONFIRMED;
    revocation->has_exempt = data[AT_FLAGS] & FLAG_EXEMPT;
    revocation->at_ms = (int64_t)bytes_get(data + AT_WHEN, 8);
    revocation->before_ms = (int64_t)bytes_get(data + AT_BEFORE, 8);
    revocation->forget_s = (int64_t)bytes_get(data + AT_FORGET, 8);
    memcpy(revocation->owner, data + AT_OWNER, OWNER_TAG);
    if (revocation->kind == REVOKE_FREEZE)
        revocation->until_s = (int64_t)bytes_get(data + AT_SESSION, SESSION_ID);
    else
        memcpy(revocation->session, data + AT_SESSION, SESSION_ID);
    revocation->reason = (struct text){data + AT_TEXTS, (uint8_t)data[AT_REASON_LENGTH]};
    revocation->actor =
        (struct text){data + AT_TEXTS + revocation->reason.length, (uint8_t)data[AT_ACTOR_LENGTH]};
}

enum record_reading journal_record_read(const struct journal_seal *seal, int64_t position,
                                        struct text bytes, struct journal_record *ret)
{
    uint8_t expected[CHECKSUM];
    assert(bytes.length > 0);
    if (!is_plausible(bytes))
        return RECORD_BAD;
    size_t length = bytes.length >= 2 ? journal_record_length(bytes.data) : SHORTEST;
    if (bytes.length < length)
        return RECORD_TORN;
    record_checksum(seal, position, bytes.data, length, expected);
    if (!crypto_equal(expected, bytes.data + length - CHECKSUM, CHECKSUM))
        return RECORD_BAD;
    read_record_fields(bytes.data, ret);
    return RECORD_GOOD;
}
