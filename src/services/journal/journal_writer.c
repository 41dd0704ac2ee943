/* The journal's writer appends the backlog and syncs it once. It rewrites the file when much of it
 * is obsolete or when it cannot be trusted.
 *
 * After a failed write or sync the file is not written or synced again, since the kernel may have
 * dropped the pages. Tickets then fail at once, until a fresh file could be written from memory,
 * which is tried every second. It also holds the refused revocations, since a revocation is in
 * force whether it could be written or not. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "clock.h"
#include "journal_private.h"
#include "log.h"
#include "metrics.h"

static const int64_t second_ns = 1000000000;
static const int64_t renew_retry_ns = 10 * 1000000000LL;

enum { SMALLEST_WASTE = 16384 };

static void report_size(struct journal *journal)
{
    int64_t before = atomic_exchange(&journal->file_bytes, journal->file.records.size);
    if (before != journal->file.records.size)
        metrics_gauge_add(METRIC_JOURNAL_BYTES, journal->file.records.size - before);
}

/* --- failure --- */

static void note_journal_failure(struct journal *journal, const char *operation, int error)
{
    assert(error != 0);
    metrics_add(METRIC_JOURNAL_ERRORS, 1);
    if (commit_queue_fail(&journal->queue, second_ns))
        log_error("journal_failed", "file=%s operation=%s error=%s", journal->file.records.path,
                  operation, strerrorname_np(error));
}

static bool sync_journal(struct journal *journal)
{
    int64_t begun = commit_now_ns();
    bool synced = record_file_sync(&journal->file.records);
    int error = errno;
    metrics_add(METRIC_JOURNAL_SYNCS, 1);
    metrics_observe(METRIC_JOURNAL_SYNC_DURATION, commit_now_ns() - begun);
    errno = error;
    return synced;
}

/* --- rewriting --- */

/* Writes the revocations in memory to `fresh`; *end is the last number that it covers. */
static bool copy_all(struct journal *journal, struct journal_file *fresh, uint64_t *end)
{
    struct buffer records = {0};
    bool added = true;
    uint64_t last = 0;
    do {
        records.length = 0;
        last = journal_index_copy(&journal->index, last, &records, end);
        added = journal_file_add(fresh, buffer_text(&records));
    } while (last > 0 && added);
    int error = errno;
    buffer_free(&records);
    errno = error;
    return added;
}

enum renewal {
    RENEWED,
    NOT_RENEWED, /* with errno; the file is unchanged */
    HALF_RENEWED /* with errno; after a crash the name may lead to the old file */
};

static enum renewal rewrite_journal(struct journal *journal)
{
    struct journal_file fresh;
    uint64_t end = 0;
    if (!journal_file_begin(&journal->file, journal_index_next(&journal->index), &fresh))
        return NOT_RENEWED;
    if (!copy_all(journal, &fresh, &end)) {
        journal_file_abandon(&fresh);
        return NOT_RENEWED;
    }
    if (!journal_file_commit(&journal->file, &fresh))
        return NOT_RENEWED;
    if (!record_file_sync_name(&journal->file.records))
        return HALF_RENEWED;
    journal_index_cover(&journal->index, end);
    journal->marks.length = 0; /* the records contain them */
    metrics_add(METRIC_JOURNAL_COMPACTIONS, 1);
    return RENEWED;
}

static void recover(struct journal *journal)
{
    if (rewrite_journal(journal) != RENEWED) {
        note_journal_failure(journal, "write_anew", errno);
        return;
    }
    commit_queue_recover(&journal->queue);
    log_info("journal_recovered", "file=%s bytes=%lld", journal->file.records.path,
             (long long)journal->file.records.size);
}

/* Called before anything is appended: a file of two names secrets could be read with neither. */
static void adopt_keyring(struct journal *journal)
{
    struct keyring *taken = atomic_exchange(&journal->new_keyring, NULL);
    if (!taken)
        return;
    struct keyring *before = journal->file.seal.keyring;
    journal->file.seal.keyring = taken;
    bool same = memcmp(keyring_mark(before, 0), keyring_mark(taken, 0), KEY_MARK) == 0;
    keyring_unref(&before);
    if (!same && rewrite_journal(journal) != RENEWED)
        note_journal_failure(journal, "write_anew", errno);
}

/* True if more than half of the file is obsolete, or if it will be too large and much of it is
 * obsolete. */
static bool is_wasteful(struct journal *journal, int64_t more)
{
    struct journal_usage used;
    journal_index_usage(&journal->index, &used);
    int64_t waste = journal->file.records.size + more - JOURNAL_HEAD - used.bytes;
    bool too_large = journal->file.records.size + more > atomic_load(&journal->max_bytes);
    return (waste > used.bytes && waste > SMALLEST_WASTE) || (too_large && waste > used.bytes / 8);
}

/* --- the backlog --- */

static void join_backlog(void *owner, struct buffer *taken)
{
    struct journal *journal = owner;
    commit_frames_join(&journal->backlog, taken);
}

/* All numbers up to `covered` are in the file. */
static bool needs_writing(struct commit_frame frame, uint64_t covered)
{
    return frame.length > 0 && frame.mark > covered;
}

/* Decides all tickets of the backlog and empties it. */
static void decide_all(struct journal *journal, bool written)
{
    struct buffer *backlog = &journal->backlog;
    uint64_t covered = journal_index_covered(&journal->index);
    for (size_t at = 0; at < backlog->length;) {
        struct commit_frame frame = commit_frame_at(backlog, at);
        commit_decide(frame, written || !needs_writing(frame, covered));
        at += commit_frame_size(frame);
    }
    commit_frames_clear(backlog);
}

/* Appends records and marks; notes the numbers of the records. */
static bool append_backlog(struct journal *journal)
{
    struct buffer *backlog = &journal->backlog;
    uint64_t covered = journal_index_covered(&journal->index);
    journal->written.length = 0;
    for (size_t at = 0; at < backlog->length;) {
        struct commit_frame frame = commit_frame_at(backlog, at);
        if (needs_writing(frame, covered)) {
            if (!journal_file_add(&journal->file, commit_frame_bytes(backlog, at)))
                return false;
            buffer_add(&journal->written, &frame.mark, sizeof(frame.mark));
        }
        at += commit_frame_size(frame);
    }
    return journal_file_add(&journal->file, buffer_text(&journal->marks)) &&
           record_file_write(&journal->file.records);
}

/* Marks alone are not synced: one that is lost costs a replay. */
static bool append_and_sync(struct journal *journal)
{
    assert(commit_queue_works(&journal->queue));
    if (!append_backlog(journal)) {
        note_journal_failure(journal, "write", errno);
        return false;
    }
    journal->marks.length = 0;
    if (journal->written.length == 0)
        return true;
    if (!sync_journal(journal)) {
        note_journal_failure(journal, "sync", errno);
        return false;
    }
    journal_index_written(&journal->index, (const uint64_t *)(const void *)journal->written.data,
                          journal->written.length / sizeof(uint64_t));
    return true;
}

/* --- the turn --- */

/* Once a minute, since there may be some every second. */
static void report_expired(struct journal *journal, int64_t now_ns)
{
    static const int64_t minute_ns = 60 * 1000000000LL;
    if (journal->expired == 0 || now_ns < journal->tell_expired_at_ns)
        return;
    log_info("journal_expired",
             "file=%s revocations=%zu reason=\"confirmed, and their tokens have expired\"",
             journal->file.records.path, journal->expired);
    journal->expired = 0;
    journal->tell_expired_at_ns = now_ns + minute_ns;
}

static void expire_revocations(struct journal *journal)
{
    journal->expired += journal_index_expire(&journal->index, clock_deletion_ms() / 1000);
    report_expired(journal, commit_now_ns());
}

static void expire_revocations_if_due(struct journal *journal)
{
    int64_t now_ns = commit_now_ns();
    if (now_ns < journal->expire_at_ns)
        return;
    journal->expire_at_ns = now_ns + second_ns;
    expire_revocations(journal);
}

/* Bytes that the turn appends. */
static int64_t backlog_size(const struct journal *journal)
{
    size_t size = journal->marks.length;
    for (size_t at = 0; at < journal->backlog.length;) {
        struct commit_frame frame = commit_frame_at(&journal->backlog, at);
        size += frame.length;
        at += commit_frame_size(frame);
    }
    return (int64_t)size;
}

/* A file that cannot be made smaller can still be appended to: too large is better than lost. A
 * moved or removed one would be missed by the next start. */
static void renew_if_due(struct journal *journal)
{
    bool named = owned_file_is_named(journal->file.records.fd, journal->file.records.path);
    bool wasteful =
        commit_now_ns() >= journal->renew_at_ns && is_wasteful(journal, backlog_size(journal));
    if (!named)
        log_warning("journal_moved", "file=%s", journal->file.records.path);
    else if (!wasteful)
        return;
    enum renewal renewal = rewrite_journal(journal);
    int error = errno;
    if (renewal == HALF_RENEWED || (renewal == NOT_RENEWED && !named)) {
        note_journal_failure(journal, "write_anew", error);
    } else if (renewal == NOT_RENEWED) {
        metrics_add(METRIC_JOURNAL_ERRORS, 1);
        log_error("journal_rewrite_failed", "file=%s error=%s", journal->file.records.path,
                  strerrorname_np(error));
        journal->renew_at_ns = commit_now_ns() + renew_retry_ns;
    }
}

/* Forgets, recovers and rewrites the file as due, writes the backlog, decides all its tickets. */
static void write_journal_batch(void *owner)
{
    struct journal *journal = owner;
    bool written = false;
    journal_index_take_marks(&journal->index,
                             &journal->marks); /* before their revocations are forgotten */
    expire_revocations_if_due(journal);
    adopt_keyring(journal);
    if (commit_queue_works(&journal->queue))
        renew_if_due(journal);
    else if (commit_queue_is_retry_due(&journal->queue))
        recover(journal);
    if (commit_queue_works(&journal->queue))
        written = append_and_sync(journal);
    decide_all(journal, written);
    if (!commit_queue_works(&journal->queue))
        journal->marks.length = 0; /* the records of a fresh file contain them */
    report_size(journal);
}

/* Syncs the rest; logs the number of revocations that could not be written. */
static void finish_journal(void *owner)
{
    struct journal *journal = owner;
    assert(journal->backlog.length == 0);
    report_expired(journal, INT64_MAX);
    journal_index_take_marks(&journal->index, &journal->marks);
    if (commit_queue_works(&journal->queue) && append_and_sync(journal) &&
        !record_file_sync(&journal->file.records))
        note_journal_failure(journal, "sync", errno);
    size_t unwritten = journal_index_unwritten(&journal->index);
    if (unwritten > 0)
        log_error("journal_revocations_lost", "file=%s revocations=%zu", journal->file.records.path,
                  unwritten);
}

const struct commit_writer journal_writer = {.name = "journal",
                                             .join = join_backlog,
                                             .write_batch = write_journal_batch,
                                             .finish = finish_journal};

/* --- start --- */

static void load_record(void *user, const struct journal_record *record)
{
    journal_index_load(user, record);
}

static void report_findings(const struct journal *journal, const struct journal_file_scan *scan)
{
    if (scan->records.torn > 0)
        log_warning("journal_torn_record", "file=%s offset=%lld bytes=%lld",
                    journal->file.records.path, (long long)scan->records.end,
                    (long long)scan->records.torn);
    if (scan->records.damaged > 0) {
        metrics_add(METRIC_JOURNAL_ERRORS, 1);
        log_error("journal_damaged", "file=%s offset=%lld bytes=%lld kept_in=%s",
                  journal->file.records.path, (long long)scan->records.end,
                  (long long)scan->records.damaged, scan->aside.data);
    }
}

bool journal_writer_prepare(struct journal *journal, struct buffer *error)
{
    struct journal_file_scan scan;
    struct journal_usage used;
    bool opened = journal_file_open(&journal->file, load_record, &journal->index, &scan, error);
    if (opened) {
        report_findings(journal, &scan);
        journal_index_loaded(&journal->index, scan.next_number);
        expire_revocations(journal);
        report_size(journal);
        journal_usage(journal, &used);
        log_info("journal_opened", "file=%s revocations=%zu unsettled=%zu bytes=%lld",
                 journal->file.records.path, used.records, used.unconfirmed, (long long)used.bytes);
    }
    buffer_free(&scan.aside);
    return opened;
}
