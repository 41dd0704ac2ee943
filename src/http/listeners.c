/* Opening and closing the sockets. */
#include "listeners.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "address.h"
#include "memory.h"

static void add(struct listeners *listeners, int fd, enum plane plane, char *unix_path)
{
    listeners->items[listeners->count++] = (struct listener){fd, plane, unix_path};
}

static bool fail(struct buffer *error, const char *what, const char *why)
{
    buffer_addf(error, "cannot listen on %s: %s\n", what, why);
    return false;
}

/* Takes over the sockets that systemd opened, by their names. */
static bool inherit(struct listeners *listeners, struct buffer *error)
{
    char **names = NULL;
    int count = sd_listen_fds_with_names(1, &names);
    bool good = true;
    for (int i = 0; i < count; i++) {
        int fd = SD_LISTEN_FDS_START + i;
        bool ops = strcmp(names[i], "ops") == 0;
        bool known = ops || strcmp(names[i], "http") == 0 || strcmp(names[i], "unix") == 0;
        if (!known || listeners->count == MOST_LISTENERS)
            good = fail(error, names[i], "a socket of systemd must be named http, unix or ops");
        else if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0)
            good = fail(error, names[i], strerror(errno));
        else
            add(listeners, fd, ops ? PLANE_OPS : PLANE_MAIN, NULL);
        free(names[i]);
    }
    free(names);
    return good;
}

static int bind_and_listen(const struct sockaddr *address, socklen_t length)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int on = 1;
    int off = 0;
    if (address->sa_family != AF_UNIX)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (address->sa_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    if (bind(fd, address, length) != 0 || listen(fd, SOMAXCONN) != 0) {
        int reason = errno;
        close(fd);
        errno = reason;
        return -1;
    }
    return fd;
}

static bool open_tcp(struct listeners *listeners, const char *endpoint, enum plane plane,
                     struct buffer *error)
{
    char host[ADDRESS_HOST_MAX];
    uint16_t number;
    if (!address_split(text_of(endpoint), host, &number))
        return fail(error, endpoint, "must be address:port");
    char port[8];
    snprintf(port, sizeof(port), "%u", number);
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int result = getaddrinfo(host, port, &hints, &found);
    if (result != 0)
        return fail(error, endpoint, gai_strerror(result));
    int fd = bind_and_listen(found->ai_addr, found->ai_addrlen);
    int reason = errno;
    freeaddrinfo(found);
    if (fd < 0)
        return fail(error, endpoint, strerror(reason));
    add(listeners, fd, plane, NULL);
    return true;
}

/* A socket file that nobody listens on any more was left by a crash. */
static void remove_stale(const struct sockaddr_un *address)
{
    struct stat status;
    if (lstat(address->sun_path, &status) != 0 || !S_ISSOCK(status.st_mode))
        return;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) != 0 &&
        errno == ECONNREFUSED)
        unlink(address->sun_path);
    close(fd);
}

static bool open_unix(struct listeners *listeners, const char *path, struct buffer *error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        return fail(error, path, "the path is too long for a Unix socket");
    strcpy(address.sun_path, path);
    remove_stale(&address);
    /* Made closed and opened after: no moment in which others may connect. */
    mode_t mask = umask(0177);
    int fd = bind_and_listen((const struct sockaddr *)&address, sizeof(address));
    int reason = errno;
    umask(mask);
    if (fd < 0)
        return fail(error, path, strerror(reason));
    if (chmod(path, 0660) != 0) {
        fail(error, path, strerror(errno));
        close(fd);
        return false;
    }
    add(listeners, fd, PLANE_MAIN, xstrdup(path));
    return true;
}

static bool has_plane(const struct listeners *listeners, enum plane plane)
{
    for (size_t i = 0; i < listeners->count; i++)
        if (listeners->items[i].plane == plane)
            return true;
    return false;
}

static bool open_all(struct listeners *listeners, const struct conf *conf, struct buffer *error)
{
    if (!inherit(listeners, error))
        return false;
    bool inherited = has_plane(listeners, PLANE_MAIN);
    if (!inherited && conf->server_listen[0] != '\0' &&
        !open_tcp(listeners, conf->server_listen, PLANE_MAIN, error))
        return false;
    if (!inherited && conf->server_unix_socket[0] != '\0' &&
        !open_unix(listeners, conf->server_unix_socket, error))
        return false;
    if (!has_plane(listeners, PLANE_MAIN))
        return fail(error, "anything", "server.listen and server.unix_socket are both empty");
    return has_plane(listeners, PLANE_OPS) || conf->server_ops_listen[0] == '\0' ||
           open_tcp(listeners, conf->server_ops_listen, PLANE_OPS, error);
}

bool listeners_open(struct listeners *listeners, const struct conf *conf, struct buffer *error)
{
    *listeners = (struct listeners){0};
    if (open_all(listeners, conf, error))
        return true;
    listeners_close(listeners, PLANE_MAIN);
    listeners_close(listeners, PLANE_OPS);
    return false;
}

void listeners_close(struct listeners *listeners, enum plane plane)
{
    size_t kept = 0;
    for (size_t i = 0; i < listeners->count; i++) {
        struct listener *listener = &listeners->items[i];
        if (listener->plane != plane) {
            listeners->items[kept++] = *listener;
            continue;
        }
        close(listener->fd);
        if (listener->unix_path != NULL) {
            unlink(listener->unix_path);
            free(listener->unix_path);
        }
    }
    listeners->count = kept;
}
