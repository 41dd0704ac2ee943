/* Every call that sessiond answers: one row each. */

#include "routes.h"

#include "handlers.h"

const struct route routes[] = {
    /* plane, method, path, handler, access, scope, body limit, audit event, audited */
    {PLANE_MAIN, "GET", "/problems/{code}", handle_problem, ACCESS_PUBLIC, 0, 0, AUDIT_DOCUMENT,
     true},

    {PLANE_OPS, "GET", "/livez", handle_livez, ACCESS_PUBLIC, 0, 0, AUDIT_DOCUMENT, false},
    {PLANE_OPS, "GET", "/readyz", handle_readyz, ACCESS_PUBLIC, 0, 0, AUDIT_DOCUMENT, false},
    {PLANE_OPS, "GET", "/metrics", handle_metrics, ACCESS_PUBLIC, 0, 0, AUDIT_DOCUMENT, false},
    {PLANE_OPS, "GET", "/version", handle_version, ACCESS_PUBLIC, 0, 0, AUDIT_DOCUMENT, false},
};

const size_t route_count = sizeof(routes) / sizeof(routes[0]);
