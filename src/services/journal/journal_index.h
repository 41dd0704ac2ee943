/* Private to the journal: the revocations in memory, by owner and by number.
 *
 * One lock, held for a look-up, a change, or one slice of a long walk; never across I/O. A counter
 * per hash of an owner finds owners without revocations without the lock. The gauges are kept here,
 * to be exact. */
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
    uint64_t covered; /* all numbers up to here are in the file */
    size_t records, unconfirmed;
    int64_t next_forget_s;  /* no confirmed one is due for forgetting before */
    struct buffer unmarked; /* numbers confirmed but not yet marked in the file */
};

void journal_index_init(struct journal_index *index);
void journal_index_fini(struct journal_index *index);

/* Adds a record read at start. */
void journal_index_load(struct journal_index *index, const struct journal_record *record);
/* After the last record: new numbers begin at `next_number` or higher, all present ones are in the
 * file. */
void journal_index_loaded(struct journal_index *index, uint64_t next_number);

enum journal_added {
    JOURNAL_ADDED,
    JOURNAL_KNOWN, /* covered by a present unconfirmed one */
    JOURNAL_FULL   /* the tenant has used its share of unconfirmed ones */
};
/* Adds a revocation if the tenant's share of `limit` bytes (journal_shares.h) allows it; confirmed
 * ones make room. Appends the record to be written to *record, nothing if it is in the file
 * already. */
enum journal_added journal_index_add(struct journal_index *index,
                                     const struct revocation *revocation, int64_t limit,
                                     struct buffer *record, uint64_t *number);
bool journal_index_find(struct journal_index *index, const uint8_t owner[OWNER_TAG],
                        const uint8_t session[SESSION_ID], int64_t created_ms, struct arena *arena,
                        struct revocation *ret);
void journal_index_prefetch(struct journal_index *index, const uint8_t owner[OWNER_TAG]);
struct revocation *journal_index_of_owner(struct journal_index *index,
                                          const uint8_t owner[OWNER_TAG], struct arena *arena,
                                          size_t *count);
void journal_index_confirm(struct journal_index *index, uint64_t number);
size_t journal_index_list(struct journal_index *index, uint64_t before, bool unconfirmed_only,
                          struct arena *arena, struct revocation *ret, size_t most);
void journal_index_usage(struct journal_index *index, struct journal_usage *ret);

/* --- for the thread --- */

/* Forgets confirmed ones whose tokens have all expired at this time; returns their number. */
size_t journal_index_expire(struct journal_index *index, int64_t now_s);
/* Appends the marks of revocations confirmed since the last call. Marks of records not yet in the
 * file wait, since a mark before its record has no effect. */
void journal_index_take_marks(struct journal_index *index, struct buffer *records);
/* Appends the records of some revocations with numbers above `after`. Returns the last of these
 * numbers, 0 if there were none; then *end is the last number ever given. */
uint64_t journal_index_copy(struct journal_index *index, uint64_t after, struct buffer *records,
                            uint64_t *end);
/* These numbers are in the file. */
void journal_index_written(struct journal_index *index, const uint64_t *numbers, size_t count);
/* All numbers up to this one are in the file. */
void journal_index_cover(struct journal_index *index, uint64_t number);
/* The number of the next revocation; the number up to which all are in the file. */
uint64_t journal_index_next(struct journal_index *index);
uint64_t journal_index_covered(struct journal_index *index);
/* The number of revocations that are not in the file. */
size_t journal_index_unwritten(struct journal_index *index);
