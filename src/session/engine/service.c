/* The domain's state for the process, its callbacks from the store, and a worker's part. */
#include "service.h"

#include <assert.h>
#include <stdlib.h>

#include "clock.h"
#include "due.h"
#include "lookup.h"
#include "ratelimit.h"
#include "session/index/index.h"
#include "session/index/quota.h"
#include "session/model/keys.h"
#include "session/operations/challenge.h"
#include "session/upkeep/key_marks.h"
#include "session/upkeep/refresher.h"
#include "signatures.h"
#include "tenant_record.h"
#include "tenant_update.h"
#include "turns.h"
#include "user_update.h"

enum { OFFER_CELLS = 65536 };

/* --- callbacks of the store, on its control thread --- */

static void on_changed(void *user, struct text key)
{
    struct session_service *service = user;
    struct user_tag owner;
    uint8_t tenant[TENANT_TAG];
    if (keys_read_epoch(key, &owner))
        refresher_forget(service->refresher, &owner);
    else if (keys_read_tenant(key, tenant))
        tenants_forget(service->tenants, tenant);
}

static void on_doubted(void *user, const uint8_t slots[SLOT_COUNT / 8], bool owner_changed)
{
    struct session_service *service = user;
    int64_t now_ms = clock_boot_ms();
    for (unsigned slot = 0; slot < SLOT_COUNT && owner_changed; slot++)
        if (slots[slot / 8] & 1u << slot % 8)
            atomic_store_explicit(&service->moved_ms[slot], now_ms, memory_order_relaxed);
    refresher_doubt(service->refresher, slots, owner_changed);
}

/* --- the process --- */

void session_prepare(void)
{
    user_update_prepare();
    index_prepare();
    tenant_update_prepare();
    challenge_prepare();
    key_marks_prepare();
}

struct session_service *session_service_start(struct store *store, struct cache *cache,
                                              struct tenants *tenants, struct journal *journal,
                                              struct keyring *keyring)
{
    struct session_service *service = xcalloc(1, sizeof(*service));
    service->store = store;
    service->cache = cache;
    service->tenants = tenants;
    service->journal = journal;
    service->epoch_floor = epoch_floor_create();
    service->offers = ratelimit_create(OFFER_CELLS);
    service->quotas = quota_create();
    crypto_keyed_hash(keyring, CRYPTO_RECOGNITION, NULL, 0, service->recognition_key,
                      sizeof(service->recognition_key));
    service->signatures = signatures_create();
    refresher_start(service, keyring);
    const struct store_listener watcher = {service, on_changed, on_doubted};
    store_listen(store, &watcher);
    return service;
}

void session_service_rekey(struct session_service *service, struct keyring *keyring)
{
    refresher_rekey(service->refresher, keyring);
}

enum session_keys session_keys(const struct session_service *service, uint64_t *ids)
{
    if (ids)
        *ids = atomic_load(&service->keys_ids);
    return atomic_load_explicit(&service->keys_state, memory_order_relaxed);
}

void session_service_stop(struct session_service **service)
{
    struct session_service *gone = *service;
    *service = NULL;
    if (!gone)
        return;
    store_listen(gone->store, NULL);
    refresher_stop(gone);
    quota_destroy(&gone->quotas);
    epoch_floor_destroy(&gone->epoch_floor);
    ratelimit_destroy(&gone->offers);
    signatures_destroy(&gone->signatures);
    free(gone);
}

/* --- a worker's part --- */

static void wake_worker(void *user)
{
    struct session_worker *worker = user;
    uv_async_send(&worker->wake);
}

static void on_journal_wake(uv_async_t *wake)
{
    struct session_worker *worker = wake->data;
    journal_collect(worker->lane);
}

struct session_worker *session_worker_open(struct session_service *service, uv_loop_t *loop)
{
    struct session_worker *worker = xcalloc(1, sizeof(*worker));
    worker->service = service;
    worker->link = store_link_open(service->store, loop);
    uv_async_init(loop, &worker->wake, on_journal_wake);
    worker->wake.data = worker;
    uv_timer_init(loop, &worker->patience);
    worker->patience.data = worker;
    turns_open(worker, loop);
    uv_timer_init(loop, &worker->due_timer);
    worker->due_timer.data = worker;
    worker->lane = journal_lane_create(service->journal, wake_worker, worker);
    worker->tenants = tenants_view_create(service->tenants);
    return worker;
}

void session_worker_flush(struct session_worker *worker)
{
    store_flush(worker->link);
    journal_flush(worker->lane);
}

static void handle_closed(uv_handle_t *handle)
{
    struct session_worker *worker = handle->data;
    if (--worker->open_handles == 0)
        free(worker);
}

/* All at once: the loop's owner closes handles that are still open. */
static void close_worker_handles(struct session_worker *worker)
{
    uv_handle_t *const handles[] = {(uv_handle_t *)&worker->wake, (uv_handle_t *)&worker->patience,
                                    (uv_handle_t *)&worker->turning,
                                    (uv_handle_t *)&worker->due_timer};
    worker->open_handles = sizeof(handles) / sizeof(handles[0]);
    for (size_t i = 0; i < sizeof(handles) / sizeof(handles[0]); i++)
        uv_close(handles[i], handle_closed);
}

/* Operations that wait for Redis end first; those that then wait for the journal end with its
 * lane. */
void session_worker_close(struct session_worker **worker)
{
    struct session_worker *gone = *worker;
    *worker = NULL;
    if (!gone)
        return;
    gone->closing = true;
    turns_finish(gone);
    store_link_close(&gone->link);
    journal_flush(gone->lane);
    journal_lane_destroy(&gone->lane);
    assert(!gone->changes && !gone->first_due);
    assert(gone->tenant_read_count == 0);
    lookup_free_idle(gone);
    tenants_view_destroy(&gone->tenants);
    close_worker_handles(gone);
}
