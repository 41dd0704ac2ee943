/* A client, one connection to the server: its address, the deadline that runs for it, the key that
 * it showed last. The acceptor creates it; its worker owns it from the hand-over on.
 * libmicrohttpd's own timeout covers inactivity only; these deadlines also cut a client that sends
 * a byte a second.
 */
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
    CLIENT_BUSY, /* sessiond works: the store's deadline holds, and overdue_ms() if it is missed */
    CLIENT_WRITING /* the client reads its answer: write_timeout */
};

/* The last right service key that this connection showed, so that a kept-alive connection need not
 * have it hashed for every request. Valid only for the configuration it was found in. */
struct key_memo {
    uint64_t generation; /* of the request_config it was found in */
    const struct service_key *key;
    size_t length;
    char presented[128];
};

/* The certificate that the client showed in its handshake, found good there. */
enum { CERTIFICATE_PIN = 32 };
struct client_certificate {
    bool shown;
    uint8_t pin[CERTIFICATE_PIN];        /* SHA-256 of its public key (SPKI) */
    int64_t valid_from_s, valid_until_s; /* of its chain, Unix seconds */
};

struct https;
struct MHD_Connection;

struct client {
    struct client *next, *previous;
    struct client *next_shaking;       /* in the lobby's list of handshakes */
    struct MHD_Connection *connection; /* NULL before libmicrohttpd has it */
    struct https *https; /* TLS: credentials of its session; NULL before libmicrohttpd has it */
    struct client_certificate certificate;
    struct sockaddr_storage socket_address;
    struct text peer;

    int64_t phase_began_ms;
    int64_t deadline_ms;
    int64_t look_again_ms;   /* when to ask the kernel about an idle connection */
    uint64_t taken;          /* bytes of its requests, with empty lines before them */
    struct request *request; /* its current one, from its request line to its sent answer */
    struct key_memo memo;

    int fd;
    socklen_t socket_length;
    enum client_phase phase;
    struct ip_address address;
    char peer_buffer[INET6_ADDRSTRLEN];
    bool counted;
    bool local;       /* a Unix socket, which has no address */
    bool tls;         /* came over a TLS listener */
    bool finished;    /* TLS: the client's last message of the handshake came */
    bool established; /* TLS: the handshake is complete */
    bool watched;     /* its socket is in the lobby's epoll set */
    bool asked;       /* it has sent a request, or a part of one */
    bool begun;       /* it had an incomplete line when the kernel was asked last */
    bool cut;
};

/* Describes an accepted socket. `tls`: it speaks TLS, by its listener. */
struct client *client_create(int fd, bool tls, const struct sockaddr_storage *address,
                             socklen_t length);
/* Wipes and frees; the socket stays open, libmicrohttpd closes it. */
void client_destroy(struct client **client);

/* Starts a phase and its deadline. */
void client_enter(struct client *client, enum client_phase phase, const struct conf *conf,
                  int64_t now_ms);
/* True if sessiond has owed an answer for far longer than any operation may take. */
bool client_is_overdue(const struct client *client, int64_t now_ms);
/* Cuts the connection if its deadline has passed, once; true if it did. */
bool client_check(struct client *client, const struct conf *conf, int64_t now_ms);
/* True if no request is being served, nothing is left to read and nothing more can come. */
bool client_is_over(const struct client *client);
/* Ends both directions; libmicrohttpd notices and closes. */
void client_cut(struct client *client);
