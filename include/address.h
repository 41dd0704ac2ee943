/* Addresses in their written forms: HOST:PORT, IP literals, networks in CIDR notation. */
#pragma once

#include <netinet/in.h>

#include "text.h"

struct sockaddr;

/* Longest host name (RFC 1035) or IPv6 literal, and NUL. */
#define ADDRESS_HOST_MAX 254
/* The same with brackets, colon, port and NUL. */
#define ADDRESS_TEXT_MAX (ADDRESS_HOST_MAX + 8)

/* An IP address; an IPv4-mapped one (::ffff:a.b.c.d) is always held as IPv4, so that both
 * spellings are equal. */
struct ip_address {
    int family;        /* AF_INET or AF_INET6 */
    uint8_t bytes[16]; /* the first 4 for AF_INET, the rest zero */
};

struct ip_network {
    struct ip_address address; /* bits after the prefix are zero */
    unsigned prefix;           /* 0..32 or 0..128 */
};

/* Splits "127.0.0.1:8080", "[::1]:8080" or "host:8080"; the host comes without brackets and with
 * NUL. Brackets hold an IPv6 literal, everything else is an IPv4 literal or a host name; ports are
 * 1..65535. False for everything else. Does not resolve names. */
bool address_split(struct text text, char host[ADDRESS_HOST_MAX], uint16_t *port);

/* Writes what address_split() reads, with NUL; returns it as text of `out`. The host must satisfy
 * address_is_host(). */
struct text address_print(const char *host, unsigned port, char out[ADDRESS_TEXT_MAX]);

/* True for an IP literal without brackets, or a possible host name: letters, digits, hyphens, dots,
 * underscores. */
bool address_is_host(struct text text);

/* Reads an IP literal, without brackets, port or zone; false for everything else. */
bool ip_parse(struct text text, struct ip_address *ret);
/* Reads it as proxies and services write it: with blanks around it, in brackets (RFC 7239, section
 * 6), with a port (IPv6 then in brackets), with a zone (RFC 6874), which is ignored. */
bool ip_read(struct text text, struct ip_address *ret);
/* The address of a socket's end; false if the family is neither AF_INET nor AF_INET6. */
bool ip_from_sockaddr(const struct sockaddr *socket_address, struct ip_address *ret);
/* Writes the literal with NUL; returns it as text of `out`. */
struct text ip_print(const struct ip_address *address, char out[INET6_ADDRSTRLEN]);
bool ip_equal(const struct ip_address *a, const struct ip_address *b);
/* The smallest network of one client, for counting and limits: an IPv4 address, or the /64 of an
 * IPv6 one with the other bits zero (RFC 4291, section 2.5.4). */
struct ip_address ip_client(const struct ip_address *address);

/* Reads "10.0.0.0/8", "fd00::/8", or an address alone (a network of one). False for everything
 * else, also if bits after the prefix are set, since that is mostly a typing error. */
bool ip_network_parse(struct text text, struct ip_network *ret);
/* True if the address is in the network. IPv4 is only in IPv4 networks, IPv6 in IPv6 ones. */
bool ip_network_contains(const struct ip_network *network, const struct ip_address *address);
