/* A file of records that is appended to, and written anew beside itself: under the journal, the
 * queue of alerts, and (whole at a time) sealed files. What a record is, its owner says.
 *
 * Used by one thread at a time, without locks; blocks on the disk. Functions that return false
 * leave the cause in errno, unless told otherwise. Nothing is retried: after a failed write or sync
 * the owner decides what of the file still holds. */
#pragma once

#include "owned_file.h"

struct record_file {
    char *path;
    int fd;            /* -1: closed */
    int64_t size;      /* of what was written */
    struct buffer out; /* records, not yet written */
};

void record_file_init(struct record_file *file, const char *path);
/* Closes, frees. */
void record_file_fini(struct record_file *file);

/* --- appending --- */

/* Writes what was added to `out`. */
bool record_file_write(struct record_file *file);
/* The same, if that is much. */
bool record_file_spill(struct record_file *file);
bool record_file_sync(struct record_file *file);

/* --- reading --- */

/* What one look at a record says. */
enum record_reading {
    RECORD_GOOD,
    RECORD_LAST,    /* good, and the last one that is wanted */
    RECORD_SKIPPED, /* does not check, but it is known where the next one begins */
    RECORD_TORN,    /* the beginning of a record, as far as there are bytes */
    RECORD_BAD      /* does not check, nor what is behind it */
};

struct record_reader {
    size_t longest; /* record */
    /* Looks at the first record of `bytes`, which lies at `position`: there are as many bytes as
     * the longest one has unless the file ends before, but at least one. Sets *length, which it has
     * in the file, unless torn or bad. */
    enum record_reading (*take)(void *user, int64_t position, struct text bytes, size_t *length);
    void *user;
};

struct record_scan {
    int64_t end;     /* where the readable part ends; of the last one wanted: where that does */
    int64_t torn;    /* bytes of a torn record behind it */
    int64_t damaged; /* bytes behind it that do not check */
    int64_t skipped; /* records */
};

/* Reads the records from `from` on. False if the disk does not read. */
bool record_file_scan(const struct record_file *file, int64_t from,
                      const struct record_reader *reader, struct record_scan *ret);
/* The repair: cuts off what is behind the readable part, so that the file can be appended to. What
 * is more than a torn record is kept beside it first, as FILE.damaged-TIME; *aside (freed by the
 * caller) is its path, NUL-terminated. False with *error. */
bool record_file_mend(struct record_file *file, const char *kind, const struct record_scan *scan,
                      struct buffer *aside, struct buffer *error);

/* --- writing anew --- */

/* Begin, write to the fresh one, then commit, which writes the rest, syncs and renames it over the
 * old one; or abandon. Under a name of its own, so that a crash leaves the old file or the new one,
 * both whole. After a begin or commit that failed there is no fresh one and the old one is as it
 * was. The name is durable when record_file_sync_name() was true. */
bool record_file_begin(const struct record_file *file, struct record_file *fresh);
bool record_file_commit(struct record_file *file, struct record_file *fresh);
bool record_file_sync_name(const struct record_file *file);
/* Keeps errno. */
void record_file_abandon(struct record_file *fresh);
