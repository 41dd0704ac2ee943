/* How many connections are open, in all and from each address, or each /64 in IPv6. Shared by the
 * acceptor, which takes places, and the workers, which give them back; one lock, never held across
 * I/O. */
#pragma once

#include "address.h"

struct connection_limits;

struct connection_limits *connection_limits_create(void);
/* All places must have been given back. */
void connection_limits_destroy(struct connection_limits **limits);
/* New bounds; places already taken stay taken. */
void connection_limits_set(struct connection_limits *limits, int64_t total, int64_t per_address);
/* Takes a place; false if there is none. `address` is NULL for Unix sockets, which count in the
 * total only. */
bool connection_limits_take(struct connection_limits *limits, const struct ip_address *address);
void connection_limits_give_back(struct connection_limits *limits,
                                 const struct ip_address *address);
