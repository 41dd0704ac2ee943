/* Private to the journal: its file.
 *
 * Used by one thread at a time, without locks. Functions that return false leave the cause in
 * errno, unless told otherwise. After a failed write or sync the file is not used any more, but for
 * writing another in its place (journal_file_begin); it stays open, since the open file carries the
 * lock that keeps a second process away. */
#pragma once

#include "journal_record.h"

struct journal_file {
    char *path;
    struct journal_seal seal; /* holds a reference to the keyring */
    int fd;                   /* -1: closed */
    int64_t size;             /* of what was written */
    struct buffer out;        /* sealed records, not yet written */
};

void journal_file_init(struct journal_file *file, const char *path, struct keyring *keyring);
/* Closes, frees. */
void journal_file_fini(struct journal_file *file);

/* What reading a file came to. */
struct journal_file_scan {
    uint64_t next_number; /* of the head; 1 for a new file */
    int64_t torn;         /* bytes of a record that was torn, cut off */
    int64_t damaged;      /* bytes that were moved aside */
    int64_t end;          /* where the readable part ends */
    struct buffer aside;  /* where to: NUL-terminated; the caller frees it */
};

/* Opens or makes the file, mode 0600, and gives each record that checks to `visit`; cuts off what
 * is behind them, so that the file can be appended to. False with *error, which names the file and
 * what to do. */
bool journal_file_open(struct journal_file *file,
                       void (*visit)(void *user, const struct journal_record *record), void *user,
                       struct journal_file_scan *scan, struct buffer *error);

/* Seals records that lie side by side and takes them to be written; writes when there are many. */
bool journal_file_add(struct journal_file *file, struct text records);
/* Writes what was added. */
bool journal_file_write(struct journal_file *file);
bool journal_file_sync(struct journal_file *file);
/* False if the file is not at its path any more: removed, moved or replaced. */
bool journal_file_is_named(const struct journal_file *file);

/* Writing it anew: begin, add to the fresh one, then commit, which writes, syncs and renames it
 * over the old one; or abandon. After a commit that failed the fresh one is gone and the old one as
 * it was. The name is durable when journal_file_sync_name() was true. */
bool journal_file_begin(const struct journal_file *file, uint64_t next_number,
                        struct journal_file *fresh);
bool journal_file_commit(struct journal_file *file, struct journal_file *fresh);
bool journal_file_sync_name(const struct journal_file *file);
void journal_file_abandon(struct journal_file *fresh);
