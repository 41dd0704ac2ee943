/* Private to the journal: what the workers' side (journal.c) and the writer (journal_writer.c)
 * share.
 *
 * A revocation enters the index at once, and so is in force. It travels to the disk as a frame of
 * the commit queue: its record, not yet sealed, marked with its number. A frame without a record
 * only carries the ticket of one that is in the file.
 *
 * Locks: those of commit_queue.h; the index's is a leaf. None is held across I/O. */
#pragma once

#include <stdatomic.h>

#include "journal_file.h"
#include "journal_index.h"
#include "services/commit/commit_queue.h"

struct journal_lane {
    struct commit_lane commit;
    struct journal *journal;
    struct buffer record; /* scratch */
};

struct journal {
    struct journal_index index;
    struct commit_queue queue;
    _Atomic(struct keyring *) new_keyring; /* a reference for the writer */
    _Atomic int64_t max_bytes;
    _Atomic int64_t file_bytes;

    /* The writer's own once it runs. */
    struct journal_file file;
    struct buffer backlog;      /* frames, oldest first */
    struct buffer marks;        /* records */
    struct buffer written;      /* numbers of this round */
    int64_t renew_at_ns;        /* not before: after a failed rewriting */
    int64_t expire_at_ns;       /* next expiry */
    size_t expired;             /* forgotten and not yet logged ... */
    int64_t tell_expired_at_ns; /* ... not before this */
};

/* An eighth of the allowed size is kept for appending, so that a nearly full file is not rewritten
 * for every record. */
static inline int64_t journal_limit(int64_t max_bytes)
{
    return max_bytes - max_bytes / 8 - JOURNAL_HEAD;
}

/* journal_writer.c */
extern const struct commit_writer journal_writer; /* its owner is the struct journal */
/* Before the thread runs: opens and reads the file; false with *error. */
bool journal_writer_prepare(struct journal *journal, struct buffer *error);
