/* Opening files with secrets. */
#include "private_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool private_file_refuse(struct buffer *error, const char *option, const char *path,
                         const char *why)
{
    buffer_addf(error, "%s: %s: %s\n", option, path, why);
    return false;
}

static bool check(int fd, const char *option, const char *path, struct buffer *error)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return private_file_refuse(error, option, path, strerror(errno));
    if (!S_ISREG(status.st_mode))
        return private_file_refuse(error, option, path, "not a file");
    if (status.st_mode & 077)
        return private_file_refuse(error, option, path,
                                   "others than its owner may use it; chmod 600");
    return true;
}

int private_file_open(const char *option, const char *path, struct buffer *error)
{
    /* Not to wait for the writer of a pipe. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) {
        private_file_refuse(error, option, path, strerror(errno));
        return -1;
    }
    if (!check(fd, option, path, error)) {
        close(fd);
        return -1;
    }
    return fd;
}

bool private_file_read_line(const char *option, const char *path, char *out, size_t size,
                            struct text *ret, struct buffer *error)
{
    int fd = private_file_open(option, path, error);
    if (fd < 0)
        return false;
    ssize_t length = read(fd, out, size);
    int cause = errno;
    close(fd);
    if (length < 0 || (size_t)length == size)
        return private_file_refuse(error, option, path, length < 0 ? strerror(cause) : "too long");
    out[length] = '\0';
    *ret = (struct text){out, strcspn(out, "\r\n")};
    return ret->length > 0 || private_file_refuse(error, option, path, "empty");
}
