/* Private to alerts: the queue for delivery on disk.
 *
 * Lines of text, each after a checksum (16 hexadecimal digits of BLAKE2b over the rest of the
 * line). The first line has the next number:
 *
 *     <sum> sessiond-alerts 1 next <number>
 *     <sum> alert <number> <id> <JSON>
 *     <sum> delivered <number>
 *
 * A line `delivered` covers all alerts up to its number. A torn last line is cut off. The file is
 * rewritten, beside the old one and then renamed, without lines that fail their check as soon as
 * there are any, and when most of it is delivered.
 *
 * Used by one thread at a time, without locks; blocks on the disk. */
#pragma once

#include "services/files/record_file.h"

struct alerts_file {
    struct record_file records;
    int64_t synced;       /* bytes known to be on disk */
    int64_t unsynced;     /* alerts after that */
    int64_t first;        /* offset of the first line that may be undelivered */
    int64_t queued;       /* alerts from there on */
    uint64_t next_number; /* of an alert */
    bool broken;          /* must be rewritten before it is appended to */
};

struct alerts_file_findings {
    int64_t torn;    /* bytes of a torn last line */
    int64_t damaged; /* lines that failed their check */
};

void alerts_file_init(struct alerts_file *file, const char *path);
/* Closes, frees. */
void alerts_file_fini(struct alerts_file *file);
/* Opens or creates the file. False with *error, which names the file. */
bool alerts_file_open(struct alerts_file *file, struct alerts_file_findings *findings,
                      struct buffer *error);

enum alerts_added {
    ALERTS_ADDED,
    ALERTS_FULL,  /* nothing was added */
    ALERTS_FAILED /* nothing was added; with errno */
};
/* Appends an alert, up to `max_bytes` of the file. `json` has no newline. */
enum alerts_added alerts_file_add(struct alerts_file *file, struct text id, struct text json,
                                  int64_t max_bytes);
/* Syncs. False with errno: alerts added since the last sync are not in the queue. */
bool alerts_file_sync(struct alerts_file *file);

/* The first undelivered alert. */
struct queued_alert {
    uint64_t number;
    size_t length; /* of its line */
    struct buffer id, json;
};
/* Fills the caller's buffers. False if there is none. */
bool alerts_file_first(struct alerts_file *file, struct queued_alert *ret);
/* Notes that it was delivered, without a sync: a lost note costs a repetition. False with errno if
 * the note could not be written; the next alert is the first all the same. */
bool alerts_file_delivered(struct alerts_file *file, const struct queued_alert *alert);
