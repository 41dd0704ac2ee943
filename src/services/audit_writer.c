/* The audit thread's pen: numbers the lines of the backlog, writes a chunk with one write, syncs it
 * once if tickets are in it.
 *
 * When a write or sync fails the file is closed and not synced again, since the kernel may have
 * dropped the pages. Tickets are answered false at once, then and until the file works again;
 * lines without tickets stay in the backlog. After a pause the file is opened anew, and a line
 * "recovered" is written and synced first: only that proves that the file takes lines again. A file
 * whose sync had failed is then rotated, so that nothing stands behind what it may lack. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "audit_private.h"
#include "clock.h"
#include "log.h"
#include "memory.h"
#include "metrics.h"

static const int64_t retry_ns = 250 * 1000000LL;
static const int64_t rename_retry_ns = 60 * 1000000000LL;
static const int64_t expire_every_ms = 3600 * 1000;

enum { CHUNK_BYTES = 262144 };

/* --- the backlog --- */

void audit_add_notice(struct audit *audit, const struct audit_notice *notice)
{
    struct buffer line = {0};
    audit_format_notice(&line, notice);
    audit_append_frame(&audit->backlog, (struct frame){0}, buffer_text(&line));
    atomic_fetch_add(&audit->queued, sizeof(struct frame) + line.length);
    buffer_free(&line);
}

static void decide(struct frame frame, bool written)
{
    frame.ticket->written = written;
    audit_ticket_append(&frame.producer->settling, frame.ticket);
}

/* Answers false to every ticket of the backlog and takes its line out; drops the first `complete`
 * lines too, which are in the file; keeps the others in their order. */
static void refuse_tickets(struct audit *audit, size_t complete)
{
    struct buffer *backlog = &audit->backlog;
    size_t kept = 0;
    size_t index = 0;
    for (size_t at = audit->backlog_start; at < backlog->length; index++) {
        struct frame frame = audit_frame_at(backlog, at);
        size_t size = sizeof(frame) + frame.length;
        if (!frame.ticket && index >= complete) {
            if (kept != at)
                memmove(backlog->data + kept, backlog->data + at, size);
            kept += size;
        } else {
            atomic_fetch_sub(&audit->queued, size);
        }
        if (frame.ticket) {
            decide(frame, false);
            audit->refused++;
        }
        at += size;
    }
    backlog->length = kept;
    audit->backlog_start = 0;
}

/* --- failure and recovery --- */

static void fail(struct audit *audit, const char *operation, int error)
{
    audit_file_close(&audit->file);
    audit->retry_at_ns = audit_now_ns() + retry_ns;
    metrics_add(METRIC_AUDIT_ERRORS, 1);
    if (atomic_exchange(&audit->healthy, false)) {
        log_error("audit_failed", "file=%s operation=%s error=%s", audit->file.path, operation,
                  strerrorname_np(error));
    }
}

static bool sync_file(struct audit *audit)
{
    int64_t begun = audit_now_ns();
    bool synced = audit_file_sync(&audit->file);
    int error = errno;
    metrics_add(METRIC_AUDIT_SYNCS, 1);
    metrics_observe(METRIC_AUDIT_SYNC_DURATION, audit_now_ns() - begun);
    errno = error;
    return synced;
}

static void count_written(size_t lines, size_t bytes)
{
    metrics_add(METRIC_AUDIT_LINES, lines);
    metrics_add(METRIC_AUDIT_BYTES, bytes);
}

/* Ends the torn piece and says how long it is, and how many durable lines were refused. */
static void print_recovered(const struct audit *audit, struct buffer *out)
{
    const struct audit_number numbers[] = {{"sessiond.torn_bytes", audit->file.torn},
                                           {"sessiond.lines_refused", audit->refused}};
    if (audit->file.torn > 0)
        buffer_add_char(out, '\n');
    audit_format_notice(out, &(struct audit_notice){.event = AUDIT_RECOVERED,
                                                    .wall_ms = clock_wall_ms(),
                                                    .numbers = numbers,
                                                    .number_count = 2});
    audit_format_tail(out, &audit->tail_prefix, audit->next_sequence);
}

/* Writes and syncs the line that proves that the file takes lines. False with errno. */
static bool write_recovered(struct audit *audit)
{
    struct buffer out = {0};
    print_recovered(audit, &out);
    size_t length = out.length;
    bool written = audit_file_append(&audit->file, buffer_text(&out), clock_wall_ms()) == length;
    int error = errno;
    buffer_free(&out);
    errno = error;
    if (!written)
        return false;
    audit->next_sequence++; /* even if the sync fails: the number is in the file */
    if (!sync_file(audit))
        return false;
    audit->refused = 0;
    audit->file.torn = 0;
    count_written(1, length);
    return true;
}

static void try_recovery(struct audit *audit)
{
    if (!audit_file_open(&audit->file)) {
        fail(audit, "open", errno);
        return;
    }
    if (!write_recovered(audit)) {
        fail(audit, "write", errno);
        return;
    }
    atomic_store(&audit->healthy, true);
    log_info("audit_recovered", "file=%s", audit->file.path);
}

bool audit_writer_prepare(struct audit *audit)
{
    if (!audit_file_open(&audit->file))
        return false;
    audit->next_sequence = audit_file_last_sequence(&audit->file) + 1;
    if (audit->file.torn == 0)
        return true;
    log_warning("audit_torn_line", "file=%s bytes=%lld", audit->file.path,
                (long long)audit->file.torn);
    return write_recovered(audit);
}

/* --- chunks --- */

static void chunk_add_end(struct chunk *chunk)
{
    if (chunk->lines == chunk->capacity) {
        chunk->capacity = chunk->capacity ? 2 * chunk->capacity : 256;
        chunk->ends = xrealloc(chunk->ends, chunk->capacity * sizeof(*chunk->ends));
    }
    chunk->ends[chunk->lines++] = chunk->out.length;
}

/* Numbers the next lines of the backlog and puts them side by side. */
static void assemble(struct audit *audit)
{
    struct chunk *chunk = &audit->chunk;
    chunk->out.length = 0;
    chunk->lines = 0;
    chunk->tickets = 0;
    size_t at = audit->backlog_start;
    while (at < audit->backlog.length && chunk->out.length < CHUNK_BYTES) {
        struct frame frame = audit_frame_at(&audit->backlog, at);
        buffer_add(&chunk->out, audit->backlog.data + at + sizeof(frame), frame.length);
        audit_format_tail(&chunk->out, &audit->tail_prefix,
                          audit->next_sequence + (int64_t)chunk->lines);
        chunk_add_end(chunk);
        chunk->tickets += frame.ticket != NULL;
        at += sizeof(frame) + frame.length;
    }
    chunk->backlog_end = at;
}

static void settle_written(struct audit *audit)
{
    for (size_t at = audit->backlog_start; at < audit->chunk.backlog_end;) {
        struct frame frame = audit_frame_at(&audit->backlog, at);
        if (frame.ticket)
            decide(frame, true);
        at += sizeof(frame) + frame.length;
    }
    atomic_fetch_sub(&audit->queued, audit->chunk.backlog_end - audit->backlog_start);
    audit->backlog_start = audit->chunk.backlog_end;
    audit->next_sequence += (int64_t)audit->chunk.lines;
    count_written(audit->chunk.lines, audit->chunk.out.length);
}

/* After a short write the lines that fit are in the file and their numbers are used. */
static void settle_short_write(struct audit *audit, size_t written)
{
    size_t complete = 0;
    while (complete < audit->chunk.lines && audit->chunk.ends[complete] <= written)
        complete++;
    audit->next_sequence += (int64_t)complete;
    count_written(complete, complete > 0 ? audit->chunk.ends[complete - 1] : 0);
    refuse_tickets(audit, complete);
}

/* After a failed sync nobody knows which lines the disk has: those without tickets are written
 * again under new numbers. */
static void settle_failed_sync(struct audit *audit)
{
    audit->next_sequence += (int64_t)audit->chunk.lines;
    refuse_tickets(audit, 0);
}

static bool write_chunk(struct audit *audit)
{
    struct chunk *chunk = &audit->chunk;
    size_t written = audit_file_append(&audit->file, buffer_text(&chunk->out), clock_wall_ms());
    if (written < chunk->out.length) {
        fail(audit, "write", errno);
        settle_short_write(audit, written);
        return false;
    }
    if (chunk->tickets > 0 && !sync_file(audit)) {
        fail(audit, "sync", errno);
        settle_failed_sync(audit);
        return false;
    }
    settle_written(audit);
    return true;
}

/* --- rotation and retention --- */

static void tell_deleted(void *user, const char *path, int error)
{
    struct audit *audit = user;
    const struct audit_number number = {"sessiond.errno", error};
    if (error != 0)
        log_error("audit_delete_failed", "file=%s error=%s", path, strerrorname_np(error));
    audit_add_notice(audit, &(struct audit_notice){.event = AUDIT_FILE_DELETED,
                                                   .wall_ms = clock_wall_ms(),
                                                   .failed = error != 0,
                                                   .file = text_of(path),
                                                   .numbers = &number,
                                                   .number_count = error != 0});
}

static void expire(struct audit *audit)
{
    int64_t now = clock_wall_ms();
    audit->expire_at_ms = now + expire_every_ms;
    audit_file_expire(&audit->file, now - atomic_load(&audit->retention_ms), tell_deleted, audit);
}

/* A clock that was set back must not put the next look off for ever. */
static void expire_if_due(struct audit *audit)
{
    int64_t now = clock_wall_ms();
    if (now >= audit->expire_at_ms || now < audit->expire_at_ms - expire_every_ms)
        expire(audit);
}

/* A file that cannot be renamed goes on being written: too large is better than lost. */
static void rotate_if_due(struct audit *audit)
{
    int64_t now = clock_wall_ms();
    if (!audit_file_is_due(&audit->file, atomic_load(&audit->max_bytes), now) ||
        audit_now_ns() < audit->rotate_at_ns)
        return;
    if (audit_file_rotate(&audit->file, audit->next_sequence - 1, now)) {
        expire(audit);
    } else if (audit->file.fd < 0) {
        fail(audit, "rotate", errno);
    } else {
        log_error("audit_rotate_failed", "file=%s error=%s", audit->file.path,
                  strerrorname_np(errno));
        audit->rotate_at_ns = audit_now_ns() + rename_retry_ns;
    }
}

static void reopen(struct audit *audit)
{
    if (audit->file.unsynced && !sync_file(audit)) {
        fail(audit, "sync", errno);
        return;
    }
    audit_file_close(&audit->file);
    if (!audit_file_open(&audit->file))
        fail(audit, "open", errno);
    else if (audit->file.torn > 0 && !write_recovered(audit))
        fail(audit, "write", errno);
    else
        log_info("audit_reopened", "file=%s", audit->file.path);
}

/* --- the turn --- */

static void write_backlog(struct audit *audit)
{
    while (atomic_load(&audit->healthy) && audit->backlog_start < audit->backlog.length) {
        rotate_if_due(audit);
        if (audit->file.fd < 0)
            break;
        assemble(audit);
        if (!write_chunk(audit))
            break;
    }
    if (!atomic_load(&audit->healthy)) {
        refuse_tickets(audit, 0);
    } else {
        audit->backlog.length = 0;
        audit->backlog_start = 0;
    }
    if (audit->backlog.length == 0 && audit->backlog.capacity > AUDIT_BUFFER_KEPT)
        buffer_free(&audit->backlog);
}

void audit_writer_turn(struct audit *audit)
{
    bool asked = atomic_exchange(&audit->reopen, false);
    if (!atomic_load(&audit->healthy)) {
        if (asked || atomic_load(&audit->stopping) || audit_now_ns() >= audit->retry_at_ns)
            try_recovery(audit);
    } else if (asked) {
        reopen(audit);
    }
    if (atomic_load(&audit->healthy))
        expire_if_due(audit);
    write_backlog(audit);
}

void audit_writer_finish(struct audit *audit)
{
    if (audit->file.fd >= 0 && audit->file.unsynced && !sync_file(audit))
        fail(audit, "sync", errno);
    audit_file_close(&audit->file);
    if (audit->backlog.length > 0)
        log_error("audit_lines_lost", "file=%s bytes=%zu", audit->file.path, audit->backlog.length);
}
