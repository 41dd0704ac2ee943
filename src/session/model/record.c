/* Records as bytes: written field by field, sealed, and read back through a cursor that cannot
 * leave its input. Invalid bytes have one outcome, whatever is wrong. */
#include "record.h"

#include <assert.h>
#include <string.h>

#include "bytes.h"
#include "dictionary.h"
#include "session_json.h"

/* Bytes of the head, in clear. */
enum { HEAD = 2, LATER_HEAD = 3 };
#define FIRST_SEALED 0x01 /* byte 0 */
#define FIRST_PLAIN  0x02
#define KEY_LATER    0x80 /* byte 1 of a format after the first */

enum {
    KIND_SESSION = 's',
    KIND_TOMBSTONE = 't',
    KIND_USER = 'u',
    KIND_CONTEXTS = 'c',
    KIND_CHALLENGE = 'q',
    KIND_TENANT = 'p',
    KIND_NAMES = 'n'
};
enum {
    SESSION_REMEMBER = 1,
    SESSION_SECOND_FACTOR = 2,
    SESSION_PREVIOUS = 4,
    SESSION_PREVIOUS_OVER = 8,
    SESSION_CONTEXTS = 16,
    SESSION_FROM_HASH = 32,
    SESSION_BEGAN = 64,
    SESSION_FLAGS = 127
};
enum { RECORD_FORMAT_MEMBERS = 2 }; /* the first with members behind a session's fields */
enum { MEMBER_VERSION = 1, MEMBER_PREVIOUS_OVER = 2, MEMBER_GRANTS = 3 };
enum { USER_FROZEN = 1, USER_EXEMPT = 2, USER_DECIDED = 4, USER_FLAGS = 7 };

/* Widths of integers in bytes; SHORT and LONG are for lengths of texts. */
enum { FLAGS = 1, SHORT = 1, LONG = 2, GENERATION = 4, SECONDS = 5, MILLISECONDS = 6 };

/* A user's record lies under this session id. */
static const uint8_t user_place[SESSION_ID];

/* --- Bindings of a record ------------------------------------------------------------------ */

/* The additional data, without gaps. */
struct additional_data {
    uint8_t head[HEAD];
    struct user_tag owner;
    uint8_t session_id[SESSION_ID];
};

static_assert(sizeof(struct additional_data) == HEAD + TENANT_TAG + USER_TAG + SESSION_ID,
              "additional data have no gaps");

static struct additional_data bind_to(struct record_position place, unsigned format, uint8_t key_id)
{
    uint8_t key = format > RECORD_FORMAT_LEAST ? key_id | KEY_LATER : key_id;
    struct additional_data binding = {.head = {(uint8_t)format, key}, .owner = *place.owner};
    memcpy(binding.session_id, place.session_id, SESSION_ID);
    return binding;
}

static struct text additional(const struct additional_data *binding)
{
    return (struct text){(const char *)binding, sizeof(*binding)};
}

static struct text subject(struct record_position place)
{
    return (struct text){(const char *)place.owner, sizeof(*place.owner)};
}

/* --- Writing --------------------------------------------------------------------------------- */

static uint64_t largest(unsigned width)
{
    return (UINT64_C(1) << (8 * width)) - 1;
}

/* Big-endian; a value out of range is stored as the nearest in it. */
static void put_int(struct buffer *out, unsigned width, int64_t value)
{
    uint64_t number = value > 0 ? (uint64_t)value : 0;
    bytes_add(out, number < largest(width) ? number : largest(width), width);
}

/* Length and bytes; a text too long for its length field is cut between two characters. */
static void put_record_text(struct buffer *out, unsigned width, struct text text)
{
    size_t length = text.length;
    if (length > largest(width)) {
        length = (size_t)largest(width);
        while (length > 0 && ((uint8_t)text.data[length] & 0xC0) == 0x80)
            length--;
    }
    put_int(out, width, (int64_t)length);
    if (length > 0)
        buffer_add(out, text.data, length);
}

/* Text worth a short spelling; plain records keep it readable for debugging. */
static void put_words(struct buffer *out, bool pack, struct text text)
{
    SCOPED(buffer_free) struct buffer packed = {0};
    if (pack)
        dictionary_pack(&packed, text);
    put_record_text(out, LONG, pack ? buffer_text(&packed) : text);
}

static void put_head(struct buffer *out, bool encrypt, unsigned format, uint8_t key_id)
{
    if (format == RECORD_FORMAT_LEAST) {
        buffer_add_char(out, encrypt ? FIRST_SEALED : FIRST_PLAIN);
        buffer_add_char(out, (char)key_id);
        return;
    }
    buffer_add_char(out, FIRST_SEALED);
    buffer_add_char(out, (char)(key_id | KEY_LATER));
    buffer_add_char(out, (char)format);
}

/* Appends the content with its head, sealed or in clear; wipes and frees it. */
static void put_record_as(const struct keyring *keyring, bool encrypt, unsigned format,
                          struct record_position place, struct buffer *content, struct buffer *out)
{
    struct text plain = buffer_text(content);
    uint8_t key_id = encrypt ? keyring_newest(keyring) : 0;
    put_head(out, encrypt, format, key_id);
    if (encrypt) {
        size_t length = plain.length + CRYPTO_SEAL_OVERHEAD;
        struct additional_data binding = bind_to(place, format, key_id);
        bool sealed = crypto_seal(keyring, key_id, subject(place), additional(&binding), plain,
                                  buffer_reserve(out, length));
        assert(sealed);
        out->length += sealed ? length : 0;
    } else {
        buffer_add_text(out, plain);
    }
    crypto_wipe(content->data, content->length);
    buffer_free(content);
}

static void put_record(const struct keyring *keyring, bool encrypt, struct record_position place,
                       struct buffer *content, struct buffer *out)
{
    put_record_as(keyring, encrypt, RECORD_FORMAT_LEAST, place, content, out);
}

/* Reserves room for the whole content: growing would leave an unwiped copy in memory. */
static struct buffer start_content(char kind, size_t texts)
{
    const size_t fixed = 256;
    struct buffer content = {0};
    buffer_reserve(&content, fixed + texts);
    buffer_add_char(&content, kind);
    return content;
}

static void put_member(struct buffer *out, uint8_t tag, struct text value)
{
    put_int(out, 1, tag);
    put_record_text(out, LONG, value);
}

static void put_members(struct buffer *out, const struct record *record)
{
    SCOPED(buffer_free) struct buffer version = {0};
    put_int(&version, MILLISECONDS, record->version);
    if (record->version > 0)
        put_member(out, MEMBER_VERSION, buffer_text(&version));
    if (record->previous_refresh_over)
        put_member(out, MEMBER_PREVIOUS_OVER, (struct text){0});
    if (record->grants.length > 0)
        put_member(out, MEMBER_GRANTS, record->grants);
    buffer_add_text(out, record->unknown);
}

static bool needs_members(const struct record *record)
{
    return (record->has_previous && record->previous_refresh_over) || record->grants.length > 0 ||
           record->unknown.length > 0;
}

static int64_t flags_of(const struct record *record, bool has_previous)
{
    return (record->remember ? SESSION_REMEMBER : 0) |
           (record->second_factor ? SESSION_SECOND_FACTOR : 0) |
           (has_previous ? SESSION_PREVIOUS : 0) |
           (record->previous_access_over ? SESSION_PREVIOUS_OVER : 0) |
           (record->contexts.length > 0 ? SESSION_CONTEXTS : 0) |
           (record->from_hash ? SESSION_FROM_HASH : 0) | (record->began_s > 0 ? SESSION_BEGAN : 0);
}

void record_write(const struct keyring *keyring, bool encrypt, struct record_position place,
                  unsigned format, const struct record *record, struct buffer *out)
{
    assert(record->session_json.length <= RECORD_JSON_MAX);
    bool members = needs_members(record) &&
                   (format > RECORD_FORMAT_LEAST || record->format > RECORD_FORMAT_LEAST);
    bool has_previous = record->has_previous && (members || !record->previous_refresh_over);
    struct buffer content = start_content(
        KIND_SESSION, record->session_json.length + record->ip.length + record->user_agent.length +
                          record->contexts.length + record->grants.length + record->unknown.length);
    put_int(&content, FLAGS, flags_of(record, has_previous));
    put_int(&content, GENERATION, record->generation);
    put_int(&content, MILLISECONDS, record->issued_ms);
    put_int(&content, SECONDS, record->absolute_s);
    buffer_add(&content, record->access_hash, SECRET_HASH);
    buffer_add(&content, record->refresh_hash, SECRET_HASH);
    if (has_previous) {
        buffer_add(&content, record->previous_access_hash, SECRET_HASH);
        buffer_add(&content, record->previous_refresh_hash, SECRET_HASH);
    }
    put_words(&content, encrypt, record->session_json);
    put_record_text(&content, SHORT, record->ip);
    put_words(&content, encrypt, record->user_agent);
    if (record->contexts.length > 0)
        put_record_text(&content, SHORT, record->contexts);
    if (record->began_s > 0)
        put_int(&content, SECONDS, record->began_s);
    if (members)
        put_members(&content, record);
    put_record_as(keyring, encrypt, members ? RECORD_FORMAT_MEMBERS : RECORD_FORMAT_LEAST, place,
                  &content, out);
}

void record_write_tombstone(const struct keyring *keyring, bool encrypt,
                            struct record_position place, const struct tombstone *tombstone,
                            struct buffer *out)
{
    struct buffer content =
        start_content(KIND_TOMBSTONE, tombstone->reason.length + tombstone->actor.length);
    put_record_text(&content, SHORT, tombstone->reason);
    put_record_text(&content, SHORT, tombstone->actor);
    put_int(&content, SECONDS, tombstone->ended_s);
    put_int(&content, SECONDS, tombstone->forget_s);
    put_record(keyring, encrypt, place, &content, out);
}

void record_write_user(const struct keyring *keyring, bool encrypt, const struct user_tag *owner,
                       const struct user_record *user, struct buffer *out)
{
    struct buffer content = start_content(KIND_USER, user->frozen_reason.length);
    put_int(&content, FLAGS,
            (user->frozen ? USER_FROZEN : 0) | (user->has_exempt ? USER_EXEMPT : 0) |
                (user->decided_ms > 0 ? USER_DECIDED : 0));
    put_int(&content, MILLISECONDS, user->not_before_ms);
    put_int(&content, SECONDS, user->frozen_until_s);
    if (user->has_exempt)
        buffer_add(&content, user->exempt, SESSION_ID);
    if (user->decided_ms > 0)
        put_int(&content, MILLISECONDS, user->decided_ms);
    put_record_text(&content, SHORT, user->frozen_reason);
    put_record(keyring, encrypt, (struct record_position){owner, user_place}, &content, out);
}

void record_write_tenant(const struct keyring *keyring, bool encrypt, struct record_position place,
                         const struct tenant_record *tenant, struct buffer *out)
{
    struct buffer content = start_content(
        KIND_TENANT, tenant->reason.length + tenant->actor.length + tenant->policy.length);
    put_int(&content, MILLISECONDS, tenant->version);
    put_int(&content, MILLISECONDS, tenant->not_before_ms);
    put_int(&content, SECONDS, tenant->ended_s);
    put_record_text(&content, SHORT, tenant->reason);
    put_record_text(&content, SHORT, tenant->actor);
    put_record_text(&content, LONG, tenant->policy);
    put_record(keyring, encrypt, place, &content, out);
}

void record_write_names(const struct keyring *keyring, bool encrypt, const struct user_tag *owner,
                        const struct names *names, struct buffer *out)
{
    struct buffer content = start_content(KIND_NAMES, names->tenant.length + names->user_id.length);
    put_record_text(&content, SHORT, names->tenant);
    put_record_text(&content, SHORT, names->user_id);
    put_record(keyring, encrypt, (struct record_position){owner, user_place}, &content, out);
}

void record_write_bytes(const struct keyring *keyring, bool encrypt, struct record_position place,
                        enum record_kind kind, struct text bytes, struct buffer *out)
{
    assert(kind == RECORD_CONTEXTS || kind == RECORD_CHALLENGE);
    struct buffer content =
        start_content(kind == RECORD_CONTEXTS ? KIND_CONTEXTS : KIND_CHALLENGE, bytes.length);
    buffer_add_text(&content, bytes);
    put_record(keyring, encrypt, place, &content, out);
}

/* --- Reading --------------------------------------------------------------------------------- */

struct reader {
    struct cursor content;
    struct arena *arena;
    bool packed; /* words are in the dictionary's spelling */
    unsigned format;
};

static int64_t take_int(struct reader *reader, unsigned width)
{
    return (int64_t)bytes_number(&reader->content, width);
}

/* Flags; only those in `known` may be set. */
static int64_t take_flags(struct reader *reader, int64_t known)
{
    int64_t flags = take_int(reader, FLAGS);
    if (flags & ~known)
        reader->content.broken = true;
    return flags;
}

static struct text take_run(struct reader *reader, unsigned width)
{
    struct text taken = bytes_take(&reader->content, (size_t)take_int(reader, width));
    return taken.length > 0 ? taken : (struct text){0};
}

static struct text take_record_text(struct reader *reader, unsigned width)
{
    struct text taken = take_run(reader, width);
    if (!reader->packed && !text_is_clean_utf8(taken))
        reader->content.broken = true;
    return taken;
}

static struct text take_words(struct reader *reader)
{
    struct text taken = take_run(reader, LONG);
    struct text words = taken;
    if (reader->packed && !dictionary_unpack(reader->arena, taken, RECORD_JSON_MAX, &words))
        reader->content.broken = true;
    return words;
}

static bool take_member(struct reader *reader, unsigned tag, struct text value, struct record *ret)
{
    struct cursor cursor = {value.data, value.length, false};
    switch (tag) {
    case MEMBER_VERSION:
        ret->version = (int64_t)bytes_number(&cursor, MILLISECONDS);
        break;
    case MEMBER_PREVIOUS_OVER:
        ret->previous_refresh_over = true;
        break;
    case MEMBER_GRANTS:
        ret->grants = value;
        return true;
    default:
        return false;
    }
    reader->content.broken |= cursor.broken || cursor.left > 0;
    return true;
}

static void take_members(struct reader *reader, struct record *ret)
{
    SCOPED(buffer_free) struct buffer unknown = {0};
    while (reader->content.left > 0 && !reader->content.broken) {
        unsigned tag = (unsigned)take_int(reader, 1);
        struct text value = bytes_take(&reader->content, (size_t)take_int(reader, LONG));
        if (!take_member(reader, tag, value, ret))
            put_member(&unknown, (uint8_t)tag, value);
    }
    if (unknown.length > 0)
        ret->unknown = arena_copy(reader->arena, buffer_text(&unknown));
}

static void take_session(struct reader *reader, struct record *ret)
{
    int64_t flags = take_flags(reader, SESSION_FLAGS);
    ret->remember = flags & SESSION_REMEMBER;
    ret->second_factor = flags & SESSION_SECOND_FACTOR;
    ret->has_previous = flags & SESSION_PREVIOUS;
    ret->previous_access_over = flags & SESSION_PREVIOUS_OVER;
    ret->from_hash = flags & SESSION_FROM_HASH;
    ret->generation = (uint32_t)take_int(reader, GENERATION);
    ret->issued_ms = take_int(reader, MILLISECONDS);
    ret->absolute_s = take_int(reader, SECONDS);
    bytes_copy(&reader->content, ret->access_hash, SECRET_HASH);
    bytes_copy(&reader->content, ret->refresh_hash, SECRET_HASH);
    if (ret->has_previous) {
        bytes_copy(&reader->content, ret->previous_access_hash, SECRET_HASH);
        bytes_copy(&reader->content, ret->previous_refresh_hash, SECRET_HASH);
    }
    ret->session_json = take_words(reader);
    ret->ip = take_record_text(reader, SHORT);
    ret->user_agent = take_words(reader);
    if (flags & SESSION_CONTEXTS)
        ret->contexts = take_run(reader, SHORT);
    if (flags & SESSION_BEGAN)
        ret->began_s = take_int(reader, SECONDS);
    ret->format = reader->format;
    if (reader->format > RECORD_FORMAT_LEAST)
        take_members(reader, ret);
    if (!reader->packed && !reader->content.broken)
        reader->content.broken =
            !text_is_clean_utf8(ret->user_agent) || !session_json_is_whole(ret->session_json);
}

static void take_tombstone(struct reader *reader, struct tombstone *ret)
{
    ret->reason = take_record_text(reader, SHORT);
    ret->actor = take_record_text(reader, SHORT);
    ret->ended_s = take_int(reader, SECONDS);
    ret->forget_s = take_int(reader, SECONDS);
}

static void take_user(struct reader *reader, struct user_record *ret)
{
    int64_t flags = take_flags(reader, USER_FLAGS);
    ret->frozen = flags & USER_FROZEN;
    ret->has_exempt = flags & USER_EXEMPT;
    ret->not_before_ms = token_order_ms(take_int(reader, MILLISECONDS));
    ret->frozen_until_s = take_int(reader, SECONDS);
    if (ret->has_exempt)
        bytes_copy(&reader->content, ret->exempt, SESSION_ID);
    if (flags & USER_DECIDED)
        ret->decided_ms = take_int(reader, MILLISECONDS);
    ret->frozen_reason = take_record_text(reader, SHORT);
}

static void take_tenant(struct reader *reader, struct tenant_record *ret)
{
    ret->version = take_int(reader, MILLISECONDS);
    ret->not_before_ms = token_order_ms(take_int(reader, MILLISECONDS));
    ret->ended_s = take_int(reader, SECONDS);
    ret->reason = take_record_text(reader, SHORT);
    ret->actor = take_record_text(reader, SHORT);
    ret->policy = take_run(reader, LONG);
}

static void take_record_names(struct reader *reader, struct names *ret)
{
    ret->tenant = take_record_text(reader, SHORT);
    ret->user_id = take_record_text(reader, SHORT);
}

static bool is_user_place(struct record_position place)
{
    return memcmp(place.session_id, user_place, SESSION_ID) == 0;
}

static enum record_kind take_content(struct reader *reader, struct record_position place,
                                     struct record_content *ret)
{
    switch (take_int(reader, 1)) {
    case KIND_SESSION:
        take_session(reader, &ret->session);
        return RECORD_SESSION;
    case KIND_TOMBSTONE:
        take_tombstone(reader, &ret->tombstone);
        return RECORD_TOMBSTONE;
    case KIND_USER:
        take_user(reader, &ret->user);
        return is_user_place(place) ? RECORD_USER : RECORD_UNREADABLE;
    case KIND_CONTEXTS:
        ret->bytes = bytes_take(&reader->content, reader->content.left);
        return is_user_place(place) ? RECORD_CONTEXTS : RECORD_UNREADABLE;
    case KIND_CHALLENGE:
        ret->bytes = bytes_take(&reader->content, reader->content.left);
        return RECORD_CHALLENGE;
    case KIND_TENANT:
        take_tenant(reader, &ret->tenant);
        return is_user_place(place) ? RECORD_TENANT : RECORD_UNREADABLE;
    case KIND_NAMES:
        take_record_names(reader, &ret->names);
        return is_user_place(place) ? RECORD_NAMES : RECORD_UNREADABLE;
    default:
        return RECORD_UNREADABLE;
    }
}

struct head {
    unsigned format;
    uint8_t key_id;
    bool sealed;
    size_t length;
};

/* False for bytes that begin like no format, known or not. */
static bool read_head(struct text stored, struct head *ret)
{
    if (stored.length < HEAD)
        return false;
    uint8_t first = (uint8_t)stored.data[0], key = (uint8_t)stored.data[1];
    *ret = (struct head){RECORD_FORMAT_LEAST, key, first == FIRST_SEALED, HEAD};
    if (first == FIRST_PLAIN)
        return key == 0;
    if (first != FIRST_SEALED || !(key & KEY_LATER))
        return first == FIRST_SEALED;
    if (stored.length < LATER_HEAD)
        return false;
    key &= (uint8_t)~KEY_LATER;
    *ret = (struct head){(uint8_t)stored.data[HEAD], key, key != 0, LATER_HEAD};
    return ret->format > RECORD_FORMAT_LEAST;
}

/* The content in clear, in the arena; an absent text if it does not open. */
static struct text unseal(const struct keyring *keyring, bool encrypt, struct record_position place,
                          const struct head *head, struct text stored, struct arena *arena)
{
    struct text content = {stored.data + head->length, stored.length - head->length};
    if (head->format > RECORD_FORMAT_MAX)
        return (struct text){0};
    if (!head->sealed && !encrypt)
        return arena_copy(arena, content);
    if (!head->sealed || content.length <= CRYPTO_SEAL_OVERHEAD)
        return (struct text){0};

    struct text plain = {0};
    char *opened = arena_alloc(arena, content.length - CRYPTO_SEAL_OVERHEAD);
    struct additional_data binding = bind_to(place, head->format, head->key_id);
    if (crypto_open(keyring, head->key_id, subject(place), additional(&binding), content, opened))
        plain = (struct text){opened, content.length - CRYPTO_SEAL_OVERHEAD};
    return plain;
}

bool record_is_foreign(const struct keyring *keyring, struct text stored)
{
    struct head head;
    return read_head(stored, &head) &&
           (head.format > RECORD_FORMAT_MAX || (head.sealed && !keyring_has(keyring, head.key_id)));
}

bool record_is_outdated(const struct keyring *keyring, struct text stored)
{
    struct head head;
    return read_head(stored, &head) && head.sealed && head.key_id != keyring_newest(keyring);
}

enum record_kind record_read(const struct keyring *keyring, bool encrypt,
                             struct record_position place, struct text stored, struct arena *arena,
                             struct record_content *ret)
{
    memset(ret, 0, sizeof(*ret));
    struct head head;
    if (!read_head(stored, &head))
        return RECORD_UNREADABLE;
    struct text content = unseal(keyring, encrypt, place, &head, stored, arena);
    struct reader reader = {
        .content = {content.data, content.length, content.data == NULL},
        .arena = arena,
        .packed = head.sealed,
        .format = head.format,
    };
    enum record_kind kind = take_content(&reader, place, ret);
    if (!reader.content.broken && reader.content.left == 0 && kind != RECORD_UNREADABLE)
        return kind;
    memset(ret, 0, sizeof(*ret));
    return RECORD_UNREADABLE;
}
