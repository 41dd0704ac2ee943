/* The thread that saves the cache: when, with which key, and its log when it fails. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "memory.h"
#include "metrics.h"

#include "support_cache.h"
#include "support_keys.h"
#include "support_run.h"

enum { KEY_OFFSET = 9, HOUR_MS = 3600000 };

static char directory[] = "/tmp/check_cache_saver.XXXXXX";
static char path[64];
static struct cache *cache;
static struct keyring *keyring;

static void publish(const char *file, int64_t interval)
{
    struct conf *conf = conf_defaults();
    free(conf->cache_snapshot);
    conf->cache_snapshot = xstrdup(file);
    conf->cache_snapshot_interval = interval;
    conf_publish(conf);
}

/* --- time --- */

enum { BEGIN_S = 1000000 };

/* The saver's clock, which goes on when it sleeps, from one due time to the next, up to a limit at
 * which it stands. */
static _Atomic int64_t now_s = BEGIN_S, limit_s = BEGIN_S;
static _Atomic int64_t asleep_until_s;

int clock_gettime(clockid_t id, struct timespec *ret)
{
    if (id != CLOCK_MONOTONIC)
        return (int)syscall(SYS_clock_gettime, id, ret);
    *ret = (struct timespec){.tv_sec = atomic_load(&now_s)};
    return 0;
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until)
{
    (void)cond;
    bool due = until->tv_sec <= atomic_load(&limit_s);
    if (due)
        atomic_store(&now_s, until->tv_sec);
    else
        atomic_store(&asleep_until_s, until->tv_sec);
    pthread_mutex_unlock(mutex);
    nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    pthread_mutex_lock(mutex);
    return due ? ETIMEDOUT : 0;
}

/* Returns when the saver sleeps until later than `second`. */
static void run_until(int64_t second)
{
    atomic_store(&limit_s, BEGIN_S + second);
    while (atomic_load(&asleep_until_s) <= BEGIN_S + second)
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

static void set_up(void)
{
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/cache", directory);
    keyring = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1);
    cache = support_cache(1 << 24, 0);
}

static void tear_down(void)
{
    unlink(path);
    ck_assert_int_eq(rmdir(directory), 0);
    keyring_unref(&keyring);
    cache_destroy(&cache);
    conf_publish(NULL);
}

static bool put(uint32_t user)
{
    struct cache_key key = support_cache_key(1, user, 0);
    struct cache_entry entry = {.value = TEXT("value"), .verified_ms = clock_boot_ms()};
    return cache_put(cache, &key, &entry, cache_lease(cache, key.owner));
}

static size_t load(void)
{
    struct cache *restarted = support_cache(1 << 24, 0);
    struct buffer error = {0};
    size_t loaded;
    bool whole = cache_load(restarted, keyring, path, HOUR_MS, &loaded, &error);
    ck_assert_msg(whole, "%.*s", (int)error.length, error.data);
    cache_destroy(&restarted);
    return loaded;
}

/* --- tests --- */

START_TEST(it_saves_every_interval_and_once_more_at_the_end)
{
    publish(path, 100);
    ck_assert(put(1));
    struct cache_saver *saver = cache_saver_start(cache, NULL, keyring, NULL, NULL);
    for (int saves = 1; saves <= 3; saves++) {
        run_until(saves * 100);
        ck_assert_int_eq(metrics_read(METRIC_SNAPSHOT_SAVES), saves);
        ck_assert_uint_eq(load(), 1);
    }
    run_until(399);
    ck_assert(put(2));
    cache_saver_stop(&saver);
    ck_assert_ptr_null(saver);
    ck_assert_int_eq(metrics_read(METRIC_SNAPSHOT_SAVES), 4);
    ck_assert_uint_eq(load(), 2);
}
END_TEST

START_TEST(it_does_not_save_before_its_time_and_takes_a_new_interval)
{
    publish(path, 86400);
    struct cache_saver *saver = cache_saver_start(cache, NULL, keyring, NULL, NULL);
    run_until(500);
    ck_assert_int_eq(metrics_read(METRIC_SNAPSHOT_SAVES), 0);
    publish(path, 501);
    run_until(501);
    ck_assert_int_eq(metrics_read(METRIC_SNAPSHOT_SAVES), 0);
    run_until(505); /* it has looked */
    ck_assert_int_eq(metrics_read(METRIC_SNAPSHOT_SAVES), 1);
    publish(path, 86400);
    cache_saver_stop(&saver);
    ck_assert_int_eq(metrics_read(METRIC_SNAPSHOT_SAVES), 2);
}
END_TEST

START_TEST(without_a_path_there_is_no_saver)
{
    publish("", 1);
    struct cache_saver *saver = cache_saver_start(cache, NULL, keyring, NULL, NULL);
    ck_assert_ptr_null(saver);
    cache_saver_rekey(saver, keyring);
    cache_saver_stop(&saver);
}
END_TEST

static uint8_t key_of_file(void)
{
    uint8_t head[KEY_OFFSET + 1];
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fread(head, 1, sizeof(head), file), sizeof(head));
    fclose(file);
    return head[KEY_OFFSET];
}

START_TEST(it_seals_with_the_newest_key_of_the_ring_it_was_given_last)
{
    publish(path, 86400);
    struct cache_saver *saver = cache_saver_start(cache, NULL, keyring, NULL, NULL);
    keyring_unref(&keyring);
    keyring = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1 SUPPORT_KEY_2);
    cache_saver_rekey(saver, keyring);
    cache_saver_stop(&saver);
    ck_assert_uint_eq(key_of_file(), 2);
    ck_assert_uint_eq(load(), 0);
}
END_TEST

static size_t count_lines(const char *file, const char *event)
{
    char line[512];
    size_t count = 0;
    FILE *lines = fopen(file, "r");
    ck_assert_ptr_nonnull(lines);
    while (fgets(line, sizeof(line), lines))
        count += strstr(line, event) != NULL;
    fclose(lines);
    return count;
}

START_TEST(failing_is_told_once_and_so_is_that_it_works_again)
{
    char folder[80], file[96], log[80];
    snprintf(folder, sizeof(folder), "%s/later", directory);
    snprintf(file, sizeof(file), "%s/cache", folder);
    snprintf(log, sizeof(log), "%s/log", directory);
    int saved_stderr = dup(STDERR_FILENO);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    ck_assert_int_ge(dup2(fd, STDERR_FILENO), 0);
    publish(file, 1);
    struct cache_saver *saver = cache_saver_start(cache, NULL, keyring, NULL, NULL);
    run_until(2);
    ck_assert_int_eq(metrics_read(METRIC_SNAPSHOT_ERRORS), 2);
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    run_until(4);
    ck_assert_int_eq(metrics_read(METRIC_SNAPSHOT_SAVES), 2);
    cache_saver_stop(&saver);
    dup2(saved_stderr, STDERR_FILENO);
    close(fd);
    ck_assert_uint_eq(count_lines(log, "snapshot_failed"), 1);
    ck_assert_uint_eq(count_lines(log, file), 2);
    ck_assert_uint_eq(count_lines(log, "snapshot_recovered"), 1);
    unlink(file);
    rmdir(folder);
    unlink(log);
}
END_TEST

START_TEST(a_full_disk_does_not_end_the_process)
{
    publish(path, 86400);
    for (uint32_t i = 0; i < 1000; i++)
        ck_assert(put(i));
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){1000, 1000});
        struct cache_saver *saver = cache_saver_start(cache, NULL, keyring, NULL, NULL);
        cache_saver_stop(&saver);
        _exit(metrics_read(METRIC_SNAPSHOT_ERRORS) == 1 ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}
END_TEST

/* --- under load --- */

static atomic_bool stop_churning;

static void *churn(void *user)
{
    uint64_t state = 5;
    metrics_attach();
    while (!atomic_load(&stop_churning)) {
        struct cache_key key = support_cache_key(1, (uint32_t)(support_next(&state) % 3000), 0);
        if (support_next(&state) % 8 == 0)
            cache_forget(user, key.owner, NULL, NULL);
        else
            support_cache_put(user, &key, 200);
    }
    return NULL;
}

START_TEST(what_is_saved_while_everything_changes_is_whole)
{
    pthread_t thread;
    struct buffer error = {0};
    ck_assert_int_eq(pthread_create(&thread, NULL, churn, cache), 0);
    for (int i = 0; i < 20; i++) {
        ck_assert(cache_save(cache, keyring, path, NULL, NULL, &error));
        load();
    }
    atomic_store(&stop_churning, true);
    pthread_join(thread, NULL);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("cache_saver");
    TCase *saver = tcase_create("saver");
    tcase_add_checked_fixture(saver, set_up, tear_down);
    tcase_set_timeout(saver, 60);
    tcase_add_test(saver, it_saves_every_interval_and_once_more_at_the_end);
    tcase_add_test(saver, it_does_not_save_before_its_time_and_takes_a_new_interval);
    tcase_add_test(saver, without_a_path_there_is_no_saver);
    tcase_add_test(saver, it_seals_with_the_newest_key_of_the_ring_it_was_given_last);
    tcase_add_test(saver, failing_is_told_once_and_so_is_that_it_works_again);
    tcase_add_test(saver, a_full_disk_does_not_end_the_process);
    tcase_add_test(saver, what_is_saved_while_everything_changes_is_whole);
    suite_add_tcase(suite, saver);
    return suite;
}

int main(void)
{
    return support_run(suite());
}
