/* Phases and their deadlines, and what only the kernel knows about an idle connection. */
#include "client.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "crypto.h"
#include "memory.h"

struct client *client_create(int fd, const struct sockaddr_storage *address, socklen_t length)
{
    struct client *connection = xcalloc(1, sizeof(*connection));
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

void client_destroy(struct client **connection)
{
    crypto_wipe(&(*connection)->memo, sizeof((*connection)->memo));
    free(*connection);
    *connection = NULL;
}

static int64_t phase_length_ms(enum client_phase phase, const struct conf *conf)
{
    switch (phase) {
    case CLIENT_IDLE:
        return conf->server_keepalive_timeout * 1000;
    case CLIENT_HEADERS:
        return conf->server_header_timeout * 1000;
    case CLIENT_BODY:
        return conf->server_body_timeout * 1000;
    case CLIENT_WRITING:
        return conf->server_write_timeout * 1000;
    case CLIENT_BUSY:
        break;
    }
    return INT64_MAX / 2;
}

void client_enter(struct client *connection, enum client_phase phase, const struct conf *conf,
                  int64_t now_ms)
{
    connection->phase = phase;
    connection->asked = connection->asked || phase != CLIENT_IDLE;
    connection->phase_began_ms = now_ms;
    connection->deadline_ms = now_ms + phase_length_ms(phase, conf);
    connection->look_again_ms = now_ms + conf->server_header_timeout * 1000;
}

bool client_is_over(const struct client *connection)
{
    char byte;
    bool served = connection->phase == CLIENT_BUSY || connection->phase == CLIENT_WRITING;
    return !served && recv(connection->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

void client_cut(struct client *connection)
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
static bool is_dead_or_stalls(struct client *connection, const struct conf *conf, int64_t now_ms)
{
    if (connection->phase != CLIENT_IDLE || connection->local || now_ms < connection->look_again_ms)
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

bool client_check(struct client *connection, const struct conf *conf, int64_t now_ms)
{
    if (connection->cut || connection->phase == CLIENT_BUSY)
        return false;
    if (now_ms < connection->deadline_ms && !is_dead_or_stalls(connection, conf, now_ms))
        return false;
    client_cut(connection);
    return true;
}
