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
