/* A client's connection: where it comes from, which of our deadlines runs, which key it showed
 * last. Made by the acceptor, owned by its worker from the hand-over on. libmicrohttpd's own
 * timeout knows inactivity only; these deadlines cut a client that sends a byte a second. */
#pragma once

#include <sys/socket.h>

#include "address.h"
#include "conf.h"
#include "connection_limits.h"

struct request;

enum client_phase {
    CLIENT_IDLE,    /* no request: keepalive_timeout; before the first one: header_timeout */
    CLIENT_HEADERS, /* request line came: header_timeout */
    CLIENT_BODY,    /* body_timeout */
    CLIENT_BUSY, /* sessiond's turn: the store's deadline holds, and overdue_ms() for what misses it
                  */
    CLIENT_WRITING /* the client takes its answer: write_timeout */
};

/* The service key that this connection showed last and that was right, so that a kept-alive
 * connection is not hashed for every request. Valid only for the configuration it was found in. */
struct key_memo {
    uint64_t generation; /* of the snapshot it was found in */
    const struct service_key *key;
    size_t length;
    char presented[128];
};

struct client {
    struct client *next, *previous;
    int fd;
    bool local; /* a Unix socket, which has no address */
    bool counted;
    struct ip_address address;
    struct sockaddr_storage socket_address;
    socklen_t socket_length;
    char peer_buffer[INET6_ADDRSTRLEN];
    struct text peer;

    enum client_phase phase;
    bool asked; /* it has sent a request, or begun to */
    int64_t phase_began_ms;
    int64_t deadline_ms;
    int64_t look_again_ms; /* when to ask the kernel about an idle connection */
    bool begun;            /* it had a line that was not whole when the kernel was asked last */
    uint64_t taken;        /* bytes that its requests had, empty lines before them included */
    bool cut;
    struct request *request; /* the one that it has, from its request line to its sent answer */
    struct key_memo memo;
};

/* Describes an accepted socket. */
struct client *client_create(int fd, const struct sockaddr_storage *address, socklen_t length);
/* Wipes and frees; the socket is closed by whoever owns it. */
void client_destroy(struct client **client);

/* Starts a phase and its deadline. */
void client_enter(struct client *client, enum client_phase phase, const struct conf *conf,
                  int64_t now_ms);
/* True if sessiond has owed an answer for far longer than anything may take. */
bool client_is_overdue(const struct client *client, int64_t now_ms);
/* Cuts the connection if its deadline has passed, once; true if it did. */
bool client_check(struct client *client, const struct conf *conf, int64_t now_ms);
/* True if no request is being served, and nothing is left to read and nothing more can come. */
bool client_is_over(const struct client *client);
/* Ends both directions; libmicrohttpd notices and closes. */
void client_cut(struct client *client);
