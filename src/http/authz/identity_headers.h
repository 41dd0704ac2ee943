/* The headers that tell a gateway who calls: all of them with every allowing answer, so that none
 * of its client's own survives. */
#pragma once

#include "http/exchange/request.h"

/* nginx refuses an answer whose headers fill its buffer of 4 KB; all headers of an answer, with
 * those that are not of the identity, take less than 3 KB. */
enum { AUTHZ_HEADERS_MOST = 3072, AUTHZ_OTHERS_MOST = 704 };

/* The caller. Absent texts and zeros become empty values. */
struct authz_identity {
    bool authenticated;
    struct text user, tenant, session_id, device, device_type;
    const struct text *roles;
    size_t role_count;
    int64_t expires_s;   /* of the access token */
    bool stale;          /* answered from memory in an outage ... */
    int64_t stale_for_s; /* ... of state of this age */
    struct text jwt;     /* the signed identity */
};
/* Adds the headers to the answer. */
void authz_add_identity(struct request *request, const struct authz_identity *identity);

/* The text with all bytes percent-encoded but 0x21 to 0x7e without `%` and `,`; itself if there is
 * none, else in the arena. Pure, as the next. */
struct text authz_encode(struct arena *arena, struct text text);
/* The roles, encoded and joined by commas, within `room` bytes. Sets *truncated if some do not fit;
 * the others are still there. */
struct text authz_join_roles(struct arena *arena, const struct text *roles, size_t count,
                             size_t room, bool *truncated);
