/* Files that belong to one process. */
#include "owned_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "memory.h"

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

bool owned_file_is_descriptor(const char *path)
{
    static const char *const beginnings[] = {"/dev/std", "/dev/fd/", "/proc/"};
    for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++)
        if (strncmp(path, beginnings[i], strlen(beginnings[i])) == 0)
            return true;
    return false;
}

bool owned_file_is_named(int fd, const char *path)
{
    struct stat open_one, named_one;
    return fstat(fd, &open_one) == 0 && stat(path, &named_one) == 0 &&
           open_one.st_dev == named_one.st_dev && open_one.st_ino == named_one.st_ino;
}

static bool make_private(int fd, struct owned_file_name name, int64_t *size, struct buffer *error)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return owned_file_explain_errno(error, name, "cannot be read");
    if (!S_ISREG(status.st_mode))
        return owned_file_explain(error, name, "is not a regular file");
    if ((status.st_mode & 07777) != 0600 && fchmod(fd, 0600) != 0)
        return owned_file_explain_errno(error, name, "cannot be closed to others (mode 0600)");
    *size = status.st_size;
    return true;
}

int owned_file_open(struct owned_file_name name, int64_t *size, struct buffer *error)
{
    /* O_NONBLOCK is for pipes, which are refused; it does not affect regular files. */
    int fd = open(name.path, O_RDWR | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    *size = fd < 0 && errno == ENOENT ? -1 : 0;
    if (fd < 0 && *size == 0)
        owned_file_explain_errno(error, name, "cannot be opened");
    if (fd < 0 || make_private(fd, name, size, error))
        return fd;
    close(fd);
    return -1;
}

int owned_file_create(const char *path)
{
    if (unlink(path) != 0 && errno != ENOENT)
        return -1;
    int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || fchmod(fd, 0600) == 0)
        return fd;
    int saved = errno;
    unlink(path);
    close(fd);
    errno = saved;
    return -1;
}

/* --- names --- */

bool owned_file_sync_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t length = slash > path ? (size_t)(slash - path) : 1;
    char *directory = slash ? xstrndup(path, length) : xstrdup(".");
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(directory);
    if (fd < 0)
        return false;
    /* File systems that cannot sync a directory return EINVAL; then there is nothing to do. */
    bool synced = fsync(fd) == 0 || errno == EINVAL;
    int saved = errno;
    close(fd);
    errno = saved;
    return synced;
}

void owned_file_stamp(char out[OWNED_FILE_STAMP], int64_t wall_ms)
{
    time_t second = (time_t)(wall_ms / 1000);
    struct tm tm = {0};
    gmtime_r(&second, &tm);
    if (strftime(out, OWNED_FILE_STAMP, "%Y%m%dT%H%M%SZ", &tm) == 0)
        memcpy(out, "99991231T235959Z", OWNED_FILE_STAMP); /* a clock beyond that */
}

/* --- bytes --- */

bool owned_file_write(int fd, struct text bytes, size_t *done)
{
    *done = 0;
    assert(fd >= 0);
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
    assert(fd >= 0 && offset >= 0);
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
