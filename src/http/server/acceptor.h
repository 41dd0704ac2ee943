/* The acceptor: one thread that accepts connections, enforces their limits, and hands each to the
 * worker that has the fewest. */
#pragma once

#include "server.h"

struct acceptor;

/* Opens the listeners and starts the thread; NULL with *error. */
struct acceptor *acceptor_start(struct http_server *server, const struct conf *conf,
                                struct buffer *error);
/* Closes the main plane's listeners and waits until they are closed; the ops plane goes on. */
void acceptor_stop_main(struct acceptor *acceptor);
/* Closes the other listeners, joins the thread, clears the pointer. */
void acceptor_stop(struct acceptor **acceptor);
