/* The servers that a link has connections to. */
#pragma once

#include "connection.h"

struct node {
    struct node *next;
    struct endpoint endpoint;
    struct store_breaker *breaker;
    bool in_map; /* others go when they are idle */
    struct connection data, durable;
};

/* The node of this endpoint, made if it is new. */
struct node *node_get(struct store_link *link, const struct endpoint *endpoint);
/* The node that is a sentinel. */
struct node *node_get_sentinel(struct store_link *link, const struct endpoint *endpoint);
/* The node that has replicas' answers (replica_read.h) from this endpoint. */
struct node *node_get_replica(struct store_link *link, const struct endpoint *endpoint);
/* True if the node of this endpoint has a connection that is up. */
bool node_is_up(const struct store_link *link, const struct endpoint *endpoint);
/* Which of the node's connections the call uses. */
struct connection *node_connection(struct node *node, const struct store_call *call);
/* Some node may have become superfluous: node_sweep() is due in a second. */
void node_sweep_later(struct store_link *link);
/* Forgets nodes that are not in the map, once they are idle. */
void node_sweep(struct store_link *link, int64_t now_ms);
/* Closes and frees all, whose connections have no calls any more. */
void node_free_all(struct store_link *link);
