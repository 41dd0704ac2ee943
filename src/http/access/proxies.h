/* Trusted proxies, and the address of the client behind them. Pure. */
#pragma once

#include "address.h"
#include "conf.h"

struct proxies {
    struct ip_network *networks;
    size_t count;
    bool local; /* "unix": every peer on the Unix socket is one */
};

/* Reads the networks of the configuration, and "unix"; other words are logged and ignored. */
void proxies_load(struct proxies *proxies, const struct conf_list *list);
void proxies_free(struct proxies *proxies);
/* True if the address is a trusted proxy's; AF_UNSPEC: the Unix socket. */
bool proxies_include(const struct proxies *proxies, const struct ip_address *address);

/* The address that a connection acts for: the peer's own, or, if the peer is trusted, the
 * right-most hop of X-Forwarded-For that is not. Hops are read by ip_read(), empty ones skipped. An
 * unreadable one ends the walk with the peer's own address and is left in *unreadable, else absent.
 */
struct ip_address proxies_unwrap(const struct proxies *proxies, const struct ip_address *peer,
                                 struct text forwarded_for, struct text *unreadable);
/* The address that a service names in a body: one hop or a list of them, read in the same way, as
 * if a trusted peer had written it. False if there is none, or a hop on the way is unreadable. */
bool proxies_read(const struct proxies *proxies, struct text given, struct ip_address *ret);
