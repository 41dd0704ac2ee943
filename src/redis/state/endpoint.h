/* The address on which a Redis node listens: the key by which nodes are known. */
#pragma once

#include "address.h"

struct endpoint {
    char host[ADDRESS_HOST_MAX]; /* name or IP literal, without brackets */
    uint16_t port;
};

bool endpoint_equal(const struct endpoint *a, const struct endpoint *b);

/* Fills in host and port; false if the host is no IP literal or host name, or the port not
 * 1..65535. Every address from a server passes here before it is connected to or logged. */
bool endpoint_set(struct endpoint *endpoint, struct text host, int64_t port);

/* Reads the address of a MOVED or ASK error. Redis writes IPv6 without brackets, so the last colon
 * separates the port; an empty host, or "?", means `answering`, the host that sent the error. */
bool endpoint_parse_redirect(struct text text, const char *answering, struct endpoint *ret);
