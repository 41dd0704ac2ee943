/* Sentinel mode: who is the master?
 *
 * All sentinels are asked at once for SENTINEL MASTER, and have 300 ms. The server that more than
 * half of those listed name is the master, else the one with the newest config-epoch, which grows
 * with each failover. A server named by less than half must have a newer epoch than the present
 * master, or be it: a sentinel that was cut off has an old epoch. The server is then asked for its
 * ROLE ("Guidelines for Redis clients with support for Redis Sentinel"); if it is no master, the
 * next one has to be of a newer epoch.
 *
 * A sentinel whose user may not send SENTINEL MASTER is asked by get-master-addr-by-name: its word
 * counts as one with epoch 0. */
#pragma once

#include "redis/calls/link.h"

/* One search at a time. The owner sets the first group. */
struct sentinel_search {
    struct store_link *link;
    /* Called once for each search, unless the link is closed meanwhile: with the master, or NULL
     * and the reason. */
    void (*done)(struct sentinel_search *search, const struct endpoint *master, enum err err);
    /* This server says that it is no master. */
    void (*demoted)(struct sentinel_search *search, const struct endpoint *server);

    /* Private. */
    struct settings *settings;   /* of this search; NULL: none in progress */
    struct sentinel_vote *votes; /* a sentinel each */
    size_t owed;                 /* answers */
    enum err err;
    struct store_call role_call;
    struct endpoint candidate; /* is asked for its role */
    int64_t candidate_epoch;
    struct endpoint master; /* the present one; an empty host: none */
    int64_t epoch;          /* of the present master */
    int64_t newest_epoch;   /* of it and of those tried in vain; -1: there was none */
    uint64_t last_settings; /* number of those of the search before; 0: none */
    bool denied_logged;     /* a sentinel tells no epoch */
};

void sentinel_search(struct sentinel_search *search);
