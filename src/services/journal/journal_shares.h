/* Private to the journal: each tenant's share, in bytes on disk, so that no tenant can displace or
 * shut out the others. Under the index's lock; look-ups of revocations never come here.
 *
 * Unconfirmed ones are never dropped, so they are limited when they arrive: a tenant may have as
 * much unconfirmed as is left for all others together. One alone has half of the journal, the next
 * half of the rest, and so on: a tenant without any always gets in. Room comes from confirmed ones,
 * of the tenants that have most, until they have no more than the others. */
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
/* All records must have been removed. */
void journal_shares_fini(struct journal_shares *shares);

/* Adds a record; the share lasts until its last record is removed. */
struct journal_share *journal_shares_put(struct journal_shares *shares,
                                         const uint8_t owner[OWNER_TAG], int64_t size,
                                         bool confirmed);
void journal_shares_confirm(struct journal_shares *shares, struct journal_share *share,
                            int64_t size);
void journal_shares_take(struct journal_shares *shares, struct journal_share *share, int64_t size,
                         bool confirmed);

/* True if the owner's tenant may have `size` more bytes unconfirmed, of `limit` for all. */
bool journal_shares_allow(const struct journal_shares *shares, const uint8_t owner[OWNER_TAG],
                          int64_t size, int64_t limit);
/* The most bytes that a tenant may keep so that dropping confirmed ones above it frees `surplus`
 * bytes; 0 if all confirmed ones together are less. */
int64_t journal_shares_level(const struct journal_shares *shares, int64_t surplus);
