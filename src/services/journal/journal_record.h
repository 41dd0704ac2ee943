/* Private to the journal: its format on disk.
 *
 * Header, 64 bytes: magic, version, a lower bound of the next number, a nonce of this file, a tag
 * of the names secret, and a digest of all before it. Then records: length (2 bytes, of the whole
 * record), kind (1), flags (1), number (8), for a revocation its fields, and a checksum (8). The
 * checksum is keyed and covers nonce, position and record: an altered, moved, missing or foreign
 * record is detected. Numbers are big-endian. */
#pragma once

#include "journal.h"
#include "services/files/record_file.h"

#define JOURNAL_HEAD       64
#define JOURNAL_NONCE      16
#define JOURNAL_RECORD_MAX 578 /* with both texts of full length */

/* The secrets of a file, known from its header. */
struct journal_seal {
    struct keyring *keyring;
    uint8_t nonce[JOURNAL_NONCE];
};

struct journal_head {
    uint64_t next_number;
    uint8_t nonce[JOURNAL_NONCE];
};

enum journal_head_reading {
    JOURNAL_HEAD_GOOD,
    JOURNAL_HEAD_BAD,    /* not a journal, or its header is damaged */
    JOURNAL_HEAD_NEWER,  /* of another version */
    JOURNAL_HEAD_FOREIGN /* written under another names secret */
};

void journal_head_write(uint8_t out[JOURNAL_HEAD], const struct journal_head *head,
                        const struct keyring *keyring);
enum journal_head_reading journal_head_read(const uint8_t in[JOURNAL_HEAD],
                                            const struct keyring *keyring,
                                            struct journal_head *ret);

/* A revocation, or the mark that confirms the one with this number. */
struct journal_record {
    bool is_mark;
    struct revocation revocation; /* of a mark: the number only */
};

/* Bytes of the revocation on disk; its texts have at most 255 bytes each. */
size_t journal_record_size(const struct revocation *revocation);
/* Append a record with room for its checksum, which journal_record_seal() fills in once its
 * position is known. */
void journal_record_add(struct buffer *out, const struct revocation *revocation);
void journal_record_add_mark(struct buffer *out, uint64_t number);
/* The length given in the record at `data`. */
size_t journal_record_length(const char *data);
void journal_record_seal(const struct journal_seal *seal, int64_t position, char *record);

/* Reads the first record of `bytes`, which lies at `position`: good, torn or bad. Its texts are
 * borrowed from `bytes`. */
enum record_reading journal_record_read(const struct journal_seal *seal, int64_t position,
                                        struct text bytes, struct journal_record *ret);
