/* An operation that no request waits for: what the request would lend it is its own. */
#pragma once

#include "operation.h"
#include "service.h"

struct background {
    struct session_context context; /* a reference of the keyring */
    struct conf *conf;              /* a reference, to the one of now */
    struct arena arena;
};

/* Makes the operation one of now, on this worker and with this keyring, that gives up after
 * redis.timeout. Both live until background_end(). */
void background_begin(struct background *background, struct operation *operation,
                      struct session_worker *worker, struct keyring *keyring);
/* What it stood on is let go, and the tenant that it entered. */
void background_end(struct background *background, struct operation *operation);
