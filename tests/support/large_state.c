/* Writes what a busy node leaves at a stop: a snapshot of so many entries and a journal of so many
 * revocations that Redis does not have yet, under the keys of an installation. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "cache.h"
#include "clock.h"

#include "support_cache.h"
#include "support_journal.h"
#include "support_run.h"

enum { VALUE_BYTES = 256, TENANTS = 50 };

static const struct conf roomy = {.cache_bytes = INT64_C(4) << 30};

static struct keyring *load_keys(const char *path)
{
    struct buffer error = {0};
    crypto_init();
    struct keyring *keyring = keyring_load(path, false, &error);
    ck_assert_msg(keyring != NULL, "%.*s", (int)error.length, error.data);
    return keyring;
}

static void write_snapshot(struct keyring *keyring, const char *path, uint32_t entries)
{
    struct buffer error = {0};
    struct cache *cache = cache_create(&roomy);
    char value[VALUE_BYTES] = {0};
    for (uint32_t i = 0; i < entries; i++) {
        struct cache_key key = support_cache_key(i % TENANTS, i, i);
        struct cache_entry entry = {
            .value = {value, VALUE_BYTES}, .generation = 1, .verified_ms = clock_boot_ms()};
        ck_assert(cache_put(cache, &key, &entry, cache_lease(cache, key.owner)));
    }
    ck_assert_msg(cache_save(cache, keyring, path, NULL, NULL, &error), "%.*s", (int)error.length,
                  error.data);
    cache_destroy(&cache);
}

/* Several tenants, since one alone gets no more than half of the room. */
static void write_journal(struct keyring *keyring, char *path, unsigned revocations)
{
    trial.conf.journal_file = path;
    trial.conf.journal_max_bytes = INT64_C(4) << 30;
    trial.keyring = keyring;
    trial_start();
    for (unsigned i = 0; i < revocations; i++) {
        struct revocation revocation = trial_session(i, i);
        revocation.owner[0] = (uint8_t)(i % TENANTS);
        uint64_t number;
        ck_assert(journal_add(trial.lane, &revocation, NULL, &number));
        if (i % 1000 == 0)
            trial_write(trial_session(i, revocations + i)); /* no more than the queue holds */
    }
    trial_stop();
}

static char **arguments;

/* The helpers of the unit tests work inside of a test. */
START_TEST(write_both)
{
    char path[256];
    struct keyring *keyring = load_keys(arguments[1]);
    snprintf(path, sizeof(path), "%s/cache", arguments[2]);
    write_snapshot(keyring, path, (uint32_t)strtoul(arguments[3], NULL, 10));
    snprintf(path, sizeof(path), "%s/journal", arguments[2]);
    write_journal(keyring, path, (unsigned)strtoul(arguments[4], NULL, 10));
    keyring_unref(&keyring);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc != 5) {
        fputs("usage: large_state KEYFILE DIRECTORY ENTRIES REVOCATIONS\n", stderr);
        return 2;
    }
    arguments = argv;
    Suite *suite = suite_create("large_state");
    TCase *both = tcase_create("write");
    tcase_set_timeout(both, 120);
    tcase_add_test(both, write_both);
    suite_add_tcase(suite, both);
    return support_run(suite);
}
