/* A file of records, appended to and rewritten beside itself: under the journal, the queue of
 * alerts, and (whole at a time) sealed files. Its owner defines the records.
 *
 * Used by one thread at a time, without locks; blocks on the disk. Functions that return false
 * leave the cause in errno unless stated otherwise. Nothing is retried: after a failed write or
 * sync the owner decides which part of the file still holds. */
#pragma once

#include "owned_file.h"

struct record_file {
    char *path;
    int fd;            /* -1: closed */
    int64_t size;      /* bytes written */
    struct buffer out; /* records to be written */
};

void record_file_init(struct record_file *file, const char *path);
/* Closes, frees. */
void record_file_fini(struct record_file *file);

/* --- appending --- */

/* Writes `out` and empties it. */
bool record_file_write(struct record_file *file);
/* The same, if `out` is large. */
bool record_file_spill(struct record_file *file);
bool record_file_sync(struct record_file *file);

/* --- reading --- */

/* The result of reading one record. */
enum record_reading {
    RECORD_GOOD,
    RECORD_LAST,    /* good, and the reader wants no more */
    RECORD_SKIPPED, /* fails its check, but the start of the next one is known */
    RECORD_TORN,    /* cut off by the end of the file */
    RECORD_BAD      /* fails its check; nothing after it can be read */
};

struct record_reader {
    size_t longest; /* of a record */
    /* Reads the first record of `bytes`, which lies at `position`. There are `longest` bytes, or
     * fewer at the end of the file, but at least one. Sets *length, its length in the file, unless
     * torn or bad. */
    enum record_reading (*take)(void *user, int64_t position, struct text bytes, size_t *length);
    void *user;
};

struct record_scan {
    int64_t end;     /* end of the readable part, or of the last wanted record */
    int64_t torn;    /* bytes of a torn record after it */
    int64_t damaged; /* bytes after it that fail their check */
    int64_t skipped; /* records */
};

/* Reads the records from `from` on. False if reading fails. */
bool record_file_scan(const struct record_file *file, int64_t from,
                      const struct record_reader *reader, struct record_scan *ret);
/* Cuts off everything after the readable part, so that the file can be appended to. Damaged bytes,
 * unlike a torn record, are copied to FILE.damaged-TIME first; *aside (freed by the caller) is its
 * path, NUL-terminated. False with *error. */
bool record_file_mend(struct record_file *file, const char *kind, const struct record_scan *scan,
                      struct buffer *aside, struct buffer *error);

/* --- rewriting --- */

/* Begin, write to the fresh file, then commit, which writes the rest, syncs and renames it over the
 * old file; or abandon. The fresh file has its own name, so a crash leaves the old file or the new
 * one, both whole. After a failed begin or commit there is no fresh file and the old one is
 * unchanged. The name is durable once record_file_sync_name() returned true. */
bool record_file_begin(const struct record_file *file, struct record_file *fresh);
bool record_file_commit(struct record_file *file, struct record_file *fresh);
bool record_file_sync_name(const struct record_file *file);
/* Keeps errno. */
void record_file_abandon(struct record_file *fresh);
