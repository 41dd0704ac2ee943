/* Finds the row of the route table for a request. Pure. */
#pragma once

#include "routes.h"
#include "text.h"

enum route_match_result { MATCH_FOUND, MATCH_NO_PATH, MATCH_OTHER_METHOD };

struct route_match {
    const struct route *route;
    struct text segments[2]; /* the segments in braces, still percent-encoded */
    struct text below;       /* the path that "*" at the template's end stands for; else absent */
    const char *allowed[8];  /* MATCH_OTHER_METHOD: the methods of the path */
    size_t allowed_count;
};

/* Prepares the table for matching; call once before router_route(). */
void router_prepare(void);
/* The path of a request target in absolute form (RFC 9112, section 3.2.2), "http://host/path", with
 * its host in *authority; every other target is returned unchanged, *authority absent. */
struct text router_path(struct text target, struct text *authority);
/* Finds the row for exactly this path and method (case-sensitive) on the plane; HEAD is routed as
 * GET (RFC 9110, section 9.1). The path may have any bytes. */
enum route_match_result router_route(enum plane plane, struct text method, struct text path,
                                     struct route_match *ret);

/* The format of errors about a path, whatever the method. */
enum error_format router_errors(enum plane plane, struct text path);

/* Finds the first parameter of the query that is not among the allowed names (blank-separated), has
 * no value, or is a repetition; *ret is its name, absent if all are good. */
enum query_fault { QUERY_GOOD, QUERY_UNKNOWN, QUERY_NO_VALUE, QUERY_TWICE };
enum query_fault router_query(struct text query, const char *allowed, struct text *ret);

/* Decodes %XX into `out`, which has encoded.length bytes; '+' is a blank if `form`. Returns the
 * decoded text; absent if an escape is malformed. */
struct text router_decode(char *out, struct text encoded, bool form);
