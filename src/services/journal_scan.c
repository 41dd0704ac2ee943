/* The journal's file at start: opened or made, read, and mended where a crash or a disk left it
 * torn or damaged. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "journal_file.h"
#include "log.h"
#include "memory.h"
#include "owned_file.h"

enum { WINDOW = 1 << 20, NAMES_TRIED = 100 };

static struct owned_file_name name_of(const struct journal_file *file)
{
    return (struct owned_file_name){"journal", file->path};
}

static bool explain(struct buffer *error, const struct journal_file *file, const char *what)
{
    return owned_file_explain(error, name_of(file), what);
}

static bool explain_errno(struct buffer *error, const struct journal_file *file, const char *what)
{
    return owned_file_explain_errno(error, name_of(file), what);
}

/* --- reading --- */

/* A piece of the file in memory, wide enough for a record wherever it begins. */
struct window {
    char *data;
    int64_t start;
    size_t length;
};

/* The bytes from `offset` on, at least a whole record of them unless the file ends before; data is
 * NULL with errno if they cannot be read. */
static struct text look(const struct journal_file *file, struct window *window, int64_t offset)
{
    size_t skipped = (size_t)(offset - window->start);
    bool at_end = window->start + (int64_t)window->length == file->size;
    if (!at_end && skipped + JOURNAL_RECORD_MAX > window->length) {
        ssize_t count = owned_file_read(file->fd, window->data, WINDOW, offset);
        if (count <= 0) {
            errno = count == 0 ? EIO : errno; /* it was longer a moment ago */
            return (struct text){0};
        }
        *window = (struct window){window->data, offset, (size_t)count};
        skipped = 0;
    }
    return (struct text){window->data + skipped, window->length - skipped};
}

/* Reads up to the first record that does not check. False with errno if the disk does not read. */
static bool read_records(const struct journal_file *file,
                         void (*visit)(void *, const struct journal_record *), void *user,
                         struct journal_file_scan *scan)
{
    struct window window = {.data = xmalloc(WINDOW), .start = JOURNAL_HEAD};
    enum journal_record_reading reading = JOURNAL_RECORD_GOOD;
    bool readable = true;
    scan->end = JOURNAL_HEAD;
    while (scan->end < file->size) {
        struct journal_record record;
        struct text bytes = look(file, &window, scan->end);
        readable = bytes.data != NULL;
        if (!readable)
            break;
        reading = journal_record_read(&file->seal, scan->end, bytes, &record);
        if (reading != JOURNAL_RECORD_GOOD)
            break;
        visit(user, &record);
        scan->end += (int64_t)journal_record_length(bytes.data);
    }
    int saved = errno;
    free(window.data);
    errno = saved;
    if (reading == JOURNAL_RECORD_TORN)
        scan->torn = file->size - scan->end;
    else
        scan->damaged = file->size - scan->end;
    return readable;
}

static bool read_head(struct journal_file *file, uint64_t *next_number, struct buffer *error)
{
    static const char *const complaints[] = {
        [JOURNAL_HEAD_BAD] = "is not a journal of sessiond, or its head is damaged; nothing of it "
                             "was read: move it away to start without its revocations",
        [JOURNAL_HEAD_NEWER] = "was written by another version of sessiond: start that one, or "
                               "move the file away to start without its revocations",
        [JOURNAL_HEAD_FOREIGN] =
            "was written under another names secret: start with the key file that it belongs to, "
            "or move the file away to start without its revocations",
    };
    uint8_t bytes[JOURNAL_HEAD];
    struct journal_head head;
    ssize_t count = owned_file_read(file->fd, (char *)bytes, sizeof(bytes), 0);
    if (count < 0)
        return explain_errno(error, file, "cannot be read");
    enum journal_head_reading reading = JOURNAL_HEAD_BAD;
    if (count == JOURNAL_HEAD)
        reading = journal_head_read(bytes, file->seal.keyring, &head);
    if (reading != JOURNAL_HEAD_GOOD)
        return explain(error, file, complaints[reading]);
    *next_number = head.next_number;
    memcpy(file->seal.nonce, head.nonce, JOURNAL_NONCE);
    return true;
}

/* --- mending --- */

/* Makes FILE.damaged-TIME, with a number behind it if that is taken; -1 with errno. */
static int create_aside(const struct journal_file *file, struct buffer *path)
{
    time_t second = (time_t)(clock_wall_ms() / 1000);
    struct tm tm = {0};
    char stamp[32];
    int fd = -1;
    gmtime_r(&second, &tm);
    strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm);
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
    char *chunk = xmalloc(WINDOW);
    ssize_t count;
    bool copied = true;
    while (copied && (count = owned_file_read(from, chunk, WINDOW, offset)) != 0) {
        for (ssize_t done = 0, wrote; copied && done < count; done += wrote) {
            wrote = write(to, chunk + done, (size_t)(count - done));
            copied = wrote > 0;
        }
        copied = copied && count > 0;
        offset += count;
    }
    int saved = errno;
    free(chunk);
    errno = saved;
    return copied && fsync(to) == 0;
}

static bool keep_aside(const struct journal_file *file, struct journal_file_scan *scan)
{
    int fd = create_aside(file, &scan->aside);
    if (fd < 0)
        return false;
    bool kept = copy_rest(file->fd, scan->end, fd);
    int saved = errno;
    close(fd);
    if (!kept)
        unlink(scan->aside.data);
    errno = saved;
    return kept;
}

/* Cuts off what is behind the records that check. */
static bool mend(struct journal_file *file, struct journal_file_scan *scan, struct buffer *error)
{
    if (scan->damaged > 0 && !keep_aside(file, scan))
        return explain_errno(error, file, "is damaged, and the damaged part cannot be kept aside");
    if (scan->end < file->size &&
        (ftruncate(file->fd, (off_t)scan->end) != 0 || !journal_file_sync(file)))
        return explain_errno(error, file, "cannot be mended");
    file->size = scan->end;
    return true;
}

/* --- open --- */

/* An empty file is one that somebody made, since this code never leaves one. */
static bool start_new(struct journal_file *file, struct journal_file_scan *scan,
                      struct buffer *error)
{
    struct journal_file fresh;
    *scan = (struct journal_file_scan){.next_number = 1, .end = JOURNAL_HEAD};
    if (journal_file_begin(file, 1, &fresh) && journal_file_commit(file, &fresh) &&
        journal_file_sync_name(file))
        return true;
    return explain_errno(error, file, "cannot be written");
}

bool journal_file_open(struct journal_file *file,
                       void (*visit)(void *, const struct journal_record *), void *user,
                       struct journal_file_scan *scan, struct buffer *error)
{
    *scan = (struct journal_file_scan){0};
    file->fd = owned_file_open(name_of(file), &file->size, error);
    if (file->fd < 0)
        return file->size < 0 && start_new(file, scan, error);
    if (file->size == 0) {
        log_warning("journal_empty", "file=%s", file->path);
        return start_new(file, scan, error);
    }
    if (!read_head(file, &scan->next_number, error))
        return false;
    if (!read_records(file, visit, user, scan))
        return explain_errno(error, file, "cannot be read");
    return mend(file, scan, error);
}
