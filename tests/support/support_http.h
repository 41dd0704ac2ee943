/* One worker of the HTTP layer on the test's thread, on the first node of a rig
 * (support_session.h): its clients are socket pairs, its loop turns and its time goes by when the
 * test says so. Its audit lines are written by the thread that writes them in the daemon. */
#pragma once

#include "http/server/worker.h"
#include "support_session.h"

extern struct http_worker_rig {
    struct http_server server;
    struct worker worker;
    struct rig_node *node; /* that the worker serves */
    struct rig_node *peer; /* another one, so that what it does is not in the memory of the first */
    bool up;
} served;

/* The store's report on itself; a store that is well in fixtures. */
extern struct store_health http_health;
extern struct store_node_health http_nodes[2];

/* Fixtures: the worker and both nodes. */
void http_set_up(void);
void http_tear_down(void);

/* Alerts are raised from now on, and kept in a file. */
void http_start_alerts(void);
/* The worker serves the ops plane from now on. */
void http_serve_ops(void);

/* A connection; what is returned is the client's end. */
int http_connect(void);
/* The client sends this, and all that can happen now does. */
void http_send(int client, const char *text);
/* The same for a call with this token. */
void http_call(int client, const char *line, struct text token);
void http_run(void);
/* Time goes by, in steps. */
void http_pass(int64_t ms);
/* Bytes that the client has received since it was last asked, "" if nothing; static memory. */
const char *http_received(int client);
/* Runs until the client has received something: for what waits for the audit file. */
const char *http_wait(int client);
/* Runs until no request is in this state: for what waits for the journal. */
void http_wait_for_none(enum request_state state);
/* How many requests are in this state. */
unsigned http_count(enum request_state state);
/* Ends nodes, worker and audit, in the order in which the daemon does; then the lines that were
 * written about calls: how many have this in them. */
void http_stop(void);
unsigned http_lines(const char *part);
