/* Network addresses: parsing, printing, networks of trusted proxies, X-Forwarded-For. Pure.
 *
 * One form for all: 16 bytes of IPv6, in which IPv4 is mapped (::ffff:a.b.c.d). */
#pragma once

#include <sys/socket.h>

#include "conf.h"

struct address {
    uint8_t bytes[16];
};

/* Room for the longest address with its NUL. */
#define ADDRESS_TEXT 46

/* False for sockets that are neither IPv4 nor IPv6. */
bool address_of_socket(const struct sockaddr *socket, struct address *ret);
/* Reads a bare address, without port or brackets. */
bool address_parse(struct text text, struct address *ret);
/* Writes the address, mapped IPv4 in dots, and returns its length. */
size_t address_print(const struct address *address, char out[ADDRESS_TEXT]);

struct network {
    struct address base;
    unsigned prefix; /* bits of the 128 that must agree */
};

struct networks {
    struct network *items;
    size_t count;
};

/* Reads "10.0.0.0/8", "fd00::/8" or a single address. */
bool network_parse(struct text text, struct network *ret);
/* Reads a list from the configuration; words that are no network are logged and left out. */
void networks_load(struct networks *networks, const struct conf_list *list);
void networks_free(struct networks *networks);
bool networks_contain(const struct networks *networks, const struct address *address);

/* The address a connection acts for: the peer's own, or, if the peer is trusted, the right-most hop
 * of X-Forwarded-For that is not. A hop that is no address ends the walk with the peer's own. */
struct address address_of_client(const struct networks *trusted, const struct address *peer,
                                 struct text forwarded_for);
