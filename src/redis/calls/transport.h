/* The socket of a connection: a name is looked up, TCP and TLS shake hands, the greeting is sent;
 * then bytes go through it. */
#pragma once

#include <sys/types.h>

#include "connection.h"

/* Begins to come up; the connection is idle. It ends in CONNECTION_UP or is broken. */
void transport_open(struct connection *connection);
/* Closes the socket, and gives up looking for an address. */
void transport_close(struct connection *connection);

/* As send(2) and read(2), through TLS if there is TLS. */
ssize_t transport_write(struct connection *connection, const void *data, size_t length);
ssize_t transport_read(struct connection *connection, void *out, size_t size);
/* Waits for room to write besides replies, or for replies alone. */
void transport_watch_writable(struct connection *connection, bool writable);
/* A reply to the greeting. */
void transport_greeted(struct connection *connection, const struct store_reply *reply);
