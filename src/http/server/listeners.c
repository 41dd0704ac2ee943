/* Opens and closes the sockets. */
#include "listeners.h"

#include <assert.h>
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

static struct listener *add_listener(struct listeners *listeners, int fd, enum plane plane)
{
    assert(fd >= 0 && listeners->count < MOST_LISTENERS);
    struct listener *listener = &listeners->items[listeners->count++];
    *listener = (struct listener){.fd = fd, .plane = plane};
    return listener;
}

static bool fail_listening(struct buffer *error, const char *what, const char *why)
{
    buffer_addf(error, "cannot listen on %s: %s\n", what, why);
    return false;
}

/* --- of systemd --- */

static bool is_of(int fd, int type, int listening)
{
    return sd_is_socket(fd, AF_UNSPEC, type, listening) > 0;
}

/* The fault of a descriptor under this name, or NULL: one that cannot accept would only keep the
 * acceptor busy. */
static const char *complaint_about(int fd, const char *name)
{
    struct sockaddr_storage peer;
    socklen_t length = sizeof(peer);
    if (strcmp(name, "ops") != 0 && strcmp(name, "http") != 0 && strcmp(name, "https") != 0 &&
        strcmp(name, "unix") != 0)
        return "must be named http, https, unix or ops";
    if (!is_of(fd, 0, -1))
        return sd_is_fifo(fd, NULL) > 0 ? "is a pipe, not a socket" : "is not a socket";
    if (!is_of(fd, SOCK_STREAM, -1))
        return is_of(fd, SOCK_DGRAM, -1) ? "is a datagram socket" : "is not a stream socket";
    if (!is_of(fd, SOCK_STREAM, 1)) {
        bool connected = getpeername(fd, (struct sockaddr *)&peer, &length) == 0;
        return connected ? "is a connection (the unit needs Accept=no)" : "does not listen";
    }
    bool familiar = sd_is_socket(fd, AF_INET, 0, -1) > 0 || sd_is_socket(fd, AF_INET6, 0, -1) > 0 ||
                    sd_is_socket(fd, AF_UNIX, 0, -1) > 0;
    return familiar ? NULL : "is neither of IPv4 nor of IPv6 nor a Unix socket";
}

static bool take_inherited(struct listeners *listeners, const struct conf *conf, int fd,
                           const char *name, struct buffer *error)
{
    const char *complaint = complaint_about(fd, name);
    bool tls = strcmp(name, "https") == 0;
    if (complaint == NULL && tls && conf->server_tls_certificate_file[0] == '\0')
        complaint = "needs server.tls_certificate_file";
    if (complaint == NULL && listeners->count == MOST_LISTENERS)
        complaint = "is one too many";
    if (complaint == NULL && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0)
        complaint = strerror(errno);
    if (complaint != NULL) {
        buffer_addf(error, "descriptor %d of systemd, named %s, %s\n", fd, name, complaint);
        return false;
    }
    add_listener(listeners, fd, strcmp(name, "ops") == 0 ? PLANE_OPS : PLANE_MAIN)->tls = tls;
    return true;
}

/* Takes over the sockets that systemd opened, by their names. */
static bool inherit(struct listeners *listeners, const struct conf *conf, struct buffer *error)
{
    char **names = NULL;
    int count = sd_listen_fds_with_names(1, &names);
    bool good = count >= 0 || fail_listening(error, "the sockets of systemd", strerror(-count));
    for (int i = 0; i < count; i++) {
        good = take_inherited(listeners, conf, SD_LISTEN_FDS_START + i, names[i], error) && good;
        free(names[i]);
    }
    free(names);
    return good;
}

/* --- our own --- */

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

static bool open_tcp(struct listeners *listeners, const char *endpoint, enum plane plane, bool tls,
                     struct buffer *error)
{
    char host[ADDRESS_HOST_MAX];
    uint16_t number;
    if (!address_split(text_of(endpoint), host, &number))
        return fail_listening(error, endpoint, "must be address:port");
    char port[8];
    snprintf(port, sizeof(port), "%u", number);
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int result = getaddrinfo(host, port, &hints, &found);
    if (result != 0)
        return fail_listening(error, endpoint, gai_strerror(result));
    int fd = bind_and_listen(found->ai_addr, found->ai_addrlen);
    int reason = errno;
    freeaddrinfo(found);
    if (fd < 0)
        return fail_listening(error, endpoint, strerror(reason));
    add_listener(listeners, fd, plane)->tls = tls;
    return true;
}

/* A socket file without a listener was left by a crash. */
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
        return fail_listening(error, path, "the path is too long for a Unix socket");
    strcpy(address.sun_path, path);
    remove_stale(&address);
    /* Created without permissions and opened afterwards: at no moment can others connect. */
    mode_t mask = umask(0177);
    int fd = bind_and_listen((const struct sockaddr *)&address, sizeof(address));
    int reason = errno;
    umask(mask);
    if (fd < 0)
        return fail_listening(error, path, strerror(reason));
    struct stat status;
    if (chmod(path, 0660) != 0 || lstat(path, &status) != 0) {
        fail_listening(error, path, strerror(errno));
        close(fd);
        return false;
    }
    struct listener *listener = add_listener(listeners, fd, PLANE_MAIN);
    listener->unix_path = xstrdup(path);
    listener->device = status.st_dev;
    listener->inode = status.st_ino;
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
    if (!inherit(listeners, conf, error))
        return false;
    bool inherited = has_plane(listeners, PLANE_MAIN);
    if (!inherited && conf->server_listen[0] != '\0' &&
        !open_tcp(listeners, conf->server_listen, PLANE_MAIN, false, error))
        return false;
    if (!inherited && conf->server_tls_listen[0] != '\0' &&
        !open_tcp(listeners, conf->server_tls_listen, PLANE_MAIN, true, error))
        return false;
    if (!inherited && conf->server_unix_socket[0] != '\0' &&
        !open_unix(listeners, conf->server_unix_socket, error))
        return false;
    if (!has_plane(listeners, PLANE_MAIN))
        return fail_listening(
            error, "anything",
            "server.listen, server.tls_listen and server.unix_socket are all empty");
    return has_plane(listeners, PLANE_OPS) || conf->server_ops_listen[0] == '\0' ||
           open_tcp(listeners, conf->server_ops_listen, PLANE_OPS, false, error);
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

/* Another process may have made a socket of this name since. While ours is open no process takes it
 * for a leftover, and no other file gets its inode, so the comparison is valid only until it
 * is closed. */
static void remove_path(struct listener *listener)
{
    struct stat status;
    if (listener->unix_path == NULL)
        return;
    if (lstat(listener->unix_path, &status) == 0 && status.st_dev == listener->device &&
        status.st_ino == listener->inode)
        unlink(listener->unix_path);
    free(listener->unix_path);
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
        remove_path(listener);
        close(listener->fd);
    }
    listeners->count = kept;
}
