/* Files that one process has to itself. */
#include "owned_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

bool owned_file_explain(struct buffer *error, struct owned_file_name name, const char *what)
{
    buffer_addf(error, "%s file %s %s", name.kind, name.path, what);
    return false;
}

bool owned_file_explain_errno(struct buffer *error, struct owned_file_name name, const char *what)
{
    int cause = errno;
    buffer_addf(error, "%s file %s %s: %s", name.kind, name.path, what, strerrordesc_np(cause));
    return false;
}

/* --- whose it is --- */

bool owned_file_is_named(int fd, const char *path)
{
    struct stat open_one, named_one;
    return fstat(fd, &open_one) == 0 && stat(path, &named_one) == 0 &&
           open_one.st_dev == named_one.st_dev && open_one.st_ino == named_one.st_ino;
}

static bool lock_and_examine(int fd, struct owned_file_name name, int64_t *size,
                             struct buffer *error)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return owned_file_explain_errno(error, name, "cannot be read");
    if (!S_ISREG(status.st_mode))
        return owned_file_explain(error, name, "is not a regular file");
    bool locked = flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (!locked && errno != EWOULDBLOCK)
        return owned_file_explain_errno(error, name, "cannot be locked");
    /* The lock of a file that another process has just replaced means nothing. */
    if (!locked || !owned_file_is_named(fd, name.path))
        return owned_file_explain(error, name,
                                  "is in use by another process: every node has its own");
    if ((status.st_mode & 07777) != 0600 && fchmod(fd, 0600) != 0)
        return owned_file_explain_errno(error, name, "cannot be closed to others (mode 0600)");
    *size = status.st_size;
    return true;
}

int owned_file_open(struct owned_file_name name, int64_t *size, struct buffer *error)
{
    /* O_NONBLOCK is for pipes, which are refused; it means nothing to regular files. */
    int fd = open(name.path, O_RDWR | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    *size = fd < 0 && errno == ENOENT ? -1 : 0;
    if (fd < 0 && *size == 0)
        owned_file_explain_errno(error, name, "cannot be opened");
    if (fd < 0 || lock_and_examine(fd, name, size, error))
        return fd;
    close(fd);
    return -1;
}

int owned_file_create(const char *path)
{
    if (unlink(path) != 0 && errno != ENOENT)
        return -1;
    int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || (fchmod(fd, 0600) == 0 && flock(fd, LOCK_EX | LOCK_NB) == 0))
        return fd;
    int saved = errno;
    unlink(path);
    close(fd);
    errno = saved;
    return -1;
}

/* --- bytes --- */

bool owned_file_write(int fd, struct text bytes, size_t *done)
{
    *done = 0;
    while (*done < bytes.length) {
        ssize_t count = write(fd, bytes.data + *done, bytes.length - *done);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0) {
            errno = count == 0 ? EIO : errno;
            return false;
        }
        *done += (size_t)count;
    }
    return true;
}

ssize_t owned_file_read(int fd, char *out, size_t length, int64_t offset)
{
    size_t done = 0;
    while (done < length) {
        ssize_t count = pread(fd, out + done, length - done, offset + (int64_t)done);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return -1;
        if (count == 0)
            break;
        done += (size_t)count;
    }
    return (ssize_t)done;
}
