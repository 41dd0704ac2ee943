/* Private to the journal: the revocations in memory, by owner and by number.
 *
 * One lock, held for a look-up, a change, or one slice of a long walk; never across I/O. Owners
 * without revocations are told by a counter for each hash of an owner, without the lock. The gauges
 * of the metrics are kept here, to be exact. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "journal_record.h"
#include "journal_shares.h"
#include "journal_slots.h"

#define JOURNAL_COUNTS 65536

struct journal_index {
    _Atomic uint32_t *counts; /* entries by hash of the owner; changed under the lock */

    pthread_mutex_t lock;
    struct hash_table owners; /* entries by owner */
    struct journal_slots slots;
    struct journal_shares shares; /* of tenants, in bytes of the records on disk */
    uint64_t next_number;
    uint64_t covered; /* all up to here are in the file */
    size_t records, unconfirmed;
    int64_t next_forget_s;  /* no confirmed one is to be forgotten before */
    struct buffer unmarked; /* numbers, confirmed but not yet marked in the file */
};

void journal_index_init(struct journal_index *index);
void journal_index_fini(struct journal_index *index);

/* What was read at start. */
void journal_index_load(struct journal_index *index, const struct journal_record *record);
/* Numbers begin at `next_number` at least; all there are so far are in the file. */
void journal_index_loaded(struct journal_index *index, uint64_t next_number);

enum journal_added {
    JOURNAL_ADDED,
    JOURNAL_KNOWN, /* says no more than an unconfirmed one that is there */
    JOURNAL_FULL   /* the tenant has its share pending */
};
/* Takes a revocation if the tenant has a share left of `limit` bytes (journal_shares.h); confirmed
 * ones make room. Appends to *record what is to be written, nothing if it is in the file already.
 */
enum journal_added journal_index_add(struct journal_index *index,
                                     const struct revocation *revocation, int64_t limit,
                                     struct buffer *record, uint64_t *number);
bool journal_index_find(struct journal_index *index, const uint8_t owner[JOURNAL_OWNER],
                        const uint8_t session[JOURNAL_SESSION], int64_t created_ms,
                        struct arena *arena, struct revocation *ret);
void journal_index_prefetch(struct journal_index *index, const uint8_t owner[JOURNAL_OWNER]);
struct revocation *journal_index_of_owner(struct journal_index *index,
                                          const uint8_t owner[JOURNAL_OWNER], struct arena *arena,
                                          size_t *count);
void journal_index_confirm(struct journal_index *index, uint64_t number);
size_t journal_index_list(struct journal_index *index, uint64_t before, bool unconfirmed_only,
                          struct arena *arena, struct revocation *ret, size_t most);
void journal_index_usage(struct journal_index *index, struct journal_usage *ret);

/* --- for the thread --- */

/* Forgets the confirmed ones that can kill nothing any more at this time; how many. */
size_t journal_index_expire(struct journal_index *index, int64_t now_s);
/* Appends the marks of what was confirmed since the last call; those of revocations that are not in
 * the file yet wait, since a mark before its record would say nothing. */
void journal_index_take_marks(struct journal_index *index, struct buffer *records);
/* Appends the records of some revocations with numbers above `after`; the last of these numbers, 0
 * if there were none. Then *end is the last number that was given. */
uint64_t journal_index_copy(struct journal_index *index, uint64_t after, struct buffer *records,
                            uint64_t *end);
/* These numbers are in the file. */
void journal_index_written(struct journal_index *index, const uint64_t *numbers, size_t count);
/* All up to this number are. */
void journal_index_cover(struct journal_index *index, uint64_t number);
/* The number that the next revocation gets; the last of those that are all in the file. */
uint64_t journal_index_next(struct journal_index *index);
uint64_t journal_index_covered(struct journal_index *index);
/* Revocations that are not in the file. */
size_t journal_index_unwritten(struct journal_index *index);
