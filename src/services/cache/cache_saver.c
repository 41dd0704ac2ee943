/* The thread that saves the cache periodically, and once more at its stop. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache.h"
#include "metrics.h"
#include "tenants.h"
#include "thread.h"

static const int64_t second_ns = 1000000000;
/* The longest sleep: how soon a new interval is noticed. */
enum { LOOK_SECONDS = 5 };

struct cache_saver {
    pthread_t thread;
    struct cache *cache;
    struct tenants *tenants; /* NULL: none */
    char *path, *tenants_path;
    int64_t (*verified)(void *user, const struct cache_entry *entry);
    void *user;
    bool failing; /* the thread's */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stopping;           /* guarded by lock */
    struct keyring *keyring; /* guarded by lock */
};

/* The condition's clock; tests may have stopped that of clock.h. */
static int64_t saver_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * second_ns + now.tv_nsec;
}

static int64_t interval_ns(void)
{
    SCOPED(conf_unref) struct conf *conf = conf_current();
    int64_t seconds = conf->cache_snapshot_interval;
    return seconds * second_ns;
}

/* False if the saver is to stop. */
static bool sleep_unless_stopping(struct cache_saver *saver, int64_t until_ns)
{
    const struct timespec until = {.tv_sec = until_ns / second_ns, .tv_nsec = until_ns % second_ns};
    pthread_mutex_lock(&saver->lock);
    while (!saver->stopping &&
           pthread_cond_timedwait(&saver->wake, &saver->lock, &until) != ETIMEDOUT)
        continue;
    bool stopping = saver->stopping;
    pthread_mutex_unlock(&saver->lock);
    return !stopping;
}

static bool wait_for_turn(struct cache_saver *saver)
{
    int64_t began = saver_clock_ns();
    for (;;) {
        int64_t now = saver_clock_ns();
        int64_t due = began + interval_ns();
        if (now >= due)
            return true;
        int64_t look = now + LOOK_SECONDS * second_ns;
        if (!sleep_unless_stopping(saver, due < look ? due : look))
            return false;
    }
}

/* Logs one line when saving begins to fail and one when it works again. */
static void report_outcome(struct cache_saver *saver, bool saved, const struct buffer *error)
{
    if (!saved && !saver->failing)
        log_error("snapshot_failed", "error=\"%.*s\"", (int)error->length, error->data);
    else if (saved && saver->failing)
        log_info("snapshot_recovered", "file=%s", saver->path);
    saver->failing = !saved;
}

/* Reports the first of two errors. */
static void save(struct cache_saver *saver)
{
    pthread_mutex_lock(&saver->lock);
    SCOPED(keyring_unref) struct keyring *keyring = keyring_ref(saver->keyring);
    pthread_mutex_unlock(&saver->lock);
    SCOPED(buffer_free) struct buffer error = {0}, second = {0};
    bool saved =
        cache_save(saver->cache, keyring, saver->path, saver->verified, saver->user, &error);
    if (saver->tenants)
        saved =
            tenants_save(saver->tenants, keyring, saver->tenants_path, saved ? &error : &second) &&
            saved;
    report_outcome(saver, saved, &error);
}

static void *run_saver(void *user)
{
    struct cache_saver *saver = user;
    pthread_setname_np(pthread_self(), "snapshot");
    metrics_attach();
    while (wait_for_turn(saver))
        save(saver);
    save(saver);
    return NULL;
}

static void free_saver(struct cache_saver *saver)
{
    keyring_unref(&saver->keyring);
    pthread_cond_destroy(&saver->wake);
    pthread_mutex_destroy(&saver->lock);
    free(saver->path);
    free(saver->tenants_path);
    free(saver);
}

static struct cache_saver *create_saver(struct cache *cache, struct tenants *tenants,
                                        struct keyring *keyring, const char *path)
{
    struct cache_saver *saver = xcalloc(1, sizeof(*saver));
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&saver->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&saver->lock, NULL);
    saver->cache = cache;
    saver->tenants = tenants;
    saver->keyring = keyring_ref(keyring);
    saver->path = xstrdup(path);
    saver->tenants_path = xmalloc(strlen(path) + sizeof(TENANTS_SUFFIX));
    stpcpy(stpcpy(saver->tenants_path, path), TENANTS_SUFFIX);
    return saver;
}

struct cache_saver *
cache_saver_start(struct cache *cache, struct tenants *tenants, struct keyring *keyring,
                  int64_t (*verified)(void *user, const struct cache_entry *entry), void *user)
{
    struct conf *conf = conf_current();
    struct cache_saver *saver = conf->cache_snapshot[0]
                                    ? create_saver(cache, tenants, keyring, conf->cache_snapshot)
                                    : NULL;
    conf_unref(&conf);
    if (!saver)
        return NULL;
    saver->verified = verified;
    saver->user = user;
    int error = thread_start(&saver->thread, run_saver, saver);
    if (error == 0)
        return saver;
    log_error("snapshot_failed", "error=\"no thread: %s\"", strerrordesc_np(error));
    free_saver(saver);
    return NULL;
}

void cache_saver_rekey(struct cache_saver *saver, struct keyring *keyring)
{
    if (!saver)
        return;
    pthread_mutex_lock(&saver->lock);
    struct keyring *old = saver->keyring;
    saver->keyring = keyring_ref(keyring);
    pthread_mutex_unlock(&saver->lock);
    keyring_unref(&old);
}

void cache_saver_stop(struct cache_saver **given)
{
    struct cache_saver *saver = *given;
    *given = NULL;
    if (!saver)
        return;
    pthread_mutex_lock(&saver->lock);
    saver->stopping = true;
    pthread_cond_signal(&saver->wake);
    pthread_mutex_unlock(&saver->lock);
    pthread_join(saver->thread, NULL);
    free_saver(saver);
}
