/* Connections that wait for bytes outside libmicrohttpd, at the cost of one entry in an epoll set.
 *
 * A new connection waits for its first byte, which shows whether it speaks what its listener
 * speaks: a TLS handshake record begins with 22, no request does. On the wrong listener it is
 * closed at once.
 *
 * A handshake waits for the client's next message. libmicrohttpd 0.9.75 takes a socket for readable
 * until it has read a request from it, so a client in the middle of its handshake would keep the
 * loop turning. Its connection is suspended instead.
 *
 * Deadlines and the drain go on meanwhile: they shut the socket down, which wakes the connection.
 */
#pragma once

#include "client.h"

struct worker;

/* True; or false with errno. */
bool lobby_open(struct worker *worker);
void lobby_close(struct worker *worker);
/* Takes a connection that was accepted, and hands it to libmicrohttpd once its first byte is there.
 */
void lobby_receive(struct worker *worker, struct client *client);
/* Looks after handshakes in progress; call whenever libmicrohttpd has run. */
void lobby_settle(struct worker *worker);
/* Forgets a connection that libmicrohttpd has closed. */
void lobby_forget(struct worker *worker, struct client *client);
