/* Operations that the node runs for itself. */
#include "background.h"

#include <assert.h>

#include "clock.h"
#include "tenant.h"

void background_begin(struct background *background, struct operation *operation,
                      struct session_worker *worker, struct keyring *keyring)
{
    *background = (struct background){
        .context = {.worker = worker, .keyring = keyring_ref(keyring)},
        .conf = conf_current(),
    };
    *operation = (struct operation){
        .context = &background->context,
        .arena = &background->arena,
        .conf = background->conf,
        .now_ms = clock_common_ms(),
        .deadline_ms = clock_monotonic_ms() + background->conf->redis_timeout,
    };
}

void background_end(struct background *background, struct operation *operation)
{
    assert(operation->context == &background->context);
    tenant_release(operation);
    keyring_unref(&background->context.keyring);
    conf_unref(&background->conf);
    arena_free(&background->arena);
}
