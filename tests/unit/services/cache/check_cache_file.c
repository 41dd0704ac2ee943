/* The cache on disk: whole or refused, closed to others, old until new. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "metrics.h"

#include "support_cache.h"
#include "support_disk.h"
#include "support_keys.h"
#include "support_run.h"

static struct arena arena;

static void tear_down(void)
{
    arena_free(&arena);
    support_disk_tear_down();
}

static void put(const struct cache_key *key, int64_t verified_ms, bool final)
{
    struct cache_entry entry = {
        .value = TEXT("value"), .generation = 7, .verified_ms = verified_ms, .final = final};
    ck_assert(cache_put(disk.cache, key, &entry, cache_lease(disk.cache, key->owner)));
}

/* --- there and back --- */

START_TEST(a_restart_finds_everything_again_and_nothing_fresh)
{
    support_disk_fill();
    support_disk_save();
    support_disk_load(DISK_USERS);
    for (uint32_t i = 0; i < DISK_USERS; i++) {
        struct cache_key key = support_cache_key(i % 3, i, i);
        struct cache_entry before, after;
        ck_assert(cache_get(disk.cache, &key, &arena, &before));
        ck_assert(cache_get(disk.restarted, &key, &arena, &after));
        ck_assert(text_equal(before.value, after.value));
        ck_assert_int_eq(before.final, after.final);
        ck_assert_uint_eq(after.generation, 0);
        /* By way of the wall clock: a busy machine may stop between the looks at both clocks. */
        ck_assert_int_ge(after.verified_ms, before.verified_ms - 1000);
        ck_assert_int_le(after.verified_ms, before.verified_ms + 1000);
    }
}
END_TEST

START_TEST(the_longest_values_come_back)
{
    for (uint32_t i = 0; i < 20; i++) {
        struct cache_key key = support_cache_key(1, i, 0);
        ck_assert(support_cache_put(disk.cache, &key, CACHE_VALUE_MAX - i % 2));
    }
    clock_fake(1000);
    support_disk_save();
    support_disk_load(20);
    for (uint32_t i = 0; i < 20; i++) {
        struct cache_key key = support_cache_key(1, i, 0);
        ck_assert(support_cache_has(disk.restarted, &key, CACHE_VALUE_MAX - i % 2));
    }
}
END_TEST

START_TEST(an_empty_cache_is_saved_and_a_missing_file_is_no_error)
{
    support_disk_load(0);
    support_disk_save();
    support_disk_load(0);
}
END_TEST

START_TEST(the_file_is_closed_to_others_and_replaces_the_old_one)
{
    struct cache_key key = support_cache_key(1, 2, 3);
    umask(0);
    support_disk_save();
    put(&key, clock_boot_ms(), false);
    int left = open(disk.new_path, O_WRONLY | O_CREAT, 0644); /* by a crash */
    ck_assert_int_ge(left, 0);
    close(left);
    support_disk_save();
    struct stat status;
    ck_assert_int_eq(stat(disk.path, &status), 0);
    ck_assert_uint_eq(status.st_mode, S_IFREG | 0600);
    ck_assert_int_ne(access(disk.new_path, F_OK), 0);
    support_disk_load(1);
}
END_TEST

START_TEST(no_value_stands_in_the_file_as_it_is)
{
    struct cache_key key = support_cache_key(1, 2, 3);
    char bytes[4096];
    put(&key, clock_boot_ms(), false);
    support_disk_save();
    FILE *file = fopen(disk.path, "r");
    size_t length = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    ck_assert_uint_gt(length, DISK_HEAD);
    ck_assert_ptr_null(memmem(bytes, length, "value", 5));
}
END_TEST

/* --- ages --- */

/* Verified so long before it is loaded; kept with which age, or not (-1). */
static const struct age {
    int64_t age_ms, kept_ms;
} ages[] = {
    {0, 0},     {1234, 1234},   {DISK_HOUR_MS, DISK_HOUR_MS}, {DISK_HOUR_MS + 1, -1},
    {-1000, 0}, {-3600000, -1}, {INT64_MIN / 2, -1},          {INT64_MAX / 2, -1},
};

START_TEST(entries_of_a_known_age_within_the_limit_are_kept)
{
    const int64_t now_ms = INT64_C(1700000000000);
    struct cache_key key = support_cache_key(1, 2, 3);
    struct cache_entry entry;
    clock_fake(now_ms - 5000);
    put(&key, now_ms - ages[_i].age_ms, true);
    support_disk_save();
    clock_fake(now_ms);
    support_disk_load(ages[_i].kept_ms >= 0);
    if (ages[_i].kept_ms >= 0) {
        ck_assert(cache_get(disk.restarted, &key, &arena, &entry));
        ck_assert_int_eq(now_ms - entry.verified_ms, ages[_i].kept_ms);
    }
}
END_TEST

static int64_t verify(void *user, const struct cache_entry *entry)
{
    ck_assert_uint_eq(entry->generation, 7);
    return *(int64_t *)user;
}

START_TEST(a_later_time_of_verification_wins_and_an_earlier_one_does_not)
{
    int64_t verified_ms = 50000;
    struct cache_key old = support_cache_key(1, 2, 3), young = support_cache_key(1, 2, 4);
    struct cache_entry entry;
    clock_fake(100000);
    put(&old, 10000, false);
    put(&young, 90000, false);
    ck_assert(cache_save(disk.cache, disk.keyring, disk.path, verify, &verified_ms, &disk.error));
    support_disk_load(2);
    ck_assert(cache_get(disk.restarted, &old, &arena, &entry));
    ck_assert_int_eq(entry.verified_ms, 50000);
    ck_assert(cache_get(disk.restarted, &young, &arena, &entry));
    ck_assert_int_eq(entry.verified_ms, 90000);
}
END_TEST

/* --- what is newer than the file --- */

START_TEST(a_file_does_not_replace_what_is_there)
{
    struct cache_key key = support_cache_key(1, 2, 3);
    struct cache_entry entry = {.value = TEXT("newer"), .generation = 9};
    put(&key, clock_boot_ms(), true);
    support_disk_save();
    ck_assert(cache_put(disk.restarted, &key, &entry, cache_lease(disk.restarted, key.owner)));
    ck_assert(cache_load(disk.restarted, disk.keyring, disk.path, DISK_HOUR_MS, &disk.loaded,
                         &disk.error));
    ck_assert_uint_eq(disk.loaded, 0);
    ck_assert(cache_get(disk.restarted, &key, &arena, &entry));
    ck_assert_uint_eq(entry.generation, 9);
    ck_assert(text_equal(entry.value, TEXT("newer")));
}
END_TEST

START_TEST(a_file_does_not_bring_back_what_was_forgotten_since_the_start)
{
    struct cache_key key = support_cache_key(1, 2, 3), other = support_cache_key(1, 3, 3);
    struct cache_entry entry;
    put(&key, clock_boot_ms(), false);
    put(&other, clock_boot_ms(), false);
    support_disk_save();
    cache_forget(disk.restarted, key.owner, NULL, NULL);
    support_disk_load(1);
    ck_assert(!cache_get(disk.restarted, &key, &arena, &entry));
    ck_assert(cache_get(disk.restarted, &other, &arena, &entry));
}
END_TEST

/* --- keys --- */

START_TEST(any_key_of_the_ring_opens_the_file)
{
    support_disk_fill();
    support_disk_save();
    support_disk_use_keys(SUPPORT_NAMES SUPPORT_KEY_1 SUPPORT_KEY_2);
    support_disk_load(DISK_USERS);
    support_disk_save();
    support_disk_restart();
    support_disk_use_keys(SUPPORT_NAMES SUPPORT_KEY_2);
    support_disk_load(DISK_USERS);
}
END_TEST

/* --- where saving fails --- */

/* In a child: its limits and its user are not given back. */
static void fail_to_save(void (*restrict_child)(void), int expected)
{
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        char message[256];
        restrict_child();
        bool saved = cache_save(disk.cache, disk.keyring, disk.path, NULL, NULL, &disk.error);
        buffer_add_char(&disk.error, '\0');
        snprintf(message, sizeof(message), "snapshot %s cannot be written: %s", disk.path,
                 strerrordesc_np(expected));
        _exit(!saved && strcmp(disk.error.data, message) == 0 &&
                      metrics_read(METRIC_SNAPSHOT_ERRORS) == 1
                  ? 0
                  : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    ck_assert_int_ne(access(disk.new_path, F_OK), 0);
}

static void fill_disk(void)
{
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){100000, 100000});
}

static void become_nobody(void)
{
    if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0)
        _exit(2);
}

START_TEST(a_full_disk_leaves_the_old_file)
{
    struct cache_key key = support_cache_key(9, 9, 9);
    put(&key, clock_boot_ms(), false);
    support_disk_save();
    support_disk_fill();
    fail_to_save(fill_disk, EFBIG);
    support_disk_load(1);
}
END_TEST

START_TEST(a_directory_that_is_not_writable_is_told)
{
    support_disk_save();
    ck_assert_int_eq(chmod(disk.directory, 0555), 0);
    fail_to_save(become_nobody, EACCES);
    ck_assert_int_eq(chmod(disk.directory, 0755), 0);
    support_disk_load(0);
}
END_TEST

START_TEST(a_directory_that_is_missing_is_told)
{
    char nowhere[80];
    snprintf(nowhere, sizeof(nowhere), "%s/none/cache", disk.directory);
    ck_assert(!cache_save(disk.cache, disk.keyring, nowhere, NULL, NULL, &disk.error));
    buffer_add_char(&disk.error, '\0');
    ck_assert_ptr_nonnull(strstr(disk.error.data, nowhere));
    ck_assert_ptr_nonnull(strstr(disk.error.data, "No such file"));
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("cache_file");
    TCase *whole = tcase_create("whole");
    tcase_add_checked_fixture(whole, support_disk_set_up, tear_down);
    tcase_add_test(whole, a_restart_finds_everything_again_and_nothing_fresh);
    tcase_add_test(whole, the_longest_values_come_back);
    tcase_add_test(whole, an_empty_cache_is_saved_and_a_missing_file_is_no_error);
    tcase_add_test(whole, the_file_is_closed_to_others_and_replaces_the_old_one);
    tcase_add_test(whole, no_value_stands_in_the_file_as_it_is);
    tcase_add_loop_test(whole, entries_of_a_known_age_within_the_limit_are_kept, 0,
                        (int)(sizeof(ages) / sizeof(ages[0])));
    tcase_add_test(whole, a_later_time_of_verification_wins_and_an_earlier_one_does_not);
    tcase_add_test(whole, a_file_does_not_replace_what_is_there);
    tcase_add_test(whole, a_file_does_not_bring_back_what_was_forgotten_since_the_start);
    tcase_add_test(whole, any_key_of_the_ring_opens_the_file);
    suite_add_tcase(suite, whole);
    TCase *failure = tcase_create("failure");
    tcase_add_checked_fixture(failure, support_disk_set_up, tear_down);
    tcase_add_test(failure, a_full_disk_leaves_the_old_file);
    tcase_add_test(failure, a_directory_that_is_not_writable_is_told);
    tcase_add_test(failure, a_directory_that_is_missing_is_told);
    suite_add_tcase(suite, failure);
    return suite;
}

int main(void)
{
    return support_run(suite());
}
