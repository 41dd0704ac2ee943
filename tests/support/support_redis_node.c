/* One thread, poll(2) over the connections, a step after the other. */
#include "support_redis_node.h"

#include <arpa/inet.h>
#include <check.h>
#include <fnmatch.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "memory.h"

enum { CONNECTIONS_MAX = 64, STEPS_MAX = 256, POLL_MS = 5, SLICE_PAUSE_US = 300 };

struct peer {
    int fd; /* -1: none */
    bool authenticated;
    bool subscribed;
    struct buffer input;
};

enum { ANSWERS_MAX = 16 };

struct answer {
    char *pattern, *reply;
    unsigned given;
};

struct redis_node {
    pthread_t thread;
    int listener;
    uint16_t port;

    pthread_mutex_t lock; /* of everything below */
    bool stopping, frozen, watchable, mute;
    struct peer peers[CONNECTIONS_MAX];
    struct redis_step steps[STEPS_MAX];
    size_t step_count, next_step;
    char *slots;
    char *auth; /* NULL: none needed */
    struct answer answers[ANSWERS_MAX];
    size_t answer_count;
    unsigned commands, auths, maps_asked, accepted, tracker, most_at_once;
    char failure[768]; /* the first one */
};

/* --- steps --- */

static void note_failure(struct redis_node *node, const char *what, const char *command)
{
    if (!node->failure[0])
        snprintf(node->failure, sizeof(node->failure), "%s: %s", what, command);
}

static void drop_peer(struct peer *peer)
{
    close(peer->fd);
    peer->fd = -1;
    buffer_free(&peer->input);
}

static void send_bytes(struct peer *peer, const char *bytes)
{
    if (peer->fd >= 0)
        (void)!send(peer->fd, bytes, strlen(bytes), MSG_NOSIGNAL);
}

static void send_sliced(struct peer *peer, const char *bytes)
{
    for (const char *at = bytes; *at; at++) {
        (void)!send(peer->fd, at, 1, MSG_NOSIGNAL);
        usleep(SLICE_PAUSE_US);
    }
}

/* The steps after an EXPECT. A sleep lets go of the lock, so that the test can ask meanwhile. */
static void run_steps(struct redis_node *node, struct peer *peer)
{
    while (node->next_step < node->step_count) {
        const struct redis_step *step = &node->steps[node->next_step];
        switch (step->kind) {
        case REDIS_EXPECT:
        case REDIS_ALWAYS:
            return;
        case REDIS_SEND:
            send_bytes(peer, step->text);
            break;
        case REDIS_SEND_SLICED:
            send_sliced(peer, step->text);
            break;
        case REDIS_SLEEP:
            pthread_mutex_unlock(&node->lock);
            usleep((useconds_t)step->milliseconds * 1000);
            pthread_mutex_lock(&node->lock);
            break;
        case REDIS_CLOSE:
            drop_peer(peer);
            break;
        }
        node->next_step++;
    }
}

static void take_scripted(struct redis_node *node, struct peer *peer, const char *command)
{
    node->commands++;
    if (node->next_step == node->step_count) {
        note_failure(node, "not expected", command);
        drop_peer(peer);
        return;
    }
    const struct redis_step *step = &node->steps[node->next_step];
    if (step->kind == REDIS_ALWAYS) {
        send_bytes(peer, step->text);
        return;
    }
    if (fnmatch(step->text, command, FNM_EXTMATCH) != 0) {
        note_failure(node, step->text, command);
        drop_peer(peer);
        return;
    }
    node->next_step++;
    run_steps(node, peer);
}

static void take_auth(struct redis_node *node, struct peer *peer, const char *command)
{
    node->auths++;
    peer->authenticated = node->auth && strcmp(command, node->auth) == 0;
    send_bytes(peer, peer->authenticated ? "+OK\r\n" : "-WRONGPASS invalid password\r\n");
}

/* The commands of a tracking connection, one after the other. */
static const struct {
    const char *command, *reply;
} watch_rows[] = {
    {"INFO server", "$57\r\n# Server\r\nrun_id:1111111111111111111111111111111111111111\r\n"},
    {"CLIENT ID", ":77\r\n"},
    {"CLIENT TRACKING ON REDIRECT 77 BCAST PREFIX sd:e: PREFIX sd:p:", "+OK\r\n"},
    {"SUBSCRIBE __redis__:invalidate",
     "*3\r\n$9\r\nsubscribe\r\n$20\r\n__redis__:invalidate\r\n:1\r\n"},
};
enum { WATCH_ROWS = sizeof(watch_rows) / sizeof(watch_rows[0]) };

/* True if the command was one of a tracking connection. */
static bool take_watch(struct redis_node *node, struct peer *peer, const char *command)
{
    if (peer->subscribed && strcmp(command, "PING") == 0) {
        if (!node->mute)
            send_bytes(peer, "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
        return true;
    }
    for (int i = 0; i < WATCH_ROWS && node->watchable; i++) {
        if (strcmp(command, watch_rows[i].command) != 0)
            continue;
        peer->subscribed = i == WATCH_ROWS - 1;
        node->tracker += peer->subscribed;
        send_bytes(peer, watch_rows[i].reply);
        return true;
    }
    return false;
}

static bool take_answered(struct redis_node *node, struct peer *peer, const char *command)
{
    for (size_t i = 0; i < node->answer_count; i++) {
        struct answer *answer = &node->answers[i];
        if (answer->reply && fnmatch(answer->pattern, command, FNM_EXTMATCH) == 0) {
            answer->given++;
            send_bytes(peer, answer->reply);
            return true;
        }
    }
    return false;
}

/* As a server with a right clock. */
static void send_time(struct peer *peer)
{
    char reply[64], seconds[24];
    int length = snprintf(seconds, sizeof(seconds), "%lld", (long long)(clock_wall_ms() / 1000));
    snprintf(reply, sizeof(reply), "*2\r\n$%d\r\n%s\r\n$6\r\n%06lld\r\n", length, seconds,
             (long long)(clock_wall_ms() % 1000 * 1000));
    send_bytes(peer, reply);
}

/* True if the command was one for the script. */
static bool take_command(struct redis_node *node, struct peer *peer, const char *command)
{
    if (strncmp(command, "AUTH ", 5) == 0) {
        take_auth(node, peer, command);
        return false;
    }
    if (node->auth && !peer->authenticated) {
        send_bytes(peer, "-NOAUTH Authentication required.\r\n");
        return false;
    }
    if (take_answered(node, peer, command))
        return false;
    if (take_watch(node, peer, command))
        return false;
    if (strcmp(command, "PING") == 0) {
        send_bytes(peer, "+PONG\r\n");
        return false;
    }
    if (strcmp(command, "TIME") == 0) {
        send_time(peer);
        return false;
    }
    /* The reply of a healthy server, in any mode. */
    if (strcmp(command, "INFO") == 0) {
        send_bytes(peer, "$22\r\nredis_version:7.0.15\r\n\r\n");
        return false;
    }
    if (strcmp(command, "CLUSTER SLOTS") == 0) {
        node->maps_asked++;
        send_bytes(peer, node->slots ? node->slots
                                     : "-ERR This instance has cluster support disabled\r\n");
        return false;
    }
    take_scripted(node, peer, command);
    return true;
}

/* --- commands in --- */

/* The number between a type character and the line's end; -1 while the line is not complete. */
static long read_number(const struct buffer *input, size_t *at)
{
    const char *line = input->data + *at;
    const char *end = memchr(line, '\n', input->length - *at);
    if (!end)
        return -1;
    *at = (size_t)(end + 1 - input->data);
    return strtol(line + 1, NULL, 10);
}

/* One whole command with its arguments joined by blanks; false while bytes are missing. */
static bool read_command(struct buffer *input, char *out, size_t size)
{
    size_t at = 0, length = 0;
    long count = input->length ? read_number(input, &at) : -1;
    for (long i = 0; i < count; i++) {
        long bytes = at < input->length ? read_number(input, &at) : -1;
        if (bytes < 0 || at + (size_t)bytes + 2 > input->length)
            return false;
        int wrote = snprintf(out + length, size - length, "%s%.*s", i ? " " : "", (int)bytes,
                             input->data + at);
        length = length + (size_t)wrote < size ? length + (size_t)wrote : size - 1;
        at += (size_t)bytes + 2;
    }
    if (count < 0)
        return false;
    input->length -= at;
    memmove(input->data, input->data + at, input->length);
    return true;
}

static void serve_peer(struct redis_node *node, struct peer *peer)
{
    char *room = buffer_reserve(&peer->input, 65536);
    ssize_t length = recv(peer->fd, room, 65536, MSG_DONTWAIT);
    if (length <= 0) {
        drop_peer(peer);
        return;
    }
    peer->input.length += (size_t)length;
    char command[512];
    unsigned at_once = 0;
    while (peer->fd >= 0 && read_command(&peer->input, command, sizeof(command)))
        at_once += take_command(node, peer, command);
    if (at_once > node->most_at_once)
        node->most_at_once = at_once;
}

static void accept_peer(struct redis_node *node)
{
    int fd = accept4(node->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    int yes = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    node->accepted++;
    for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
        if (node->peers[i].fd < 0) {
            node->peers[i].fd = fd;
            node->peers[i].authenticated = false;
            node->peers[i].subscribed = false;
            return;
        }
    }
    close(fd);
}

static void *serve(void *user)
{
    struct redis_node *node = user;
    pthread_mutex_lock(&node->lock);
    while (!node->stopping) {
        struct pollfd polled[CONNECTIONS_MAX + 1];
        for (size_t i = 0; i < CONNECTIONS_MAX; i++)
            polled[i] = (struct pollfd){node->peers[i].fd, POLLIN, 0};
        polled[CONNECTIONS_MAX] = (struct pollfd){node->listener, POLLIN, 0};
        bool frozen = node->frozen;
        pthread_mutex_unlock(&node->lock);
        poll(polled, frozen ? 0 : CONNECTIONS_MAX + 1, POLL_MS);
        pthread_mutex_lock(&node->lock);
        if (node->frozen || frozen)
            continue;
        for (size_t i = 0; i < CONNECTIONS_MAX; i++)
            if (polled[i].fd >= 0 && polled[i].revents)
                serve_peer(node, &node->peers[i]);
        if (polled[CONNECTIONS_MAX].revents)
            accept_peer(node);
    }
    pthread_mutex_unlock(&node->lock);
    return NULL;
}

/* --- life --- */

struct redis_node *redis_node_start(uint16_t port)
{
    struct redis_node *node = xcalloc(1, sizeof(*node));
    pthread_mutex_init(&node->lock, NULL);
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        node->peers[i].fd = -1;
    node->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int yes = 1;
    setsockopt(node->listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    ck_assert_int_eq(bind(node->listener, (struct sockaddr *)&address, length), 0);
    ck_assert_int_eq(listen(node->listener, 16), 0);
    getsockname(node->listener, (struct sockaddr *)&address, &length);
    node->port = ntohs(address.sin_port);
    redis_node_answer(node, PINGED_BY, "$-1\r\n");
    redis_node_answer(node, "CLUSTER NODES", "-ERR This instance is no cluster\r\n");
    redis_node_answer(node, "CLUSTER MYID", "-ERR This instance is no cluster\r\n");
    ck_assert_int_eq(pthread_create(&node->thread, NULL, serve, node), 0);
    return node;
}

uint16_t redis_node_port(const struct redis_node *node)
{
    return node->port;
}

void redis_node_script(struct redis_node *node, const struct redis_step *steps, size_t count)
{
    pthread_mutex_lock(&node->lock);
    ck_assert_uint_le(node->step_count + count, STEPS_MAX);
    for (size_t i = 0; i < count; i++) {
        struct redis_step *step = &node->steps[node->step_count++];
        *step = steps[i];
        step->text = steps[i].text ? xstrdup(steps[i].text) : NULL;
    }
    pthread_mutex_unlock(&node->lock);
}

void redis_node_slots(struct redis_node *node, const char *reply)
{
    pthread_mutex_lock(&node->lock);
    free(node->slots);
    node->slots = reply ? xstrdup(reply) : NULL;
    pthread_mutex_unlock(&node->lock);
}

void redis_node_require(struct redis_node *node, const char *auth)
{
    pthread_mutex_lock(&node->lock);
    free(node->auth);
    node->auth = xstrdup(auth);
    pthread_mutex_unlock(&node->lock);
}

static struct answer *find_answer(struct redis_node *node, const char *pattern)
{
    for (size_t i = 0; i < node->answer_count; i++)
        if (strcmp(node->answers[i].pattern, pattern) == 0)
            return &node->answers[i];
    ck_assert_uint_lt(node->answer_count, ANSWERS_MAX);
    struct answer *added = &node->answers[node->answer_count++];
    *added = (struct answer){.pattern = xstrdup(pattern)};
    return added;
}

void redis_node_answer(struct redis_node *node, const char *pattern, const char *reply)
{
    pthread_mutex_lock(&node->lock);
    struct answer *answer = find_answer(node, pattern);
    free(answer->reply);
    answer->reply = reply ? xstrdup(reply) : NULL;
    pthread_mutex_unlock(&node->lock);
}

unsigned redis_node_answered(struct redis_node *node, const char *pattern)
{
    pthread_mutex_lock(&node->lock);
    unsigned given = find_answer(node, pattern)->given;
    pthread_mutex_unlock(&node->lock);
    return given;
}

void redis_node_allow_watch(struct redis_node *node)
{
    pthread_mutex_lock(&node->lock);
    node->watchable = true;
    pthread_mutex_unlock(&node->lock);
}

void redis_node_publish(struct redis_node *node, const char *bytes)
{
    pthread_mutex_lock(&node->lock);
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        if (node->peers[i].fd >= 0 && node->peers[i].subscribed)
            send_bytes(&node->peers[i], bytes);
    pthread_mutex_unlock(&node->lock);
}

void redis_node_drop_watches(struct redis_node *node)
{
    pthread_mutex_lock(&node->lock);
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        if (node->peers[i].fd >= 0 && node->peers[i].subscribed)
            drop_peer(&node->peers[i]);
    pthread_mutex_unlock(&node->lock);
}

void redis_node_mute(struct redis_node *node, bool mute)
{
    pthread_mutex_lock(&node->lock);
    node->mute = mute;
    pthread_mutex_unlock(&node->lock);
}

void redis_node_freeze(struct redis_node *node, bool frozen)
{
    pthread_mutex_lock(&node->lock);
    node->frozen = frozen;
    pthread_mutex_unlock(&node->lock);
}

const char *redis_node_range(char out[128], unsigned first, unsigned last, uint16_t port)
{
    snprintf(out, 128, "*1\r\n*3\r\n:%u\r\n:%u\r\n*3\r\n$9\r\n127.0.0.1\r\n:%u\r\n$2\r\nid\r\n",
             first, last, port);
    return out;
}

static unsigned read_count(struct redis_node *node, const unsigned *count)
{
    pthread_mutex_lock(&node->lock);
    unsigned value = *count;
    pthread_mutex_unlock(&node->lock);
    return value;
}

unsigned redis_node_commands(struct redis_node *node)
{
    return read_count(node, &node->commands);
}

unsigned redis_node_auths(struct redis_node *node)
{
    return read_count(node, &node->auths);
}

unsigned redis_node_maps_asked(struct redis_node *node)
{
    return read_count(node, &node->maps_asked);
}

unsigned redis_node_accepted(struct redis_node *node)
{
    return read_count(node, &node->accepted);
}

unsigned redis_node_watches(struct redis_node *node)
{
    return read_count(node, &node->tracker);
}

unsigned redis_node_most_at_once(struct redis_node *node)
{
    return read_count(node, &node->most_at_once);
}

void redis_node_stop(struct redis_node **node)
{
    struct redis_node *gone = *node;
    *node = NULL;
    pthread_mutex_lock(&gone->lock);
    gone->stopping = true;
    pthread_mutex_unlock(&gone->lock);
    pthread_join(gone->thread, NULL);
    ck_assert_msg(!gone->failure[0], "redis node: %s", gone->failure);
    bool always = gone->step_count && gone->steps[gone->step_count - 1].kind == REDIS_ALWAYS;
    size_t left = gone->step_count - gone->next_step - always;
    ck_assert_msg(left == 0, "redis node: %zu steps left, the first: %s", left,
                  gone->steps[gone->next_step].text);
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        if (gone->peers[i].fd >= 0)
            drop_peer(&gone->peers[i]);
    for (size_t i = 0; i < gone->step_count; i++)
        free((char *)gone->steps[i].text);
    close(gone->listener);
    free(gone->slots);
    free(gone->auth);
    for (size_t i = 0; i < gone->answer_count; i++) {
        free(gone->answers[i].pattern);
        free(gone->answers[i].reply);
    }
    pthread_mutex_destroy(&gone->lock);
    free(gone);
}
