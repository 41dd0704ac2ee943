/* Opening files with secrets. */
#include "private_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool private_file_refuse(struct buffer *error, const char *option, const char *path,
                         const char *why)
{
    buffer_addf(error, "%s: %s: %s\n", option, path, why);
    return false;
}

/* --- Where ----------------------------------------------------------------------------------- */

static const char *credentials_directory(void)
{
    const char *directory = getenv("CREDENTIALS_DIRECTORY");
    return directory && directory[0] != '\0' ? directory : NULL;
}

bool private_file_is_credential(const char *value)
{
    return strchr(value, '/') == NULL;
}

bool private_file_find(const char *option, const char *value, char path[PRIVATE_FILE_PATH],
                       struct buffer *error)
{
    bool named = private_file_is_credential(value);
    const char *directory = credentials_directory();
    if (named && !directory)
        return private_file_refuse(error, option, value,
                                   "a name without a slash is a systemd credential, and the "
                                   "service was given none (LoadCredential=)");
    int length = snprintf(path, PRIVATE_FILE_PATH, "%s%s%s", named ? directory : "",
                          named ? "/" : "", value);
    return (length > 0 && length < PRIVATE_FILE_PATH) ||
           private_file_refuse(error, option, value, "too long for a path");
}

static bool is_among_credentials(const char *path)
{
    const char *directory = credentials_directory();
    size_t length = directory ? strlen(directory) : 0;
    return length > 0 && strncmp(path, directory, length) == 0 && path[length] == '/';
}

/* --- Who may read it ------------------------------------------------------------------------- */

static bool check_is_private(int fd, const char *option, const char *path, struct buffer *error)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return private_file_refuse(error, option, path, strerrordesc_np(errno));
    if (!S_ISREG(status.st_mode))
        return private_file_refuse(error, option, path, "not a regular file");
    if (status.st_uid != geteuid() && status.st_uid != 0) {
        buffer_addf(error,
                    "%s: %s: owned by user %u; must be owned by the service's user (%u) or root\n",
                    option, path, status.st_uid, geteuid());
        return false;
    }
    bool group_may_read = status.st_uid == 0 || is_among_credentials(path);
    mode_t forbidden = S_IRWXO | S_IWGRP | S_IXGRP | (group_may_read ? 0 : S_IRGRP);
    if ((status.st_mode & forbidden) == 0)
        return true;
    buffer_addf(error,
                "%s: %s: mode %04o lets others at the secret; chmod 0600 or 0400 (0640 or 0440 if "
                "root owns it, or as a systemd credential)\n",
                option, path, status.st_mode & 07777);
    return false;
}

static bool refuse_opening(const char *option, const char *path, struct buffer *error)
{
    if (errno != EACCES)
        return private_file_refuse(error, option, path, strerrordesc_np(errno));
    buffer_addf(error,
                "%s: %s: the service's user (%u) may not read it; hand it over as a systemd "
                "credential (LoadCredential=), or let its group read it\n",
                option, path, geteuid());
    return false;
}

int private_file_open(const char *option, const char *value, struct buffer *error)
{
    char path[PRIVATE_FILE_PATH];
    if (!private_file_find(option, value, path, error))
        return -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) {
        refuse_opening(option, path, error);
        return -1;
    }
    if (!check_is_private(fd, option, path, error)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* --- What is in it --------------------------------------------------------------------------- */

/* Reads until the end, or until `size` bytes are there. */
static bool read_to_end(int fd, char *out, size_t size, size_t *length)
{
    *length = 0;
    while (*length < size) {
        ssize_t got = read(fd, out + *length, size - *length);
        if (got == 0)
            break;
        if (got < 0 && errno != EINTR)
            return false;
        *length += got > 0 ? (size_t)got : 0;
    }
    return true;
}

/* Refuses a file of more than `size` bytes, of which `length` were read. */
static bool check_end(int fd, const char *option, const char *path, size_t length, size_t size,
                      struct buffer *error)
{
    char beyond;
    if (length < size || read(fd, &beyond, 1) == 0)
        return true;
    buffer_addf(error, "%s: %s: larger than %zu bytes\n", option, path, size);
    return false;
}

bool private_file_read(const char *option, const char *value, char *out, size_t size,
                       size_t *length, struct buffer *error)
{
    char path[PRIVATE_FILE_PATH];
    int fd =
        private_file_find(option, value, path, error) ? private_file_open(option, path, error) : -1;
    if (fd < 0)
        return false;
    bool good = read_to_end(fd, out, size, length)
                    ? check_end(fd, option, path, *length, size, error)
                    : private_file_refuse(error, option, path, strerrordesc_np(errno));
    close(fd);
    if (!good)
        return false;
    struct text content = text_unmarked((struct text){out, *length});
    memmove(out, content.data, content.length);
    *length = content.length;
    return true;
}

bool private_file_read_line(const char *option, const char *value, char *out, size_t size,
                            struct text *ret, struct buffer *error)
{
    size_t length;
    if (!private_file_read(option, value, out, size - 1, &length, error))
        return false;
    out[length] = '\0';
    *ret = (struct text){out, strcspn(out, "\r\n")};
    return ret->length > 0 || private_file_refuse(error, option, value, "empty");
}
