/* Locks on files that belong to one process. */
#include "file_locks.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "memory.h"
#include "owned_file.h"

enum { FILES = 4 };

struct file_locks {
    struct file_lock {
        int fd;
        const char *kind; /* of the file */
        dev_t device;
        ino_t inode;
    } held[FILES];
    size_t count;
};

static int open_lock(const char *file)
{
    const char *slash = strrchr(file, '/');
    int directory = slash ? (int)(slash - file) + 1 : 0;
    struct buffer path = {0};
    buffer_addf(&path, "%.*s.%s.lock%c", directory, file, file + directory, '\0');
    int fd =
        open(path.data, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK, 0600);
    int saved = errno;
    buffer_free(&path);
    errno = saved;
    return fd;
}

/* False with errno; EAGAIN: process *holder has the lock, 0 if it is in another PID namespace. */
static bool lock_file(int fd, pid_t *holder)
{
    for (;;) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        if (fcntl(fd, F_SETLK, &lock) == 0)
            return true;
        if ((errno != EAGAIN && errno != EACCES) || fcntl(fd, F_GETLK, &lock) != 0)
            return false;
        if (lock.l_type == F_UNLCK)
            continue; /* released meanwhile */
        *holder = lock.l_pid;
        errno = EAGAIN;
        return false;
    }
}

static bool refuse_in_use(struct buffer *error, struct owned_file_name name, pid_t holder)
{
    buffer_addf(error, "%s file %s is in use by ", name.kind, name.path);
    if (holder > 0)
        buffer_addf(error, "process %d", holder);
    else
        buffer_add_literal(error, "a process that is not seen from here");
    buffer_add_literal(error, ": every node has its own\n");
    return false;
}

static bool refuse_twice(struct buffer *error, struct owned_file_name name, const char *other)
{
    buffer_addf(error, "%s file %s is the %s file as well: each has its own\n", name.kind,
                name.path, other);
    return false;
}

/* Keeps the descriptor. */
static bool hold(struct file_locks *locks, int fd, struct owned_file_name name,
                 struct buffer *error)
{
    struct stat status = {0};
    bool known = fstat(fd, &status) == 0;
    assert(known && locks->count < FILES);
    (void)known;
    struct file_lock *end = &locks->held[locks->count++];
    *end = (struct file_lock){fd, name.kind, status.st_dev, status.st_ino};
    for (const struct file_lock *at = locks->held; at < end; at++)
        if (at->device == end->device && at->inode == end->inode)
            return refuse_twice(error, name, at->kind);
    return true;
}

static bool lock_named(struct file_locks *locks, struct owned_file_name name, struct buffer *error)
{
    struct stat status;
    pid_t holder = 0;
    if (name.path[0] == '\0' || owned_file_is_descriptor(name.path) ||
        (stat(name.path, &status) == 0 && !S_ISREG(status.st_mode)))
        return true;
    int fd = open_lock(name.path);
    if (fd >= 0 && lock_file(fd, &holder))
        return hold(locks, fd, name, error);
    int cause = errno;
    if (fd >= 0)
        close(fd);
    if (fd >= 0 && cause == EAGAIN)
        return refuse_in_use(error, name, holder);
    log_warning("file_not_locked", "file=%s error=%s effect=\"another node on it is not noticed\"",
                name.path, strerrorname_np(cause));
    return true;
}

struct file_locks *file_locks_take(const struct conf *conf, struct buffer *error)
{
    const struct owned_file_name names[FILES] = {{"audit", conf->audit_file},
                                                 {"journal", conf->journal_file},
                                                 {"alerts", conf->alerts_file},
                                                 {"snapshot", conf->cache_snapshot}};
    struct file_locks *locks = xcalloc(1, sizeof(*locks));
    bool taken = true;
    for (size_t i = 0; i < FILES; i++)
        taken = lock_named(locks, names[i], error) && taken;
    if (!taken)
        file_locks_release(&locks);
    return locks;
}

void file_locks_release(struct file_locks **locks)
{
    struct file_locks *released = *locks;
    *locks = NULL;
    if (!released)
        return;
    for (size_t i = 0; i < released->count; i++)
        close(released->held[i].fd);
    free(released);
}
