#include "support_disk.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "metrics.h"

#include "support_cache.h"
#include "support_keys.h"

enum { PLENTY = 64 << 20 };

struct support_disk disk;

void support_disk_set_up(void)
{
    snprintf(disk.directory, sizeof(disk.directory), "/tmp/check_cache_disk.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(disk.directory));
    snprintf(disk.path, sizeof(disk.path), "%s/cache", disk.directory);
    snprintf(disk.new_path, sizeof(disk.new_path), "%s.new", disk.path);
    disk.keyring = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1);
    disk.cache = support_cache(PLENTY, 0);
    disk.restarted = support_cache(PLENTY, 0);
}

/* Nothing but the file is left. */
void support_disk_tear_down(void)
{
    clock_fake(0);
    unlink(disk.path);
    ck_assert_int_eq(rmdir(disk.directory), 0);
    cache_destroy(&disk.cache);
    cache_destroy(&disk.restarted);
    keyring_unref(&disk.keyring);
    buffer_free(&disk.error);
}

void support_disk_restart(void)
{
    cache_destroy(&disk.restarted);
    disk.restarted = support_cache(PLENTY, 0);
    disk.error.length = 0;
}

void support_disk_save(void)
{
    bool saved = cache_save(disk.cache, disk.keyring, disk.path, NULL, NULL, &disk.error);
    ck_assert_msg(saved, "%.*s", (int)disk.error.length, disk.error.data);
}

void support_disk_load(size_t expected)
{
    bool whole = cache_load(disk.restarted, disk.keyring, disk.path, DISK_HOUR_MS, &disk.loaded,
                            &disk.error);
    ck_assert_msg(whole, "%.*s", (int)disk.error.length, disk.error.data);
    ck_assert_uint_eq(disk.error.length, 0);
    ck_assert_uint_eq(disk.loaded, expected);
    ck_assert_uint_eq(support_cache_usage(disk.restarted).entries, expected);
}

/* Refused in a message that names the file and has this in it. */
void support_disk_assert_refuses(const char *why)
{
    int64_t errors = metrics_read(METRIC_SNAPSHOT_ERRORS);
    ck_assert(!cache_load(disk.restarted, disk.keyring, disk.path, DISK_HOUR_MS, &disk.loaded,
                          &disk.error));
    buffer_add_char(&disk.error, '\0');
    ck_assert_msg(strstr(disk.error.data, disk.path) && strstr(disk.error.data, why), "%s",
                  disk.error.data);
    ck_assert_int_eq(metrics_read(METRIC_SNAPSHOT_ERRORS), errors + 1);
    ck_assert_uint_eq(support_cache_usage(disk.restarted).entries, disk.loaded);
    disk.error.length = 0;
}

void support_disk_fill(void)
{
    for (uint32_t i = 0; i < DISK_USERS; i++) {
        struct cache_key key = support_cache_key(i % 3, i, i);
        char value[DISK_LENGTH] = {0};
        struct cache_entry entry = {.value = {value, i % 2 ? DISK_LENGTH : i % DISK_LENGTH},
                                    .generation = 7,
                                    .verified_ms = clock_boot_ms() - i,
                                    .final = i % 5 == 0};
        memset(value, (int)(i % 251), DISK_LENGTH);
        ck_assert(cache_put(disk.cache, &key, &entry, cache_lease(disk.cache, key.owner)));
    }
}

void support_disk_use_keys(const char *content)
{
    keyring_unref(&disk.keyring);
    disk.keyring = support_keyring(content);
}
