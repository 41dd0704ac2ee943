/* Trusted proxies, and the client behind them. Pure. */
#pragma once

#include "address.h"
#include "conf.h"

struct proxies {
    struct ip_network *networks;
    size_t count;
};

/* Reads the networks of the configuration; words that are no network are logged and left out. */
void proxies_load(struct proxies *proxies, const struct conf_list *list);
void proxies_free(struct proxies *proxies);
bool proxies_include(const struct proxies *proxies, const struct ip_address *address);

/* The address a connection acts for: the peer's own, or, if the peer is trusted, the right-most hop
 * of X-Forwarded-For that is not. Hops may come with a port, IPv6 ones in brackets. One that cannot
 * be read ends the walk with the peer's own address and is left in *odd, else absent. */
struct ip_address proxies_unwrap(const struct proxies *proxies, const struct ip_address *peer,
                                 struct text forwarded_for, struct text *odd);
