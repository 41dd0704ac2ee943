/* Phases and their deadlines, and the kernel's knowledge of idle connections. */
#include "client.h"

#include <assert.h>
#include <linux/sockios.h>
#include <linux/tcp.h> /* the C library's header has fewer members */
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "crypto.h"
#include "memory.h"

struct client *client_create(int fd, bool tls, const struct sockaddr_storage *address,
                             socklen_t length)
{
    struct client *client = xcalloc(1, sizeof(*client));
    assert(fd >= 0 && length <= sizeof(*address));
    client->fd = fd;
    client->tls = tls;
    client->socket_address = *address;
    client->socket_length = length;
    if (ip_from_sockaddr((const struct sockaddr *)address, &client->address)) {
        client->peer = ip_print(&client->address, client->peer_buffer);
    } else {
        client->local = true;
        client->address = (struct ip_address){.family = AF_UNSPEC};
        client->peer = TEXT("unix");
    }
    return client;
}

void client_destroy(struct client **client)
{
    assert((*client)->request == NULL && (*client)->https == NULL);
    crypto_wipe(&(*client)->memo, sizeof((*client)->memo));
    free(*client);
    *client = NULL;
}

/* Operations end at the deadline of the store, and then may write the journal: a client without an
 * answer by then would wait for ever. */
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

void client_enter(struct client *client, enum client_phase phase, const struct conf *conf,
                  int64_t now_ms)
{
    assert(phase != client->phase || phase == CLIENT_IDLE);
    client->phase = phase;
    client->asked = client->asked || phase != CLIENT_IDLE;
    client->phase_began_ms = now_ms;
    client->deadline_ms = now_ms + phase_length_ms(phase, client->asked, conf);
    client->begun = false;
    client->look_again_ms = now_ms + conf->server_header_timeout * 1000;
}

bool client_is_overdue(const struct client *client, int64_t now_ms)
{
    return client->phase == CLIENT_BUSY && now_ms >= client->deadline_ms;
}

bool client_is_over(const struct client *client)
{
    char byte;
    bool served = client->phase == CLIENT_BUSY || client->phase == CLIENT_WRITING;
    return !served && recv(client->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

void client_cut(struct client *client)
{
    if (!client->cut) {
        client->cut = true;
        shutdown(client->fd, SHUT_RDWR);
    }
}

/* True if libmicrohttpd has a part of a request, by what the kernel has received. Bytes of TLS
 * cannot be compared with those of requests: there, what came since the client became idle counts.
 * A part of a line in the same packet as the request before it lasts until keepalive_timeout. */
static bool has_begun(const struct client *client, const struct tcp_info *info, int unread,
                      int64_t now_ms)
{
    enum { SAME_PACKET_MS = 50 };
    if (!client->tls)
        return info->tcpi_bytes_received > client->taken + (uint64_t)unread;
    return unread == 0 &&
           info->tcpi_last_data_recv + SAME_PACKET_MS < now_ms - client->phase_began_ms;
}

/* True if libmicrohttpd has had a part of a line for header_timeout. */
static bool stalls(struct client *client, const struct tcp_info *info, const struct conf *conf,
                   int64_t now_ms)
{
    int unread = 0;
    if (ioctl(client->fd, SIOCINQ, &unread) != 0)
        return false;
    bool had = client->begun;
    client->begun = has_begun(client, info, unread, now_ms);
    return client->begun &&
           (had || info->tcpi_last_data_recv >= conf->server_header_timeout * 1000);
}

/* libmicrohttpd calls only when a request line is complete, which hides two things about an idle
 * connection: a line that trickles in or came with the previous request, and a client that has left
 * while it was served (the library may miss that edge). The kernel knows: more bytes came than
 * requests had, or the other end is closed. It is asked only now and then. */
static bool is_closed_or_stalls(struct client *client, const struct conf *conf, int64_t now_ms)
{
    if (client->phase != CLIENT_IDLE || client->local || now_ms < client->look_again_ms)
        return false;
    client->look_again_ms = now_ms + conf->server_header_timeout * 1000;
    struct tcp_info info = {0};
    socklen_t length = sizeof(info);
    if (getsockopt(client->fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0)
        return false;
    const uint8_t closed_by_peer = 8; /* TCP_CLOSE_WAIT, which only the C library's header names */
    return info.tcpi_state == closed_by_peer || stalls(client, &info, conf, now_ms);
}

bool client_check(struct client *client, const struct conf *conf, int64_t now_ms)
{
    if (client->cut || client->phase == CLIENT_BUSY)
        return false;
    if (now_ms < client->deadline_ms && !is_closed_or_stalls(client, conf, now_ms))
        return false;
    client_cut(client);
    return true;
}
