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
    bool doubtful;    /* a sync failed: the kernel may have dropped pages */
    int64_t size;
    int64_t day;  /* of its lines, UTC days since 1970; -1: no lines */
    int64_t torn; /* bytes of a partial line after the last newline when it was opened */
};

void audit_file_init(struct audit_file *file, const char *path);
/* The file must be closed. */
void audit_file_fini(struct audit_file *file);

/* Opens for appending, creates with mode 0640 whatever the umask, and looks for a torn last line.
 * The directory of a created file is synced. Pipes and devices are written to without any promise
 * about the bytes. */
bool audit_file_open(struct audit_file *file);
/* Describes an errno of audit_file_open(). */
const char *audit_file_explain(const struct audit_file *file, int error);
/* Closes without a sync. */
void audit_file_close(struct audit_file *file);
/* Appends; returns the number of bytes written, fewer than asked after a failure. A pipe that stays
 * full for a second has failed. */
size_t audit_file_append(struct audit_file *file, struct text bytes, int64_t wall_ms);
bool audit_file_sync(struct audit_file *file);
/* *free_bytes of the disk are left to ordinary processes, *whole is its size. False if unknown: the
 * file is closed or a device, or the file system does not say. */
bool audit_file_space(const struct audit_file *file, int64_t *free_bytes, int64_t *whole);

/* Number of the last whole line, from the open file or else the name of the newest rotated one; 0
 * if there is none. */
int64_t audit_file_last_sequence(const struct audit_file *file);

/* Time of the last line in the open file that was written with an undoubted clock, to the second; 0
 * if the last mebibyte has none. */
int64_t audit_file_last_ms(const struct audit_file *file);

/* True if rotation is due: the file has max_bytes, holds lines of another day, or is doubtful. */
bool audit_file_is_due(const struct audit_file *file, int64_t max_bytes, int64_t wall_ms);
/* Syncs, closes and renames the open file to <name>.<YYYYMMDDTHHMMSSZ>-<sequence>. Never overwrites
 * a file. After a failure the file may still be open, or closed. */
bool audit_file_rotate(struct audit_file *file, int64_t last_sequence, int64_t wall_ms);

/* Deletes rotated files, compressed ones too, whose name has a time before `before_ms`. Calls
 * `deleted` for each with its path and 0 or an errno. */
void audit_file_expire(const struct audit_file *file, int64_t before_ms,
                       void (*deleted)(void *user, const char *path, int error), void *user);
