/* How long comparing a secret takes must not tell how much of a guess is right.
 *
 * Time itself is not measured: it says more about what else the machine does. Recorded is the way
 * through the code, the address of every instruction that runs, with the processor's trap flag. A
 * comparison that stops early, or branches by what it has seen, takes another way for another
 * guess; one way for all guesses tells nothing. So each run gives the same verdict. (Not recorded
 * is which memory is read: a comparison has no tables.)
 *
 * That this can fail is shown with what leaks: memcmp() where the secret is long, and a loop that
 * stops at the first difference where it is as short as ours. (Of 16 bytes memcmp() may look at all
 * at once.) */
#include <signal.h>
#include <string.h>
#include <ucontext.h>

#include "crypto.h"
#include "token.h"

#include "support_keys.h"
#include "support_run.h"

enum { LONG = 512, SHORT = 16, VARIANTS = 64 };

static uint64_t seed = 1;

/* --- the way through the code --- */

enum { MOST = 1 << 18 }; /* instructions; a comparison of LONG bytes has some 4,000 */

struct way {
    size_t length;
    uintptr_t at[MOST];
};

static struct way *volatile recording;

/* The flag stands in the registers that the handler returns to; the handler itself runs without. */
static void on_step(int number, siginfo_t *info, void *context)
{
    enum { TRAP_FLAG = 0x100 };
    (void)number, (void)info;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    struct way *way = recording;
    if (!way) {
        registers[REG_EFL] &= ~TRAP_FLAG;
        return;
    }
    registers[REG_EFL] |= TRAP_FLAG;
    if (way->length < MOST)
        way->at[way->length++] = (uintptr_t)registers[REG_RIP];
}

/* A comparison, and a guess for it that is right but for one byte. */
struct subject {
    void (*guess)(size_t wrong_at);
    bool (*compare)(void);
    size_t length; /* of what is guessed, in bytes */
};

static void record(const struct subject *subject, size_t wrong_at, struct way *ret)
{
    subject->guess(wrong_at);
    ret->length = 0;
    recording = ret;
    raise(SIGTRAP);
    bool equal = subject->compare();
    recording = NULL;
    ck_assert(!equal);
    ck_assert(ret->length > 0 && ret->length < MOST);
}

/* How many instructions two ways have in common. */
static size_t parting(const struct way *left, const struct way *right)
{
    size_t at = 0;
    while (at < left->length && at < right->length && left->at[at] == right->at[at])
        at++;
    return at;
}

static struct way first, other;

/* The byte, if there is one, for which a guess that is wrong there leaves the way of one that is
 * wrong in the first byte; 0 if all go one way. */
static size_t leak_at(const struct subject *subject)
{
    record(subject, 0, &first); /* what is done once only is over then */
    record(subject, 0, &first);
    size_t stride = subject->length / SHORT | 1; /* odd, so that every place in a word is met */
    for (size_t at = subject->length - 1; at > 0; at = at > stride ? at - stride : 0) {
        record(subject, at, &other);
        if (first.length != other.length || parting(&first, &other) != first.length)
            return at;
    }
    return 0;
}

static void assert_tells_nothing(const struct subject *subject)
{
    size_t byte = leak_at(subject);
    ck_assert_msg(byte == 0, "wrong in byte %zu leaves the way of byte 0 at instruction %zu of %zu",
                  byte, parting(&first, &other), first.length);
}

static void assert_leaks(const struct subject *subject)
{
    ck_assert_msg(leak_at(subject) > 0, "one way of %zu instructions: this would find nothing",
                  first.length);
}

/* --- what is compared --- */

static uint8_t secret[LONG], presented[LONG];
static volatile size_t length; /* not to be known when this is compiled */

static void guess_bytes(size_t wrong_at)
{
    memcpy(presented, secret, length);
    presented[wrong_at] ^= (uint8_t)(1 + support_next(&seed) % 255);
}

static bool by_crypto_equal(void)
{
    return crypto_equal(secret, presented, length);
}

static bool by_memcmp(void)
{
    int (*volatile compare)(const void *, const void *, size_t) = memcmp;
    return compare(secret, presented, length) == 0;
}

static bool by_first_difference(void)
{
    const volatile uint8_t *left = secret, *right = presented;
    size_t at = 0;
    while (at < length && left[at] == right[at])
        at++;
    return at == length;
}

static void set_length(size_t bytes)
{
    length = bytes;
    for (size_t i = 0; i < bytes; i++)
        secret[i] = (uint8_t)support_next(&seed);
}

START_TEST(the_record_finds_what_leaks)
{
    set_length(LONG);
    assert_leaks(&(struct subject){guess_bytes, by_memcmp, LONG});
    assert_leaks(&(struct subject){guess_bytes, by_first_difference, LONG});
    set_length(SHORT);
    assert_leaks(&(struct subject){guess_bytes, by_first_difference, SHORT});
}
END_TEST

START_TEST(crypto_equal_tells_nothing)
{
    static const size_t lengths[] = {6, SHORT, 32, LONG};
    set_length(lengths[_i]);
    assert_tells_nothing(&(struct subject){guess_bytes, by_crypto_equal, length});
}
END_TEST

/* --- tokens --- */

enum { RAW = 45, MAC = 6, PREFIX = 3 };

static struct keyring *ring;
static uint8_t raw_tokens[VARIANTS][RAW];
static char token_text[TOKEN_LENGTH];
static const uint8_t *genuine; /* whose MAC was guessed */

static void set_up(void)
{
    struct sigaction step = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
    ck_assert(sigaction(SIGTRAP, &step, NULL) == 0);
    ring = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1);
    /* Genuine tokens, of which guess_mac() makes others. */
    for (size_t i = 0; i < VARIANTS; i++) {
        struct token token = {.key_id = 1};
        crypto_random(token.secret, sizeof(token.secret));
        token_print(ring, TOKEN_ACCESS, &token, token_text);
        ck_assert(token_read(ring, TOKEN_ACCESS, (struct text){token_text, TOKEN_LENGTH}, &token));
        ck_assert(text_from_base64url(raw_tokens[i], RAW,
                                      (struct text){token_text + PREFIX, TOKEN_LENGTH - PREFIX}));
    }
}

static void tear_down(void)
{
    keyring_unref(&ring);
}

static void guess_mac(size_t wrong_at)
{
    uint8_t raw[RAW];
    genuine = raw_tokens[support_next(&seed) % VARIANTS];
    memcpy(raw, genuine, RAW);
    raw[RAW - MAC + wrong_at] ^= (uint8_t)(1 + support_next(&seed) % 255);
    text_to_base64url(token_text + PREFIX, raw, RAW);
}

static bool by_token_read(void)
{
    struct token token;
    return token_read(ring, TOKEN_ACCESS, (struct text){token_text, TOKEN_LENGTH}, &token);
}

/* As if the MAC were compared by a loop. */
static bool by_leaking_read(void)
{
    uint8_t raw[RAW];
    const struct text digits = {token_text + PREFIX, TOKEN_LENGTH - PREFIX};
    bool shaped = text_from_base64url(raw, RAW, digits);
    length = MAC;
    memcpy(secret, genuine + RAW - MAC, MAC);
    memcpy(presented, raw + RAW - MAC, MAC);
    return by_token_read() || (shaped && by_first_difference());
}

START_TEST(reading_a_token_tells_nothing_of_its_mac)
{
    assert_leaks(&(struct subject){guess_mac, by_leaking_read, MAC});
    assert_tells_nothing(&(struct subject){guess_mac, by_token_read, MAC});
}
END_TEST

/* The thread sanitizer takes a way of its own, which depends on what it saw earlier. */
#ifdef __SANITIZE_THREAD__
static const bool plain = false;
#else
static const bool plain = true;
#endif

static Suite *suite(void)
{
    Suite *suite = suite_create("constant_time");
    TCase *cases = tcase_create("timing");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_set_timeout(cases, 60);
    tcase_add_loop_test(cases, crypto_equal_tells_nothing, 0, 4);
    if (plain) {
        tcase_add_test(cases, the_record_finds_what_leaks);
        tcase_add_test(cases, reading_a_token_tells_nothing_of_its_mac);
    }
    suite_add_tcase(suite, cases);
    return suite;
}

int main(void)
{
    return support_run(suite());
}
