/* What travels over a connection that is up: queue out, replies in, WAIT behind durable writes. */
#pragma once

#include "connection.h"

/* For a new socket: nothing written, nothing read. */
void pipeline_reset(struct connection *connection);
/* Moves the queue behind the output and writes, in one go. */
void pipeline_send_queue(struct connection *connection);
/* Writes one command of the connection's subscriber, who gets the reply. May break it. */
void pipeline_send(struct connection *connection, const struct text *arguments, size_t count);
/* The socket has room again. */
void pipeline_write(struct connection *connection);
/* The socket has bytes, or an error. */
void pipeline_read(struct connection *connection);
/* Bytes that this socket took. */
uint64_t pipeline_written(const struct connection *connection);
