/* The original request: the one of its own client that a gateway asks about. */
#pragma once

#include "http/access/cors.h"

/* How a gateway describes it. A route reads its own headers and no others, and those only of a
 * trusted proxy, so that a client cannot describe another request than it makes. */
enum authz_route {
    AUTHZ_FORWARD_AUTH, /* X-Forwarded-Method, -Proto, -Host, -Uri */
    AUTHZ_AUTH_REQUEST, /* X-Original-Method, X-Original-URL */
    AUTHZ_EXT_AUTHZ     /* method, Host and path of the call itself */
};

struct authz_original {
    struct cors_target target;
    struct text path; /* without query and parameters; absent: unknown */
};
/* Members that are unknown, or were given twice, are absent; the scheme is then https. */
struct authz_original authz_original_of(const struct request *request, enum authz_route route);

/* The headers that the verdict on a route depends on, for Vary. */
const char *authz_original_headers(enum authz_route route);

/* Reads an absolute URL, or a path with scheme and host unknown. Pure. */
struct authz_original authz_original_read(struct text url);
