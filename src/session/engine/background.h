/* An operation that no request waits for. It owns what a request would lend: arena, configuration,
 * keyring. */
#pragma once

#include "operation.h"
#include "service.h"

struct background {
    struct session_context context; /* holds a reference of the keyring */
    struct conf *conf;              /* a reference to the current one */
    struct arena arena;
};

/* Prepares the operation: it starts now, on this worker, with this keyring, and gives up after
 * redis.timeout. Worker and keyring must live until background_end(). */
void background_begin(struct background *background, struct operation *operation,
                      struct session_worker *worker, struct keyring *keyring);
/* Releases the tenant that the operation entered, the configuration, the keyring and the arena. */
void background_end(struct background *background, struct operation *operation);
