/* Files of sealed chunks: a node's state that should survive a restart.
 *
 *     head   magic 8, version 1, key id 1, zeros 6, random 16
 *     chunk  frame 4: the highest bit marks the last chunk, the others count the sealed bytes
 *            sealed: nonce, entries, tag
 *
 * Numbers are big-endian. Each chunk is bound to the head, its number and its frame: an altered,
 * moved, missing, repeated or foreign chunk does not open, nor does a truncated file. The file is
 * bound to the keyring: another installation's file does not open.
 *
 * A file is written beside the old one and renamed over it, so that a crash leaves one or the
 * other. Both calls block on the disk (not for loop threads) and count in the metrics of snapshots.
 */
#pragma once

#include "crypto.h"

/* The longest entry. */
#define SEALED_CHUNK 65536

/* The kind of file; one constant for each. */
struct sealed_kind {
    const char *magic; /* 8 characters */
    uint8_t version;
    struct text subject; /* of the sealing */
    const char *of;      /* in messages: "snapshot of <of>" */
};

struct sealed_writer;

/* Writes the entries that `fill` adds. False with *error; the old file is then unchanged. */
bool sealed_file_save(const struct sealed_kind *kind, const struct keyring *keyring,
                      const char *path, void (*fill)(void *user, struct sealed_writer *writer),
                      void *user, struct buffer *error);
/* For `fill`: the buffer for the next entry of exactly `length` bytes. NULL after a failed write:
 * `fill` may stop. */
struct buffer *sealed_file_entry(struct sealed_writer *writer, size_t length);

/* Reads: `take` gets the entries of one chunk after the other and returns false if they are
 * invalid. False with *error if the file is foreign, damaged (entries taken until then stay) or
 * cannot be read; a missing file is no error. */
bool sealed_file_load(const struct sealed_kind *kind, const struct keyring *keyring,
                      const char *path, bool (*take)(void *user, struct text entries), void *user,
                      struct buffer *error);

/* Times in files are those of clock_file_ms(), which may have gone back by this much since. An
 * entry from further in the future has no known age. */
#define SEALED_CLOCK_SLACK_MS 10000
/* *ret is the age in milliseconds, at least 0. False if it is unknown. */
bool sealed_file_age_ms(int64_t then_wall_ms, int64_t *ret);
