/* Files of sealed chunks: what a node knows and would rather not lose with a restart.
 *
 *     head   magic 8, version 1, key id 1, zeros 6, random 16
 *     chunk  frame 4: the highest bit marks the last chunk, the others count the sealed bytes
 *            sealed: nonce, entries, tag
 *
 * Numbers are big-endian. Each chunk is bound to the head, its number and its frame: one that was
 * altered, moved, left out, doubled or taken from another file does not open, nor does a file end
 * but where it was meant to. Bound to the keyring: another installation's file does not open.
 *
 * A file is written beside the old one and renamed over it, so that a crash leaves one or the
 * other. Both calls block on the disk (not for loop threads) and count in the metrics of snapshots.
 */
#pragma once

#include "crypto.h"

/* The longest entry. */
#define SEALED_CHUNK 65536

/* What sort of file; one constant for each. */
struct sealed_kind {
    const char *magic; /* 8 characters */
    uint8_t version;
    struct text subject; /* of the sealing */
    const char *of;      /* in messages: "snapshot of <of>" */
};

struct sealed_writer;

/* Writes what `fill` adds. False with *error; the old file is then still there. */
bool sealed_file_save(const struct sealed_kind *kind, const struct keyring *keyring,
                      const char *path, void (*fill)(void *user, struct sealed_writer *writer),
                      void *user, struct buffer *error);
/* For `fill`: where to add the next entry of exactly so many bytes. NULL if there is no use in
 * going on, since a write has failed. */
struct buffer *sealed_file_entry(struct sealed_writer *writer, size_t length);

/* Reads: `take` gets the entries of one chunk after the other, false from it says that they make no
 * sense. False with *error if the file is foreign, damaged (what was taken until then stays), or
 * cannot be read; a missing one is none of these. */
bool sealed_file_load(const struct sealed_kind *kind, const struct keyring *keyring,
                      const char *path, bool (*take)(void *user, struct text entries), void *user,
                      struct buffer *error);

/* Times in files are those of clock_file_ms(), which may have gone back by so much since: an entry
 * from further in the future has no known age. */
#define SEALED_CLOCK_SLACK_MS 10000
/* How long ago that was, at least 0; false if it cannot be known. */
bool sealed_file_age_ms(int64_t then_wall_ms, int64_t *ret);
