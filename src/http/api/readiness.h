/* The checks of /readyz, which decide whether this node should get calls; one row each in
 * readiness.c. */
#pragma once

#include "http/server/server.h"

enum ready_state { READY_PASS, READY_WARN, READY_FAIL };
enum { READY_CHECKS_MAX = 16, READY_WHY_MAX = 640 };

struct ready_check {
    const char *name;
    enum ready_state state;
    char why[READY_WHY_MAX]; /* one sentence; empty if the check passes */
};

/* Makes every check and returns their number. READY_FAIL takes the node out of service (503);
 * READY_WARN does not, but needs an operator. Reads atomics and short locks only. Any thread. */
size_t readiness_look(const struct http_server *server, struct ready_check ret[READY_CHECKS_MAX]);
