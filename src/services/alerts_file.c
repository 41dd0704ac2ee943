/* The queue on disk. */
#include "alerts_file.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "crypto.h"
#include "directory.h"
#include "memory.h"
#include "owned_file.h"

enum {
    SUM = 16,          /* digits of a checksum */
    LINE_MAX = 65536,  /* far more than the longest alert */
    WASTE_MIN = 65536, /* so many delivered bytes are not worth the rewriting */
    CHUNK = 262144
};

#define HEAD      "sessiond-alerts 1 next "
#define ALERT     "alert "
#define DELIVERED "delivered "

static const char fresh_suffix[] = ".new";

void alerts_file_init(struct alerts_file *file, const char *path)
{
    *file = (struct alerts_file){.path = xstrdup(path), .fd = -1, .next_number = 1};
}

void alerts_file_fini(struct alerts_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    free(file->path);
    buffer_free(&file->line);
    *file = (struct alerts_file){.fd = -1};
}

/* --- lines --- */

static void sum(struct text rest, char out[SUM])
{
    uint8_t digest[32];
    crypto_digest(digest, rest);
    text_to_hex(out, digest, SUM / 2);
}

/* Begins a line in `out`; its content follows, then end_line(). */
static size_t begin_line(struct buffer *out)
{
    size_t at = out->length;
    memset(buffer_reserve(out, SUM + 1), ' ', SUM + 1);
    out->length += SUM + 1;
    return at;
}

static void end_line(struct buffer *out, size_t at)
{
    size_t rest = at + SUM + 1;
    sum((struct text){out->data + rest, out->length - rest}, out->data + at);
    buffer_add_char(out, '\n');
}

static void add_numbered(struct buffer *out, struct text word, uint64_t number)
{
    size_t at = begin_line(out);
    buffer_add_text(out, word);
    buffer_add_int(out, (int64_t)number);
    end_line(out, at);
}

enum line_kind { LINE_HEAD, LINE_ALERT, LINE_DELIVERED, LINE_BAD, LINE_TORN };

struct line {
    enum line_kind kind;
    size_t length; /* with its newline */
    uint64_t number;
    struct text id, json;
};

static bool take_word(struct text *rest, struct text word)
{
    if (rest->length < word.length || memcmp(rest->data, word.data, word.length) != 0)
        return false;
    *rest = (struct text){rest->data + word.length, rest->length - word.length};
    return true;
}

/* Up to the next blank, which is taken too, or to the end. */
static struct text take_field(struct text *rest)
{
    const char *blank = memchr(rest->data, ' ', rest->length);
    size_t length = blank ? (size_t)(blank - rest->data) : rest->length;
    struct text field = {rest->data, length};
    size_t taken = blank ? length + 1 : length;
    *rest = (struct text){rest->data + taken, rest->length - taken};
    return field;
}

static bool take_number(struct text *rest, uint64_t *ret)
{
    int64_t number;
    if (!text_to_int(take_field(rest), 0, INT64_MAX, &number))
        return false;
    *ret = (uint64_t)number;
    return true;
}

static enum line_kind read_content(struct text rest, struct line *line)
{
    if (take_word(&rest, TEXT(ALERT))) {
        if (!take_number(&rest, &line->number))
            return LINE_BAD;
        line->id = take_field(&rest);
        line->json = rest;
        return line->id.length > 0 && rest.length > 0 ? LINE_ALERT : LINE_BAD;
    }
    if (take_word(&rest, TEXT(DELIVERED)))
        return take_number(&rest, &line->number) ? LINE_DELIVERED : LINE_BAD;
    if (take_word(&rest, TEXT(HEAD)))
        return take_number(&rest, &line->number) ? LINE_HEAD : LINE_BAD;
    return LINE_BAD;
}

/* Reads the first line of `bytes`, which are not empty. */
static struct line read_line(struct text bytes)
{
    struct line line = {.kind = LINE_TORN, .length = bytes.length};
    const char *end = memchr(bytes.data, '\n', bytes.length);
    if (!end)
        return line;
    line.kind = LINE_BAD;
    line.length = (size_t)(end - bytes.data) + 1;
    if (line.length <= SUM + 2)
        return line;
    char expected[SUM];
    struct text rest = {bytes.data + SUM + 1, line.length - SUM - 2};
    sum(rest, expected);
    if (memcmp(expected, bytes.data, SUM) == 0 && bytes.data[SUM] == ' ')
        line.kind = read_content(rest, &line);
    return line;
}

/* --- writing anew --- */

/* Takes the alerts among the whole lines of `bytes`; returns the length of these lines. */
static size_t take_alerts(struct text bytes, struct buffer *out)
{
    size_t at = 0;
    while (at < bytes.length) {
        struct line line = read_line((struct text){bytes.data + at, bytes.length - at});
        if (line.kind == LINE_TORN)
            break;
        if (line.kind == LINE_ALERT)
            buffer_add(out, bytes.data + at, line.length);
        at += line.length;
    }
    return at;
}

/* Keeps the alerts that are not delivered; lines that do not check are left out. */
static bool copy_queued(const struct alerts_file *file, int to, int64_t *size)
{
    char *in = xmalloc(CHUNK);
    struct buffer out = {0};
    int64_t at = file->first;
    bool copied = true;
    while (copied && at < file->size) {
        size_t most = file->size - at < CHUNK ? (size_t)(file->size - at) : CHUNK;
        ssize_t count = owned_file_read(file->fd, in, most, at);
        size_t taken = count > 0 ? take_alerts((struct text){in, (size_t)count}, &out) : 0;
        size_t done = 0;
        copied = count >= 0 && owned_file_write(to, buffer_text(&out), &done);
        *size += (int64_t)done;
        out.length = 0;
        if (taken == 0)
            break; /* the end, or what has no end */
        at += (int64_t)taken;
    }
    int saved = errno;
    buffer_free(&out);
    free(in);
    errno = saved;
    return copied;
}

static bool write_fresh(struct alerts_file *file, int to, const char *path, int64_t *head,
                        int64_t *size)
{
    size_t done = 0;
    file->line.length = 0;
    add_numbered(&file->line, TEXT(HEAD), file->next_number);
    *head = *size = (int64_t)file->line.length;
    return owned_file_write(to, buffer_text(&file->line), &done) &&
           (file->fd < 0 || copy_queued(file, to, size)) && fdatasync(to) == 0 &&
           rename(path, file->path) == 0;
}

/* False with errno; the old file is then as it was. */
static bool write_anew(struct alerts_file *file)
{
    struct buffer path = {0};
    int64_t head = 0, size = 0;
    buffer_addf(&path, "%s%s%c", file->path, fresh_suffix, '\0');
    int fd = owned_file_create(path.data);
    bool written = fd >= 0 && write_fresh(file, fd, path.data, &head, &size);
    int saved = errno;
    if (written) {
        if (file->fd >= 0)
            close(file->fd);
        file->fd = fd;
        file->first = head;
        file->size = file->synced = size;
        file->unsynced = 0;
        written = directory_sync_of(file->path);
        saved = errno;
        file->broken = !written;
    } else if (fd >= 0) {
        unlink(path.data);
        close(fd);
    }
    buffer_free(&path);
    errno = saved;
    return written;
}

/* --- start --- */

/* What one look at all lines tells. */
struct survey {
    uint64_t delivered, next_number;
    int64_t first, queued, end, damaged;
    bool headed;
};

static void survey_alert(struct survey *survey, const struct line *line, int64_t at)
{
    if (line->number >= survey->next_number)
        survey->next_number = line->number + 1;
    if (line->number <= survey->delivered)
        return;
    if (survey->queued++ == 0)
        survey->first = at;
}

/* Marks stand behind what they cover: one pass for them, one for the alerts. */
static void survey_lines(struct text bytes, struct survey *survey, bool marks)
{
    int64_t at = 0;
    while (at < (int64_t)bytes.length) {
        struct text rest = {bytes.data + at, bytes.length - (size_t)at};
        struct line line = read_line(rest);
        if (line.kind == LINE_TORN)
            break;
        if (marks && line.kind == LINE_BAD)
            survey->damaged++;
        if (marks && line.kind == LINE_DELIVERED && line.number > survey->delivered)
            survey->delivered = line.number;
        if (line.kind == LINE_HEAD && line.number > survey->next_number)
            survey->next_number = line.number;
        survey->headed = survey->headed || (line.kind == LINE_HEAD && at == 0);
        if (!marks && line.kind == LINE_ALERT)
            survey_alert(survey, &line, at);
        at += (int64_t)line.length;
    }
    survey->end = at;
}

static bool survey_file(const struct alerts_file *file, struct survey *survey)
{
    *survey = (struct survey){.next_number = 1};
    void *map = mmap(NULL, (size_t)file->size, PROT_READ, MAP_PRIVATE, file->fd, 0);
    if (map == MAP_FAILED)
        return false;
    struct text bytes = {map, (size_t)file->size};
    survey_lines(bytes, survey, true);
    survey_lines(bytes, survey, false);
    munmap(map, (size_t)file->size);
    if (survey->next_number <= survey->delivered)
        survey->next_number = survey->delivered + 1;
    if (survey->queued == 0)
        survey->first = survey->end;
    return true;
}

static bool mend(struct alerts_file *file, const struct alerts_file_findings *findings)
{
    if (findings->torn > 0 && ftruncate(file->fd, (off_t)file->size) != 0)
        return false;
    return findings->damaged == 0 || write_anew(file);
}

static bool open_present(struct alerts_file *file, struct alerts_file_findings *findings,
                         struct buffer *error)
{
    const struct owned_file_name name = {"alerts", file->path};
    struct survey survey;
    if (!survey_file(file, &survey))
        return owned_file_explain_errno(error, name, "cannot be read");
    /* A file of others must not be taken for damage. */
    if (!survey.headed && survey.queued == 0 && survey.delivered == 0)
        return owned_file_explain(error, name,
                                  "is not a queue of alerts, or its head is damaged; move it away");
    findings->torn = file->size - survey.end;
    findings->damaged = survey.damaged;
    file->size = file->synced = survey.end;
    file->first = survey.first;
    file->queued = survey.queued;
    file->next_number = survey.next_number;
    return mend(file, findings) || owned_file_explain_errno(error, name, "cannot be mended");
}

bool alerts_file_open(struct alerts_file *file, struct alerts_file_findings *findings,
                      struct buffer *error)
{
    const struct owned_file_name name = {"alerts", file->path};
    int64_t size = 0;
    *findings = (struct alerts_file_findings){0};
    file->fd = owned_file_open(name, &size, error);
    if (file->fd < 0 && size == 0)
        return false;
    file->size = size > 0 ? size : 0;
    if (file->size > 0)
        return open_present(file, findings, error);
    return write_anew(file) || owned_file_explain_errno(error, name, "cannot be written");
}

/* --- queueing --- */

/* A piece of a line that is left behind would spoil the next one. */
static bool append(struct alerts_file *file)
{
    size_t done = 0;
    if (owned_file_write(file->fd, buffer_text(&file->line), &done)) {
        file->size += (int64_t)done;
        return true;
    }
    int saved = errno;
    if (done > 0 && ftruncate(file->fd, (off_t)file->size) != 0)
        file->broken = true;
    errno = saved;
    return false;
}

/* Room is made only where it is worth it, so that a full queue is not written anew for each alert
 * that leaves it. */
static bool make_room(struct alerts_file *file, int64_t more, int64_t max_bytes)
{
    if (file->broken && !write_anew(file))
        return false;
    if (file->size + more > max_bytes && file->first > max_bytes / 8)
        return write_anew(file);
    return true;
}

enum alerts_added alerts_file_add(struct alerts_file *file, struct text id, struct text json,
                                  int64_t max_bytes)
{
    assert(id.length + json.length < LINE_MAX - 256);
    int64_t more = (int64_t)(SUM + sizeof(ALERT) + 24 + id.length + json.length);
    if (!make_room(file, more, max_bytes))
        return ALERTS_FAILED;
    if (file->size + more > max_bytes)
        return ALERTS_FULL;
    file->line.length = 0;
    size_t at = begin_line(&file->line);
    buffer_add_literal(&file->line, ALERT);
    buffer_add_int(&file->line, (int64_t)file->next_number);
    buffer_add_char(&file->line, ' ');
    buffer_add_text(&file->line, id);
    buffer_add_char(&file->line, ' ');
    buffer_add_text(&file->line, json);
    end_line(&file->line, at);
    if (!append(file))
        return ALERTS_FAILED;
    file->next_number++;
    file->queued++;
    file->unsynced++;
    return ALERTS_ADDED;
}

/* What could not be brought to disk may be read back from memory today and be gone tomorrow. */
static void forget_unsynced(struct alerts_file *file)
{
    file->size = file->synced;
    file->queued -= file->unsynced;
    file->unsynced = 0;
    if (file->first > file->size)
        file->first = file->size;
    file->broken = true;
}

bool alerts_file_sync(struct alerts_file *file)
{
    if (fdatasync(file->fd) != 0) {
        forget_unsynced(file);
        return false;
    }
    file->synced = file->size;
    file->unsynced = 0;
    return true;
}

bool alerts_file_first(struct alerts_file *file, struct queued_alert *ret)
{
    char *bytes = file->queued > 0 ? xmalloc(LINE_MAX) : NULL;
    bool found = false;
    while (!found && file->queued > 0) {
        ssize_t count = owned_file_read(file->fd, bytes, LINE_MAX, file->first);
        struct line line = {.kind = LINE_TORN};
        if (count > 0)
            line = read_line((struct text){bytes, (size_t)count});
        if (line.kind == LINE_TORN) {
            file->queued = 0; /* the file is shorter than it was: nothing can be read any more */
            file->broken = true;
        }
        found = line.kind == LINE_ALERT;
        if (found) {
            ret->number = line.number;
            ret->length = line.length;
            ret->id.length = ret->json.length = 0;
            buffer_add_text(&ret->id, line.id);
            buffer_add_text(&ret->json, line.json);
        } else {
            file->first += (int64_t)line.length;
        }
    }
    free(bytes);
    return found;
}

/* Delivered alerts are forgotten when they are most of the file. */
static void forget(struct alerts_file *file)
{
    if (file->first > WASTE_MIN && file->first > file->size / 2)
        write_anew(file);
}

bool alerts_file_delivered(struct alerts_file *file, const struct queued_alert *alert)
{
    assert(file->queued > 0);
    file->first += (int64_t)alert->length;
    file->queued--;
    if (file->broken)
        return write_anew(file);
    file->line.length = 0;
    add_numbered(&file->line, TEXT(DELIVERED), alert->number);
    if (!append(file))
        return false;
    if (file->queued == 0)
        file->first = file->size;
    forget(file);
    return true;
}
