/* Limits on open connections, in all and from each address, or each /64 in IPv6. The acceptor
 * counts connections in and the workers count them out; one lock, never held across I/O. */
#pragma once

#include "address.h"

struct connection_limits;

struct connection_limits *connection_limits_create(void);
/* All connections must have been counted out. */
void connection_limits_destroy(struct connection_limits **limits);
/* Sets new limits; open connections stay counted. */
void connection_limits_set(struct connection_limits *limits, int64_t total, int64_t per_address);
/* Counts a connection in; false if it would be over a limit. `address` is NULL for Unix sockets,
 * which count in the total only. */
bool connection_limits_take(struct connection_limits *limits, const struct ip_address *address);
/* Counts it out. */
void connection_limits_give_back(struct connection_limits *limits,
                                 const struct ip_address *address);
