/* Targets of calls: the owner of their slot, a replica, or the target of a redirection; and what
 * follows their replies. */
#pragma once

#include "connection.h"

struct node;

/* The owner of the connections that a link's calls use: acts on replies and lost calls. */
extern const struct connection_owner routing_owner;

/* Sends the call to the owner of its slot, or parks it until there is one. */
void routing_route(struct store_link *link, struct store_call *call);
/* Sends the call to this node, or ends it soon if the node's breaker does not let it pass. */
void routing_send(struct store_link *link, struct node *node, struct store_call *call);
/* The replica did not serve the call, which is in no list: on to the master. */
void routing_fall_back(struct store_link *link, struct store_call *call);
