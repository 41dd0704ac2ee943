/* Tokens: the layout against values worked out elsewhere, and everything that is not a token. */
#include "token.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "session/model/keys.h"
#include "support_keys.h"
#include "support_run.h"

#define RAW           45
#define PREFIX_LENGTH 3

static struct keyring *ring;
static struct token token;
static char access_text[TOKEN_LENGTH];
static char refresh_text[TOKEN_LENGTH];

static struct text as_text(const char *characters)
{
    return (struct text){characters, TOKEN_LENGTH};
}

static void setup(void)
{
    ring = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1 SUPPORT_KEY_2);
    token = (struct token){.key_id = 2, .session_id = {1, 2, 3, 4, 5, 6, 7, 8}};
    token_tag_user(ring, TEXT("acme"), TEXT("alice"), &token.owner);
    for (size_t i = 0; i < SECRET_LENGTH; i++)
        token.secret[i] = (uint8_t)(0x80 + i);
    token_print(ring, TOKEN_ACCESS, &token, access_text);
    token_print(ring, TOKEN_REFRESH, &token, refresh_text);
}

static void teardown(void)
{
    keyring_unref(&ring);
}

static void assert_hex(const void *data, size_t length, const char *expected)
{
    char hex[65] = "";
    text_to_hex(hex, data, length);
    ck_assert_str_eq(hex, expected);
}

static void assert_refused(enum token_kind kind, struct text text)
{
    static const struct token nothing;
    struct token read;
    memset(&read, 'x', sizeof(read));
    ck_assert_msg(!token_read(ring, kind, text, &read), "read: %.*s", (int)text.length, text.data);
    ck_assert_mem_eq(&read, &nothing, sizeof(read));
}

/* --- Printing and reading -------------------------------------------------------------------- */

START_TEST(a_token_has_63_known_characters)
{
    ck_assert_mem_eq(access_text, "sa_AuyoyxBbxq95ZixBBUNSAQIDBAUGBwiAgYKDhIWGh4iJiouMjY6PtdXjPJzE",
                     TOKEN_LENGTH);
    ck_assert_mem_eq(refresh_text,
                     "sr_AuyoyxBbxq95ZixBBUNSAQIDBAUGBwiAgYKDhIWGh4iJiouMjY6PRZrADANF",
                     TOKEN_LENGTH);
}
END_TEST

START_TEST(what_was_printed_reads_back)
{
    for (uint8_t key_id = 1; key_id <= 2; key_id++) {
        for (int i = 0; i < 100; i++) {
            struct token printed = {.key_id = key_id}, read;
            crypto_random(&printed.owner, sizeof(printed.owner));
            crypto_random(printed.session_id, SESSION_ID);
            crypto_random(printed.secret, SECRET_LENGTH);
            enum token_kind kind = i % 2 ? TOKEN_ACCESS : TOKEN_REFRESH;
            char text[TOKEN_LENGTH];
            token_print(ring, kind, &printed, text);
            ck_assert(token_read(ring, kind, as_text(text), &read));
            ck_assert_mem_eq(&read, &printed, sizeof(read));
        }
    }
}
END_TEST

START_TEST(whose_a_token_claims_to_be_is_told_without_its_mac)
{
    struct user_tag owner;
    ck_assert(token_claimed_owner(as_text(refresh_text), &owner));
    ck_assert_mem_eq(&owner, &token.owner, sizeof(owner));
    access_text[TOKEN_LENGTH - 1] ^= 1; /* of the MAC */
    ck_assert(token_claimed_owner(as_text(access_text), &owner));
    ck_assert_mem_eq(&owner, &token.owner, sizeof(owner));
    access_text[PREFIX_LENGTH] = '*';
    ck_assert(!token_claimed_owner(as_text(access_text), &owner));
    ck_assert(!token_claimed_owner((struct text){access_text, TOKEN_LENGTH - 1}, &owner));
    ck_assert(!token_claimed_owner((struct text){0}, &owner));
}
END_TEST

START_TEST(a_refresh_token_is_no_access_token)
{
    assert_refused(TOKEN_ACCESS, as_text(refresh_text));
    assert_refused(TOKEN_REFRESH, as_text(access_text));
    access_text[1] = 'r';
    refresh_text[1] = 'a';
    assert_refused(TOKEN_REFRESH, as_text(access_text));
    assert_refused(TOKEN_ACCESS, as_text(refresh_text));
}
END_TEST

START_TEST(each_single_flipped_bit_is_refused)
{
    uint8_t raw[RAW];
    char text[TOKEN_LENGTH] = "sa_";
    ck_assert(text_from_base64url(raw, RAW, (struct text){access_text + 3, 60}));
    for (size_t bit = 0; bit < 8 * RAW; bit++) {
        raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
        text_to_base64url(text + 3, raw, RAW);
        assert_refused(TOKEN_ACCESS, as_text(text));
        raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}
END_TEST

START_TEST(each_other_character_in_each_place_is_refused)
{
    for (size_t i = 0; i < TOKEN_LENGTH; i++) {
        char right = access_text[i];
        for (int c = 0; c < 256; c++) {
            access_text[i] = (char)c;
            if ((char)c != right)
                assert_refused(TOKEN_ACCESS, as_text(access_text));
        }
        access_text[i] = right;
    }
    struct token read;
    ck_assert(token_read(ring, TOKEN_ACCESS, as_text(access_text), &read));
}
END_TEST

START_TEST(any_other_length_is_refused)
{
    char text[TOKEN_LENGTH + 2];
    memcpy(text, access_text, TOKEN_LENGTH);
    memcpy(text + TOKEN_LENGTH, "AA", 2);
    for (size_t length = 0; length <= sizeof(text); length++)
        if (length != TOKEN_LENGTH)
            assert_refused(TOKEN_ACCESS, (struct text){text, length});
    assert_refused(TOKEN_ACCESS, (struct text){0});
}
END_TEST

/* The right MAC for these bytes, under key 1, whatever they say. */
static void forge(uint8_t first_byte, char text[TOKEN_LENGTH])
{
    uint8_t message[3 + RAW];
    memcpy(message, "sa_", 3);
    memset(message + 3, 'x', RAW);
    message[3] = first_byte;
    ck_assert(crypto_token_mac(ring, 1, message, 3 + 39, message + 3 + 39));
    memcpy(text, "sa_", 3);
    text_to_base64url(text + 3, message + 3, RAW);
}

START_TEST(the_first_byte_is_checked_even_under_a_right_mac)
{
    char text[TOKEN_LENGTH];
    struct token read;
    for (unsigned first = 0; first < 256; first++) {
        forge((uint8_t)first, text);
        if (first != 1)
            assert_refused(TOKEN_ACCESS, as_text(text));
    }
    forge(1, text);
    ck_assert(token_read(ring, TOKEN_ACCESS, as_text(text), &read));
}
END_TEST

START_TEST(rotation_keeps_old_tokens_until_their_key_is_dropped)
{
    struct keyring *old = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1);
    struct keyring *dropped = support_keyring(SUPPORT_NAMES SUPPORT_KEY_2);
    struct token read;
    char text[TOKEN_LENGTH];
    token.key_id = keyring_newest(old);
    token_print(old, TOKEN_ACCESS, &token, text);
    ck_assert_uint_eq(keyring_newest(ring), 2);
    ck_assert(token_read(old, TOKEN_ACCESS, as_text(text), &read));
    ck_assert(token_read(ring, TOKEN_ACCESS, as_text(text), &read));
    ck_assert(!token_read(dropped, TOKEN_ACCESS, as_text(text), &read));
    ck_assert(!token_read(old, TOKEN_ACCESS, as_text(access_text), &read));
    ck_assert(token_read(dropped, TOKEN_ACCESS, as_text(access_text), &read));
    keyring_unref(&old);
    keyring_unref(&dropped);
}
END_TEST

START_TEST(two_hundred_thousand_mutations_are_refused)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint64_t state = 1;
    struct token read;
    for (int i = 0; i < 200000; i++) {
        char text[TOKEN_LENGTH];
        memcpy(text, access_text, TOKEN_LENGTH);
        for (uint64_t changes = 1 + support_next(&state) % 6; changes > 0; changes--) {
            uint64_t choice = support_next(&state);
            text[3 + choice % 60] = digits[choice / 60 % 64];
        }
        bool same = memcmp(text, access_text, TOKEN_LENGTH) == 0;
        if (token_read(ring, TOKEN_ACCESS, as_text(text), &read) != same)
            ck_abort_msg("mutation %d: %.63s", i, text);
    }
}
END_TEST

/* --- Names ----------------------------------------------------------------------------------- */

START_TEST(tags_and_key_names_are_known)
{
    assert_hex(token.owner.tenant, TENANT_TAG, "eca8cb105bc6");
    assert_hex(token.owner.user, USER_TAG, "af79662c41054352");
    char key[KEYS_USER_LENGTH];
    keys_user(&token.owner, KEYS_USER, key);
    ck_assert_mem_eq(key, "sd:u:{7KjLEFvG.r3lmLEEFQ1I}", KEYS_USER_LENGTH);
    keys_user(&token.owner, KEYS_EPOCH, key);
    ck_assert_mem_eq(key, "sd:e:{7KjLEFvG.r3lmLEEFQ1I}", KEYS_USER_LENGTH);
}
END_TEST

START_TEST(users_of_a_tenant_share_its_tag_and_nothing_else)
{
    struct user_tag bob, alice_elsewhere;
    token_tag_user(ring, TEXT("acme"), TEXT("bob"), &bob);
    token_tag_user(ring, TEXT("globex"), TEXT("alice"), &alice_elsewhere);
    ck_assert_mem_eq(bob.tenant, token.owner.tenant, TENANT_TAG);
    ck_assert_mem_ne(bob.user, token.owner.user, USER_TAG);
    ck_assert_mem_ne(alice_elsewhere.tenant, token.owner.tenant, TENANT_TAG);
    ck_assert_mem_ne(alice_elsewhere.user, token.owner.user, USER_TAG);
    ck_assert(token_is_of_tenant(ring, &token, TEXT("acme")));
    ck_assert(!token_is_of_tenant(ring, &token, TEXT("globex")));
    ck_assert(!token_is_of_tenant(ring, &token, TEXT("acm")));
}
END_TEST

/* --- Session ids ----------------------------------------------------------------------------- */

START_TEST(session_ids_tell_their_time_and_sort_by_it)
{
    static const int64_t times[] = {0, 1, 999, 1700000000000, 1700000000001, 4398046511103};
    uint8_t previous[SESSION_ID] = {0};
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        uint8_t id[SESSION_ID];
        token_new_session_id(times[i], id);
        ck_assert_int_eq(token_session_created_ms(id), times[i]);
        ck_assert_int_gt(memcmp(id, previous, SESSION_ID), i == 0 ? -1 : 0);
        memcpy(previous, id, SESSION_ID);
    }
}
END_TEST

#define THREADS 4
#define BURST   20000

static uint8_t ids[THREADS * BURST][SESSION_ID];

static void *make_ids(void *argument)
{
    uint8_t(*own)[SESSION_ID] = argument;
    for (size_t i = 0; i < BURST; i++)
        token_new_session_id(1700000000000, own[i]);
    return NULL;
}

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, SESSION_ID);
}

START_TEST(session_ids_of_a_burst_in_one_millisecond_all_differ)
{
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, make_ids, ids[i * BURST]), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    qsort(ids, THREADS * BURST, SESSION_ID, compare_ids);
    for (size_t i = 1; i < THREADS * BURST; i++)
        ck_assert_mem_ne(ids[i - 1], ids[i], SESSION_ID);
}
END_TEST

START_TEST(each_millisecond_starts_at_random)
{
    int64_t repeated = 0, previous = -1;
    for (int64_t ms = 1000; ms < 1020; ms++) {
        uint8_t id[SESSION_ID];
        token_new_session_id(ms, id);
        int64_t low = (id[5] & 0x3F) << 16 | id[6] << 8 | id[7];
        repeated += low == previous || low == previous + 1;
        previous = low;
    }
    ck_assert_int_lt(repeated, 2);
}
END_TEST

/* --- Secrets --------------------------------------------------------------------------------- */

START_TEST(hashes_of_secrets_are_known_and_differ_by_kind_session_and_secret)
{
    uint8_t access[SECRET_HASH], refresh[SECRET_HASH], other[SECRET_HASH];
    token_hash_secret(ring, TOKEN_ACCESS, token.session_id, token.secret, access);
    token_hash_secret(ring, TOKEN_REFRESH, token.session_id, token.secret, refresh);
    assert_hex(access, SECRET_HASH, "cf4b85f4d2e0409b6a06d8f22f815790");
    assert_hex(refresh, SECRET_HASH, "3addd37c4aaba823018341a926146be3");
    token.secret[15] ^= 1;
    token_hash_secret(ring, TOKEN_ACCESS, token.session_id, token.secret, other);
    ck_assert_mem_ne(access, other, SECRET_HASH);
    token.secret[15] ^= 1;
    token.session_id[0] ^= 1;
    token_hash_secret(ring, TOKEN_ACCESS, token.session_id, token.secret, other);
    ck_assert_mem_ne(access, other, SECRET_HASH);
}
END_TEST

struct pair {
    uint8_t access[SECRET_LENGTH];
    uint8_t refresh[SECRET_LENGTH];
};

static struct pair succeed(uint32_t generation)
{
    struct pair pair;
    token_succeed(ring, &token, ORIGIN_SECRET, generation, pair.access, pair.refresh);
    return pair;
}

static struct pair succeed_hash(const struct keyring *keyring, uint32_t generation)
{
    struct pair pair;
    struct token hashed = token;
    token_hash_secret(keyring, TOKEN_REFRESH, token.session_id, token.secret, hashed.secret);
    token_succeed(keyring, &hashed, ORIGIN_HASH, generation, pair.access, pair.refresh);
    return pair;
}

START_TEST(a_successor_is_known_and_the_same_each_time)
{
    struct pair first = succeed(7), again = succeed(7);
    assert_hex(first.access, SECRET_LENGTH, "b2145559b1d74411f81f7a226689c1b4");
    assert_hex(first.refresh, SECRET_LENGTH, "e14601947bc83be3de28cc7ff3763ade");
    ck_assert_mem_eq(&first, &again, sizeof(first));
}
END_TEST

START_TEST(a_successor_of_a_hash_is_another_and_known)
{
    struct pair of_secret = succeed(7), of_hash = succeed_hash(ring, 7);
    assert_hex(of_hash.access, SECRET_LENGTH, "58cbf9af5e5a038906c51bd157d21d8a");
    assert_hex(of_hash.refresh, SECRET_LENGTH, "2cffdf623d8ddedea3fd7cf8dad346c2");
    ck_assert_mem_ne(of_secret.access, of_hash.access, SECRET_LENGTH);
    /* Nor are the two ways one for the same sixteen bytes. */
    struct pair of_bytes;
    token_succeed(ring, &token, ORIGIN_HASH, 7, of_bytes.access, of_bytes.refresh);
    ck_assert_mem_ne(of_secret.access, of_bytes.access, SECRET_LENGTH);
    ck_assert_mem_ne(of_secret.refresh, of_bytes.refresh, SECRET_LENGTH);
}
END_TEST

START_TEST(a_successor_outlives_the_rotation_of_keys)
{
    struct pair before = succeed(7), before_of_hash = succeed_hash(ring, 7);
    struct keyring *rotated = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1);
    struct pair after, after_of_hash = succeed_hash(rotated, 7);
    token_succeed(rotated, &token, ORIGIN_SECRET, 7, after.access, after.refresh);
    ck_assert_mem_eq(&before, &after, sizeof(before));
    ck_assert_mem_eq(&before_of_hash, &after_of_hash, sizeof(before));
    keyring_unref(&rotated);
}
END_TEST

START_TEST(successors_differ_by_generation_secret_session_and_owner)
{
    enum { PAIRS = 8 };
    struct pair pairs[PAIRS];
    pairs[0] = succeed(0);
    pairs[1] = succeed(1);
    pairs[2] = succeed(256);
    pairs[3] = succeed(UINT32_MAX);
    token.secret[0] ^= 1;
    pairs[4] = succeed(0);
    token.session_id[0] ^= 1;
    pairs[5] = succeed(0);
    token.owner.user[0] ^= 1;
    pairs[6] = succeed(0);
    token.owner.tenant[0] ^= 1;
    pairs[7] = succeed(0);
    /* As a row of secrets: those of a pair differ, too. */
    const uint8_t(*secrets)[SECRET_LENGTH] = (const void *)pairs;
    for (size_t i = 0; i < 2 * PAIRS; i++)
        for (size_t j = 0; j < i; j++)
            ck_assert_mem_ne(secrets[i], secrets[j], SECRET_LENGTH);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("token");
    TCase *tokens = tcase_create("tokens");
    tcase_add_checked_fixture(tokens, setup, teardown);
    tcase_set_timeout(tokens, 30);
    tcase_add_test(tokens, a_token_has_63_known_characters);
    tcase_add_test(tokens, what_was_printed_reads_back);
    tcase_add_test(tokens, whose_a_token_claims_to_be_is_told_without_its_mac);
    tcase_add_test(tokens, a_refresh_token_is_no_access_token);
    tcase_add_test(tokens, each_single_flipped_bit_is_refused);
    tcase_add_test(tokens, each_other_character_in_each_place_is_refused);
    tcase_add_test(tokens, any_other_length_is_refused);
    tcase_add_test(tokens, the_first_byte_is_checked_even_under_a_right_mac);
    tcase_add_test(tokens, rotation_keeps_old_tokens_until_their_key_is_dropped);
    tcase_add_test(tokens, two_hundred_thousand_mutations_are_refused);
    suite_add_tcase(suite, tokens);

    TCase *parts = tcase_create("parts");
    tcase_add_checked_fixture(parts, setup, teardown);
    tcase_set_timeout(parts, 30);
    tcase_add_test(parts, tags_and_key_names_are_known);
    tcase_add_test(parts, users_of_a_tenant_share_its_tag_and_nothing_else);
    tcase_add_test(parts, session_ids_tell_their_time_and_sort_by_it);
    tcase_add_test(parts, session_ids_of_a_burst_in_one_millisecond_all_differ);
    tcase_add_test(parts, each_millisecond_starts_at_random);
    tcase_add_test(parts, hashes_of_secrets_are_known_and_differ_by_kind_session_and_secret);
    tcase_add_test(parts, a_successor_is_known_and_the_same_each_time);
    tcase_add_test(parts, a_successor_of_a_hash_is_another_and_known);
    tcase_add_test(parts, a_successor_outlives_the_rotation_of_keys);
    tcase_add_test(parts, successors_differ_by_generation_secret_session_and_owner);
    suite_add_tcase(suite, parts);
    return suite;
}

int main(void)
{
    return support_run(suite());
}
