/* One epoll set a worker, polled by its loop. */
#include "lobby.h"

#include <assert.h>
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "https.h"
#include "log.h"
#include "metrics.h"
#include "worker.h"

enum { HANDSHAKE_RECORD = 22 /* RFC 8446, section 5.1 */, MOST_EVENTS = 64 };

static bool watch(struct worker *worker, struct client *client, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = client};
    assert(!client->watched);
    client->watched = epoll_ctl(worker->lobby_fd, EPOLL_CTL_ADD, client->fd, &event) == 0;
    return client->watched;
}

static void unwatch(struct worker *worker, struct client *client)
{
    if (client->watched)
        (void)epoll_ctl(worker->lobby_fd, EPOLL_CTL_DEL, client->fd, NULL);
    client->watched = false;
}

/* --- the first byte --- */

static void refuse_protocol(const struct client *client)
{
    static struct log_pause pauses[2];
    metrics_add(client->tls ? METRIC_PLAIN_ON_TLS : METRIC_TLS_ON_PLAIN, 1);
    if (log_pause_over(&pauses[client->tls]))
        log_warning("wrong_protocol", "address=%.*s reason=\"%s\"", (int)client->peer.length,
                    client->peer.data,
                    client->tls ? "no TLS, on server.tls_listen" : "TLS, on server.listen");
}

/* Unread bytes would turn the close into a reset. */
static void drop_client(struct worker *worker, struct client *client)
{
    char ignored[4096];
    ssize_t got = recv(client->fd, ignored, sizeof(ignored), MSG_DONTWAIT);
    (void)got;
    unwatch(worker, client);
    close(client->fd);
    worker_lose(worker, client);
}

static void look_at_first_byte(struct worker *worker, struct client *client)
{
    unsigned char first;
    ssize_t got = recv(client->fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        if (!client->watched && !watch(worker, client, EPOLLIN | EPOLLRDHUP))
            drop_client(worker, client);
        return;
    }
    if (got != 1) {
        drop_client(worker, client); /* it has left, or was cut */
    } else if ((first == HANDSHAKE_RECORD) != client->tls) {
        refuse_protocol(client);
        drop_client(worker, client);
    } else {
        unwatch(worker, client);
        worker_serve(worker, client);
    }
}

/* Connections of Unix sockets and of the ops plane have only one protocol to speak. */
void lobby_receive(struct worker *worker, struct client *client)
{
    if (client->local || worker->plane == PLANE_OPS)
        worker_serve(worker, client);
    else
        look_at_first_byte(worker, client);
}

/* --- handshakes --- */

static void wait_for_message(struct worker *worker, struct client *client, enum https_state state)
{
    uint32_t events = state == HTTPS_WAITS_TO_WRITE ? EPOLLOUT : EPOLLIN | EPOLLRDHUP;
    MHD_suspend_connection(client->connection);
    if (!watch(worker, client, events)) {
        client_cut(client);
        MHD_resume_connection(client->connection);
        worker->daemon_due = true;
    }
}

void lobby_settle(struct worker *worker)
{
    struct client *at = worker->shaking;
    worker->shaking = NULL;
    while (at != NULL) {
        struct client *client = at;
        enum https_state state = https_state(client);
        at = client->next_shaking;
        client->next_shaking = NULL;
        if (state == HTTPS_ESTABLISHED) {
            client->established = true;
            metrics_add(METRIC_TLS_HANDSHAKES, 1);
        } else {
            wait_for_message(worker, client, state);
        }
    }
}

static void go_on(struct worker *worker, struct client *client)
{
    unwatch(worker, client);
    client->next_shaking = worker->shaking;
    worker->shaking = client;
    MHD_resume_connection(client->connection);
    worker->daemon_due = true;
}

void lobby_forget(struct worker *worker, struct client *client)
{
    struct client **link = &worker->shaking;
    unwatch(worker, client);
    while (*link != NULL && *link != client)
        link = &(*link)->next_shaking;
    if (*link == client)
        *link = client->next_shaking;
    if (client->tls && !client->established)
        metrics_add(METRIC_TLS_HANDSHAKES_FAILED, 1);
}

/* --- the set --- */

static void on_lobby(uv_poll_t *poll, int status, int polled)
{
    (void)status;
    (void)polled;
    struct worker *worker = poll->data;
    struct epoll_event events[MOST_EVENTS];
    int count = epoll_wait(worker->lobby_fd, events, MOST_EVENTS, 0);
    for (int i = 0; i < count; i++) {
        struct client *client = events[i].data.ptr;
        if (client->connection == NULL)
            look_at_first_byte(worker, client);
        else
            go_on(worker, client);
    }
}

bool lobby_open(struct worker *worker)
{
    worker->lobby_fd = epoll_create1(EPOLL_CLOEXEC);
    if (worker->lobby_fd < 0)
        return false;
    uv_poll_init(&worker->loop, &worker->lobby_poll, worker->lobby_fd);
    worker->lobby_poll.data = worker;
    uv_poll_start(&worker->lobby_poll, UV_READABLE, on_lobby);
    return true;
}

void lobby_close(struct worker *worker)
{
    assert(worker->shaking == NULL);
    uv_poll_stop(&worker->lobby_poll);
    uv_close((uv_handle_t *)&worker->lobby_poll, NULL);
    close(worker->lobby_fd);
}
