/* Private to alerts: what waits for delivery, on disk.
 *
 * Lines of text, each with a checksum in front of it (16 hexadecimal digits of BLAKE2b over the
 * rest of the line), after a head that tells the next number:
 *
 *     <sum> sessiond-alerts 1 next <number>
 *     <sum> alert <number> <id> <JSON>
 *     <sum> delivered <number>
 *
 * A line `delivered` covers all alerts up to its number. A torn last line is cut off; lines that do
 * not check are left out when the file is written anew, which happens at once then, and when most
 * of the file is delivered: beside the old one, then renamed.
 *
 * Used by one thread at a time, without locks; blocks on the disk. */
#pragma once

#include "services/files/record_file.h"

struct alerts_file {
    struct record_file records;
    int64_t synced;       /* of its size: known to be on disk */
    int64_t unsynced;     /* alerts behind that */
    int64_t first;        /* where the first line lies that may not be delivered yet */
    int64_t queued;       /* alerts from there on */
    uint64_t next_number; /* of an alert */
    bool broken;          /* must be written anew before it is appended to */
};

struct alerts_file_findings {
    int64_t torn;    /* bytes of a torn last line */
    int64_t damaged; /* lines that did not check */
};

void alerts_file_init(struct alerts_file *file, const char *path);
/* Closes, frees. */
void alerts_file_fini(struct alerts_file *file);
/* Opens or makes the file. False with *error, which names the file. */
bool alerts_file_open(struct alerts_file *file, struct alerts_file_findings *findings,
                      struct buffer *error);

enum alerts_added {
    ALERTS_ADDED,
    ALERTS_FULL,  /* nothing was added */
    ALERTS_FAILED /* nothing was added, errno tells why */
};
/* Appends an alert; the file may then be so long. `json` has no newline. */
enum alerts_added alerts_file_add(struct alerts_file *file, struct text id, struct text json,
                                  int64_t max_bytes);
/* Brings what was added to disk; false with errno: what was added since the last sync is not in the
 * queue. */
bool alerts_file_sync(struct alerts_file *file);

/* The first alert that is not delivered. */
struct queued_alert {
    uint64_t number;
    size_t length; /* of its line */
    struct buffer id, json;
};
/* Fills the buffers anew, which are the caller's. False if there is none. */
bool alerts_file_first(struct alerts_file *file, struct queued_alert *ret);
/* Notes that it was delivered. That is not synced: a note that is lost costs a repetition. False
 * with errno if it could not be written; the next one is the first all the same. */
bool alerts_file_delivered(struct alerts_file *file, const struct queued_alert *alert);
