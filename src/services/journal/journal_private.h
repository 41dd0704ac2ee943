/* Private to the journal: what the workers' side (journal.c) and the writer (journal_writer.c)
 * share.
 *
 * A revocation is in the index, and so in force, at once. To the disk it travels as a frame of the
 * commit queue: its record, not yet sealed, marked with its number. A frame without a record only
 * waits for one that is in the file.
 *
 * Locks: those of commit_queue.h; the index's is a leaf. None is held across I/O. */
#pragma once

#include <stdatomic.h>

#include "services/commit/commit_queue.h"
#include "journal_file.h"
#include "journal_index.h"

struct journal_lane {
    struct commit_lane commit;
    struct journal *journal;
    struct buffer record; /* scratch */
};

struct journal {
    struct journal_index index;
    struct commit_queue queue;
    _Atomic(struct keyring *) new_keyring; /* a reference, for the writer to take */
    _Atomic int64_t max_bytes;
    _Atomic int64_t file_bytes;

    /* The writer's own, once it runs. */
    struct journal_file file;
    struct buffer backlog;      /* frames, oldest first */
    struct buffer marks;        /* records */
    struct buffer written;      /* numbers of this round */
    int64_t renew_at_ns;        /* not before: after a file that could not be written anew */
    int64_t expire_at_ns;       /* next look at what may be forgotten */
    size_t expired;             /* forgotten and not yet told ... */
    int64_t tell_expired_at_ns; /* ... before */
};

/* An eighth of what is allowed is room for appending, so that the file need not be written anew
 * for every record when it is nearly full. */
static inline int64_t journal_limit(int64_t max_bytes)
{
    return max_bytes - max_bytes / 8 - JOURNAL_HEAD;
}

/* journal_writer.c */
extern const struct commit_writer journal_writer; /* its owner is the struct journal */
/* Before the thread runs: opens and reads the file; false with *error. */
bool journal_writer_prepare(struct journal *journal, struct buffer *error);
