/* The audit's writer numbers the lines of the backlog, writes a chunk with one write, and syncs it
 * once if it has tickets.
 *
 * When a write or sync fails the file is closed and not synced again, since the kernel may have
 * dropped the pages. From then on tickets fail at once until the file works again; lines without
 * tickets stay in the backlog. After a pause the file is reopened, and a line "recovered" is
 * written and synced first: only that proves that the file works. A file whose sync had failed is
 * then rotated, so that no line follows a possible gap. */
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
/* How often an idle thread checks the disk: more often while space is low. */
static const int64_t idle_ns = 10 * 1000000000LL;
static const int64_t idle_low_ns = 1000000000;

/* --- failure and recovery --- */

static void note_file_failure(struct audit *audit, const char *operation, int error)
{
    assert(error != 0);
    audit_file_close(&audit->file);
    metrics_add(METRIC_AUDIT_ERRORS, 1);
    if (commit_queue_fail(&audit->queue, retry_ns)) {
        log_error("audit_failed", "file=%s operation=%s error=%s", audit->file.path, operation,
                  strerrorname_np(error));
    }
}

static bool sync_audit_file(struct audit *audit)
{
    int64_t begun = commit_now_ns();
    bool synced = audit_file_sync(&audit->file);
    int error = errno;
    metrics_add(METRIC_AUDIT_SYNCS, 1);
    metrics_observe(METRIC_AUDIT_SYNC_DURATION, commit_now_ns() - begun);
    errno = error;
    return synced;
}

static void count_written(size_t lines, size_t bytes)
{
    metrics_add(METRIC_AUDIT_LINES, lines);
    metrics_add(METRIC_AUDIT_BYTES, bytes);
}

static void end_audit_line(const struct audit *audit, struct buffer *out, int64_t sequence,
                           bool doubted)
{
    if (doubted)
        audit_format_doubt(out);
    audit_format_tail(out, &audit->tail_prefix, sequence);
}

/* Writes a line of the thread's own at once, after the text `before`. False with errno. */
static bool append_notice(struct audit *audit, const struct audit_notice *notice,
                          const char *before)
{
    struct buffer out = {0};
    assert(audit->file.fd >= 0);
    buffer_add_text(&out, text_of(before));
    audit_format_notice(&out, notice);
    end_audit_line(audit, &out, audit->next_sequence, clock_is_doubted());
    size_t length = out.length;
    bool written = audit_file_append(&audit->file, buffer_text(&out), clock_file_ms()) == length;
    int error = errno;
    buffer_free(&out);
    errno = error;
    audit->next_sequence += written;
    if (written)
        count_written(1, length);
    return written;
}

/* Writes and syncs the line that proves that the file works. It ends a torn line and reports its
 * length and the number of refused durable lines. False with errno. */
static bool write_recovered(struct audit *audit)
{
    const struct audit_number numbers[] = {{"sessiond.torn_bytes", audit->file.torn},
                                           {"sessiond.lines_refused", audit->refused}};
    const struct audit_notice notice = {.event = AUDIT_RECOVERED,
                                        .wall_ms = clock_wall_ms(),
                                        .numbers = numbers,
                                        .number_count = 2};
    if (!append_notice(audit, &notice, audit->file.torn > 0 ? "\n" : "") || !sync_audit_file(audit))
        return false;
    audit->refused = 0;
    audit->file.torn = 0;
    return true;
}

static void try_recovery(struct audit *audit)
{
    if (!audit_file_open(&audit->file)) {
        note_file_failure(audit, "open", errno);
        return;
    }
    if (!write_recovered(audit)) {
        note_file_failure(audit, "write", errno);
        return;
    }
    commit_queue_recover(&audit->queue);
    log_info("audit_recovered", "file=%s", audit->file.path);
}

bool audit_writer_prepare(struct audit *audit)
{
    if (!audit_file_open(&audit->file))
        return false;
    audit->next_sequence = audit_file_last_sequence(&audit->file) + 1;
    if (!audit->file.regular) {
        log_warning("audit_not_a_file",
                    "file=%s effect=\"lines are handed over, not synced: none is durable, and the "
                    "reader keeps, rotates and deletes them; numbers begin with 1\"",
                    audit->file.path);
    }
    if (audit_file_last_ms(&audit->file) > 0)
        clock_bear_out(audit_file_last_ms(&audit->file));
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

/* Numbers the next lines of the queue and joins them in the chunk. */
static void assemble(struct audit *audit, const struct queue *queue)
{
    struct chunk *chunk = &audit->chunk;
    assert(!audit_queue_is_empty(queue));
    chunk->out.length = 0;
    chunk->lines = 0;
    chunk->tickets = 0;
    size_t at = queue->start;
    bool doubted = clock_is_doubted();
    while (at < queue->frames.length && chunk->out.length < AUDIT_CHUNK_BYTES) {
        struct commit_frame frame = commit_frame_at(&queue->frames, at);
        buffer_add_text(&chunk->out, commit_frame_bytes(&queue->frames, at));
        end_audit_line(audit, &chunk->out, audit->next_sequence + (int64_t)chunk->lines, doubted);
        chunk_add_end(chunk);
        chunk->tickets += frame.ticket != NULL;
        at += commit_frame_size(frame);
    }
    chunk->end = at;
}

/* After a short write the complete lines are in the file, unsynced, and their numbers are used. */
static void settle_short_write(struct audit *audit, struct queue *queue, size_t written)
{
    size_t complete = 0, end = queue->start;
    assert(written < audit->chunk.out.length);
    while (complete < audit->chunk.lines && audit->chunk.ends[complete] <= written) {
        end += commit_frame_size(commit_frame_at(&queue->frames, end));
        complete++;
    }
    audit->next_sequence += (int64_t)complete;
    count_written(complete, complete > 0 ? audit->chunk.ends[complete - 1] : 0);
    audit_queue_drop(audit, queue, end, false);
}

/* After a failed sync it is unknown which lines are on disk: those without tickets are written
 * again under new numbers. */
static void write_lines(struct audit *audit, struct queue *queue)
{
    struct chunk *chunk = &audit->chunk;
    assemble(audit, queue);
    size_t written = audit_file_append(&audit->file, buffer_text(&chunk->out), clock_file_ms());
    if (written < chunk->out.length) {
        note_file_failure(audit, "write", errno);
        settle_short_write(audit, queue, written);
        return;
    }
    audit->next_sequence += (int64_t)chunk->lines;
    if (chunk->tickets > 0 && !sync_audit_file(audit)) {
        note_file_failure(audit, "sync", errno);
        return;
    }
    audit_queue_drop(audit, queue, chunk->end, true);
    count_written(chunk->lines, chunk->out.length);
}

/* --- rotation and retention --- */

static void report_deleted(void *user, const char *path, int error)
{
    struct audit *audit = user;
    const struct audit_number number = {"sessiond.errno", error};
    if (error != 0)
        log_error("audit_delete_failed", "file=%s error=%s", path, strerrorname_np(error));
    else
        log_info("audit_deleted", "file=%s reason=\"older than audit.retention\"", path);
    audit_add_notice(audit, &(struct audit_notice){.event = AUDIT_FILE_DELETED,
                                                   .wall_ms = clock_wall_ms(),
                                                   .failed = error != 0,
                                                   .file = text_of(path),
                                                   .numbers = &number,
                                                   .number_count = error != 0});
}

static void expire_files(struct audit *audit)
{
    assert(audit->file.fd >= 0);
    audit->expired_alone = clock_trust() == CLOCK_ALONE;
    audit->expire_at_ms = clock_monotonic_ms() + expire_every_ms;
    audit_file_expire(&audit->file, clock_deletion_ms() - atomic_load(&audit->retention_ms),
                      report_deleted, audit);
}

/* Runs again as soon as a server's time is known. */
static void expire_files_if_due(struct audit *audit)
{
    bool told = audit->expired_alone && clock_trust() != CLOCK_ALONE;
    if (told || clock_monotonic_ms() >= audit->expire_at_ms)
        expire_files(audit);
}

/* Writes the number of unauthenticated calls that were only counted. False if that fails. */
static bool report_unauthenticated(struct audit *audit)
{
    struct audit_notice notice;
    struct audit_number number;
    if (audit->unauthenticated.calls == 0)
        return true;
    audit_unauthenticated_notice(audit, &notice, &number);
    if (!append_notice(audit, &notice, "")) {
        note_file_failure(audit, "write", errno);
        return false;
    }
    audit_unauthenticated_reported(audit);
    return true;
}

/* A file that cannot be renamed is written on: too large is better than lost. The number of counted
 * calls goes into the file of the lines it belongs to. */
static void rotate_if_due(struct audit *audit)
{
    int64_t now = clock_file_ms();
    if (!audit_file_is_due(&audit->file, atomic_load(&audit->max_bytes), now) ||
        commit_now_ns() < audit->rotate_at_ns || !report_unauthenticated(audit))
        return;
    if (audit_file_rotate(&audit->file, audit->next_sequence - 1, now)) {
        expire_files(audit);
    } else if (audit->file.fd < 0) {
        note_file_failure(audit, "rotate", errno);
    } else {
        log_error("audit_rotate_failed", "file=%s error=%s", audit->file.path,
                  strerrorname_np(errno));
        audit->rotate_at_ns = commit_now_ns() + rename_retry_ns;
    }
}

static void reopen(struct audit *audit)
{
    if (!report_unauthenticated(audit))
        return;
    if (audit->file.unsynced && !sync_audit_file(audit)) {
        note_file_failure(audit, "sync", errno);
        return;
    }
    audit_file_close(&audit->file);
    if (!audit_file_open(&audit->file))
        note_file_failure(audit, "open", errno);
    else if (audit->file.torn > 0 && !write_recovered(audit))
        note_file_failure(audit, "write", errno);
    else
        log_info("audit_reopened", "file=%s", audit->file.path);
}

/* --- the turn --- */

/* Writes the next chunk, unless the file breaks. */
static void write_next_chunk(struct audit *audit, struct queue *queue)
{
    rotate_if_due(audit);
    if (audit->file.fd >= 0)
        write_lines(audit, queue);
}

/* The class to write after changes, if the disk has room for it; else AUDIT_CLASSES. */
static enum audit_class next_class(const struct audit *audit)
{
    int stage = atomic_load(&audit->reserve_stage);
    if (!audit_queue_is_empty(&audit->backlog[AUDIT_CLASS_READS]) && stage < RESERVE_HALVED)
        return AUDIT_CLASS_READS;
    bool waits = !audit_queue_is_empty(&audit->backlog[AUDIT_CLASS_UNAUTHENTICATED]);
    return waits && stage < RESERVE_REACHED ? AUDIT_CLASS_UNAUTHENTICATED : AUDIT_CLASSES;
}

/* Turns admitted lines of unauthenticated calls into a number once the reserve is reached. */
static void spare_reserve(struct audit *audit)
{
    struct queue *queue = &audit->backlog[AUDIT_CLASS_UNAUTHENTICATED];
    int64_t now = clock_wall_ms();
    if (atomic_load(&audit->reserve_stage) < RESERVE_REACHED || audit_queue_is_empty(queue))
        return;
    struct unauthenticated_count count = {audit_queue_discard(audit, queue), now, now};
    metrics_add(METRIC_AUDIT_UNAUTHENTICATED, (uint64_t)count.calls);
    audit_unauthenticated_merge(&audit->unauthenticated, &count);
}

/* Reports lost lines. If that fails the number is kept and grows on. */
static void report_lost(struct audit *audit)
{
    int64_t lost = atomic_exchange(&audit->lost, 0);
    const struct audit_number number = {"sessiond.lines_lost", lost};
    const struct audit_notice notice = {.event = AUDIT_LINES_LOST,
                                        .wall_ms = clock_wall_ms(),
                                        .numbers = &number,
                                        .number_count = 1};
    if (lost == 0 || append_notice(audit, &notice, ""))
        return;
    note_file_failure(audit, "write", errno);
    atomic_fetch_add(&audit->lost, lost);
}

static void recover_or_reopen(struct audit *audit)
{
    bool asked = atomic_exchange(&audit->reopen, false);
    if (!commit_queue_works(&audit->queue)) {
        if (asked || commit_queue_is_retry_due(&audit->queue))
            try_recovery(audit);
    } else if (asked) {
        reopen(audit);
    }
}

/* Recovers, reopens, rotates and expires as due, then writes the queue of changes. Decides every
 * ticket. */
static void write_audit_batch(void *owner)
{
    struct audit *audit = owner;
    struct queue *changes = &audit->backlog[AUDIT_CLASS_CHANGES];
    audit_unauthenticated_gather(audit);
    recover_or_reopen(audit);
    if (commit_queue_works(&audit->queue))
        expire_files_if_due(audit);
    if (commit_queue_works(&audit->queue) && atomic_load(&audit->lost) > 0)
        rotate_if_due(audit);
    if (commit_queue_works(&audit->queue))
        report_lost(audit);
    audit_reserve_check(audit);
    spare_reserve(audit);
    while (commit_queue_works(&audit->queue) && !audit_queue_is_empty(changes))
        write_next_chunk(audit, changes);
    if (!commit_queue_works(&audit->queue))
        audit_backlog_refuse(audit);
    assert(!commit_queue_works(&audit->queue) || audit_queue_is_empty(changes));
}

/* Writes a chunk of the other classes, and the number of counted calls if due. True if more waits.
 */
static bool write_other_classes(void *owner)
{
    struct audit *audit = owner;
    enum audit_class class = next_class(audit);
    if (class < AUDIT_CLASSES && commit_queue_works(&audit->queue))
        write_next_chunk(audit, &audit->backlog[class]);
    if (commit_queue_works(&audit->queue) && audit_unauthenticated_due(audit))
        report_unauthenticated(audit);
    audit->queue.idle_ns =
        atomic_load(&audit->reserve_stage) == RESERVE_AMPLE ? idle_ns : idle_low_ns;
    metrics_gauge_set(METRIC_AUDIT_QUEUE_BYTES, (int64_t)atomic_load(&audit->queued));
    bool changes = !audit_queue_is_empty(&audit->backlog[AUDIT_CLASS_CHANGES]);
    return commit_queue_works(&audit->queue) && (changes || next_class(audit) < AUDIT_CLASSES);
}

/* Reports lines of reads that never found room on the disk as lost. */
static void report_unwritten(struct audit *audit)
{
    int64_t waiting = audit_queue_discard(audit, &audit->backlog[AUDIT_CLASS_READS]);
    atomic_fetch_add(&audit->lost, waiting);
    metrics_add(METRIC_AUDIT_LOST, (uint64_t)waiting);
    report_lost(audit);
}

/* Reports lines that could not be written, syncs and closes. */
static void finish_audit(void *owner)
{
    struct audit *audit = owner;
    if (commit_queue_works(&audit->queue) && report_unauthenticated(audit))
        report_unwritten(audit);
    if (audit->file.fd >= 0 && audit->file.unsynced && !sync_audit_file(audit))
        note_file_failure(audit, "sync", errno);
    audit_file_close(&audit->file);
    size_t bytes = audit_backlog_bytes(audit);
    if (bytes > 0 || audit->unauthenticated.calls > 0)
        log_error("audit_lines_lost", "file=%s bytes=%zu strangers=%lld", audit->file.path, bytes,
                  (long long)audit->unauthenticated.calls);
}

const struct commit_writer audit_writer = {
    .name = "audit",
    .join = audit_backlog_join,
    .write_batch = write_audit_batch,
    .write_rest = write_other_classes,
    .finish = finish_audit,
    .gather_ns = 5 * 1000000,
    .gather_bytes = AUDIT_CHUNK_BYTES,
};
