/* Files of records: append, read, mend after a crash or a damaged disk, rewrite. */
#include "record_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "clock.h"
#include "memory.h"

enum { CHUNK = 262144, NAMES_TRIED = 100 };

void record_file_init(struct record_file *file, const char *path)
{
    *file = (struct record_file){.path = xstrdup(path), .fd = -1};
}

void record_file_fini(struct record_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    free(file->path);
    buffer_free(&file->out);
    *file = (struct record_file){.fd = -1};
}

/* --- appending --- */

bool record_file_write(struct record_file *file)
{
    size_t done;
    assert(file->fd >= 0);
    bool whole = owned_file_write(file->fd, buffer_text(&file->out), &done);
    file->size += (int64_t)done;
    file->out.length = 0;
    return whole;
}

bool record_file_spill(struct record_file *file)
{
    return file->out.length < CHUNK || record_file_write(file);
}

bool record_file_sync(struct record_file *file)
{
    assert(file->out.length == 0);
    return fdatasync(file->fd) == 0;
}

/* --- reading --- */

/* A piece of the file in memory, wide enough for any record. */
struct window {
    char *data;
    size_t size;
    int64_t start;
    size_t length;
};

/* The bytes from `offset` on, a whole record unless the file ends before. Empty if the file was cut
 * since its size was read; data is NULL if reading fails. */
static struct text read_window(const struct record_file *file, struct window *window,
                               int64_t offset, size_t longest)
{
    size_t skipped = (size_t)(offset - window->start);
    bool at_end = window->start + (int64_t)window->length == file->size;
    assert(offset >= window->start && offset < file->size);
    if (!at_end && skipped + longest > window->length) {
        int64_t left = file->size - offset;
        size_t most = left < (int64_t)window->size ? (size_t)left : window->size;
        ssize_t count = owned_file_read(file->fd, window->data, most, offset);
        if (count < 0)
            return (struct text){0};
        window->start = offset;
        window->length = (size_t)count;
        skipped = 0;
    }
    return (struct text){window->data + skipped, window->length - skipped};
}

bool record_file_scan(const struct record_file *file, int64_t from,
                      const struct record_reader *reader, struct record_scan *ret)
{
    /* Not mapped: cutting a mapped file would kill the process. */
    size_t size = CHUNK + reader->longest;
    struct window window = {.data = xmalloc(size), .size = size, .start = from};
    enum record_reading reading = RECORD_GOOD;
    struct text bytes = {window.data, 0};
    *ret = (struct record_scan){.end = from};
    while (ret->end < file->size && reading != RECORD_LAST) {
        size_t length = 0;
        bytes = read_window(file, &window, ret->end, reader->longest);
        if (!bytes.data)
            break;
        reading =
            bytes.length > 0 ? reader->take(reader->user, ret->end, bytes, &length) : RECORD_TORN;
        if (reading == RECORD_TORN || reading == RECORD_BAD)
            break;
        assert(length > 0 && length <= bytes.length);
        ret->skipped += reading == RECORD_SKIPPED;
        ret->end += (int64_t)length;
    }
    int saved = errno;
    free(window.data);
    errno = saved;
    if (reading == RECORD_BAD)
        ret->damaged = file->size - ret->end;
    else if (reading == RECORD_TORN)
        ret->torn = file->size - ret->end;
    return bytes.data != NULL;
}

/* --- mending --- */

/* Creates FILE.damaged-TIME, with a number appended if that name exists; -1 with errno. */
static int create_aside(const struct record_file *file, struct buffer *path)
{
    char stamp[OWNED_FILE_STAMP];
    int fd = -1;
    owned_file_stamp(stamp, clock_wall_ms());
    for (int i = 1; i <= NAMES_TRIED && fd < 0 && (i == 1 || errno == EEXIST); i++) {
        path->length = 0;
        buffer_addf(path, "%s.damaged-%s", file->path, stamp);
        if (i > 1)
            buffer_addf(path, "-%d", i);
        buffer_add_char(path, '\0');
        fd = open(path->data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    }
    return fd;
}

static bool copy_rest(int from, int64_t offset, int to)
{
    char *chunk = xmalloc(CHUNK);
    ssize_t count;
    size_t done;
    bool copied = true;
    while (copied && (count = owned_file_read(from, chunk, CHUNK, offset)) != 0) {
        copied = count > 0 && owned_file_write(to, (struct text){chunk, (size_t)count}, &done);
        offset += count;
    }
    int saved = errno;
    free(chunk);
    errno = saved;
    return copied && fsync(to) == 0;
}

static bool keep_aside(const struct record_file *file, int64_t from, struct buffer *aside)
{
    int fd = create_aside(file, aside);
    if (fd < 0)
        return false;
    bool kept = copy_rest(file->fd, from, fd);
    int saved = errno;
    close(fd);
    if (!kept)
        unlink(aside->data);
    errno = saved;
    return kept;
}

bool record_file_mend(struct record_file *file, const char *kind, const struct record_scan *scan,
                      struct buffer *aside, struct buffer *error)
{
    const struct owned_file_name name = {kind, file->path};
    assert(scan->end <= file->size && scan->end + scan->torn + scan->damaged == file->size);
    assert(scan->damaged == 0 || aside);
    if (scan->damaged > 0 && !keep_aside(file, scan->end, aside))
        return owned_file_explain_errno(error, name,
                                        "is damaged, and the damaged part cannot be kept aside");
    if (scan->end < file->size &&
        (ftruncate(file->fd, (off_t)scan->end) != 0 || !record_file_sync(file)))
        return owned_file_explain_errno(error, name, "cannot be mended");
    file->size = scan->end;
    return true;
}

/* --- rewriting --- */

bool record_file_begin(const struct record_file *file, struct record_file *fresh)
{
    struct buffer path = {0};
    buffer_addf(&path, "%s.new%c", file->path, '\0');
    record_file_init(fresh, path.data);
    buffer_free(&path);
    fresh->fd = owned_file_create(fresh->path);
    if (fresh->fd >= 0)
        return true;
    record_file_abandon(fresh);
    return false;
}

void record_file_abandon(struct record_file *fresh)
{
    int saved = errno;
    if (fresh->fd >= 0)
        unlink(fresh->path); /* frees its space on a full disk */
    record_file_fini(fresh);
    errno = saved;
}

bool record_file_commit(struct record_file *file, struct record_file *fresh)
{
    if (!record_file_write(fresh) || !record_file_sync(fresh) ||
        rename(fresh->path, file->path) != 0) {
        record_file_abandon(fresh);
        return false;
    }
    assert(fresh->out.length == 0);
    int old = file->fd;
    file->fd = fresh->fd;
    file->size = fresh->size;
    file->out.length = 0;
    fresh->fd = old;
    record_file_fini(fresh);
    return true;
}

bool record_file_sync_name(const struct record_file *file)
{
    return owned_file_sync_name(file->path);
}
