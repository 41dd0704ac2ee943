/* How many connections are open, in all and from each address, or each /64 in IPv6. Shared by the
 * acceptor, which takes places, and the workers, which give them back; one lock, never held across
 * I/O. */
#pragma once

#include "address.h"

struct limits;

struct limits *limits_create(void);
/* All places must have been given back. */
void limits_destroy(struct limits **limits);
/* New bounds; places already taken stay taken. */
void limits_set(struct limits *limits, int64_t total, int64_t per_address);
/* Takes a place; false if there is none. `address` is NULL for Unix sockets, which count in the
 * total only. */
bool limits_take(struct limits *limits, const struct ip_address *address);
void limits_give_back(struct limits *limits, const struct ip_address *address);
