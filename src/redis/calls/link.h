/* A worker's end of the store: its nodes, its calls, its clock. */
#pragma once

#include "connection.h"
#include "redis/topology/store_state.h"

/* A node of the cluster, as this link knows it. */
struct node {
    struct node *next;
    struct endpoint endpoint;
    struct store_breaker *breaker;
    bool in_map; /* others go when they are idle */
    struct connection data, durable;
};

/* One read of a socket at most. */
#define LINK_INPUT_BYTES ((size_t)64 * 1024)

struct store_link {
    struct store_link *next_link; /* under store->lock */
    struct store *store;
    uv_loop_t *loop;
    uv_async_t wake; /* new map or settings */
    uv_timer_t timer;
    unsigned handles; /* libuv's, that must close before the link is freed */
    bool closing;

    struct settings *settings;
    struct slot_map *map;    /* NULL until the first is known */
    struct node **map_nodes; /* of map->nodes[i], masters only */
    struct node *
        *replica_nodes; /* of map->nodes[i], its near replica or NULL; NULL: nobody has one */
    struct node *nodes;
    struct endpoint_table index, replica_index; /* of nodes, by their endpoints */

    struct call_list parked, ending;
    struct store_call_state *free_states;
    size_t pending;
    int64_t first_deadline_ms; /* no call has an earlier one */
    int64_t timer_due_ms;      /* INT64_MAX: not set */
    int64_t sweep_ms;          /* when to look for nodes to forget */
    bool dirty;                /* some connection has something to write */
    int64_t read_ns;           /* when the present read began; 0 outside of reads */
    int64_t error_noted_ms;    /* an error of a server's, for log and /readyz; 0: never */
    uint64_t seed;             /* jitter */
    char *input;               /* LINK_INPUT_BYTES, for every connection in turn */
    /* Who has connections on this loop that are no node's (NULL: nobody): told the time, tells when
     * to come back. */
    int64_t (*tick)(void *user, int64_t now_ms);
    void *tick_user;
};

/* The timer fires at this time at the latest. */
void timing_schedule(struct store_link *link, int64_t due_ms);
/* The node, made if it is new. */
struct node *link_node(struct store_link *link, const struct endpoint *endpoint);
/* The node that is a sentinel. */
struct node *link_sentinel_node(struct store_link *link, const struct endpoint *endpoint);
/* The node that has replicas' answers (replica_read.h) from this endpoint. */
struct node *link_replica_node(struct store_link *link, const struct endpoint *endpoint);
/* True if the node of this endpoint has a connection that is up. */
bool link_is_up(const struct store_link *link, const struct endpoint *endpoint);
/* Frees the node, which is not in link->nodes any more and has no calls. */
void link_free_node(struct store_link *link, struct node *node);
/* Which of the node's connections the call uses. */
struct connection *link_connection(struct store_link *link, struct node *node,
                                   const struct store_call *call);
/* A command of no key, for link_send_direct() or link_ask(), that may take so long. */
struct store_call link_question(const struct text *arguments, size_t count, int64_t patience_ms,
                                store_done_fn *done);
/* Sends to this node, once: no redirection, no second try. STORE_REFUSED if the node says that it
 * is not the master of the key's slot, or of no use as one. */
void link_send_direct(struct store_link *link, struct store_call *call,
                      const struct endpoint *endpoint);
/* The same, also if the server there is another one than the map names. */
void link_ask(struct store_link *link, struct store_call *call, const struct endpoint *endpoint);
/* One of libuv's handles has closed; frees the link after the last. */
void link_handle_closed(struct store_link *link);
