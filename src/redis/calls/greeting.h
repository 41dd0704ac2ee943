/* The first commands on a fresh socket: AUTH, PING, and a question for the server's id. */
#pragma once

#include "redis/state/node_id.h"
#include "redis/state/server_problems.h"
#include "transport.h"

struct store_reply;

/* The use of the connection. */
enum greeting_kind {
    GREETING_MASTER,
    GREETING_REPLICA, /* says READONLY: a replica may answer its calls */
    GREETING_SENTINEL /* has credentials of its own */
};

struct greeting {
    unsigned owed;     /* replies */
    bool asks_id;      /* the last of them is the server's id or mark */
    struct node_id id; /* not known until then, nor without an answer */
};

/* Sends the greeting over the open transport. False with *failure: the errno, or 0 if the socket
 * did not take all bytes. */
bool greeting_send(struct greeting *greeting, struct transport *transport, enum greeting_kind kind,
                   int *failure);

enum greeting_progress { GREETING_GOES_ON, GREETING_DONE, GREETING_REFUSED };
/* Takes the next reply. REFUSED, with *err and the server's words in `why`: the connection must not
 * come up. */
enum greeting_progress greeting_take_reply(struct greeting *greeting,
                                           const struct transport *transport,
                                           const struct store_reply *reply, enum err *err,
                                           char why[PROBLEM_WHY_MAX]);
