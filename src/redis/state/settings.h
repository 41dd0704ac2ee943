/* The configuration of Redis in the form that the store uses. Immutable and counted: a reload
 * publishes new settings. */
#pragma once

#include "endpoint.h"
#include "redis/protocol/tls.h"
#include "server_problems.h"
#include "store.h"

struct settings {
    _Atomic unsigned references;
    uint64_t number; /* 1 for the first of the process: addresses come back */
    enum redis_mode mode;
    char *sentinel_name; /* of the master, in sentinel mode */
    struct endpoint *seeds;
    size_t seed_count;      /* at least 1 */
    struct buffer greeting; /* AUTH, if there is a password, and PING; wiped with the settings */
    unsigned greetings;     /* commands in it */
    struct buffer replica_greeting;  /* the same with READONLY before PING: one command more */
    struct buffer sentinel_greeting; /* the same for sentinels */
    unsigned sentinel_greetings;
    struct ip_network *replica_networks; /* of redis.near_replicas */
    size_t replica_network_count;
    struct tls_context *tls;         /* NULL: plain TCP */
    struct server_problems problems; /* of connections made under these settings */
    struct server_problems errors;   /* errors to calls that do not pass */
    struct server_problems faults;   /* faults of masters by their own INFO */
    struct server_problems foreign;  /* servers of another store */
    int64_t slow_ms;                 /* a later answer is a failure for the breaker */
    int64_t connect_timeout_ms;
    int64_t wait_timeout_ms;
    int64_t reconnect_max_ms;
    int64_t map_refresh_ms;
};

/* NULL with *error if a node's address, a password or TLS file cannot be used. Blocks on the files.
 */
struct settings *settings_from_conf(const struct conf *conf, struct buffer *error);
struct settings *settings_ref(struct settings *settings);
void settings_unref(struct settings **settings);
