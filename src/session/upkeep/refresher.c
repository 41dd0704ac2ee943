/* The refresher's thread, and its two inputs: users to re-read, and slots in doubt. */
#include "refresher.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "container_of.h"
#include "key_watch.h"
#include "metrics.h"
#include "replay.h"
#include "session/engine/lookup.h"

enum {
    QUEUE_MOST = 1 << 16, /* more are read when a request asks for them */
    UNDER_WAY_MOST = 256,
    READS_MOST = 8 /* of one session, while updates of its user overtake them */
};

/* A session to read; exists until it was read. */
struct reading {
    struct lookup_waiter waiter;
    struct refresher *refresher;
    struct keyring *keyring; /* a reference, while in flight */
    struct reading *next;
    struct user_tag owner;
    uint8_t session[SESSION_ID];
    unsigned reads;
};

struct refresher {
    struct session_service *service;
    uv_thread_t thread;
    uv_loop_t loop;
    uv_async_t wake;
    uv_prepare_t flush;
    struct session_context context;
    struct replay *replay;
    struct key_watch *key_watch;

    pthread_mutex_t lock; /* protects what other threads leave here */
    struct reading *queue, **queue_end;
    size_t queued; /* including those waiting and in flight */
    struct keyring *new_keyring;
    bool doubted[2]; /* by owner_changed */
    uint8_t doubts[2][SLOT_COUNT / 8];
    bool stopping;

    /* Used by the thread only. */
    struct reading *waiting, **waiting_end;
    size_t under_way;
    bool rekeyed;
};

/* --- from other threads --- */

struct batch {
    struct refresher *refresher;
    struct reading *first, **end;
    size_t count;
};

static void add_reading(struct batch *batch, const uint8_t *owner, const uint8_t *session)
{
    struct reading *reading = xcalloc(1, sizeof(*reading));
    reading->refresher = batch->refresher;
    memcpy(&reading->owner, owner, sizeof(reading->owner));
    memcpy(reading->session, session, SESSION_ID);
    *batch->end = reading;
    batch->end = &reading->next;
    batch->count++;
}

static void add_forgotten(void *user, const struct cache_key *key)
{
    add_reading(user, key->owner, key->session);
}

static void free_readings(struct reading *reading)
{
    while (reading) {
        struct reading *next = reading->next;
        free(reading);
        reading = next;
    }
}

static void enqueue(struct refresher *refresher, struct batch *batch)
{
    pthread_mutex_lock(&refresher->lock);
    bool taken = refresher->queued + batch->count <= QUEUE_MOST;
    if (taken) {
        *refresher->queue_end = batch->first;
        refresher->queue_end = batch->end;
        refresher->queued += batch->count;
    }
    pthread_mutex_unlock(&refresher->lock);
    if (taken)
        uv_async_send(&refresher->wake);
    else
        free_readings(batch->first);
}

void refresher_forget(struct refresher *refresher, const struct user_tag *owner)
{
    static const uint8_t no_session[SESSION_ID];
    struct batch batch = {.refresher = refresher};
    batch.end = &batch.first;
    cache_forget(refresher->service->cache, owner_bytes(owner), add_forgotten, &batch);
    /* A user without cached sessions is read too, for the epoch. */
    if (batch.count == 0)
        add_reading(&batch, owner_bytes(owner), no_session);
    enqueue(refresher, &batch);
}

void refresher_doubt(struct refresher *refresher, const uint8_t slots[SLOT_COUNT / 8],
                     bool owner_changed)
{
    pthread_mutex_lock(&refresher->lock);
    refresher->doubted[owner_changed] = true;
    for (size_t i = 0; i < SLOT_COUNT / 8; i++)
        refresher->doubts[owner_changed][i] |= slots[i];
    pthread_mutex_unlock(&refresher->lock);
    uv_async_send(&refresher->wake);
}

void refresher_rekey(struct refresher *refresher, struct keyring *keyring)
{
    struct keyring *mine = keyring_ref(keyring);
    pthread_mutex_lock(&refresher->lock);
    struct keyring *unread = refresher->new_keyring;
    refresher->new_keyring = mine;
    pthread_mutex_unlock(&refresher->lock);
    keyring_unref(&unread);
    uv_async_send(&refresher->wake);
}

/* --- re-reading --- */

static void wait_again(struct reading *reading)
{
    struct refresher *refresher = reading->refresher;
    reading->next = NULL;
    *refresher->waiting_end = reading;
    refresher->waiting_end = &reading->next;
}

static void forget_reading(struct reading *reading)
{
    assert(!reading->keyring);
    struct refresher *refresher = reading->refresher;
    free(reading);
    pthread_mutex_lock(&refresher->lock);
    assert(refresher->queued > 0);
    refresher->queued--;
    pthread_mutex_unlock(&refresher->lock);
}

static void reading_done(struct lookup_waiter *waiter, const struct found *found)
{
    struct reading *reading = container_of(waiter, struct reading, waiter);
    struct refresher *refresher = reading->refresher;
    keyring_unref(&reading->keyring);
    assert(refresher->under_way > 0);
    refresher->under_way--;
    /* A change made here is reported twice: by the update itself and by Redis. */
    if (found->err == ERR_OK && found->overtaken && reading->reads < READS_MOST)
        wait_again(reading);
    else
        forget_reading(reading); /* the lookup has cached it */
    if (refresher->waiting)
        uv_async_send(&refresher->wake);
}

/* Reads by the last known policy, fresh or not. A validation asks again if it is outdated. */
static void read_one(struct refresher *refresher, struct reading *reading)
{
    assert(!reading->keyring);
    struct conf *conf = conf_current();
    struct policy policy;
    reading->keyring = keyring_ref(refresher->context.keyring);
    reading->reads++;
    session_known_policy(refresher->context.worker, conf, reading->owner.tenant, &policy);
    const struct lookup_request request =
        lookup_request_of(&reading->owner, reading->session, reading->keyring, conf, &policy,
                          clock_monotonic_ms() + conf->redis_timeout);
    conf_unref(&conf);
    reading->waiter.done = reading_done;
    refresher->under_way++;
    lookup_begin(refresher->context.worker, &request, &reading->waiter);
}

static void read_waiting(struct refresher *refresher)
{
    while (refresher->waiting && refresher->under_way < UNDER_WAY_MOST) {
        struct reading *reading = refresher->waiting;
        refresher->waiting = reading->next;
        if (!refresher->waiting)
            refresher->waiting_end = &refresher->waiting;
        read_one(refresher, reading);
    }
}

/* --- the thread --- */

static void on_refresher_flush(uv_prepare_t *flush)
{
    struct refresher *refresher = flush->data;
    assert(refresher->context.worker);
    session_worker_flush(refresher->context.worker);
}

static void close_thread(struct refresher *refresher)
{
    replay_stop(refresher->replay);
    key_watch_stop(refresher->key_watch);
    session_worker_close(&refresher->context.worker);
    assert(refresher->under_way == 0);
    free_readings(refresher->waiting);
    refresher->waiting = NULL;
    uv_close((uv_handle_t *)&refresher->wake, NULL);
    uv_close((uv_handle_t *)&refresher->flush, NULL);
}

static void take_queue(struct refresher *refresher)
{
    if (!refresher->queue)
        return;
    assert(refresher->waiting || refresher->waiting_end == &refresher->waiting);
    *refresher->waiting_end = refresher->queue;
    refresher->waiting_end = refresher->queue_end;
    refresher->queue = NULL;
    refresher->queue_end = &refresher->queue;
}

static void refresher_take_keyring(struct refresher *refresher)
{
    if (!refresher->new_keyring)
        return;
    keyring_unref(&refresher->context.keyring);
    refresher->context.keyring = refresher->new_keyring;
    refresher->new_keyring = NULL;
    refresher->rekeyed = true;
}

static void take_doubts(struct refresher *refresher, bool owner_changed)
{
    if (!refresher->doubted[owner_changed])
        return;
    replay_doubt(refresher->replay, refresher->doubts[owner_changed], owner_changed);
    refresher->doubted[owner_changed] = false;
    memset(refresher->doubts[owner_changed], 0, SLOT_COUNT / 8);
}

static void on_refresher_wake(uv_async_t *wake)
{
    struct refresher *refresher = wake->data;
    pthread_mutex_lock(&refresher->lock);
    take_queue(refresher);
    refresher_take_keyring(refresher);
    bool stopping = refresher->stopping;
    if (!stopping) {
        take_doubts(refresher, true);
        take_doubts(refresher, false);
    }
    pthread_mutex_unlock(&refresher->lock);
    if (stopping) {
        close_thread(refresher);
        return;
    }
    if (refresher->rekeyed)
        key_watch_rekeyed(refresher->key_watch);
    refresher->rekeyed = false;
    read_waiting(refresher);
}

static void run_refresher(void *user)
{
    struct refresher *refresher = user;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    pthread_setname_np(pthread_self(), "refresher");
    metrics_attach();
    refresher->context.worker = session_worker_open(refresher->service, &refresher->loop);
    refresher->replay = replay_create(&refresher->context, &refresher->loop);
    refresher->key_watch = key_watch_create(&refresher->context, &refresher->loop);
    uv_prepare_start(&refresher->flush, on_refresher_flush);
    uv_run(&refresher->loop, UV_RUN_DEFAULT);
}

void refresher_start(struct session_service *service, struct keyring *keyring)
{
    struct refresher *refresher = xcalloc(1, sizeof(*refresher));
    service->refresher = refresher; /* before the thread, since its own writes forget users */
    refresher->service = service;
    refresher->context.keyring = keyring_ref(keyring);
    refresher->queue_end = &refresher->queue;
    refresher->waiting_end = &refresher->waiting;
    pthread_mutex_init(&refresher->lock, NULL);
    uv_loop_init(&refresher->loop);
    uv_async_init(&refresher->loop, &refresher->wake, on_refresher_wake);
    uv_prepare_init(&refresher->loop, &refresher->flush);
    refresher->wake.data = refresher->flush.data = refresher;
    int failure = uv_thread_create(&refresher->thread, run_refresher, refresher);
    assert(failure == 0);
    (void)failure;
}

void refresher_stop(struct session_service *service)
{
    struct refresher *gone = service->refresher;
    pthread_mutex_lock(&gone->lock);
    gone->stopping = true;
    pthread_mutex_unlock(&gone->lock);
    uv_async_send(&gone->wake);
    uv_thread_join(&gone->thread);
    service->refresher = NULL;
    int busy = uv_loop_close(&gone->loop);
    assert(busy == 0);
    (void)busy;
    free_readings(gone->queue);
    replay_destroy(&gone->replay);
    key_watch_destroy(&gone->key_watch);
    keyring_unref(&gone->context.keyring);
    keyring_unref(&gone->new_keyring);
    pthread_mutex_destroy(&gone->lock);
    free(gone);
}
