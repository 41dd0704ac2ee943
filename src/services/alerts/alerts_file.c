/* The queue on disk. */
#include "alerts_file.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "crypto.h"

enum {
    SUM = 16,         /* digits of a checksum */
    LINE_MAX = 65536, /* far more than the longest alert */
    WASTE_MIN = 65536 /* fewer delivered bytes are not worth rewriting */
};

#define HEAD      "sessiond-alerts 1 next "
#define ALERT     "alert "
#define DELIVERED "delivered "

void alerts_file_init(struct alerts_file *file, const char *path)
{
    *file = (struct alerts_file){.next_number = 1};
    record_file_init(&file->records, path);
}

void alerts_file_fini(struct alerts_file *file)
{
    record_file_fini(&file->records);
}

/* --- lines --- */

static void line_checksum(struct text rest, char out[SUM])
{
    uint8_t digest[32];
    crypto_digest(digest, rest);
    text_to_hex(out, digest, SUM / 2);
}

/* Begins a line in `out`; content and end_checked_line() follow. */
static size_t begin_checked_line(struct buffer *out)
{
    size_t at = out->length;
    memset(buffer_reserve(out, SUM + 1), ' ', SUM + 1);
    out->length += SUM + 1;
    return at;
}

static void end_checked_line(struct buffer *out, size_t at)
{
    size_t rest = at + SUM + 1;
    line_checksum((struct text){out->data + rest, out->length - rest}, out->data + at);
    buffer_add_char(out, '\n');
}

static void add_numbered(struct buffer *out, struct text word, uint64_t number)
{
    size_t at = begin_checked_line(out);
    buffer_add_text(out, word);
    buffer_add_int(out, (int64_t)number);
    end_checked_line(out, at);
}

enum line_kind { LINE_HEAD, LINE_ALERT, LINE_DELIVERED, LINE_BAD };

struct line {
    enum line_kind kind;
    size_t length; /* with its newline */
    uint64_t number;
    struct text id, json;
};

static bool skip_keyword(struct text *rest, struct text word)
{
    if (rest->length < word.length || memcmp(rest->data, word.data, word.length) != 0)
        return false;
    *rest = (struct text){rest->data + word.length, rest->length - word.length};
    return true;
}

/* Takes the text up to the next blank, which is skipped, or to the end. */
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

static enum line_kind read_line_content(struct text rest, struct line *line)
{
    if (skip_keyword(&rest, TEXT(ALERT))) {
        if (!take_number(&rest, &line->number))
            return LINE_BAD;
        line->id = take_field(&rest);
        line->json = rest;
        return line->id.length > 0 && rest.length > 0 ? LINE_ALERT : LINE_BAD;
    }
    if (skip_keyword(&rest, TEXT(DELIVERED)))
        return take_number(&rest, &line->number) ? LINE_DELIVERED : LINE_BAD;
    if (skip_keyword(&rest, TEXT(HEAD)))
        return take_number(&rest, &line->number) ? LINE_HEAD : LINE_BAD;
    return LINE_BAD;
}

/* Reads the first line of `bytes`. A line that is too long is bad; all bytes belong to it. */
static enum record_reading read_queue_line(struct text bytes, struct line *line)
{
    const char *end = memchr(bytes.data, '\n', bytes.length);
    if (!end && bytes.length < LINE_MAX)
        return RECORD_TORN;
    *line = (struct line){.kind = LINE_BAD,
                          .length = end ? (size_t)(end - bytes.data) + 1 : bytes.length};
    if (end && line->length > SUM + 2) {
        char expected[SUM];
        struct text rest = {bytes.data + SUM + 1, line->length - SUM - 2};
        line_checksum(rest, expected);
        if (memcmp(expected, bytes.data, SUM) == 0 && bytes.data[SUM] == ' ')
            line->kind = read_line_content(rest, line);
    }
    return line->kind == LINE_BAD ? RECORD_SKIPPED : RECORD_GOOD;
}

/* Reads the lines from `from` on; false if reading fails. */
static bool scan(const struct alerts_file *file, int64_t from,
                 enum record_reading (*take)(void *, int64_t, struct text, size_t *), void *user,
                 struct record_scan *ret)
{
    const struct record_reader reader = {LINE_MAX, take, user};
    return record_file_scan(&file->records, from, &reader, ret);
}

/* --- rewriting --- */

/* Copies an alert; lines that fail their check are left out. */
static enum record_reading copy_alert(void *user, int64_t position, struct text bytes,
                                      size_t *length)
{
    struct record_file *fresh = user;
    struct line line;
    enum record_reading reading = read_queue_line(bytes, &line);
    (void)position;
    if (reading == RECORD_TORN)
        return reading;
    *length = line.length;
    if (line.kind == LINE_ALERT)
        buffer_add(&fresh->out, bytes.data, line.length);
    return record_file_spill(fresh) ? reading : RECORD_BAD;
}

/* Copies the undelivered alerts. */
static bool copy_queued(const struct alerts_file *file, struct record_file *fresh)
{
    struct record_scan found = {0};
    if (file->records.fd < 0)
        return true;
    return scan(file, file->first, copy_alert, fresh, &found) && found.damaged == 0;
}

/* False with errno; the old file is then unchanged, unless only its name may not be durable. */
static bool rewrite_queue(struct alerts_file *file)
{
    struct record_file fresh;
    if (!record_file_begin(&file->records, &fresh))
        return false;
    add_numbered(&fresh.out, TEXT(HEAD), file->next_number);
    int64_t head = (int64_t)fresh.out.length;
    if (!copy_queued(file, &fresh)) {
        record_file_abandon(&fresh);
        return false;
    }
    if (!record_file_commit(&file->records, &fresh))
        return false;
    file->first = head;
    file->synced = file->records.size;
    file->unsynced = 0;
    file->broken = !record_file_sync_name(&file->records);
    return !file->broken;
}

/* --- start --- */

/* Position of an alert. */
struct alert_position {
    uint64_t number;
    int64_t at;
};

/* Findings of one pass over all lines. */
struct survey {
    uint64_t delivered, next_number;
    struct buffer alerts; /* their positions */
    bool headed;
};

static enum record_reading survey_line(void *user, int64_t position, struct text bytes,
                                       size_t *length)
{
    struct survey *survey = user;
    struct line line;
    enum record_reading reading = read_queue_line(bytes, &line);
    if (reading == RECORD_TORN)
        return reading;
    *length = line.length;
    if (line.kind == LINE_HEAD && line.number > survey->next_number)
        survey->next_number = line.number;
    survey->headed = survey->headed || (line.kind == LINE_HEAD && position == 0);
    if (line.kind == LINE_DELIVERED && line.number > survey->delivered)
        survey->delivered = line.number;
    if (line.kind == LINE_ALERT) {
        const struct alert_position alert_position = {line.number, position};
        buffer_add(&survey->alerts, &alert_position, sizeof(alert_position));
        if (line.number >= survey->next_number)
            survey->next_number = line.number + 1;
    }
    return reading;
}

/* Marks follow the alerts that they cover, so only now is it known which alerts still wait. */
static void note_queued(struct alerts_file *file, const struct survey *survey, int64_t end)
{
    const struct alert_position *positions =
        (const struct alert_position *)(const void *)survey->alerts.data;
    size_t count = survey->alerts.length / sizeof(*positions);
    file->first = end;
    for (size_t i = 0; i < count; i++)
        if (positions[i].number > survey->delivered && file->queued++ == 0)
            file->first = positions[i].at;
    file->next_number =
        survey->next_number > survey->delivered ? survey->next_number : survey->delivered + 1;
}

static bool read_present(struct alerts_file *file, struct survey *survey,
                         struct alerts_file_findings *findings, struct buffer *error)
{
    const struct owned_file_name name = {"alerts", file->records.path};
    struct record_scan found;
    if (!scan(file, 0, survey_line, survey, &found))
        return owned_file_explain_errno(error, name, "cannot be read");
    note_queued(file, survey, found.end);
    /* A foreign file must not be taken for a damaged one. */
    if (!survey->headed && file->queued == 0 && survey->delivered == 0)
        return owned_file_explain(error, name,
                                  "is not a queue of alerts, or its head is damaged; move it away");
    findings->torn = found.torn;
    findings->damaged = found.skipped;
    if (!record_file_mend(&file->records, name.kind, &found, NULL, error))
        return false;
    file->synced = file->records.size;
    return findings->damaged == 0 || rewrite_queue(file) ||
           owned_file_explain_errno(error, name, "cannot be mended");
}

static bool read_and_mend(struct alerts_file *file, struct alerts_file_findings *findings,
                          struct buffer *error)
{
    struct survey survey = {.next_number = 1};
    bool opened = read_present(file, &survey, findings, error);
    buffer_free(&survey.alerts);
    return opened;
}

bool alerts_file_open(struct alerts_file *file, struct alerts_file_findings *findings,
                      struct buffer *error)
{
    const struct owned_file_name name = {"alerts", file->records.path};
    int64_t size = 0;
    *findings = (struct alerts_file_findings){0};
    file->records.fd = owned_file_open(name, &size, error);
    if (file->records.fd < 0 && size == 0)
        return false;
    file->records.size = size > 0 ? size : 0;
    if (size > 0)
        return read_and_mend(file, findings, error);
    return rewrite_queue(file) || owned_file_explain_errno(error, name, "cannot be written");
}

/* --- queueing --- */

/* A partial line would spoil the next one, so it is cut off. */
static bool append_lines(struct alerts_file *file)
{
    int64_t before = file->records.size;
    assert(file->records.fd >= 0 && file->first <= before);
    if (record_file_write(&file->records))
        return true;
    int saved = errno;
    if (file->records.size > before && ftruncate(file->records.fd, (off_t)before) != 0)
        file->broken = true;
    file->records.size = before;
    errno = saved;
    return false;
}

/* Only if it is worth it: a full queue is not rewritten for each alert that leaves it. */
static bool reclaim_delivered(struct alerts_file *file, int64_t more, int64_t max_bytes)
{
    if (file->broken && !rewrite_queue(file))
        return false;
    if (file->records.size + more > max_bytes && file->first > max_bytes / 8)
        return rewrite_queue(file);
    return true;
}

enum alerts_added alerts_file_add(struct alerts_file *file, struct text id, struct text json,
                                  int64_t max_bytes)
{
    assert(id.length + json.length < LINE_MAX - 256);
    int64_t more = (int64_t)(SUM + sizeof(ALERT) + 24 + id.length + json.length);
    assert(file->records.out.length == 0);
    if (!reclaim_delivered(file, more, max_bytes))
        return ALERTS_FAILED;
    if (file->records.size + more > max_bytes)
        return ALERTS_FULL;
    struct buffer *line = &file->records.out;
    size_t at = begin_checked_line(line);
    buffer_add_literal(line, ALERT);
    buffer_add_int(line, (int64_t)file->next_number);
    buffer_add_char(line, ' ');
    buffer_add_text(line, id);
    buffer_add_char(line, ' ');
    buffer_add_text(line, json);
    end_checked_line(line, at);
    if (!append_lines(file))
        return ALERTS_FAILED;
    file->next_number++;
    file->queued++;
    file->unsynced++;
    return ALERTS_ADDED;
}

/* Unsynced bytes may still be read from the page cache, but be gone tomorrow. */
static void forget_unsynced(struct alerts_file *file)
{
    file->records.size = file->synced;
    file->queued -= file->unsynced;
    file->unsynced = 0;
    if (file->first > file->records.size)
        file->first = file->records.size;
    file->broken = true;
}

bool alerts_file_sync(struct alerts_file *file)
{
    if (!record_file_sync(&file->records)) {
        forget_unsynced(file);
        return false;
    }
    assert(file->synced <= file->records.size);
    file->synced = file->records.size;
    file->unsynced = 0;
    return true;
}

static enum record_reading take_alert(void *user, int64_t position, struct text bytes,
                                      size_t *length)
{
    struct queued_alert *alert = user;
    struct line line;
    enum record_reading reading = read_queue_line(bytes, &line);
    (void)position;
    if (reading == RECORD_TORN)
        return reading;
    *length = line.length;
    if (line.kind != LINE_ALERT)
        return reading;
    alert->number = line.number;
    alert->length = line.length;
    buffer_add_text(&alert->id, line.id);
    buffer_add_text(&alert->json, line.json);
    return RECORD_LAST;
}

bool alerts_file_first(struct alerts_file *file, struct queued_alert *ret)
{
    struct record_scan found;
    ret->length = ret->id.length = ret->json.length = 0;
    if (file->queued == 0)
        return false;
    scan(file, file->first, take_alert, ret, &found);
    if (ret->length == 0) {
        file->queued = 0; /* the file was cut: nothing can be read any more */
        file->broken = true;
        return false;
    }
    file->first = found.end - (int64_t)ret->length;
    return true;
}

/* Drops delivered alerts when they are most of the file. */
static void forget(struct alerts_file *file)
{
    if (file->first > WASTE_MIN && file->first > file->records.size / 2)
        rewrite_queue(file);
}

bool alerts_file_delivered(struct alerts_file *file, const struct queued_alert *alert)
{
    assert(file->queued > 0);
    file->first += (int64_t)alert->length;
    file->queued--;
    if (file->broken)
        return rewrite_queue(file);
    add_numbered(&file->records.out, TEXT(DELIVERED), alert->number);
    if (!append_lines(file))
        return false;
    if (file->queued == 0)
        file->first = file->records.size;
    forget(file);
    return true;
}
