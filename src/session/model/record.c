/* Records as bytes: written field by field, sealed, and read back through a cursor that cannot
 * leave its input. Invalid bytes have one outcome, whatever is wrong. */
#include "record.h"

#include <assert.h>
#include <string.h>

#include "bytes.h"
#include "dictionary.h"
#include "session_json.h"

#define HEAD          2 /* format and key id, in clear */
#define FORMAT_SEALED 0x01
#define FORMAT_PLAIN  0x02

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

static struct additional_data bind_to(struct record_position place, uint8_t key_id)
{
    struct additional_data binding = {.head = {FORMAT_SEALED, key_id}, .owner = *place.owner};
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

/* Appends the content with its head, sealed or in clear; wipes and frees it. */
static void put_record(const struct keyring *keyring, bool encrypt, struct record_position place,
                       struct buffer *content, struct buffer *out)
{
    struct text plain = buffer_text(content);
    uint8_t key_id = encrypt ? keyring_newest(keyring) : 0;
    buffer_add_char(out, encrypt ? FORMAT_SEALED : FORMAT_PLAIN);
    buffer_add_char(out, (char)key_id);
    if (encrypt) {
        size_t length = plain.length + CRYPTO_SEAL_OVERHEAD;
        struct additional_data binding = bind_to(place, key_id);
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

/* Reserves room for the whole content: growing would leave an unwiped copy in memory. */
static struct buffer start_content(char kind, size_t texts)
{
    const size_t fixed = 256;
    struct buffer content = {0};
    buffer_reserve(&content, fixed + texts);
    buffer_add_char(&content, kind);
    return content;
}

void record_write(const struct keyring *keyring, bool encrypt, struct record_position place,
                  const struct record *record, struct buffer *out)
{
    assert(record->session_json.length <= RECORD_JSON_MAX);
    struct buffer content =
        start_content(KIND_SESSION, record->session_json.length + record->ip.length +
                                        record->user_agent.length + record->contexts.length);
    put_int(&content, FLAGS,
            (record->remember ? SESSION_REMEMBER : 0) |
                (record->second_factor ? SESSION_SECOND_FACTOR : 0) |
                (record->has_previous ? SESSION_PREVIOUS : 0) |
                (record->previous_access_over ? SESSION_PREVIOUS_OVER : 0) |
                (record->contexts.length > 0 ? SESSION_CONTEXTS : 0) |
                (record->from_hash ? SESSION_FROM_HASH : 0) |
                (record->began_s > 0 ? SESSION_BEGAN : 0));
    put_int(&content, GENERATION, record->generation);
    put_int(&content, MILLISECONDS, record->issued_ms);
    put_int(&content, SECONDS, record->absolute_s);
    buffer_add(&content, record->access_hash, SECRET_HASH);
    buffer_add(&content, record->refresh_hash, SECRET_HASH);
    if (record->has_previous) {
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
    put_record(keyring, encrypt, place, &content, out);
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

/* The content in clear, in the arena; an absent text if it does not open. */
static struct text unseal(const struct keyring *keyring, bool encrypt, struct record_position place,
                          struct text stored, struct arena *arena)
{
    if (stored.length < HEAD)
        return (struct text){0};
    uint8_t format = (uint8_t)stored.data[0];
    uint8_t key_id = (uint8_t)stored.data[1];
    struct text content = {stored.data + HEAD, stored.length - HEAD};

    if (format == FORMAT_PLAIN && key_id == 0 && !encrypt)
        return arena_copy(arena, content);
    if (format != FORMAT_SEALED || content.length <= CRYPTO_SEAL_OVERHEAD)
        return (struct text){0};

    struct text plain = {0};
    char *opened = arena_alloc(arena, content.length - CRYPTO_SEAL_OVERHEAD);
    struct additional_data binding = bind_to(place, key_id);
    if (crypto_open(keyring, key_id, subject(place), additional(&binding), content, opened))
        plain = (struct text){opened, content.length - CRYPTO_SEAL_OVERHEAD};
    return plain;
}

bool record_is_foreign(const struct keyring *keyring, struct text stored)
{
    return stored.length >= HEAD && stored.data[0] == FORMAT_SEALED &&
           !keyring_has(keyring, (uint8_t)stored.data[1]);
}

bool record_is_outdated(const struct keyring *keyring, struct text stored)
{
    return stored.length >= HEAD && stored.data[0] == FORMAT_SEALED &&
           (uint8_t)stored.data[1] != keyring_newest(keyring);
}

enum record_kind record_read(const struct keyring *keyring, bool encrypt,
                             struct record_position place, struct text stored, struct arena *arena,
                             struct record_content *ret)
{
    memset(ret, 0, sizeof(*ret));
    struct text content = unseal(keyring, encrypt, place, stored, arena);
    struct reader reader = {
        .content = {content.data, content.length, content.data == NULL},
        .arena = arena,
        .packed = stored.length > 0 && stored.data[0] == FORMAT_SEALED,
    };
    enum record_kind kind = take_content(&reader, place, ret);
    if (!reader.content.broken && reader.content.left == 0 && kind != RECORD_UNREADABLE)
        return kind;
    memset(ret, 0, sizeof(*ret));
    return RECORD_UNREADABLE;
}
