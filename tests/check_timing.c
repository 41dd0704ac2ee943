/* How long comparing a secret takes must not tell how much of a guess is right.
 *
 * After dudect (Reparaz, Balasch, Verbauwhede 2017): two classes of guesses - wrong from the first
 * byte, wrong in the last one - are measured in random order, the slowest samples are cropped, and
 * Welch's t tells whether the means differ by more than chance. Beyond 10 they do: chance alone
 * stays below 5, and a leak grows with the number of samples. Another process may disturb a round,
 * but not one class in particular, and not three rounds: the least of three counts.
 *
 * That this can fail is shown with what leaks: memcmp() where the secret is long, and a loop that
 * stops at the first difference where it is as short as ours. (Of 16 bytes memcmp() looks at
 * several at once: what it leaks there is too little to be found in every run.) */
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "crypto.h"
#include "token.h"

#include "support_keys.h"
#include "support_run.h"

enum { LONG = 4096, SHORT = 16, ROUNDS = 3, SAMPLES = 40000, VARIANTS = 64 };
static const double limit = 10;

static uint64_t seed = 1;

/* --- the statistics --- */

struct samples {
    double times[SAMPLES];
    bool class[SAMPLES];
};

struct moments {
    double count, mean, squares; /* squares of the distances from the mean */
};

static void add(struct moments *moments, double value)
{
    double distance = value - moments->mean;
    moments->count++;
    moments->mean += distance / moments->count;
    moments->squares += distance * (value - moments->mean);
}

static int compare_doubles(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* Nine in ten samples are faster. */
static double crop_at(const struct samples *samples)
{
    static double sorted[SAMPLES];
    memcpy(sorted, samples->times, sizeof(sorted));
    qsort(sorted, SAMPLES, sizeof(sorted[0]), compare_doubles);
    return sorted[SAMPLES * 9 / 10];
}

static double welch(const struct samples *samples)
{
    struct moments classes[2] = {{0}};
    double most = crop_at(samples);
    for (size_t i = 0; i < SAMPLES; i++)
        if (samples->times[i] <= most)
            add(&classes[samples->class[i]], samples->times[i]);
    double error = 0;
    for (size_t class = 0; class < 2; class ++)
        error += classes[class].squares / (classes[class].count - 1) / classes[class].count;
    return fabs(classes[0].mean - classes[1].mean) / sqrt(error);
}

/* --- the measurement --- */

/* What is measured, of a guess that is right but for its last byte, or not at all. */
struct subject {
    void (*guess)(bool nearly_right); /* before the clock runs */
    bool (*compare)(void);
    int repeats; /* for as long as a clock can tell */
};

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static _Atomic bool stored;

static void take_samples(const struct subject *subject, struct samples *ret)
{
    for (size_t i = 0; i < SAMPLES; i++) {
        ret->class[i] = support_next(&seed) & 1;
        subject->guess(ret->class[i]);
        /* What was stored must not be on its way while it is read: one class stored it earlier. */
        atomic_store(&stored, true);
        bool equal = false;
        double begun = now_ns();
        for (int repeat = 0; repeat < subject->repeats; repeat++)
            equal |= subject->compare();
        ret->times[i] = now_ns() - begun;
        ck_assert(!equal);
    }
}

static double least_t(const struct subject *subject)
{
    static struct samples samples;
    double least = INFINITY;
    for (int round = 0; round < ROUNDS && least > limit; round++) {
        take_samples(subject, &samples);
        least = fmin(least, welch(&samples));
    }
    return least;
}

static void assert_tells_nothing(const struct subject *subject)
{
    double t = least_t(subject);
    ck_assert_msg(t < limit, "t = %.1f", t);
}

static void assert_leaks(const struct subject *subject)
{
    double t = least_t(subject);
    ck_assert_msg(t > limit, "t = %.1f: this measurement would find nothing", t);
}

/* --- what is compared --- */

static uint8_t secret[LONG], presented[LONG];
static volatile size_t length; /* not to be known when this is compiled */

static void guess_bytes(bool nearly_right)
{
    uint8_t guess[LONG];
    memcpy(guess, secret, length);
    guess[nearly_right ? length - 1 : 0] ^= (uint8_t)(1 + support_next(&seed) % 255);
    memcpy(presented, guess, length);
}

static bool by_crypto_equal(void)
{
    return crypto_equal(secret, presented, length);
}

__attribute__((unused)) static bool by_memcmp(void)
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

START_TEST(the_measurement_finds_what_leaks)
{
#ifndef __SANITIZE_THREAD__ /* which looks at all that memcmp() is given */
    set_length(LONG);
    assert_leaks(&(struct subject){guess_bytes, by_memcmp, 1});
#endif
    set_length(SHORT);
    assert_leaks(&(struct subject){guess_bytes, by_first_difference, 16});
}
END_TEST

START_TEST(crypto_equal_tells_nothing)
{
    static const size_t lengths[] = {6, SHORT, 32, LONG};
    set_length(lengths[_i]);
    assert_tells_nothing(&(struct subject){guess_bytes, by_crypto_equal, length == LONG ? 1 : 16});
}
END_TEST

/* --- tokens --- */

enum { RAW = 45, MAC = 6, PREFIX = 3 };

static struct keyring *ring;
static uint8_t raw_tokens[VARIANTS][RAW];
static char token_text[TOKEN_LENGTH];
static const uint8_t *genuine; /* whose MAC was guessed */

/* Genuine tokens, of which guess_mac() makes others. */
static void set_up(void)
{
    ring = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1);
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

static void guess_mac(bool nearly_right)
{
    uint8_t raw[RAW];
    genuine = raw_tokens[support_next(&seed) % VARIANTS];
    memcpy(raw, genuine, RAW);
    raw[nearly_right ? RAW - 1 : RAW - MAC] ^= (uint8_t)(1 + support_next(&seed) % 255);
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
    assert_leaks(&(struct subject){guess_mac, by_leaking_read, 4});
    assert_tells_nothing(&(struct subject){guess_mac, by_token_read, 4});
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("timing");
    TCase *cases = tcase_create("timing");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, the_measurement_finds_what_leaks);
    tcase_add_loop_test(cases, crypto_equal_tells_nothing, 0, 4);
    tcase_add_test(cases, reading_a_token_tells_nothing_of_its_mac);
    suite_add_tcase(suite, cases);
    return suite;
}

int main(void)
{
    return support_run(suite());
}
