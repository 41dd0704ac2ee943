/* The keeper's thread, and the two ways in: owners to be read anew, slots in doubt. */
#include "keeper.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "binding.h"
#include "clock.h"
#include "lookup.h"
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
    uint32_t ticket; /* as it was when the read began */
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
    bool taken = keeper->queued + batch->count <= QUEUE_MOST && !keeper->stopping;
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

/* The user was forgotten again meanwhile, so that what was read is not stored: a change made here
 * is told twice, by the change itself and by Redis. */
static bool is_overtaken(const struct reading *reading)
{
    const struct cache *cache = reading->keeper->service->cache;
    return reading->reads < READS_MOST &&
           cache_ticket(cache, owner_bytes(&reading->owner)) != reading->ticket;
}

static void wait_again(struct reading *reading)
{
    struct keeper *keeper = reading->keeper;
    reading->next = NULL;
    *keeper->waiting_end = reading;
    keeper->waiting_end = &reading->next;
}

static void forget_reading(struct reading *reading)
{
    struct keeper *keeper = reading->keeper;
    free(reading);
    pthread_mutex_lock(&keeper->lock);
    keeper->queued--;
    pthread_mutex_unlock(&keeper->lock);
}

static void reading_done(struct lookup_waiter *waiter, const struct found *found)
{
    struct reading *reading = (struct reading *)waiter;
    struct keeper *keeper = reading->keeper;
    keyring_unref(&reading->keyring);
    keeper->under_way--;
    if (found->err == ERR_OK && is_overtaken(reading))
        wait_again(reading);
    else
        forget_reading(reading); /* the lookup has stored it */
    if (keeper->waiting)
        uv_async_send(&keeper->wake);
}

/* By what is known of the tenant, true or not: who validates asks again if it is not. */
static void take_policy(const struct keeper *keeper, const struct conf *conf,
                        const struct user_tag *owner, struct lookup_request *request)
{
    struct tenant_row row;
    struct policy policy;
    bool known = tenants_find(keeper->context.worker->tenants, owner->tenant, &row);
    policy_of_tenant(conf, known ? row.tenant->policy : NULL, &policy);
    request->bound = binding_counts(&policy);
    request->cache_quota = lookup_quota(&policy);
}

static void read_one(struct keeper *keeper, struct reading *reading)
{
    struct conf *conf = conf_current();
    reading->keyring = keyring_ref(keeper->context.keyring);
    reading->ticket = cache_ticket(keeper->service->cache, owner_bytes(&reading->owner));
    reading->reads++;
    struct lookup_request request = {
        .owner = &reading->owner,
        .session_id = reading->session,
        .keyring = reading->keyring,
        .encrypt = conf->keys_encryption != ENCRYPTION_NONE,
        .deadline_ms = clock_monotonic_ms() + conf->redis_timeout,
    };
    take_policy(keeper, conf, &reading->owner, &request);
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
    if (keeper->context.worker)
        session_worker_flush(keeper->context.worker);
}

static void close_thread(struct keeper *keeper)
{
    replay_stop(keeper->replay);
    session_worker_close(&keeper->context.worker);
    discard(keeper->waiting);
    keeper->waiting = NULL;
    uv_close((uv_handle_t *)&keeper->wake, NULL);
    uv_close((uv_handle_t *)&keeper->flush, NULL);
}

static void take_queue(struct keeper *keeper)
{
    if (!keeper->queue)
        return;
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
    if (stopping)
        close_thread(keeper);
    else
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
    uv_prepare_start(&keeper->flush, on_flush);
    uv_run(&keeper->loop, UV_RUN_DEFAULT);
}

struct keeper *keeper_start(struct session_service *service, struct keyring *keyring)
{
    struct keeper *keeper = xcalloc(1, sizeof(*keeper));
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
    return keeper;
}

void keeper_stop(struct keeper **keeper)
{
    struct keeper *gone = *keeper;
    *keeper = NULL;
    if (!gone)
        return;
    pthread_mutex_lock(&gone->lock);
    gone->stopping = true;
    pthread_mutex_unlock(&gone->lock);
    uv_async_send(&gone->wake);
    uv_thread_join(&gone->thread);
    int busy = uv_loop_close(&gone->loop);
    assert(busy == 0);
    (void)busy;
    discard(gone->queue);
    replay_destroy(&gone->replay);
    keyring_unref(&gone->context.keyring);
    keyring_unref(&gone->new_keyring);
    pthread_mutex_destroy(&gone->lock);
    free(gone);
}
