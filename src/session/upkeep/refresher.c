/* The keeper's thread, and the two ways in: owners to be read anew, slots in doubt. */
#include "refresher.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "container_of.h"
#include "key_watch.h"
#include "session/engine/lookup.h"
#include "metrics.h"
#include "replay.h"

enum {
    QUEUE_MOST = 1 << 16, /* what more is forgotten is read when somebody asks for it */
    UNDER_WAY_MOST = 256,
    READS_MOST = 8 /* of one session, while changes of its user overtake them */
};

/* One session to be read, which lives until it was. */
struct reading {
    struct lookup_waiter waiter;
    struct keeper *keeper;
    struct keyring *keyring; /* a reference, once it is under way */
    struct reading *next;
    struct user_tag owner;
    uint8_t session[SESSION_ID];
    unsigned reads;
};

struct keeper {
    struct session_service *service;
    uv_thread_t thread;
    uv_loop_t loop;
    uv_async_t wake;
    uv_prepare_t flush;
    struct session_context context;
    struct replay *replay;
    struct key_watch *key_watch;

    pthread_mutex_t lock; /* of what other threads leave here */
    struct reading *queue, **queue_end;
    size_t queued; /* those waiting and under way included */
    struct keyring *new_keyring;
    bool doubted[2]; /* by owner_changed */
    uint8_t doubts[2][SLOTS / 8];
    bool stopping;

    /* The thread's own. */
    struct reading *waiting, **waiting_end;
    size_t under_way;
    bool rekeyed;
};

/* --- from other threads --- */

struct batch {
    struct keeper *keeper;
    struct reading *first, **end;
    size_t count;
};

static void add_reading(struct batch *batch, const uint8_t *owner, const uint8_t *session)
{
    struct reading *reading = xcalloc(1, sizeof(*reading));
    reading->keeper = batch->keeper;
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

static void discard(struct reading *reading)
{
    while (reading) {
        struct reading *next = reading->next;
        free(reading);
        reading = next;
    }
}

static void enqueue(struct keeper *keeper, struct batch *batch)
{
    pthread_mutex_lock(&keeper->lock);
    bool taken = keeper->queued + batch->count <= QUEUE_MOST;
    if (taken) {
        *keeper->queue_end = batch->first;
        keeper->queue_end = batch->end;
        keeper->queued += batch->count;
    }
    pthread_mutex_unlock(&keeper->lock);
    if (taken)
        uv_async_send(&keeper->wake);
    else
        discard(batch->first);
}

void keeper_forget(struct keeper *keeper, const struct user_tag *owner)
{
    static const uint8_t no_session[SESSION_ID];
    struct batch batch = {.keeper = keeper};
    batch.end = &batch.first;
    cache_forget(keeper->service->cache, owner_bytes(owner), add_forgotten, &batch);
    /* Also without a session of theirs: their epoch is to be known. */
    if (batch.count == 0)
        add_reading(&batch, owner_bytes(owner), no_session);
    enqueue(keeper, &batch);
}

void keeper_doubt(struct keeper *keeper, const uint8_t slots[SLOTS / 8], bool owner_changed)
{
    pthread_mutex_lock(&keeper->lock);
    keeper->doubted[owner_changed] = true;
    for (size_t i = 0; i < SLOTS / 8; i++)
        keeper->doubts[owner_changed][i] |= slots[i];
    pthread_mutex_unlock(&keeper->lock);
    uv_async_send(&keeper->wake);
}

void keeper_rekey(struct keeper *keeper, struct keyring *keyring)
{
    struct keyring *mine = keyring_ref(keyring);
    pthread_mutex_lock(&keeper->lock);
    struct keyring *unread = keeper->new_keyring;
    keeper->new_keyring = mine;
    pthread_mutex_unlock(&keeper->lock);
    keyring_unref(&unread);
    uv_async_send(&keeper->wake);
}

/* --- reading anew --- */

static void wait_again(struct reading *reading)
{
    struct keeper *keeper = reading->keeper;
    reading->next = NULL;
    *keeper->waiting_end = reading;
    keeper->waiting_end = &reading->next;
}

static void forget_reading(struct reading *reading)
{
    assert(!reading->keyring);
    struct keeper *keeper = reading->keeper;
    free(reading);
    pthread_mutex_lock(&keeper->lock);
    assert(keeper->queued > 0);
    keeper->queued--;
    pthread_mutex_unlock(&keeper->lock);
}

static void reading_done(struct lookup_waiter *waiter, const struct found *found)
{
    struct reading *reading = container_of(waiter, struct reading, waiter);
    struct keeper *keeper = reading->keeper;
    keyring_unref(&reading->keyring);
    assert(keeper->under_way > 0);
    keeper->under_way--;
    /* A change made here is told twice, by the change itself and by Redis. */
    if (found->err == ERR_OK && found->overtaken && reading->reads < READS_MOST)
        wait_again(reading);
    else
        forget_reading(reading); /* the lookup has stored it */
    if (keeper->waiting)
        uv_async_send(&keeper->wake);
}

/* By what is known of the tenant, true or not: who validates asks again if it is not. */
static void read_one(struct keeper *keeper, struct reading *reading)
{
    assert(!reading->keyring);
    struct conf *conf = conf_current();
    struct policy policy;
    reading->keyring = keyring_ref(keeper->context.keyring);
    reading->reads++;
    session_known_policy(keeper->context.worker, conf, reading->owner.tenant, &policy);
    const struct lookup_request request =
        lookup_request_of(&reading->owner, reading->session, reading->keyring, conf, &policy,
                          clock_monotonic_ms() + conf->redis_timeout);
    conf_unref(&conf);
    reading->waiter.done = reading_done;
    keeper->under_way++;
    lookup_begin(keeper->context.worker, &request, &reading->waiter);
}

static void read_waiting(struct keeper *keeper)
{
    while (keeper->waiting && keeper->under_way < UNDER_WAY_MOST) {
        struct reading *reading = keeper->waiting;
        keeper->waiting = reading->next;
        if (!keeper->waiting)
            keeper->waiting_end = &keeper->waiting;
        read_one(keeper, reading);
    }
}

/* --- the thread --- */

static void on_flush(uv_prepare_t *flush)
{
    struct keeper *keeper = flush->data;
    assert(keeper->context.worker);
    session_worker_flush(keeper->context.worker);
}

static void close_thread(struct keeper *keeper)
{
    replay_stop(keeper->replay);
    key_watch_stop(keeper->key_watch);
    session_worker_close(&keeper->context.worker);
    assert(keeper->under_way == 0);
    discard(keeper->waiting);
    keeper->waiting = NULL;
    uv_close((uv_handle_t *)&keeper->wake, NULL);
    uv_close((uv_handle_t *)&keeper->flush, NULL);
}

static void take_queue(struct keeper *keeper)
{
    if (!keeper->queue)
        return;
    assert(keeper->waiting || keeper->waiting_end == &keeper->waiting);
    *keeper->waiting_end = keeper->queue;
    keeper->waiting_end = keeper->queue_end;
    keeper->queue = NULL;
    keeper->queue_end = &keeper->queue;
}

static void take_keyring(struct keeper *keeper)
{
    if (!keeper->new_keyring)
        return;
    keyring_unref(&keeper->context.keyring);
    keeper->context.keyring = keeper->new_keyring;
    keeper->new_keyring = NULL;
    keeper->rekeyed = true;
}

static void take_doubts(struct keeper *keeper, bool owner_changed)
{
    if (!keeper->doubted[owner_changed])
        return;
    replay_doubt(keeper->replay, keeper->doubts[owner_changed], owner_changed);
    keeper->doubted[owner_changed] = false;
    memset(keeper->doubts[owner_changed], 0, SLOTS / 8);
}

static void on_wake(uv_async_t *wake)
{
    struct keeper *keeper = wake->data;
    pthread_mutex_lock(&keeper->lock);
    take_queue(keeper);
    take_keyring(keeper);
    bool stopping = keeper->stopping;
    if (!stopping) {
        take_doubts(keeper, true);
        take_doubts(keeper, false);
    }
    pthread_mutex_unlock(&keeper->lock);
    if (stopping) {
        close_thread(keeper);
        return;
    }
    if (keeper->rekeyed)
        key_watch_rekeyed(keeper->key_watch);
    keeper->rekeyed = false;
    read_waiting(keeper);
}

static void run(void *user)
{
    struct keeper *keeper = user;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    pthread_setname_np(pthread_self(), "keeper");
    metrics_attach();
    keeper->context.worker = session_worker_open(keeper->service, &keeper->loop);
    keeper->replay = replay_create(&keeper->context, &keeper->loop);
    keeper->key_watch = key_watch_create(&keeper->context, &keeper->loop);
    uv_prepare_start(&keeper->flush, on_flush);
    uv_run(&keeper->loop, UV_RUN_DEFAULT);
}

void keeper_start(struct session_service *service, struct keyring *keyring)
{
    struct keeper *keeper = xcalloc(1, sizeof(*keeper));
    service->keeper = keeper; /* before the thread, whose own writes forget users */
    keeper->service = service;
    keeper->context.keyring = keyring_ref(keyring);
    keeper->queue_end = &keeper->queue;
    keeper->waiting_end = &keeper->waiting;
    pthread_mutex_init(&keeper->lock, NULL);
    uv_loop_init(&keeper->loop);
    uv_async_init(&keeper->loop, &keeper->wake, on_wake);
    uv_prepare_init(&keeper->loop, &keeper->flush);
    keeper->wake.data = keeper->flush.data = keeper;
    int failure = uv_thread_create(&keeper->thread, run, keeper);
    assert(failure == 0);
    (void)failure;
}

void keeper_stop(struct session_service *service)
{
    struct keeper *gone = service->keeper;
    pthread_mutex_lock(&gone->lock);
    gone->stopping = true;
    pthread_mutex_unlock(&gone->lock);
    uv_async_send(&gone->wake);
    uv_thread_join(&gone->thread);
    service->keeper = NULL;
    int busy = uv_loop_close(&gone->loop);
    assert(busy == 0);
    (void)busy;
    discard(gone->queue);
    replay_destroy(&gone->replay);
    key_watch_destroy(&gone->key_watch);
    keyring_unref(&gone->context.keyring);
    keyring_unref(&gone->new_keyring);
    pthread_mutex_destroy(&gone->lock);
    free(gone);
}
