/* Keyed hashes, MACs and sealing against values worked out with other implementations (Python's
 * hashlib, SipHash's own test vector, OpenSSL called directly). The key file: check_keyring.c. */
#include "crypto.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "support_keys.h"
#include "support_run.h"

static struct keyring *ring;

static void setup(void)
{
    ring = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1 SUPPORT_KEY_2);
}

static void teardown(void)
{
    keyring_unref(&ring);
}

static void assert_hex(const void *data, size_t length, const char *expected)
{
    char hex[2 * 256 + 1] = "";
    text_to_hex(hex, data, length);
    ck_assert_str_eq(hex, expected);
}

/* --- Hashes ---------------------------------------------------------------------------------- */

START_TEST(digest_is_unkeyed_blake2b_256)
{
    uint8_t digest[32];
    crypto_digest(digest, TEXT("abc"));
    assert_hex(digest, 32, "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
}
END_TEST

START_TEST(hmac_is_that_of_rfc_4231)
{
    const struct text parts[] = {TEXT("what do ya want "), TEXT("for nothing?")};
    uint8_t mac[32];
    crypto_hmac_sha256(mac, TEXT("Jefe"), parts, 2);
    assert_hex(mac, 32, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}
END_TEST

static const char *const keyed_hashes[CRYPTO_PURPOSES] = {
    [CRYPTO_TENANT_TAG] = "a022caa425942c13c3d73c0661cb2013f0460881fe92a5e723de8293701421e3",
    [CRYPTO_USER_TAG] = "af79662c41054352f761f2ac4214e41ef82d935ac0868075e1b3ca75e2f94a4a",
    [CRYPTO_SECRET_HASH] = "68b062046e47437a5873cbe5f245218618c6b10cbd1033e1d572086e94d06f74",
    [CRYPTO_SUCCESSOR_ACCESS] = "8bb27c914977a2185b7597787df02c50cbb286ebd0c8726a3cefbc5353dcd278",
    [CRYPTO_SUCCESSOR_REFRESH] = "168e1bc04458bffbfeb6709733a8877197d7324274db11556e6c0536daaedce2",
    [CRYPTO_HASH_ACCESS] = "2221763368f668d79333c38d496bb16575cec2ce624c47b7864b8dec49c9404e",
    [CRYPTO_HASH_REFRESH] = "bd6c43fc3c9abd719ecc76f9073a2c5f002d3d68cb485fe1621f2ab2bc606795",
    [CRYPTO_JOURNAL] = "da0925734ea26948900ab7e1b2b502164b73bbe20c22140d1d9925394aab4aa2",
    [CRYPTO_FINGERPRINT] = "8fa391e3d5757662325a9a3b10749171cf08960395981e016960766ce316f6bd",
    [CRYPTO_ETAG] = "2aa27f7c98e4f19b3ed7001e98754287977bea0a50c02e104a4484dfc883746e",
    [CRYPTO_PAGE] = "a9c94090a7f9eeec593da3f7270145cd90a34a6d33f9003fd67afe1d6225cd3a",
    [CRYPTO_CONTEXT] = "eb10adf44aa929fd5067ef2650b51792529bc79e7fef3e5ca6b0b186b929b6f1",
    [CRYPTO_CHALLENGE] = "c67b94f79cae944355c012dad43204d2162d74ec6491476656c8d2d26eeea5a6",
    [CRYPTO_CODE] = "c1f5f42ec97a3a8631363a0d07ec6dbca79916207d6648cf7df8a27398c7c373",
    [CRYPTO_RECOGNITION] = "279368b7c8a9c0c83ebbf643b88d832965b08d622fc7898f6e1970afe135bea4",
    [CRYPTO_STATEMENT] = "0dfcc9c74054f9c9ad2d29812aeadeb8e4a4e2e1400be18f9ca37717238c7f2f",
};

/* The reference implementation's vectors_sip128, for 0 and 15 bytes. */
START_TEST(the_short_mac_is_siphash_2_4_of_128_bits)
{
    uint8_t key[CRYPTO_TABLE_KEY], data[15], mac[CRYPTO_SHORT_MAC];
    for (uint8_t i = 0; i < sizeof(key); i++)
        key[i] = i;
    memcpy(data, key, sizeof(data));
    crypto_short_mac(key, data, 0, mac);
    assert_hex(mac, sizeof(mac), "a3817f04ba25a8e66df67214c7550293");
    crypto_short_mac(key, data, sizeof(data), mac);
    assert_hex(mac, sizeof(mac), "5493e99933b0a8117e08ec0f97cfc3d9");
}
END_TEST

START_TEST(every_purpose_has_its_own_known_hash)
{
    const struct text parts[] = {TEXT("acme"), TEXT("alice")};
    uint8_t hash[32];
    crypto_keyed_hash(ring, (enum crypto_purpose)_i, parts, 2, hash, 32);
    assert_hex(hash, 32, keyed_hashes[_i]);
    uint8_t shorter[16];
    crypto_keyed_hash(ring, (enum crypto_purpose)_i, parts, 2, shorter, 16);
    ck_assert_mem_eq(shorter, hash, 16);
}
END_TEST

START_TEST(the_border_between_parts_counts)
{
    const struct text splits[][3] = {
        {TEXT("ab"), TEXT("c"), {0}}, {TEXT("a"), TEXT("bc"), {0}}, {TEXT("abc"), {0}, {0}},
        {{0}, TEXT("abc"), {0}},      {TEXT("ab"), {0}, TEXT("c")},
    };
    enum { SPLITS = sizeof(splits) / sizeof(splits[0]) };
    uint8_t hashes[SPLITS][16];
    for (size_t i = 0; i < SPLITS; i++) {
        crypto_keyed_hash(ring, CRYPTO_FINGERPRINT, splits[i], 3, hashes[i], 16);
        for (size_t j = 0; j < i; j++)
            ck_assert_mem_ne(hashes[i], hashes[j], 16);
    }
}
END_TEST

START_TEST(hashes_depend_on_the_names_secret_alone)
{
    struct keyring *rotated = support_keyring(SUPPORT_NAMES SUPPORT_KEY_2);
    struct keyring *other = support_keyring(
        "names ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n" SUPPORT_KEY_1);
    const struct text part = TEXT("acme");
    uint8_t here[32], after_rotation[32], elsewhere[32];
    crypto_keyed_hash(ring, CRYPTO_TENANT_TAG, &part, 1, here, 32);
    crypto_keyed_hash(rotated, CRYPTO_TENANT_TAG, &part, 1, after_rotation, 32);
    crypto_keyed_hash(other, CRYPTO_TENANT_TAG, &part, 1, elsewhere, 32);
    ck_assert_mem_eq(here, after_rotation, 32);
    ck_assert_mem_ne(here, elsewhere, 32);
    keyring_unref(&rotated);
    keyring_unref(&other);
}
END_TEST

START_TEST(token_mac_is_siphash_under_a_key_of_its_own)
{
    uint8_t mac[6];
    ck_assert(crypto_token_mac(ring, 1, "sa_0123456789", 13, mac));
    assert_hex(mac, 6, "1065c3caff96");
    ck_assert(crypto_token_mac(ring, 2, "sa_0123456789", 13, mac));
    assert_hex(mac, 6, "94db77f10c91");
}
END_TEST

static const uint8_t unknown_ids[] = {0, 3, 63, 64, 65, 255};

START_TEST(an_unknown_key_id_macs_seals_and_opens_nothing)
{
    const uint8_t id = unknown_ids[_i];
    uint8_t mac[6], sealed[64], plain[8];
    ck_assert(!crypto_token_mac(ring, id, "x", 1, mac));
    ck_assert(!crypto_seal(ring, id, TEXT("s"), TEXT("a"), TEXT("plain"), sealed));
    ck_assert(crypto_seal(ring, 1, TEXT("s"), TEXT("a"), TEXT("plain"), sealed));
    memset(plain, 'x', sizeof(plain));
    ck_assert(!crypto_open(ring, id, TEXT("s"), TEXT("a"),
                           (struct text){(char *)sealed, 5 + CRYPTO_SEAL_OVERHEAD}, plain));
    ck_assert_mem_eq(plain, "\0\0\0\0\0xxx", 8);
}
END_TEST

/* --- Sealing --------------------------------------------------------------------------------- */

static const char sealed_elsewhere[] =
    "000102030405060708090a0b9c85dda05efdf0c22d07f9cf33f3fb51ee5bf4229321114480ae1264c460";

START_TEST(what_another_implementation_sealed_opens)
{
    uint8_t sealed[42];
    char plain[14];
    ck_assert(text_from_hex(sealed, 42, TEXT(sealed_elsewhere)));
    ck_assert(crypto_open(ring, 1, TEXT("subject"), TEXT("additional"),
                          (struct text){(char *)sealed, 42}, plain));
    ck_assert_mem_eq(plain, "attack at dawn", 14);
}
END_TEST

START_TEST(sealed_texts_of_every_length_open_again)
{
    char plain[600], opened[600], sealed[600 + CRYPTO_SEAL_OVERHEAD];
    crypto_random(plain, sizeof(plain));
    for (size_t length = 0; length <= sizeof(plain); length++) {
        struct text text = {plain, length};
        ck_assert(crypto_seal(ring, 2, TEXT("subject"), TEXT("additional"), text, sealed));
        ck_assert(crypto_open(ring, 2, TEXT("subject"), TEXT("additional"),
                              (struct text){sealed, length + CRYPTO_SEAL_OVERHEAD}, opened));
        if (length > 0)
            ck_assert_mem_eq(plain, opened, length);
    }
}
END_TEST

#define SECRET_TEXT "the quick brown fox"

static char sealed_fox[sizeof(SECRET_TEXT) - 1 + CRYPTO_SEAL_OVERHEAD];
static const struct text fox = {sealed_fox, sizeof(sealed_fox)};

static void seal_fox(void)
{
    setup();
    ck_assert(
        crypto_seal(ring, 1, TEXT("subject"), TEXT("additional"), TEXT(SECRET_TEXT), sealed_fox));
}

/* Refused, with the room for the text wiped and nothing after it touched. */
static void assert_refused(uint8_t id, struct text subject, struct text additional,
                           struct text sealed)
{
    char out[sizeof(sealed_fox) + 64];
    memset(out, 'x', sizeof(out));
    ck_assert(!crypto_open(ring, id, subject, additional, sealed, out));
    size_t room = sealed.length < CRYPTO_SEAL_OVERHEAD ? 0 : sealed.length - CRYPTO_SEAL_OVERHEAD;
    for (size_t i = 0; i < sizeof(out); i++)
        ck_assert_int_eq(out[i], i < room ? 0 : 'x');
}

START_TEST(each_single_flipped_bit_is_refused_and_the_output_wiped)
{
    for (size_t bit = 0; bit < 8 * sizeof(sealed_fox); bit++) {
        sealed_fox[bit / 8] ^= (char)(1 << bit % 8);
        assert_refused(1, TEXT("subject"), TEXT("additional"), fox);
        sealed_fox[bit / 8] ^= (char)(1 << bit % 8);
    }
    char out[sizeof(SECRET_TEXT) - 1];
    ck_assert(crypto_open(ring, 1, TEXT("subject"), TEXT("additional"), fox, out));
    ck_assert_mem_eq(out, SECRET_TEXT, sizeof(out));
}
END_TEST

START_TEST(each_shorter_text_is_refused)
{
    for (size_t length = 0; length < fox.length; length++)
        assert_refused(1, TEXT("subject"), TEXT("additional"), (struct text){fox.data, length});
}
END_TEST

START_TEST(another_key_subject_or_context_is_refused)
{
    assert_refused(2, TEXT("subject"), TEXT("additional"), fox);
    assert_refused(1, TEXT("Subject"), TEXT("additional"), fox);
    assert_refused(1, TEXT("subject"), TEXT("additionam"), fox);
    assert_refused(1, TEXT("subject"), TEXT(""), fox);
    assert_refused(1, TEXT(""), TEXT("additional"), fox);
}
END_TEST

#define SEALS 100000

static int compare_nonces(const void *a, const void *b)
{
    return memcmp(a, b, 12);
}

START_TEST(no_nonce_repeats_in_a_hundred_thousand_seals)
{
    static uint8_t nonces[SEALS][12];
    uint8_t sealed[1 + CRYPTO_SEAL_OVERHEAD];
    for (size_t i = 0; i < SEALS; i++) {
        ck_assert(crypto_seal(ring, 1, TEXT("s"), TEXT("a"), TEXT("p"), sealed));
        memcpy(nonces[i], sealed, 12);
    }
    qsort(nonces, SEALS, 12, compare_nonces);
    for (size_t i = 1; i < SEALS; i++)
        ck_assert_mem_ne(nonces[i - 1], nonces[i], 12);
}
END_TEST

/* Failures in between must not spoil the thread's context for the others. */
static void *seal_and_open(void *argument)
{
    (void)argument;
    char sealed[16 + CRYPTO_SEAL_OVERHEAD], plain[16];
    for (int i = 0; i < 2000; i++) {
        struct text text = {sealed, sizeof(sealed)};
        if (!crypto_seal(ring, 1, TEXT("s"), TEXT("a"), TEXT("0123456789abcdef"), sealed) ||
            crypto_open(ring, 2, TEXT("s"), TEXT("a"), text, plain) ||
            !crypto_open(ring, 1, TEXT("s"), TEXT("a"), text, plain) ||
            memcmp(plain, "0123456789abcdef", 16) != 0)
            return NULL;
    }
    return ring;
}

START_TEST(threads_seal_and_open_side_by_side)
{
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, seal_and_open, NULL), 0);
    for (size_t i = 0; i < 4; i++) {
        void *done = NULL;
        pthread_join(threads[i], &done);
        ck_assert_ptr_eq(done, ring);
    }
}
END_TEST

/* --- Small things ---------------------------------------------------------------------------- */

START_TEST(wipe_clears_equal_compares_and_random_differs)
{
    uint8_t a[32], b[32], zero[32] = {0};
    crypto_random(a, sizeof(a));
    crypto_random(b, sizeof(b));
    ck_assert(!crypto_equal(a, b, sizeof(a)));
    memcpy(b, a, sizeof(b));
    ck_assert(crypto_equal(a, b, sizeof(a)));
    b[31] ^= 1;
    ck_assert(!crypto_equal(a, b, sizeof(a)));
    ck_assert(crypto_equal(a, b, 31));
    crypto_wipe(a, sizeof(a));
    ck_assert_mem_eq(a, zero, sizeof(a));
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("crypto");
    TCase *hashes = tcase_create("hashes");
    tcase_add_checked_fixture(hashes, setup, teardown);
    tcase_add_test(hashes, digest_is_unkeyed_blake2b_256);
    tcase_add_test(hashes, hmac_is_that_of_rfc_4231);
    tcase_add_test(hashes, the_short_mac_is_siphash_2_4_of_128_bits);
    tcase_add_loop_test(hashes, every_purpose_has_its_own_known_hash, 0, CRYPTO_PURPOSES);
    tcase_add_test(hashes, the_border_between_parts_counts);
    tcase_add_test(hashes, hashes_depend_on_the_names_secret_alone);
    tcase_add_test(hashes, token_mac_is_siphash_under_a_key_of_its_own);
    tcase_add_loop_test(hashes, an_unknown_key_id_macs_seals_and_opens_nothing, 0,
                        sizeof(unknown_ids));
    tcase_add_test(hashes, wipe_clears_equal_compares_and_random_differs);
    suite_add_tcase(suite, hashes);

    TCase *sealing = tcase_create("sealing");
    tcase_add_checked_fixture(sealing, seal_fox, teardown);
    tcase_set_timeout(sealing, 30);
    tcase_add_test(sealing, what_another_implementation_sealed_opens);
    tcase_add_test(sealing, sealed_texts_of_every_length_open_again);
    tcase_add_test(sealing, each_single_flipped_bit_is_refused_and_the_output_wiped);
    tcase_add_test(sealing, each_shorter_text_is_refused);
    tcase_add_test(sealing, another_key_subject_or_context_is_refused);
    tcase_add_test(sealing, no_nonce_repeats_in_a_hundred_thousand_seals);
    tcase_add_test(sealing, threads_seal_and_open_side_by_side);
    suite_add_tcase(suite, sealing);
    return suite;
}

int main(void)
{
    return support_run(suite());
}
