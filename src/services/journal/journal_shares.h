/* Private to the journal: what each tenant has in it, in bytes on disk, so that no tenant can drive
 * out or shut out the others. Under the index's lock; a look-up of revocations never comes here.
 *
 * Pending (unconfirmed) ones are never given up, so they are measured when they come: a tenant may
 * have as much pending as is left for all others together. One alone has half of the journal, the
 * next half of what is left, and so on: whoever has nothing pending gets in. What makes room are
 * confirmed ones, of the tenants that have most, until they have no more than the others. */
#pragma once

#include "hash.h"
#include "journal.h"

struct journal_share {
    struct hash_tagged by_tag;
    int64_t bytes, unconfirmed;
};

struct journal_shares {
    struct hash_table tenants;
    int64_t bytes, unconfirmed; /* of all */
};

void journal_shares_init(struct journal_shares *shares);
/* All records must have been taken out. */
void journal_shares_fini(struct journal_shares *shares);

/* Puts a record in; the share is there until its last record is taken out. */
struct journal_share *journal_shares_put(struct journal_shares *shares,
                                         const uint8_t owner[JOURNAL_OWNER], int64_t size,
                                         bool confirmed);
void journal_shares_confirm(struct journal_shares *shares, struct journal_share *share,
                            int64_t size);
void journal_shares_take(struct journal_shares *shares, struct journal_share *share, int64_t size,
                         bool confirmed);

/* May the owner's tenant have `size` more pending, if all may have `limit`? */
bool journal_shares_allow(const struct journal_shares *shares, const uint8_t owner[JOURNAL_OWNER],
                          int64_t size, int64_t limit);
/* The bytes that a tenant may keep if confirmed ones of those that have more are to give up
 * `surplus` bytes together; 0 if all that is confirmed does not come to that. */
int64_t journal_shares_level(const struct journal_shares *shares, int64_t surplus);
