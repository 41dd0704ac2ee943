/* Private to the journal: its file, a record_file of sealed records after a header. After a failed
 * write or sync it can only be replaced by a fresh one. */
#pragma once

#include "journal_record.h"
#include "services/files/record_file.h"

struct journal_file {
    struct record_file records;
    struct journal_seal seal; /* holds a reference to the keyring */
};

void journal_file_init(struct journal_file *file, const char *path, struct keyring *keyring);
/* Closes, frees. */
void journal_file_fini(struct journal_file *file);

/* The result of reading a file. */
struct journal_file_scan {
    uint64_t next_number; /* of the head; 1 for a new file */
    struct record_scan records;
    struct buffer aside; /* path of the damaged bytes, NUL-terminated; freed by the caller */
};

/* Opens or creates the file, mode 0600, calls `visit` for each valid record, and mends the file.
 * False with *error, which names the file and a remedy. */
bool journal_file_open(struct journal_file *file,
                       void (*visit)(void *user, const struct journal_record *record), void *user,
                       struct journal_file_scan *scan, struct buffer *error);

/* Seals a sequence of records and queues them; writes when there are many. */
bool journal_file_add(struct journal_file *file, struct text records);

/* record_file_begin() and so on, with header and seal. */
bool journal_file_begin(const struct journal_file *file, uint64_t next_number,
                        struct journal_file *fresh);
bool journal_file_commit(struct journal_file *file, struct journal_file *fresh);
void journal_file_abandon(struct journal_file *fresh);
