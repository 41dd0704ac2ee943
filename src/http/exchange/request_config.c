/* Making, counting and freeing snapshots. */
#include "request_config.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "memory.h"
#include "location.h"

static _Atomic uint64_t generations;

struct request_config *request_config_create(struct conf *conf, struct keyring *keyring,
                                             struct session_worker *sessions)
{
    struct request_config *snapshot = xcalloc(1, sizeof(*snapshot));
    assert(conf != NULL && keyring != NULL);
    snapshot->conf = conf;
    snapshot->context.worker = sessions;
    snapshot->context.keyring = keyring;
    snapshot->context.locations = location_db_current();
    snapshot->references = 1;
    snapshot->generation = atomic_fetch_add(&generations, 1) + 1;
    proxies_load(&snapshot->proxies, &conf->server_trusted_proxies);
    return snapshot;
}

struct request_config *request_config_ref(struct request_config *snapshot)
{
    assert(snapshot->references > 0);
    snapshot->references++;
    return snapshot;
}

void request_config_unref(struct request_config **snapshot)
{
    struct request_config *last = *snapshot;
    *snapshot = NULL;
    assert(last == NULL || last->references > 0);
    if (last == NULL || --last->references > 0)
        return;
    proxies_free(&last->proxies);
    conf_unref(&last->conf);
    keyring_unref(&last->context.keyring);
    location_db_unref(&last->context.locations);
    free(last);
}
