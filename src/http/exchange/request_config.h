/* The configuration that a request is served with: one struct conf, one keyring, one location
 * database. A worker replaces its request_config as a whole, on its own thread; a request in
 * progress keeps the one it began with. Counted without atomics, since it never leaves its worker.
 */
#pragma once

#include "conf.h"
#include "http/access/proxies.h"
#include "session.h"

struct request_config {
    struct conf *conf;
    struct session_context context;
    struct proxies proxies;
    unsigned references;
    uint64_t generation; /* unique in the process */
};

/* Takes over the references to conf and keyring. The caller owns one reference. */
struct request_config *request_config_create(struct conf *conf, struct keyring *keyring,
                                             struct session_worker *sessions);
struct request_config *request_config_ref(struct request_config *config);
void request_config_unref(struct request_config **config);
