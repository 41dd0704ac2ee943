/* One worker's end of the store, as its parts share it: loop, map, settings, nodes and calls. One
 * thread's, without a lock; link.c opens and closes it. */
#pragma once

#include "call.h"
#include "redis/state/store_state.h"
#include "timing.h"

struct connection_owner;

/* One read of a socket at most. */
#define LINK_INPUT_BYTES ((size_t)64 * 1024)

struct store_link {
    struct store_worker worker; /* on the store's list, woken by it */
    struct store *store;
    uv_loop_t *loop;
    struct timing timing;
    unsigned handles; /* libuv's, that must close before the link is freed */
    bool closing;

    struct settings *settings;
    struct slot_map *map;        /* NULL until the first is known */
    struct node **map_nodes;     /* of map->nodes[i], masters only */
    struct node **replica_nodes; /* of map->nodes[i]: its replica for replica reads, or NULL. NULL:
                                    no master has one */
    struct node *nodes;
    struct endpoint_table index, replica_index; /* of nodes, by their endpoints */
    const struct connection_owner *call_owner;  /* of the nodes' connections */

    struct call_list parked, ending;
    struct store_call_state *free_states;
    size_t pending;
    int64_t first_deadline_ms; /* no call has an earlier one */
    int64_t sweep_ms;          /* when to look for nodes to forget */
    bool dirty;                /* some connection has something to write */
    int64_t read_ns;           /* when the present read began; 0 outside of reads */
    int64_t error_noted_ms;    /* an error of a server's, for log and /readyz; 0: never */
    uint64_t seed;             /* jitter */
    char *input;               /* LINK_INPUT_BYTES, for every connection in turn */
    /* Called with the time for connections on this loop that are no node's; returns when it is due
     * again. NULL: there are none. */
    int64_t (*tick)(void *user, int64_t now_ms);
    void *tick_user;
};

/* One more of libuv's handles needs the link. */
void link_state_hold(struct store_link *link);
/* That handle has closed; frees a closed link after the last. */
void link_state_release(struct store_link *link);
