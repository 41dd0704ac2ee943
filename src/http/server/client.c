/* Phases and their deadlines, and what only the kernel knows about an idle connection. */
#include "client.h"

#include <assert.h>
#include <linux/sockios.h>
#include <linux/tcp.h> /* the C library's knows fewer members */
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "crypto.h"
#include "memory.h"

struct client *client_create(int fd, const struct sockaddr_storage *address, socklen_t length)
{
    struct client *connection = xcalloc(1, sizeof(*connection));
    assert(fd >= 0 && length <= sizeof(*address));
    connection->fd = fd;
    connection->socket_address = *address;
    connection->socket_length = length;
    if (ip_from_sockaddr((const struct sockaddr *)address, &connection->address)) {
        connection->peer = ip_print(&connection->address, connection->peer_buffer);
    } else {
        connection->local = true;
        connection->address = (struct ip_address){.family = AF_UNSPEC};
        connection->peer = TEXT("unix");
    }
    return connection;
}

void client_destroy(struct client **connection)
{
    assert((*connection)->request == NULL);
    crypto_wipe(&(*connection)->memo, sizeof((*connection)->memo));
    free(*connection);
    *connection = NULL;
}

/* Operations end at the deadline of the store, and then may write the journal: who has nothing by
 * now would wait for ever. */
static int64_t overdue_ms(const struct conf *conf)
{
    enum { TIMEOUTS = 4, LEAST_MS = 2000 };
    int64_t length_ms = conf->redis_timeout * TIMEOUTS;
    return length_ms > LEAST_MS ? length_ms : LEAST_MS;
}

static int64_t phase_length_ms(enum client_phase phase, bool asked, const struct conf *conf)
{
    switch (phase) {
    case CLIENT_IDLE:
        return (asked ? conf->server_keepalive_timeout : conf->server_header_timeout) * 1000;
    case CLIENT_HEADERS:
        return conf->server_header_timeout * 1000;
    case CLIENT_BODY:
        return conf->server_body_timeout * 1000;
    case CLIENT_WRITING:
        return conf->server_write_timeout * 1000;
    case CLIENT_BUSY:
        break;
    }
    return overdue_ms(conf);
}

void client_enter(struct client *connection, enum client_phase phase, const struct conf *conf,
                  int64_t now_ms)
{
    assert(phase != connection->phase || phase == CLIENT_IDLE);
    connection->phase = phase;
    connection->asked = connection->asked || phase != CLIENT_IDLE;
    connection->phase_began_ms = now_ms;
    connection->deadline_ms = now_ms + phase_length_ms(phase, connection->asked, conf);
    connection->begun = false;
    connection->look_again_ms = now_ms + conf->server_header_timeout * 1000;
}

bool client_is_overdue(const struct client *connection, int64_t now_ms)
{
    return connection->phase == CLIENT_BUSY && now_ms >= connection->deadline_ms;
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

/* True if libmicrohttpd has read a part of a line, and has had it for header_timeout. */
static bool stalls(struct client *connection, const struct tcp_info *info, const struct conf *conf)
{
    int unread = 0;
    if (ioctl(connection->fd, SIOCINQ, &unread) != 0)
        return false;
    bool had = connection->begun;
    connection->begun = info->tcpi_bytes_received > connection->taken + (uint64_t)unread;
    return connection->begun &&
           (had || info->tcpi_last_data_recv >= conf->server_header_timeout * 1000);
}

/* Two things about an idle connection are invisible to us, since libmicrohttpd calls only when a
 * request line is whole: a line that trickles in or came with the request before, and a client that
 * has left while it was served (the library may miss that edge). The kernel knows: more bytes came
 * than requests had, or the other end is closed. Asked only now and then. */
static bool is_dead_or_stalls(struct client *connection, const struct conf *conf, int64_t now_ms)
{
    if (connection->phase != CLIENT_IDLE || connection->local || now_ms < connection->look_again_ms)
        return false;
    connection->look_again_ms = now_ms + conf->server_header_timeout * 1000;
    struct tcp_info info = {0};
    socklen_t length = sizeof(info);
    if (getsockopt(connection->fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0)
        return false;
    const uint8_t closed_by_peer = 8; /* TCP_CLOSE_WAIT, which only the C library's header names */
    return info.tcpi_state == closed_by_peer || stalls(connection, &info, conf);
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
