/* Private to the audit service: the file under its name, its rotated predecessors beside it.
 *
 * Used by one thread at a time, without locks. Functions that return false leave the cause in
 * errno; after a failed write or sync only audit_file_close() makes sense. */
#pragma once

#include "text.h"

struct audit_file {
    char *path;
    char *directory;
    const char *name; /* last part of path */
    int fd;           /* -1: closed */
    bool regular;     /* not a pipe, nor a device */
    bool unsynced;    /* written to since the last sync */
    bool doubtful;    /* a sync failed: it may lack pages that the kernel has given up */
    int64_t size;
    int64_t day;  /* UTC days since 1970 of its lines, -1: has none */
    int64_t torn; /* bytes behind the last newline, of a file as it was opened: a piece of a line */
};

void audit_file_init(struct audit_file *file, const char *path);
/* The file must be closed. */
void audit_file_fini(struct audit_file *file);

/* Opens for appending, creates with mode 0640 whatever the umask, and looks for a torn last line. A
 * file that was created is synced into its directory. A pipe or a device is written to as far as it
 * takes bytes; nothing is promised of what becomes of them. */
bool audit_file_open(struct audit_file *file);
/* Why it could not be opened: the errno in words. */
const char *audit_file_explain(const struct audit_file *file, int error);
/* Closes without a sync. */
void audit_file_close(struct audit_file *file);
/* Appends; returns how many bytes are in the file, fewer than asked after a failure. A pipe without
 * room for a second has failed. */
size_t audit_file_append(struct audit_file *file, struct text bytes, int64_t wall_ms);
bool audit_file_sync(struct audit_file *file);
/* Bytes of the file's disk that an ordinary process may still write, and of all of it. False if
 * nobody knows: the file is closed or a device, or the file system does not tell. */
bool audit_file_space(const struct audit_file *file, int64_t *free_bytes, int64_t *whole);

/* Number of the last whole line, in the open file or else in the name of the newest rotated one;
 * 0 if there is none. */
int64_t audit_file_last_sequence(const struct audit_file *file);

/* The time of the last line of the open file that was written while the clock was not doubted, to
 * the second; 0 if the last mebibyte has none. */
int64_t audit_file_last_ms(const struct audit_file *file);

/* True if the file has grown to max_bytes, holds lines of another day than this, or is doubtful. */
bool audit_file_is_due(const struct audit_file *file, int64_t max_bytes, int64_t wall_ms);
/* Syncs, closes and renames the open file to <name>.<YYYYMMDDTHHMMSSZ>-<sequence>. Never overwrites
 * another. On failure the file may be open still, or closed. */
bool audit_file_rotate(struct audit_file *file, int64_t last_sequence, int64_t wall_ms);

/* Deletes rotated files whose name's time is before `before_ms`, compressed ones too. Calls
 * `deleted` for each with its path and 0 or the errno of the failure. */
void audit_file_expire(const struct audit_file *file, int64_t before_ms,
                       void (*deleted)(void *user, const char *path, int error), void *user);
