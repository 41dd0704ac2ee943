/* Makes, counts and frees configurations of requests. */
#include "request_config.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "location.h"
#include "memory.h"

static _Atomic uint64_t generations;

struct request_config *request_config_create(struct conf *conf, struct keyring *keyring,
                                             struct session_worker *sessions)
{
    struct request_config *config = xcalloc(1, sizeof(*config));
    assert(conf != NULL && keyring != NULL);
    config->conf = conf;
    config->context.worker = sessions;
    config->context.keyring = keyring;
    config->context.locations = location_db_current();
    config->references = 1;
    config->generation = atomic_fetch_add(&generations, 1) + 1;
    proxies_load(&config->proxies, &conf->server_trusted_proxies);
    return config;
}

struct request_config *request_config_ref(struct request_config *config)
{
    assert(config->references > 0);
    config->references++;
    return config;
}

void request_config_unref(struct request_config **config)
{
    struct request_config *last = *config;
    *config = NULL;
    assert(last == NULL || last->references > 0);
    if (last == NULL || --last->references > 0)
        return;
    proxies_free(&last->proxies);
    conf_unref(&last->conf);
    keyring_unref(&last->context.keyring);
    location_db_unref(&last->context.locations);
    free(last);
}
