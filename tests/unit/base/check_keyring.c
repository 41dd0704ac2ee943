/* The key file: made once however many start at once, closed to others, refused with a reason. */
#include "crypto.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "support_keys.h"
#include "support_run.h"

#define GOOD SUPPORT_NAMES SUPPORT_KEY_1

static char directory[SUPPORT_PATH];
static char path[2 * SUPPORT_PATH];
static struct buffer error;

static void setup(void)
{
    crypto_init();
    snprintf(directory, sizeof(directory), "/tmp/sessiond-check-ring-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/keys", directory);
}

static void teardown(void)
{
    buffer_free(&error);
    unlink(path);
    rmdir(path);
    clock_fake(0);
    ck_assert_int_eq(rmdir(directory), 0); /* nothing is left behind */
}

static void write_file(const char *content, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_eq(write(fd, content, strlen(content)), (ssize_t)strlen(content));
    ck_assert_int_eq(fchmod(fd, mode), 0);
    close(fd);
}

static void assert_loads(void)
{
    struct keyring *ring = keyring_load(path, false, &error);
    ck_assert_msg(ring != NULL, "%.*s", (int)error.length, error.data);
    ck_assert_uint_eq(error.length, 0);
    keyring_unref(&ring);
    ck_assert_ptr_null(ring);
}

/* Refused with a message that begins with option, path and this, and contains no key. */
static void assert_refused(const char *rest, const char *why)
{
    ck_assert_ptr_null(keyring_load(path, false, &error));
    buffer_add_char(&error, '\0');
    char begin[256];
    snprintf(begin, sizeof(begin), "keys.file: %s%s", path, rest);
    ck_assert_msg(strncmp(error.data, begin, strlen(begin)) == 0, "%s", error.data);
    ck_assert_msg(strstr(error.data, why) != NULL, "%s", error.data);
    ck_assert_ptr_null(strstr(error.data, "2021"));
    ck_assert_ptr_null(strstr(error.data, "0001"));
}

/* --- Making ---------------------------------------------------------------------------------- */

static void hash_with(const struct keyring *ring, uint8_t ret[32 + 6])
{
    struct text part = TEXT("x");
    crypto_keyed_hash(ring, CRYPTO_FINGERPRINT, &part, 1, ret, 32);
    ck_assert(crypto_token_mac(ring, 1, "x", 1, ret + 32));
}

START_TEST(a_missing_file_is_made_only_when_asked_for)
{
    assert_refused(": ", "No such file");
    ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

START_TEST(a_made_file_is_closed_to_others_and_loads_again)
{
    umask(0);
    struct keyring *made = keyring_load(path, true, &error);
    ck_assert_msg(made != NULL, "%.*s", (int)error.length, error.data);
    struct stat status;
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_uint_eq(status.st_mode, S_IFREG | 0600);
    ck_assert_uint_eq(status.st_nlink, 1);
    ck_assert_uint_eq(keyring_newest(made), 1);

    struct keyring *again = keyring_load(path, true, &error);
    uint8_t a[38], b[38];
    hash_with(made, a);
    hash_with(again, b);
    ck_assert_mem_eq(a, b, sizeof(a));
    keyring_unref(&made);
    keyring_unref(&again);
}
END_TEST

#define STARTERS 12

/* Waits for the pipe to close, creates or finds the keys, and writes what they hash to. */
static void start(int gate, int answers)
{
    char nothing;
    uint8_t hash[38];
    while (read(gate, &nothing, 1) > 0)
        continue;
    struct keyring *ring = keyring_load(path, true, &error);
    if (ring) {
        hash_with(ring, hash);
        _exit(write(answers, hash, sizeof(hash)) == sizeof(hash) ? 0 : 1);
    }
    _exit(1);
}

START_TEST(processes_that_start_at_once_end_with_the_same_keys)
{
    int gate[2], answers[2];
    ck_assert_int_eq(pipe(gate), 0);
    ck_assert_int_eq(pipe(answers), 0);
    for (int i = 0; i < STARTERS; i++) {
        if (fork() == 0) {
            close(gate[1]);
            start(gate[0], answers[1]);
        }
    }
    close(gate[0]);
    close(gate[1]);
    close(answers[1]);
    for (int i = 0; i < STARTERS; i++) {
        int status = -1;
        ck_assert_int_gt(wait(&status), 0);
        ck_assert_int_eq(status, 0);
    }
    uint8_t first[38], other[38];
    ck_assert_int_eq(read(answers[0], first, sizeof(first)), sizeof(first));
    for (int i = 1; i < STARTERS; i++) {
        ck_assert_int_eq(read(answers[0], other, sizeof(other)), sizeof(other));
        ck_assert_mem_eq(first, other, sizeof(first));
    }
}
END_TEST

START_TEST(a_directory_that_is_not_there_is_an_error)
{
    char whole[sizeof(path)];
    memcpy(whole, path, sizeof(path));
    snprintf(path, sizeof(path), "%s/none/keys", directory);
    ck_assert_ptr_null(keyring_load(path, true, &error));
    buffer_add_char(&error, '\0');
    ck_assert_msg(strstr(error.data, "cannot be created: No such file") != NULL, "%s", error.data);
    memcpy(path, whole, sizeof(path));
}
END_TEST

/* --- Access ---------------------------------------------------------------------------------- */

/* The rule is that of all secret files: check_private_file.c. */
START_TEST(only_files_closed_to_others_load)
{
    unsetenv("CREDENTIALS_DIRECTORY");
    write_file(GOOD, 0400);
    assert_loads();
    write_file(GOOD, 0604);
    assert_refused(": mode 0604", "chmod 0600");
}
END_TEST

START_TEST(a_name_without_a_slash_is_a_credential_and_never_made)
{
    char named[sizeof(path)];
    memcpy(named, path, sizeof(path));
    setenv("CREDENTIALS_DIRECTORY", directory, 1);
    write_file(GOOD, 0440);
    snprintf(path, sizeof(path), "keys");
    assert_loads();
    unlink(named);
    ck_assert_ptr_null(keyring_load("keys", true, &error));
    buffer_add_char(&error, '\0');
    ck_assert_msg(strstr(error.data, "No such file") != NULL, "%s", error.data);
    memcpy(path, named, sizeof(path));
}
END_TEST

START_TEST(a_file_too_large_is_refused)
{
    write_file(GOOD, 0600);
    ck_assert_int_eq(truncate(path, 65537), 0);
    assert_refused(": larger than 65536 bytes", "");
}
END_TEST

/* --- Content --------------------------------------------------------------------------------- */

#define DIGITS_1 "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
#define DIGITS_2 "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f"
#define EXPECTED "expected 'names' and 64 hexadecimal digits, or 'key' or 'sign', a number"

#define DIGITS_3 "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f"
#define ALL_ONES "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"

static const struct {
    const char *content;
    const char *place;
    const char *why;
} bad_files[] = {
    {"", ": no 'names' line", EXPECTED},
    {"# nothing\n\n", ": no 'names' line", EXPECTED},
    {SUPPORT_KEY_1, ": no 'names' line", EXPECTED},
    {SUPPORT_NAMES, ": no 'key' line", EXPECTED},
    {GOOD "hello\n", ":3: ", EXPECTED},
    {GOOD "\n# x\nkey 2\n", ":5: ", EXPECTED},
    {GOOD "key 2 4041\n", ":3: ", EXPECTED},
    {GOOD "key 2 " DIGITS_2 "00\n", ":3: ", EXPECTED},
    {GOOD "key 2 " DIGITS_2 " more\n", ":3: ", EXPECTED},
    {GOOD "key two " DIGITS_2 "\n", ":3: ", EXPECTED},
    {GOOD "key 0 " DIGITS_2 "\n", ":3: ", EXPECTED},
    {GOOD "key 64 " DIGITS_2 "\n", ":3: ", EXPECTED},
    {GOOD "key -1 " DIGITS_2 "\n", ":3: ", EXPECTED},
    {GOOD "Key 2 " DIGITS_2 "\n", ":3: ", EXPECTED},
    {GOOD "key 2 x" DIGITS_2 "\n", ":3: ", EXPECTED},
    {GOOD "key " DIGITS_2 "\n", ":3: ", EXPECTED},
    {GOOD "names 1 " DIGITS_2 "\n", ":3: ", EXPECTED},
    {"key 1 " DIGITS_1 "\nkey 2 " DIGITS_2 " key 3\n" SUPPORT_NAMES, ":2: ", EXPECTED},
    {GOOD "names " DIGITS_2 "\n", ":3: ", "a second 'names' line"},
    {GOOD "key 1 " DIGITS_2 "\n", ":3: ", "a second key with this number"},
    {GOOD "key 2 " DIGITS_1 "\n", ":3: ", "the same digits as in another line"},
    {GOOD SUPPORT_KEY_2 "key 3 " DIGITS_2, ":4: ", "the same digits as in another line"},
    {"names " DIGITS_1 "\nkey 1 " DIGITS_1 "\n", ":2: ", "the same digits as in another line"},
    {GOOD "sign\n", ":3: ", EXPECTED},
    {GOOD "sign 2\n", ":3: ", EXPECTED},
    {GOOD "sign 64 " DIGITS_2 "\n", ":3: ", EXPECTED},
    {GOOD "sign 2 4041\n", ":3: ", EXPECTED},
    {GOOD "sign 2 " DIGITS_2 " more\n", ":3: ", EXPECTED},
    {GOOD "signs 2 " DIGITS_2 "\n", ":3: ", EXPECTED},
    {GOOD "sign 1 " DIGITS_2 "\n", ":3: ", "a second key with this number"},
    {GOOD "sign 2 " DIGITS_1 "\n", ":3: ", "the same digits as in another line"},
    {SUPPORT_NAMES "sign 2 " DIGITS_2 "\n", ": no 'key' line", EXPECTED},
    {GOOD "sign 2 " ALL_ONES "\n", ":3: ", "no private key of P-256"},
};

START_TEST(a_bad_file_is_refused_with_place_and_reason_and_without_keys)
{
    write_file(bad_files[_i].content, 0600);
    assert_refused(bad_files[_i].place, bad_files[_i].why);
}
END_TEST

static const char *const good_files[] = {
    GOOD,
    "key 1 " DIGITS_1 "\n" SUPPORT_NAMES,
    "# comment\n\n \t\n" SUPPORT_NAMES "  key\t1   " DIGITS_1 "  # made today",
    SUPPORT_NAMES "key 1 " DIGITS_1 "\r\n",
    SUPPORT_NAMES "key 01 202122232425262728292A2B2C2D2E2F303132333435363738393A3B3C3D3E3F\n",
};

START_TEST(comments_blanks_and_order_do_not_matter)
{
    write_file(good_files[_i], 0600);
    struct keyring *ring = keyring_load(path, false, &error);
    ck_assert_msg(ring != NULL, "%.*s", (int)error.length, error.data);
    struct keyring *plain = support_keyring(GOOD);
    uint8_t a[38], b[38];
    hash_with(ring, a);
    hash_with(plain, b);
    ck_assert_mem_eq(a, b, sizeof(a));
    keyring_unref(&ring);
    keyring_unref(&plain);
}
END_TEST

START_TEST(the_last_key_is_the_newest_whatever_its_number)
{
    struct keyring *ring =
        support_keyring("key 63 " DIGITS_1 "\n" SUPPORT_NAMES "key 2 " DIGITS_2 "\n");
    ck_assert_uint_eq(keyring_newest(ring), 2);
    for (unsigned id = 0; id < 256; id++)
        ck_assert_int_eq(keyring_has(ring, (uint8_t)id), id == 2 || id == 63);
    keyring_unref(&ring);
}
END_TEST

START_TEST(all_63_numbers_can_be_used)
{
    struct buffer content = {0};
    buffer_add_literal(&content, SUPPORT_NAMES);
    for (unsigned id = 1; id <= KEY_ID_MAX; id++)
        buffer_addf(&content, "key %u %064x\n", id, id + 1000);
    buffer_add_char(&content, '\0');
    struct keyring *ring = support_keyring(content.data);
    ck_assert_uint_eq(keyring_newest(ring), KEY_ID_MAX);
    uint8_t macs[KEY_ID_MAX + 1][6];
    for (uint8_t id = 1; id <= KEY_ID_MAX; id++) {
        ck_assert(crypto_token_mac(ring, id, "x", 1, macs[id]));
        for (uint8_t other = 1; other < id; other++)
            ck_assert_mem_ne(macs[id], macs[other], 6);
    }
    keyring_unref(&ring);
    buffer_free(&content);
}
END_TEST

/* --- Signing keys ---------------------------------------------------------------------------- */

#define SIGN_2       "sign 2 " DIGITS_2 "\n"
#define SIGN_3       "sign 3 " DIGITS_3 "\n"
#define PUBLISHED_MS 600000

static const char jwk[] = "\"kty\":\"EC\"";

/* Loads the file as a process that starts when the file was last changed so long ago. */
static struct keyring *load_aged(const char *content, int64_t age_ms)
{
    clock_fake(0);
    write_file(content, 0600);
    clock_fake(clock_wall_ms() + age_ms);
    struct keyring *ring = keyring_load(path, false, &error);
    ck_assert_msg(ring != NULL, "%.*s", (int)error.length, error.data);
    return ring;
}

/* The ring that a reload of this content leads to. */
static void reload(struct keyring **ring, const char *content)
{
    write_file(content, 0600);
    struct keyring *next = keyring_load(path, false, &error);
    ck_assert_msg(next != NULL, "%.*s", (int)error.length, error.data);
    keyring_succeed(next, *ring);
    keyring_unref(ring);
    *ring = next;
}

/* The key with these digits signs. */
static void assert_signer(const struct keyring *ring, const char *digits)
{
    uint8_t secret[SIGNING_SECRET];
    ck_assert(text_from_hex(secret, sizeof(secret), text_of(digits)));
    struct signing_key *key = signing_key_create(secret);
    const struct signing_key *signer = keyring_signer(ring, PUBLISHED_MS);
    ck_assert_ptr_nonnull(signer);
    ck_assert(text_equal(signing_key_id(signer), signing_key_id(key)));
    signing_key_destroy(&key);
}

static size_t count_published(const struct keyring *ring)
{
    struct text jwks = keyring_jwks(ring);
    size_t count = 0;
    for (const char *at = jwks.data;; at++, count++) {
        at = memmem(at, (size_t)(jwks.data + jwks.length - at), jwk, sizeof(jwk) - 1);
        if (!at)
            return count;
    }
}

START_TEST(signing_keys_sign_no_tokens_and_have_marks)
{
    struct keyring *ring = support_keyring(GOOD SIGN_2), *other = support_keyring(GOOD);
    uint8_t mac[6];
    ck_assert_uint_eq(keyring_newest(ring), 1);
    ck_assert(keyring_signs(ring, 2) && !keyring_signs(ring, 1) && !keyring_signs(ring, 3));
    ck_assert(!keyring_signs(ring, 0) && !keyring_signs(ring, 255));
    ck_assert(!keyring_has(ring, 2) && !crypto_token_mac(ring, 2, "x", 1, mac));
    ck_assert_ptr_nonnull(keyring_mark(ring, 2));
    ck_assert_ptr_null(keyring_mark(ring, 3));
    ck_assert_mem_eq(keyring_mark(ring, 1), keyring_mark(other, 1), KEY_MARK);
    ck_assert_ptr_null(keyring_signer(other, 0));
    ck_assert(text_equal(keyring_jwks(other), TEXT("{\"keys\":[]}")));
    keyring_unref(&other);
    /* The same digits as another kind of key are another key. */
    other = support_keyring(GOOD "key 2 " DIGITS_2 "\n");
    ck_assert_mem_ne(keyring_mark(ring, 2), keyring_mark(other, 2), KEY_MARK);
    keyring_unref(&other);
    keyring_unref(&ring);
}
END_TEST

START_TEST(a_made_file_has_a_key_that_signs)
{
    struct keyring *ring = keyring_load(path, true, &error);
    ck_assert_ptr_nonnull(keyring_signer(ring, PUBLISHED_MS));
    ck_assert_uint_eq(count_published(ring), 1);
    keyring_unref(&ring);
}
END_TEST

START_TEST(an_appended_key_is_published_first_and_signs_later)
{
    struct keyring *ring = load_aged(GOOD SIGN_2, PUBLISHED_MS);
    assert_signer(ring, DIGITS_2);
    reload(&ring, GOOD SIGN_2 SIGN_3);
    ck_assert_uint_eq(count_published(ring), 2);
    assert_signer(ring, DIGITS_2);
    clock_fake_pass(PUBLISHED_MS - 1);
    assert_signer(ring, DIGITS_2);
    reload(&ring, GOOD "# another reload\n" SIGN_2 SIGN_3);
    assert_signer(ring, DIGITS_2);
    clock_fake_pass(1);
    assert_signer(ring, DIGITS_3);
    reload(&ring, GOOD SIGN_3);
    ck_assert_uint_eq(count_published(ring), 1);
    assert_signer(ring, DIGITS_3);
    keyring_unref(&ring);
}
END_TEST

START_TEST(of_keys_that_may_not_sign_yet_the_one_published_longest_does)
{
    struct keyring *ring = load_aged(GOOD SIGN_2, 0);
    assert_signer(ring, DIGITS_2);
    clock_fake_pass(1000);
    reload(&ring, GOOD SIGN_3 SIGN_2);
    assert_signer(ring, DIGITS_2);
    reload(&ring, GOOD SIGN_3); /* 2 is compromised */
    assert_signer(ring, DIGITS_3);
    keyring_unref(&ring);
}
END_TEST

START_TEST(a_start_counts_the_newest_key_from_the_last_change_of_the_file)
{
    struct keyring *ring = load_aged(GOOD SIGN_2 SIGN_3, PUBLISHED_MS / 2);
    assert_signer(ring, DIGITS_2);
    clock_fake_pass(PUBLISHED_MS / 2 + 1000);
    assert_signer(ring, DIGITS_3);
    keyring_unref(&ring);
    ring = load_aged(GOOD SIGN_2 SIGN_3, PUBLISHED_MS + 1000);
    assert_signer(ring, DIGITS_3);
    keyring_unref(&ring);
    ring = load_aged(GOOD SIGN_2 SIGN_3, -5000); /* a clock behind the file's */
    assert_signer(ring, DIGITS_2);
    clock_fake_pass(PUBLISHED_MS);
    assert_signer(ring, DIGITS_3);
    keyring_unref(&ring);
}
END_TEST

/* --- References and wiping ------------------------------------------------------------------- */

START_TEST(a_ring_lives_until_the_last_reference_is_back)
{
    struct keyring *first = support_keyring(GOOD);
    struct keyring *second = keyring_ref(first);
    ck_assert_ptr_eq(first, second);
    keyring_unref(&first);
    ck_assert_ptr_null(first);
    ck_assert(keyring_has(second, 1));
    keyring_unref(&second);
    ck_assert_ptr_null(second);
    keyring_unref(&second);
}
END_TEST

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

/* The digits of the key that the wiping test writes, without having them anywhere in one piece. */
static char digit_at(size_t i)
{
    return "0123456789abcdef"[(i * 7 + i / 5 + 3) % 16];
}

static uint8_t byte_at(size_t i)
{
    uint8_t byte = 0;
    char two[2] = {digit_at(2 * i), digit_at(2 * i + 1)};
    ck_assert(text_from_hex(&byte, 1, (struct text){two, 2}));
    return byte;
}

/* How often 24 consecutive digits, or 12 bytes, of the key lie in this memory. */
static size_t count_traces(const uint8_t *memory, size_t length)
{
    uint8_t first = byte_at(0), second = byte_at(1), last = byte_at(31), next = byte_at(30);
    size_t found = 0;
    for (size_t at = 0; at + 24 <= length; at++) {
        size_t same = 0;
        if (memory[at] == digit_at(0) && memory[at + 1] == digit_at(1)) {
            while (same < 24 && memory[at + same] == digit_at(same))
                same++;
            found += same == 24;
        }
        if (memory[at] == first && memory[at + 1] == second) {
            for (same = 0; same < 12 && memory[at + same] == byte_at(same);)
                same++;
            found += same == 12;
        }
        if (memory[at] == last && memory[at + 1] == next) { /* as a large number */
            for (same = 0; same < 12 && memory[at + same] == byte_at(31 - same);)
                same++;
            found += same == 12;
        }
    }
    return found;
}

/* Looks through the memory of this process; `writable` leaves out what is read-only. */
static size_t search_memory(bool writable)
{
    static uint8_t page[4096 + 64];
    FILE *maps = fopen("/proc/self/maps", "r");
    int memory = open("/proc/self/mem", O_RDONLY);
    char line[512], access[5];
    unsigned long start, end;
    size_t found = 0;
    while (fgets(line, sizeof(line), maps)) {
        if (sscanf(line, "%lx-%lx %4s", &start, &end, access) != 3 || access[0] != 'r' ||
            strstr(line, "[v") || (writable && access[1] != 'w'))
            continue;
        for (; start < end; start += 4096) {
            ssize_t got = pread(memory, page, sizeof(page), (off_t)start);
            if ((start > (unsigned long)page || start + 8192 < (unsigned long)page) && got > 0)
                found += count_traces(page, (size_t)got);
        }
    }
    crypto_wipe(page, sizeof(page));
    close(memory);
    fclose(maps);
    return found;
}

static void write_hidden_key(const char *before)
{
    write_file(before, 0600);
    int fd = open(path, O_WRONLY | O_APPEND);
    for (size_t i = 0; i < 64; i++) {
        char digit = digit_at(i);
        ck_assert_int_eq(write(fd, &digit, 1), 1);
    }
    close(fd);
}

START_TEST(keys_lie_in_protected_memory_only_and_nowhere_when_the_ring_is_gone)
{
    write_hidden_key(SUPPORT_NAMES "key 1 ");
    ck_assert_uint_eq(search_memory(false), 0);
    struct keyring *ring = keyring_load(path, false, &error);
    ck_assert_ptr_nonnull(ring);
    char sealed[64];
    ck_assert(crypto_seal(ring, 1, TEXT("s"), TEXT("a"), TEXT("plain"), sealed));
    ck_assert_uint_gt(search_memory(false), 0);
    ck_assert_uint_eq(search_memory(true), 0);
    keyring_unref(&ring);
    ck_assert_uint_eq(search_memory(false), 0);
}
END_TEST

START_TEST(signing_keys_are_nowhere_when_the_ring_is_gone)
{
    write_hidden_key(GOOD "sign 2 ");
    ck_assert_uint_eq(search_memory(false), 0);
    struct keyring *ring = keyring_load(path, false, &error);
    ck_assert_msg(ring != NULL, "%.*s", (int)error.length, error.data);
    uint8_t signature[SIGNING_SIGNATURE];
    signing_sign(keyring_signer(ring, 0), TEXT("x"), signature);
    ck_assert_uint_gt(search_memory(false), 0);
    keyring_unref(&ring);
    ck_assert_uint_eq(search_memory(false), 0);
}
END_TEST

START_TEST(a_refused_file_leaves_no_key_in_memory)
{
    write_hidden_key(SUPPORT_NAMES "key 1 ");
    int fd = open(path, O_WRONLY | O_APPEND);
    ck_assert_int_eq(write(fd, "\nnonsense\n", 10), 10);
    close(fd);
    assert_refused(":3: ", EXPECTED);
    ck_assert_uint_eq(search_memory(false), 0);
}
END_TEST

#define WIPING_TESTS(tcase)                                                                     \
    tcase_add_test(tcase, keys_lie_in_protected_memory_only_and_nowhere_when_the_ring_is_gone); \
    tcase_add_test(tcase, signing_keys_are_nowhere_when_the_ring_is_gone);                      \
    tcase_add_test(tcase, a_refused_file_leaves_no_key_in_memory)
#else
#define WIPING_TESTS(tcase) (void)(tcase) /* shadow memory is too large to search */
#endif

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

static Suite *suite(void)
{
    Suite *suite = suite_create("keyring");
    TCase *file = tcase_create("file");
    tcase_add_checked_fixture(file, setup, teardown);
    tcase_add_test(file, a_missing_file_is_made_only_when_asked_for);
    tcase_add_test(file, a_made_file_is_closed_to_others_and_loads_again);
    tcase_add_test(file, processes_that_start_at_once_end_with_the_same_keys);
    tcase_add_test(file, a_directory_that_is_not_there_is_an_error);
    tcase_add_test(file, only_files_closed_to_others_load);
    tcase_add_test(file, a_name_without_a_slash_is_a_credential_and_never_made);
    tcase_add_test(file, a_file_too_large_is_refused);
    suite_add_tcase(suite, file);

    TCase *content = tcase_create("content");
    tcase_add_checked_fixture(content, setup, teardown);
    tcase_set_timeout(content, 30);
    tcase_add_loop_test(content, a_bad_file_is_refused_with_place_and_reason_and_without_keys, 0,
                        ROWS(bad_files));
    tcase_add_loop_test(content, comments_blanks_and_order_do_not_matter, 0, ROWS(good_files));
    tcase_add_test(content, the_last_key_is_the_newest_whatever_its_number);
    tcase_add_test(content, all_63_numbers_can_be_used);
    tcase_add_test(content, signing_keys_sign_no_tokens_and_have_marks);
    tcase_add_test(content, a_made_file_has_a_key_that_signs);
    tcase_add_test(content, an_appended_key_is_published_first_and_signs_later);
    tcase_add_test(content, of_keys_that_may_not_sign_yet_the_one_published_longest_does);
    tcase_add_test(content, a_start_counts_the_newest_key_from_the_last_change_of_the_file);
    tcase_add_test(content, a_ring_lives_until_the_last_reference_is_back);
    WIPING_TESTS(content);
    suite_add_tcase(suite, content);
    return suite;
}

int main(void)
{
    return support_run(suite());
}
