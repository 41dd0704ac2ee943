/* Records: written ones read back, in their place, under their key - and nothing else does. */
#include "record.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "support_keys.h"
#include "support_run.h"

static struct keyring *ring;
static struct arena arena;
static struct buffer stored;
static struct user_tag alice;
static const uint8_t session_id[SESSION_ID] = {1, 2, 3, 4, 5, 6, 7, 8};
static const uint8_t no_session[SESSION_ID];
static struct record_position place;

#define SESSION_JSON \
    "\"tenant\":\"acme\",\"user_id\":\"alice\",\"roles\":[\"admin\"],\"device\":{\"id\":\"d1\"}"

static const struct tombstone kicked = {.reason = {"kicked", 6},
                                        .actor = {"alice@ops", 9},
                                        .ended_s = 1700000000,
                                        .forget_s = 1700600000};

static void setup(void)
{
    ring = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1 SUPPORT_KEY_2);
    token_tag_user(ring, TEXT("acme"), TEXT("alice"), &alice);
    place = (struct record_position){&alice, session_id};
}

static void teardown(void)
{
    buffer_free(&stored);
    arena_free(&arena);
    keyring_unref(&ring);
}

static struct record example(bool has_previous)
{
    struct record record = {
        .remember = true,
        .generation = 0x01020304,
        .issued_ms = 1700000000123,
        .absolute_s = 1702592000,
        .has_previous = has_previous,
        .previous_access_over = has_previous,
        .from_hash = has_previous,
        .began_s = has_previous ? 1700000001 : 0,
        .session_json = TEXT(SESSION_JSON),
        .ip = TEXT("2001:db8::17"),
        .user_agent = TEXT("Mozilla/5.0 (X11; Linux x86_64)"),
    };
    memset(record.access_hash, 'a', SECRET_HASH);
    memset(record.refresh_hash, 'r', SECRET_HASH);
    if (has_previous) {
        memset(record.previous_access_hash, 'A', SECRET_HASH);
        memset(record.previous_refresh_hash, 'R', SECRET_HASH);
    }
    return record;
}

static void assert_texts(struct text a, struct text b)
{
    ck_assert_msg(text_equal(a, b), "'%.*s' is not '%.*s'", (int)a.length, a.data, (int)b.length,
                  b.data);
    ck_assert(a.data != NULL || b.data == NULL);
}

static void assert_records(const struct record *a, const struct record *b)
{
    ck_assert_int_eq(a->remember, b->remember);
    ck_assert_int_eq(a->second_factor, b->second_factor);
    ck_assert_uint_eq(a->generation, b->generation);
    ck_assert_int_eq(a->issued_ms, b->issued_ms);
    ck_assert_int_eq(a->absolute_s, b->absolute_s);
    ck_assert_mem_eq(a->access_hash, b->access_hash, SECRET_HASH);
    ck_assert_mem_eq(a->refresh_hash, b->refresh_hash, SECRET_HASH);
    ck_assert_int_eq(a->has_previous, b->has_previous);
    ck_assert_int_eq(a->previous_access_over, b->previous_access_over);
    ck_assert_int_eq(a->from_hash, b->from_hash);
    ck_assert_int_eq(a->began_s, b->began_s);
    ck_assert_mem_eq(a->previous_access_hash, b->previous_access_hash, SECRET_HASH);
    ck_assert_mem_eq(a->previous_refresh_hash, b->previous_refresh_hash, SECRET_HASH);
    assert_texts(a->session_json, b->session_json);
    assert_texts(a->ip, b->ip);
    assert_texts(a->user_agent, b->user_agent);
}

static enum record_kind read_text(bool encrypt, struct text text, struct record_content *content)
{
    return record_read(ring, encrypt, place, text, &arena, content);
}

static void assert_unreadable(bool encrypt, struct record_position where, struct text text)
{
    static const struct record_content nothing;
    struct record_content content;
    memset(&content, 'x', sizeof(content));
    ck_assert_int_eq(record_read(ring, encrypt, where, text, &arena, &content), RECORD_UNREADABLE);
    ck_assert_mem_eq(&content, &nothing, sizeof(content));
}

/* A session with everything in it, in `stored`. */
static void store_session(bool encrypt)
{
    struct record record = example(true);
    stored.length = 0;
    record_write(ring, encrypt, place, RECORD_FORMAT_MAX, &record, &stored);
}

/* --- Round trips ----------------------------------------------------------------------------- */

static void assert_round_trip(const struct record *record, bool encrypt)
{
    struct record_content content;
    stored.length = 0;
    record_write(ring, encrypt, place, RECORD_FORMAT_MAX, record, &stored);
    ck_assert_int_eq(read_text(encrypt, buffer_text(&stored), &content), RECORD_SESSION);
    assert_records(&content.session, record);
}

/* Bit 0: encrypt; bits 1 to 4: what is in it. */
START_TEST(a_session_reads_back)
{
    struct record record = example(_i & 2);
    record.remember = _i & 4;
    record.second_factor = _i & 8;
    if (_i & 16)
        record.ip = record.user_agent = (struct text){0};
    assert_round_trip(&record, _i & 1);
}
END_TEST

START_TEST(an_empty_session_and_the_largest_read_back)
{
    const bool encrypt = _i;
    static const char most[] = SESSION_JSON ",\"attributes\":{\"a\":\"";
    struct record record = {.session_json = encrypt ? (struct text){0} : TEXT(SESSION_JSON)};
    assert_round_trip(&record, encrypt);

    char *letters = malloc(RECORD_JSON_MAX);
    memset(letters, 'x', RECORD_JSON_MAX);
    record.generation = UINT32_MAX;
    record.issued_ms = (INT64_C(1) << 48) - 1;
    record.absolute_s = (INT64_C(1) << 40) - 1;
    record.session_json = record.user_agent = (struct text){letters, RECORD_JSON_MAX};
    record.ip = (struct text){letters, 255};
    memcpy(letters, most, sizeof(most) - 1);
    memcpy(letters + RECORD_JSON_MAX - 2, "\"}", 2);
    assert_round_trip(&record, encrypt);
    free(letters);
}
END_TEST

START_TEST(a_tombstone_reads_back)
{
    const bool encrypt = _i;
    struct record_content content;
    record_write_tombstone(ring, encrypt, place, &kicked, &stored);
    ck_assert_int_eq(read_text(encrypt, buffer_text(&stored), &content), RECORD_TOMBSTONE);
    assert_texts(content.tombstone.reason, kicked.reason);
    assert_texts(content.tombstone.actor, kicked.actor);
    ck_assert_int_eq(content.tombstone.ended_s, kicked.ended_s);
    ck_assert_int_eq(content.tombstone.forget_s, kicked.forget_s);
}
END_TEST

static const struct user_record users[] = {
    {0},
    {.not_before_ms = 1700000000001},
    {.not_before_ms = 5, .has_exempt = true, .exempt = {9, 8, 7, 6, 5, 4, 3, 2}},
    {.frozen = true, .frozen_until_s = 1800000000, .frozen_reason = {"fraud", 5}},
    {.frozen = true, .has_exempt = true, .exempt = {1}, .frozen_reason = {"x", 1}},
    {.frozen = true, .decided_ms = 1795340109000, .frozen_reason = {"fraud", 5}},
    {.has_exempt = true, .exempt = {1}, .decided_ms = 1795340109001},
};

START_TEST(the_state_of_a_user_reads_back_under_session_id_zero_only)
{
    const struct user_record *user = &users[_i];
    const struct record_position user_place = {&alice, no_session};
    for (int encrypt = 0; encrypt < 2; encrypt++) {
        struct record_content content;
        stored.length = 0;
        record_write_user(ring, encrypt, &alice, user, &stored);
        ck_assert_int_eq(
            record_read(ring, encrypt, user_place, buffer_text(&stored), &arena, &content),
            RECORD_USER);
        ck_assert_int_eq(content.user.not_before_ms, user->not_before_ms);
        ck_assert_int_eq(content.user.has_exempt, user->has_exempt);
        ck_assert_mem_eq(content.user.exempt, user->exempt, SESSION_ID);
        ck_assert_int_eq(content.user.frozen, user->frozen);
        ck_assert_int_eq(content.user.frozen_until_s, user->frozen_until_s);
        ck_assert_int_eq(content.user.decided_ms, user->decided_ms);
        assert_texts(content.user.frozen_reason, user->frozen_reason);
        assert_unreadable(encrypt, place, buffer_text(&stored));
    }
}
END_TEST

START_TEST(writing_appends)
{
    struct record record = example(false);
    struct record_content content;
    buffer_add_literal(&stored, "before");
    record_write(ring, true, place, RECORD_FORMAT_MAX, &record, &stored);
    ck_assert_mem_eq(stored.data, "before", 6);
    ck_assert_int_eq(read_text(true, (struct text){stored.data + 6, stored.length - 6}, &content),
                     RECORD_SESSION);
}
END_TEST

/* --- The layout ------------------------------------------------------------------------------ */

static void assert_hex(struct text data, const char *expected)
{
    char hex[257] = "";
    ck_assert_uint_lt(data.length, 128);
    text_to_hex(hex, data.data, data.length);
    ck_assert_str_eq(hex, expected);
}

START_TEST(names_read_back_under_session_id_zero_only)
{
    const bool encrypt = _i;
    const struct names names = {TEXT("acme"), TEXT("al\"ice")};
    const struct record_position user_place = {&alice, no_session};
    struct record_content content;
    record_write_names(ring, encrypt, &alice, &names, &stored);
    ck_assert_int_eq(record_read(ring, encrypt, user_place, buffer_text(&stored), &arena, &content),
                     RECORD_NAMES);
    assert_texts(content.names.tenant, names.tenant);
    assert_texts(content.names.user_id, names.user_id);
    assert_unreadable(encrypt, place, buffer_text(&stored));
}
END_TEST

START_TEST(plain_layouts_are_known)
{
    const struct record record = {.second_factor = true,
                                  .generation = 3,
                                  .issued_ms = 0x010203040506,
                                  .absolute_s = 0x1112131415,
                                  .session_json = TEXT("SS"),
                                  .ip = TEXT("I"),
                                  .user_agent = TEXT("U")};
    record_write(ring, false, place, RECORD_FORMAT_MAX, &record, &stored);
    assert_hex(buffer_text(&stored), "0200"
                                     "7302000000030102030405061112131415"
                                     "00000000000000000000000000000000"
                                     "00000000000000000000000000000000"
                                     "00025353"
                                     "0149"
                                     "000155");
    stored.length = 0;
    record_write_tombstone(ring, false, place, &kicked, &stored);
    assert_hex(buffer_text(&stored),
               "020074066b69636b656409616c696365406f7073006553f10000655d18c0");
    stored.length = 0;
    record_write_user(ring, false, &alice, &users[4], &stored);
    assert_hex(buffer_text(&stored), "0200"
                                     "7503000000000000"
                                     "0000000000"
                                     "0100000000000000"
                                     "0178");
}
END_TEST

START_TEST(a_tombstone_sealed_elsewhere_reads)
{
    static const char hex[] = "0102000102030405060708090a0bb1fae19144efd27c500a2e83b1da2636c5966c96"
                              "3506762683e11dc4d715e1b8d602b7d99aeeba059782d02a";
    uint8_t sealed[(sizeof(hex) - 1) / 2];
    struct record_content content;
    ck_assert(text_from_hex(sealed, sizeof(sealed), TEXT(hex)));
    ck_assert_int_eq(read_text(true, (struct text){(char *)sealed, sizeof(sealed)}, &content),
                     RECORD_TOMBSTONE);
    assert_texts(content.tombstone.reason, kicked.reason);
    assert_texts(content.tombstone.actor, kicked.actor);
}
END_TEST

START_TEST(sealed_bytes_show_nothing_and_never_repeat)
{
    static const char *const visible[] = {"acme", "alice", "2001:db8", "Mozilla", "phone", "aaaa"};
    store_session(true);
    for (size_t i = 0; i < sizeof(visible) / sizeof(visible[0]); i++)
        ck_assert_ptr_null(memmem(stored.data, stored.length, visible[i], strlen(visible[i])));
    char first[1024];
    size_t length = stored.length;
    ck_assert_uint_le(length, sizeof(first));
    memcpy(first, stored.data, length);
    store_session(true);
    ck_assert_uint_eq(stored.length, length);
    ck_assert_mem_ne(first + 2, stored.data + 2, 12);
    ck_assert_mem_ne(first + 14, stored.data + 14, length - 14);
}
END_TEST

START_TEST(a_text_too_long_is_cut_between_characters)
{
    char long_text[300];
    for (size_t i = 0; i < sizeof(long_text); i += 2)
        memcpy(long_text + i, "é", 2);
    struct tombstone tombstone = kicked;
    tombstone.reason = (struct text){long_text, sizeof(long_text)};
    struct record_content content;
    record_write_tombstone(ring, true, place, &tombstone, &stored);
    ck_assert_int_eq(read_text(true, buffer_text(&stored), &content), RECORD_TOMBSTONE);
    assert_texts(content.tombstone.reason, (struct text){long_text, 254});
    assert_texts(content.tombstone.actor, kicked.actor);
}
END_TEST

START_TEST(times_out_of_range_become_the_nearest)
{
    struct record record = {.issued_ms = -1, .absolute_s = INT64_MAX};
    struct record_content content;
    record_write(ring, true, place, RECORD_FORMAT_MAX, &record, &stored);
    ck_assert_int_eq(read_text(true, buffer_text(&stored), &content), RECORD_SESSION);
    ck_assert_int_eq(content.session.issued_ms, 0);
    ck_assert_int_eq(content.session.absolute_s, (INT64_C(1) << 40) - 1);
}
END_TEST

/* --- What does not read ---------------------------------------------------------------------- */

START_TEST(each_single_flipped_bit_of_a_sealed_record_is_unreadable)
{
    store_session(true);
    for (size_t bit = 0; bit < 8 * stored.length; bit++) {
        stored.data[bit / 8] ^= (char)(1 << bit % 8);
        assert_unreadable(true, place, buffer_text(&stored));
        assert_unreadable(false, place, buffer_text(&stored));
        stored.data[bit / 8] ^= (char)(1 << bit % 8);
    }
    struct record_content content;
    ck_assert_int_eq(read_text(true, buffer_text(&stored), &content), RECORD_SESSION);
}
END_TEST

START_TEST(a_record_of_any_other_length_is_unreadable)
{
    const bool encrypt = _i;
    store_session(encrypt);
    size_t length = stored.length;
    buffer_add_literal(&stored, "\0\0");
    for (size_t i = 0; i <= stored.length; i++) {
        /* A copy of its own: reading past the end shows under the address sanitizer. */
        char *copy = malloc(i + 1);
        memcpy(copy, stored.data, i);
        if (i != length)
            assert_unreadable(encrypt, place, (struct text){copy, i});
        free(copy);
    }
    assert_unreadable(encrypt, place, (struct text){0});
}
END_TEST

START_TEST(a_record_moved_to_another_place_is_unreadable)
{
    struct user_tag bob, alice_elsewhere;
    token_tag_user(ring, TEXT("acme"), TEXT("bob"), &bob);
    token_tag_user(ring, TEXT("globex"), TEXT("alice"), &alice_elsewhere);
    struct user_tag other_tenant = alice;
    other_tenant.tenant[5] ^= 1;
    static const uint8_t other_session[SESSION_ID] = {1, 2, 3, 4, 5, 6, 7, 9};
    const struct record_position locations[] = {{&bob, session_id},
                                                {&alice_elsewhere, session_id},
                                                {&other_tenant, session_id},
                                                {&alice, other_session},
                                                {&alice, no_session}};
    store_session(true);
    for (size_t i = 0; i < sizeof(locations) / sizeof(locations[0]); i++)
        assert_unreadable(true, locations[i], buffer_text(&stored));
}
END_TEST

START_TEST(a_record_names_its_key_and_no_other)
{
    store_session(true);
    ck_assert_int_eq(stored.data[1], 2);
    for (int id = 0; id < 256; id++) {
        stored.data[1] = (char)id;
        if (id != 2)
            assert_unreadable(true, place, buffer_text(&stored));
    }
}
END_TEST

START_TEST(rotation_reads_old_records_until_their_key_is_dropped)
{
    struct keyring *old = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1);
    struct keyring *dropped = support_keyring(SUPPORT_NAMES SUPPORT_KEY_2);
    struct record_content content;
    struct record record = example(false);
    record_write(old, true, place, RECORD_FORMAT_MAX, &record, &stored);
    struct text text = buffer_text(&stored);
    ck_assert_int_eq(stored.data[1], 1);
    ck_assert_int_eq(record_read(old, true, place, text, &arena, &content), RECORD_SESSION);
    ck_assert_int_eq(record_read(ring, true, place, text, &arena, &content), RECORD_SESSION);
    ck_assert_int_eq(record_read(dropped, true, place, text, &arena, &content), RECORD_UNREADABLE);
    keyring_unref(&old);
    keyring_unref(&dropped);
}
END_TEST

START_TEST(plain_records_read_only_while_encryption_is_off)
{
    struct record_content content;
    store_session(false);
    ck_assert_int_eq(read_text(false, buffer_text(&stored), &content), RECORD_SESSION);
    assert_unreadable(true, place, buffer_text(&stored));
    stored.data[1] = 2; /* a key id has no business there */
    assert_unreadable(false, place, buffer_text(&stored));
    store_session(true);
    ck_assert_int_eq(read_text(false, buffer_text(&stored), &content), RECORD_SESSION);
}
END_TEST

/* --- Format 2 --------------------------------------------------------------------------------- */

static struct record with_members(void)
{
    struct record record = example(true);
    record.previous_refresh_over = true;
    record.version = 1700000000456;
    record.grants = TEXT("\5admin\0\7key:ops");
    return record;
}

START_TEST(members_read_back_and_need_the_later_format)
{
    const bool encrypt = _i;
    struct record record = with_members();
    struct record_content content;
    record_write(ring, encrypt, place, 2, &record, &stored);
    ck_assert_int_eq(stored.data[0], 1);
    ck_assert_int_eq((uint8_t)stored.data[1], encrypt ? 0x82 : 0x80);
    ck_assert_int_eq(stored.data[2], 2);
    ck_assert_int_eq(read_text(encrypt, buffer_text(&stored), &content), RECORD_SESSION);
    assert_records(&content.session, &record);
    ck_assert(content.session.previous_refresh_over);
    ck_assert_int_eq(content.session.version, record.version);
    ck_assert_uint_eq(content.session.format, 2);
    assert_texts(content.session.grants, record.grants);
    ck_assert(!record_is_foreign(ring, buffer_text(&stored)));
    ck_assert(!record_is_outdated(ring, buffer_text(&stored)));
    assert_unreadable(encrypt, (struct record_position){&alice, no_session},
                      encrypt ? buffer_text(&stored) : TEXT(""));
}
END_TEST

/* Nodes of the first format, or some that may still run: what it cannot hold is left out. */
START_TEST(in_the_first_format_the_members_are_left_out)
{
    struct record record = with_members();
    struct record_content content;
    record_write(ring, true, place, 1, &record, &stored);
    ck_assert_int_eq(stored.data[1], 2);
    ck_assert_int_eq(read_text(true, buffer_text(&stored), &content), RECORD_SESSION);
    ck_assert(!content.session.has_previous && !content.session.grants.data);
    ck_assert_uint_eq(content.session.format, 1);
    /* One that was read in the later format stays in it: nothing of it is lost. */
    record.format = 2;
    stored.length = 0;
    record_write(ring, true, place, 1, &record, &stored);
    ck_assert_int_eq(stored.data[2], 2);
    /* Without members the first format will do, and costs nothing more. */
    record.previous_refresh_over = false;
    record.grants = (struct text){0};
    stored.length = 0;
    record_write(ring, true, place, 2, &record, &stored);
    ck_assert_int_eq(stored.data[1], 2);
}
END_TEST

START_TEST(unknown_members_are_kept)
{
    struct record record = with_members();
    struct record_content content, again;
    record.unknown = TEXT("\11\0\3abc\377\0\0");
    record_write(ring, true, place, 2, &record, &stored);
    ck_assert_int_eq(read_text(true, buffer_text(&stored), &content), RECORD_SESSION);
    ck_assert(text_equal(content.session.unknown, (struct text){"\11\0\3abc\377\0\0", 9}));
    stored.length = 0;
    record_write(ring, true, place, 1, &content.session, &stored);
    ck_assert_int_eq(read_text(true, buffer_text(&stored), &again), RECORD_SESSION);
    ck_assert(text_equal(again.session.unknown, content.session.unknown));
}
END_TEST

START_TEST(an_unknown_format_is_foreign_and_a_broken_member_is_not_read)
{
    struct record record = with_members();
    record_write(ring, _i, place, 2, &record, &stored);
    for (unsigned format = 0; format < 256; format++) {
        stored.data[2] = (char)format;
        ck_assert_int_eq(record_is_foreign(ring, buffer_text(&stored)), format > 2);
        if (format != 2)
            assert_unreadable(_i, place, buffer_text(&stored));
    }
    stored.data[2] = 2;
    stored.data[1] = (char)0x83; /* a key that the ring lacks */
    ck_assert(record_is_foreign(ring, buffer_text(&stored)));
    assert_unreadable(_i, place, buffer_text(&stored));
    static const struct text broken[] = {
        {"\1\0\5abcde", 8}, /* a version of another width */
        {"\2\0\1x", 4},     /* a flag with a value */
        {"\11\0\4abc", 6},  /* too short */
        {"\11\0", 2},       {"\11", 1},
    };
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        record.unknown = broken[i];
        stored.length = 0;
        record_write(ring, _i, place, 2, &record, &stored);
        assert_unreadable(_i, place, buffer_text(&stored));
    }
}
END_TEST

static const struct {
    const char *name;
    struct text stored;
} broken[] = {
#define BROKEN(name, bytes)          \
    {                                \
        name,                        \
        {                            \
            bytes, sizeof(bytes) - 1 \
        }                            \
    }
    BROKEN("nothing", ""),
    BROKEN("half a head", "\x02"),
    BROKEN("a head", "\x02\0"),
    BROKEN("a sealed head", "\x01\x02"),
    BROKEN("an unknown format", "\x03\0t\0\0\0\0\0\0\0\0\0\0\0\0"),
    BROKEN("an unknown kind", "\x02\0x\0\0\0\0\0\0\0\0\0\0\0\0"),
    BROKEN("a text longer than the record", "\x02\0t\xff\0\0\0\0\0\0\0\0\0\0\0"),
    BROKEN("a tombstone with a byte behind", "\x02\0t\0\0\0\0\0\0\0\0\0\0\0\0\0"),
    BROKEN("a user under a session", "\x02\0u\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
#undef BROKEN
};

START_TEST(broken_plain_records_are_unreadable)
{
    assert_unreadable(false, place, broken[_i].stored);
    assert_unreadable(true, place, broken[_i].stored);
}
END_TEST

static const char *const odd_shown[] = {
    "",
    "x",
    "\"tenant\":\"acme\",\"user_id\":\"alice\",\"roles\":[]",
    "\"tenant\":\"acme\",\"user_id\":\"alice\",\"roles\":[],\"attributes\":{}",
    "\"tenant\":\"acme\",\"user_id\":\"alice\",\"roles\":[],\"device\":{}}",
    "\"tenant\":\"acme\",\"user_id\":\"alice\",\"roles\":[],\"device\":{",
    "\"tenant\":\"acme\",\"user_id\":\"alice\",\"roles\":[],\"device\":{\"id\":1}",
    "\"tenant\":\"acme\",\"user_id\":\"alice\",\"roles\":[],\"device\":{\"name\":\"n\",\"id\":"
    "\"i\"}",
    "\"tenant\":\"acme\",\"user_id\":\"alice\",\"roles\":[],\"device\":[]",
    "\"tenant\":\"acme\",\"user_id\":\"alice\",\"roles\":[],\"device\":\"\\",
    "\"tenant\":\"acme\",\"user_id\":\"alice\",\"roles\":[1],\"device\":{}",
    "\"tenant\":\"acme\",\"user_id\":\"alice\",\"roles\":[\"a\",],\"device\":{}",
    "\"tenant\":\"acme\",\"user_id\":\"alice\",\"roles\":\"a\",\"device\":{}",
    "\"tenant\":\"acme\",\"user_id\":7,\"roles\":[],\"device\":{}",
    "\"user_id\":\"alice\",\"tenant\":\"acme\",\"roles\":[],\"device\":{}",
    "\"tenant\":\"acme\", \"user_id\":\"alice\",\"roles\":[],\"device\":{}",
    "\"tenant\":\"acme\",\"user_id\":\"alice\",\"roles\":[],\"device\":{},\"attributes\":[]",
    "\"tenant\":\"acme\",\"user_id\":\"alice\",\"roles\":[],\"device\":{},\"attributes\":{},\"x\":"
    "1",
    "\"tenant\":\"acme\",\"user_id\":\"\xff\",\"roles\":[],\"device\":{}",
};

/* Anybody who can write to Redis can write plain records. */
START_TEST(a_plain_session_with_other_members_is_unreadable)
{
    struct record record = example(false);
    record.session_json = text_of(odd_shown[_i]);
    record_write(ring, false, place, RECORD_FORMAT_MAX, &record, &stored);
    assert_unreadable(false, place, buffer_text(&stored));
}
END_TEST

static const char *const whole_shown[] = {
    SESSION_JSON,
    "\"tenant\":\"\",\"user_id\":\"\\\"\",\"roles\":[],\"device\":{}",
    "\"tenant\":\"a\",\"user_id\":\"b\",\"roles\":[\"r\",\"]\"],\"device\":{\"id\":\"}\",\"type\":"
    "\"t\","
    "\"name\":\"\\\\\"},\"attributes\":{\"device\":{},\"x\":[\",\\\"device\\\":{\"]}",
};

START_TEST(a_plain_session_as_it_is_written_reads)
{
    struct record record = example(false);
    record.session_json = text_of(whole_shown[_i]);
    assert_round_trip(&record, false);
}
END_TEST

START_TEST(a_plain_record_with_control_characters_is_unreadable)
{
    struct record record = example(false);
    record.user_agent = TEXT("a\nb");
    record_write(ring, false, place, RECORD_FORMAT_MAX, &record, &stored);
    assert_unreadable(false, place, buffer_text(&stored));
    stored.length = 0;
    const struct tombstone tombstone = {.reason = {"k\xff", 2}, .actor = {"ops", 3}};
    record_write_tombstone(ring, false, place, &tombstone, &stored);
    assert_unreadable(false, place, buffer_text(&stored));
}
END_TEST

/* The control for the table above: its tombstone without the extra byte is one. */
START_TEST(the_smallest_tombstone_reads)
{
    struct record_content content;
    ck_assert_int_eq(read_text(false, TEXT("\x02\0t\0\0\0\0\0\0\0\0\0\0\0\0"), &content),
                     RECORD_TOMBSTONE);
    ck_assert_ptr_null(content.tombstone.reason.data);
}
END_TEST

/* Large enough to have memory of its own, so that following it shows under the address sanitizer.
 */
START_TEST(a_length_that_leads_out_of_the_record_is_not_followed)
{
    static char letters[8000];
    const struct record record = {.session_json = TEXT(SESSION_JSON),
                                  .user_agent = {memset(letters, 'x', sizeof(letters)), 8000}};
    const size_t agent_length_at =
        2 + 1 + 1 + 4 + 6 + 5 + 16 + 16 + 2 + sizeof(SESSION_JSON) - 1 + 1;
    struct record_content content;
    record_write(ring, false, place, RECORD_FORMAT_MAX, &record, &stored);
    ck_assert_mem_eq(stored.data + agent_length_at, "\x1f\x40", 2);
    ck_assert_int_eq(read_text(false, buffer_text(&stored), &content), RECORD_SESSION);
    memset(stored.data + agent_length_at, 0xff, 2);
    assert_unreadable(false, place, buffer_text(&stored));
}
END_TEST

START_TEST(unknown_flags_are_unreadable)
{
    const struct record_position user_place = {&alice, no_session};
    const struct record record = {.session_json = TEXT(SESSION_JSON)};
    const struct user_record user = {0};
    struct record_content content;
    const size_t flags_at = 3;

    record_write(ring, false, place, RECORD_FORMAT_MAX, &record, &stored);
    for (int bit = 6; bit < 8; bit++) {
        stored.data[flags_at] = (char)(1 << bit);
        assert_unreadable(false, place, buffer_text(&stored));
    }
    stored.data[flags_at] = 3;
    ck_assert_int_eq(read_text(false, buffer_text(&stored), &content), RECORD_SESSION);

    stored.length = 0;
    record_write_user(ring, false, &alice, &user, &stored);
    for (int bit = 2; bit < 8; bit++) {
        stored.data[flags_at] = (char)(1 << bit);
        assert_unreadable(false, user_place, buffer_text(&stored));
    }
    stored.data[flags_at] = 1;
    ck_assert_int_eq(record_read(ring, false, user_place, buffer_text(&stored), &arena, &content),
                     RECORD_USER);
}
END_TEST

/* --- Two hundred thousand mutations ---------------------------------------------------------- */

/* Flips bits, sets bytes, cuts and grows; `copy` takes twice the example. */
static size_t mutate(uint64_t *state, char *copy, size_t length)
{
    memcpy(copy, stored.data, length);
    for (uint64_t changes = 1 + support_next(state) % 4; changes > 0; changes--) {
        uint64_t choice = support_next(state);
        size_t at = choice % length;
        char byte = (char)(choice >> 32);
        switch (choice >> 48 & 3) {
        case 0:
            copy[at] ^= (char)(1 << (byte & 7));
            break;
        case 1:
            copy[at] = byte;
            break;
        case 2:
            length = at + 1;
            break;
        default:
            copy[length++] = byte;
        }
    }
    return length;
}

static void assert_inside_arena(struct text text, struct text input)
{
    if (text.data)
        ck_assert(text.data + text.length <= input.data || text.data >= input.data + input.length);
}

START_TEST(mutations_never_read_as_sealed_and_never_break_the_reader)
{
    const bool encrypt = _i;
    store_session(encrypt);
    uint64_t state = 2;
    char *copy = malloc(stored.length + 8);
    for (int i = 0; i < 100000; i++) {
        size_t length = mutate(&state, copy, stored.length);
        bool same = length == stored.length && memcmp(copy, stored.data, length) == 0;
        struct text text = {copy, length};
        struct record_content content;
        enum record_kind kind = read_text(encrypt, text, &content);
        if (encrypt && kind != (same ? RECORD_SESSION : RECORD_UNREADABLE))
            ck_abort_msg("mutation %d reads as %d", i, kind);
        if (kind == RECORD_SESSION) {
            assert_inside_arena(content.session.session_json, text);
            assert_inside_arena(content.session.user_agent, text);
        }
        arena_reset(&arena);
    }
    free(copy);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

static Suite *suite(void)
{
    Suite *suite = suite_create("record");
    TCase *reading = tcase_create("reading");
    tcase_add_checked_fixture(reading, setup, teardown);
    tcase_add_loop_test(reading, a_session_reads_back, 0, 32);
    tcase_add_loop_test(reading, an_empty_session_and_the_largest_read_back, 0, 2);
    tcase_add_loop_test(reading, a_tombstone_reads_back, 0, 2);
    tcase_add_loop_test(reading, the_state_of_a_user_reads_back_under_session_id_zero_only, 0,
                        ROWS(users));
    tcase_add_loop_test(reading, names_read_back_under_session_id_zero_only, 0, 2);
    tcase_add_test(reading, writing_appends);
    tcase_add_test(reading, plain_layouts_are_known);
    tcase_add_test(reading, a_tombstone_sealed_elsewhere_reads);
    tcase_add_test(reading, sealed_bytes_show_nothing_and_never_repeat);
    tcase_add_test(reading, a_text_too_long_is_cut_between_characters);
    tcase_add_test(reading, times_out_of_range_become_the_nearest);
    suite_add_tcase(suite, reading);

    TCase *refusing = tcase_create("refusing");
    tcase_add_checked_fixture(refusing, setup, teardown);
    tcase_set_timeout(refusing, 60);
    tcase_add_test(refusing, each_single_flipped_bit_of_a_sealed_record_is_unreadable);
    tcase_add_loop_test(refusing, a_record_of_any_other_length_is_unreadable, 0, 2);
    tcase_add_test(refusing, a_record_moved_to_another_place_is_unreadable);
    tcase_add_test(refusing, a_record_names_its_key_and_no_other);
    tcase_add_loop_test(refusing, members_read_back_and_need_the_later_format, 0, 2);
    tcase_add_test(refusing, in_the_first_format_the_members_are_left_out);
    tcase_add_test(refusing, unknown_members_are_kept);
    tcase_add_loop_test(refusing, an_unknown_format_is_foreign_and_a_broken_member_is_not_read, 0,
                        2);
    tcase_add_test(refusing, rotation_reads_old_records_until_their_key_is_dropped);
    tcase_add_test(refusing, plain_records_read_only_while_encryption_is_off);
    tcase_add_loop_test(refusing, broken_plain_records_are_unreadable, 0, ROWS(broken));
    tcase_add_loop_test(refusing, a_plain_session_with_other_members_is_unreadable, 0,
                        ROWS(odd_shown));
    tcase_add_loop_test(refusing, a_plain_session_as_it_is_written_reads, 0, ROWS(whole_shown));
    tcase_add_test(refusing, a_plain_record_with_control_characters_is_unreadable);
    tcase_add_test(refusing, the_smallest_tombstone_reads);
    tcase_add_test(refusing, a_length_that_leads_out_of_the_record_is_not_followed);
    tcase_add_test(refusing, unknown_flags_are_unreadable);
    tcase_add_loop_test(refusing, mutations_never_read_as_sealed_and_never_break_the_reader, 0, 2);
    suite_add_tcase(suite, refusing);
    return suite;
}

int main(void)
{
    return support_run(suite());
}
