/* The audit file on disk: append, sync, rotate, expire, repair after a crash. */
#include "audit_file.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "audit_format.h"
#include "memory.h"
#include "services/files/owned_file.h"

enum {
    STAMP_LENGTH = OWNED_FILE_STAMP - 1,
    DAY_MS = 86400000,
    TAIL_CHUNK = 65536,
    READER_PATIENCE_MS = 1000
};

void audit_file_init(struct audit_file *file, const char *path)
{
    const char *slash = strrchr(path, '/');
    file->path = xstrdup(path);
    file->name = slash ? file->path + (slash - path) + 1 : file->path;
    if (!slash)
        file->directory = xstrdup(".");
    else if (slash == path)
        file->directory = xstrdup("/");
    else
        file->directory = xstrndup(path, (size_t)(slash - path));
    file->fd = -1;
}

void audit_file_fini(struct audit_file *file)
{
    assert(file->fd < 0);
    free(file->path);
    free(file->directory);
    file->path = NULL;
    file->directory = NULL;
}

/* --- reading what is there --- */

/* Reads exactly `length` bytes at `offset`; unreadable bytes count as missing. */
static bool read_at(int fd, char *out, size_t length, int64_t offset)
{
    return owned_file_read(fd, out, length, offset) == (ssize_t)length;
}

/* The end of the last whole line, after its newline; 0 if there is none. */
static int64_t end_of_lines(int fd, int64_t size)
{
    char chunk[TAIL_CHUNK];
    int64_t end = size;
    while (end > 0) {
        int64_t start = end > TAIL_CHUNK ? end - TAIL_CHUNK : 0;
        if (!read_at(fd, chunk, (size_t)(end - start), start))
            return 0;
        const char *newline = memrchr(chunk, '\n', (size_t)(end - start));
        if (newline)
            return start + (newline - chunk) + 1;
        end = start;
    }
    return 0;
}

static const char *find_last(const char *data, size_t length, struct text needle)
{
    const char *found = NULL;
    const char *at = data;
    while ((at = memmem(at, length - (size_t)(at - data), needle.data, needle.length))) {
        found = at;
        at += needle.length;
    }
    return found;
}

static int64_t leading_number(const char *at, const char *end)
{
    int64_t value = 0;
    for (; at < end && *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, *at - '0', &value))
            return 0;
    return value;
}

/* The whole lines within the last mebibyte; the caller frees them. */
static struct text read_last_lines(const struct audit_file *file)
{
    static const int64_t window = 1 << 20;
    int64_t end = end_of_lines(file->fd, file->size);
    int64_t start = end > window ? end - window : 0;
    size_t length = (size_t)(end - start);
    char *tail = xmalloc(length + 1);
    if (!read_at(file->fd, tail, length, start))
        length = 0;
    tail[length] = '\0';
    return (struct text){tail, length};
}

/* The value of the last occurrence of this member; NULL if there is none. */
static const char *find_member(struct text lines, struct text member)
{
    const char *found = find_last(lines.data, lines.length, member);
    return found ? found + member.length : NULL;
}

/* The sequence number of the last whole line. */
static int64_t sequence_in_file(const struct audit_file *file)
{
    struct text lines = read_last_lines(file);
    const char *found = find_member(lines, TEXT(AUDIT_SEQUENCE_MEMBER));
    int64_t sequence = found ? leading_number(found, lines.data + lines.length) : 0;
    free((char *)lines.data);
    return sequence;
}

/* Removes and returns the last line; empty if there is none. */
static struct text take_last_line(struct text *lines)
{
    size_t length = lines->length > 0 ? lines->length - 1 : 0;
    const char *newline = length > 0 ? memrchr(lines->data, '\n', length) : NULL;
    size_t start = newline ? (size_t)(newline + 1 - lines->data) : 0;
    struct text line = {lines->data + start, lines->length - start};
    lines->length = start;
    return line;
}

int64_t audit_file_last_ms(const struct audit_file *file)
{
    struct tm tm = {0};
    if (!file->regular)
        return 0;
    struct text lines = read_last_lines(file), rest = lines, line;
    do
        line = take_last_line(&rest);
    while (find_member(line, TEXT(AUDIT_CLOCK_MEMBER)));
    const char *found = find_member(line, TEXT(AUDIT_TIME_MEMBER));
    const char *end = found ? strptime(found, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
    int64_t ms = end && *end == '.' ? (int64_t)timegm(&tm) * 1000 : 0;
    free((char *)lines.data);
    return ms;
}

/* --- rotated files and their names --- */

struct rotated_name {
    int64_t wall_ms;
    int64_t sequence;
};

/* Parses <name>.<YYYYMMDDTHHMMSSZ>-<sequence>, with or without the suffix of a compressor. */
static bool read_rotated_name(const char *base, const char *name, struct rotated_name *ret)
{
    size_t length = strlen(base);
    if (strncmp(name, base, length) != 0 || name[length] != '.')
        return false;
    struct tm tm = {0};
    const char *rest = strptime(name + length + 1, "%Y%m%dT%H%M%SZ", &tm);
    if (rest != name + length + 1 + STAMP_LENGTH || *rest != '-')
        return false;
    const char *digits = rest + 1;
    const char *end = digits + strspn(digits, "0123456789");
    if (end == digits || (*end != '\0' && *end != '.'))
        return false;
    ret->wall_ms = (int64_t)timegm(&tm) * 1000;
    ret->sequence = leading_number(digits, end);
    return true;
}

static void for_each_rotated(const struct audit_file *file,
                             void (*visit)(void *user, const char *name, struct rotated_name),
                             void *user)
{
    DIR *directory = fdopendir(open(file->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory)
        return;
    const struct dirent *entry;
    while ((entry = readdir(directory))) {
        struct rotated_name rotated;
        if (read_rotated_name(file->name, entry->d_name, &rotated))
            visit(user, entry->d_name, rotated);
    }
    closedir(directory);
}

static void keep_greatest(void *user, const char *name, struct rotated_name rotated)
{
    (void)name;
    int64_t *greatest = user;
    if (rotated.sequence > *greatest)
        *greatest = rotated.sequence;
}

int64_t audit_file_last_sequence(const struct audit_file *file)
{
    int64_t sequence = file->regular ? sequence_in_file(file) : 0;
    if (sequence == 0)
        for_each_rotated(file, keep_greatest, &sequence);
    return sequence;
}

struct expiry {
    const struct audit_file *file;
    int64_t before_ms;
    void (*deleted)(void *user, const char *path, int error);
    void *user;
};

static void expire_one(void *user, const char *name, struct rotated_name rotated)
{
    const struct expiry *expiry = user;
    if (rotated.wall_ms >= expiry->before_ms)
        return;
    SCOPED(buffer_free) struct buffer path = {0};
    buffer_addf(&path, "%s/%s", expiry->file->directory, name);
    buffer_add_char(&path, '\0');
    int error = unlink(path.data) == 0 ? 0 : errno;
    expiry->deleted(expiry->user, path.data, error);
}

void audit_file_expire(const struct audit_file *file, int64_t before_ms,
                       void (*deleted)(void *user, const char *path, int error), void *user)
{
    struct expiry expiry = {file, before_ms, deleted, user};
    for_each_rotated(file, expire_one, &expiry);
}

/* --- open and close --- */

/* For a pipe, `torn` stays as the write that tore a line has set it. */
static bool examine_open_file(struct audit_file *file)
{
    struct stat status;
    if (fstat(file->fd, &status) != 0)
        return false;
    file->regular = S_ISREG(status.st_mode);
    bool taken = file->regular ? !owned_file_is_descriptor(file->path)
                               : S_ISCHR(status.st_mode) || S_ISFIFO(status.st_mode);
    if (!taken) {
        errno = EINVAL;
        return false;
    }
    file->size = file->regular ? status.st_size : 0;
    file->day = file->size > 0 ? status.st_mtim.tv_sec / (DAY_MS / 1000) : -1;
    if (file->regular)
        file->torn = file->size - end_of_lines(file->fd, file->size);
    file->unsynced = false;
    return true;
}

/* The mode is part of the contract with log shippers. */
static bool create_synced(struct audit_file *file)
{
    file->fd = open(file->path, O_RDWR | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    return file->fd >= 0 && fchmod(file->fd, 0640) == 0 && owned_file_sync_name(file->path);
}

/* A pipe is opened for writing only, so that it breaks when its reader leaves. O_NONBLOCK does not
 * affect regular files. */
static int open_existing(const char *path)
{
    struct stat status;
    bool readable = stat(path, &status) != 0 || S_ISREG(status.st_mode);
    int access = readable ? O_RDWR : O_WRONLY;
    return open(path, access | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
}

bool audit_file_open(struct audit_file *file)
{
    assert(file->fd < 0);
    file->fd = open_existing(file->path);
    bool opened = file->fd >= 0 || (errno == ENOENT && create_synced(file));
    if (!opened || !examine_open_file(file)) {
        int saved = errno;
        audit_file_close(file);
        errno = saved;
        return false;
    }
    return true;
}

const char *audit_file_explain(const struct audit_file *file, int error)
{
    struct stat status;
    if (error == EINVAL && owned_file_is_descriptor(file->path))
        return "what is behind it is a file: give its own name, so that it can be rotated";
    if (error != ENXIO || stat(file->path, &status) != 0)
        return strerrordesc_np(error);
    return S_ISFIFO(status.st_mode) ? "nobody reads the pipe"
                                    : "it is a socket, as standard output is under systemd";
}

void audit_file_close(struct audit_file *file)
{
    if (file->fd >= 0) {
        close(file->fd);
        file->fd = -1;
    }
}

/* --- writing --- */

/* After a write to a full pipe. The reader gets only a second, since others wait for the thread.
 * False with errno. */
static bool wait_for_reader(int fd)
{
    struct pollfd end = {.fd = fd, .events = POLLOUT};
    int count = poll(&end, 1, READER_PATIENCE_MS);
    if (count == 0)
        errno = ETIMEDOUT;
    return count > 0 || errno == EINTR;
}

/* A pipe has accepted `done` of the bytes and no more. */
static void note_torn(struct audit_file *file, struct text bytes, size_t done)
{
    assert(!file->regular);
    const char *newline = done > 0 ? memrchr(bytes.data, '\n', done) : NULL;
    if (newline)
        file->torn = bytes.data + done - newline - 1;
    else
        file->torn += (int64_t)done;
}

size_t audit_file_append(struct audit_file *file, struct text bytes, int64_t wall_ms)
{
    assert(file->fd >= 0);
    size_t done = 0;
    while (done < bytes.length) {
        ssize_t count = write(file->fd, bytes.data + done, bytes.length - done);
        if (count < 0 && (errno == EINTR || (errno == EAGAIN && wait_for_reader(file->fd))))
            continue;
        if (count <= 0) {
            errno = count == 0 ? EIO : errno;
            break;
        }
        done += (size_t)count;
        file->size += count;
    }
    if (!file->regular && done < bytes.length)
        note_torn(file, bytes, done);
    file->unsynced |= done > 0;
    if (file->day < 0)
        file->day = wall_ms / DAY_MS;
    return done;
}

bool audit_file_sync(struct audit_file *file)
{
    assert(file->fd >= 0);
    file->unsynced = false;
    if (!file->regular || fdatasync(file->fd) == 0)
        return true;
    file->doubtful = true;
    return false;
}

bool audit_file_space(const struct audit_file *file, int64_t *free_bytes, int64_t *whole)
{
    struct statvfs disk;
    if (file->fd < 0 || !file->regular || fstatvfs(file->fd, &disk) != 0 || disk.f_blocks == 0)
        return false;
    *free_bytes = (int64_t)disk.f_bavail * (int64_t)disk.f_frsize;
    *whole = (int64_t)disk.f_blocks * (int64_t)disk.f_frsize;
    return true;
}

/* --- rotation --- */

bool audit_file_is_due(const struct audit_file *file, int64_t max_bytes, int64_t wall_ms)
{
    return file->regular && file->size > 0 &&
           (file->size >= max_bytes || file->day != wall_ms / DAY_MS || file->doubtful);
}

static void print_rotated_path(const struct audit_file *file, int64_t last_sequence,
                               int64_t wall_ms, struct buffer *path)
{
    char stamp[OWNED_FILE_STAMP];
    owned_file_stamp(stamp, wall_ms);
    buffer_addf(path, "%s.%s-%lld", file->path, stamp, (long long)last_sequence);
    buffer_add_char(path, '\0');
}

static bool rename_new(const char *from, const char *to)
{
    /* A directory has one writer, so checking first is enough; not all systems have
     * RENAME_NOREPLACE. */
    if (access(to, F_OK) == 0) {
        errno = EEXIST;
        return false;
    }
    return rename(from, to) == 0;
}

bool audit_file_rotate(struct audit_file *file, int64_t last_sequence, int64_t wall_ms)
{
    assert(file->regular);
    if (!audit_file_sync(file)) {
        int saved = errno;
        audit_file_close(file);
        errno = saved;
        return false;
    }
    /* After another process renamed or removed the file, the name is not ours to move. */
    if (owned_file_is_named(file->fd, file->path)) {
        struct buffer rotated = {0};
        print_rotated_path(file, last_sequence, wall_ms, &rotated);
        bool renamed = rename_new(file->path, rotated.data);
        buffer_free(&rotated);
        if (!renamed)
            return false;
    }
    audit_file_close(file);
    file->doubtful = false;
    return audit_file_open(file);
}
