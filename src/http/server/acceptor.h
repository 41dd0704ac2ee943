/* The acceptor: one thread that takes connections off the listeners, keeps the limits, and hands
 * each connection to the worker that has the fewest. */
#pragma once

#include "server.h"

struct acceptor;

/* Opens the listeners and starts the thread; NULL with *error. */
struct acceptor *acceptor_start(struct http_server *server, const struct conf *conf,
                                struct buffer *error);
/* Closes the main plane's listeners, waits until it is done; the ops plane goes on. */
void acceptor_stop_main(struct acceptor *acceptor);
/* Closes the rest, joins the thread, clears the pointer. */
void acceptor_stop(struct acceptor **acceptor);
