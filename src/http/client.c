/* Phases and their deadlines, and what only the kernel knows about an idle connection. */
#include "client.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "crypto.h"
#include "memory.h"

struct connection *connection_create(int fd, const struct sockaddr_storage *address,
                                     socklen_t length)
{
    struct connection *connection = xcalloc(1, sizeof(*connection));
    connection->fd = fd;
    connection->socket_address = *address;
    connection->socket_length = length;
    if (ip_from_sockaddr((const struct sockaddr *)address, &connection->address)) {
        connection->peer = ip_print(&connection->address, connection->peer_buffer);
    } else {
        connection->local = true;
        connection->peer = TEXT("unix");
    }
    return connection;
}

void connection_destroy(struct connection **connection)
{
    crypto_wipe(&(*connection)->memo, sizeof((*connection)->memo));
    free(*connection);
    *connection = NULL;
}

static int64_t phase_length_ms(enum connection_phase phase, const struct conf *conf)
{
    switch (phase) {
    case CONNECTION_IDLE:
        return conf->server_keepalive_timeout * 1000;
    case CONNECTION_HEADERS:
        return conf->server_header_timeout * 1000;
    case CONNECTION_BODY:
        return conf->server_body_timeout * 1000;
    case CONNECTION_WRITING:
        return conf->server_write_timeout * 1000;
    case CONNECTION_BUSY:
        break;
    }
    return INT64_MAX / 2;
}

void connection_enter(struct connection *connection, enum connection_phase phase,
                      const struct conf *conf, int64_t now_ms)
{
    connection->phase = phase;
    connection->phase_began_ms = now_ms;
    connection->deadline_ms = now_ms + phase_length_ms(phase, conf);
    connection->look_again_ms = now_ms + conf->server_header_timeout * 1000;
}

bool connection_is_over(const struct connection *connection)
{
    char byte;
    bool served = connection->phase == CONNECTION_BUSY || connection->phase == CONNECTION_WRITING;
    return !served && recv(connection->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

void connection_cut(struct connection *connection)
{
    if (!connection->cut) {
        connection->cut = true;
        shutdown(connection->fd, SHUT_RDWR);
    }
}

/* Two things about an idle connection are invisible to us, since libmicrohttpd calls only when a
 * request line is whole: a line that trickles in, and a client that has left while it was served
 * (the library may miss that edge). The kernel knows: bytes came after the connection fell idle, or
 * the other end is closed. Asked only now and then. */
static bool is_dead_or_stalls(struct connection *connection, const struct conf *conf,
                              int64_t now_ms)
{
    if (connection->phase != CONNECTION_IDLE || connection->local ||
        now_ms < connection->look_again_ms)
        return false;
    connection->look_again_ms = now_ms + conf->server_header_timeout * 1000;
    struct tcp_info info;
    socklen_t length = sizeof(info);
    if (getsockopt(connection->fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0)
        return false;
    enum { CLOCK_TOLERANCE_MS = 50 };
    return info.tcpi_state == TCP_CLOSE_WAIT ||
           (int64_t)info.tcpi_last_data_recv + CLOCK_TOLERANCE_MS <
               now_ms - connection->phase_began_ms;
}

bool connection_check(struct connection *connection, const struct conf *conf, int64_t now_ms)
{
    if (connection->cut || connection->phase == CONNECTION_BUSY)
        return false;
    if (now_ms < connection->deadline_ms && !is_dead_or_stalls(connection, conf, now_ms))
        return false;
    connection_cut(connection);
    return true;
}
