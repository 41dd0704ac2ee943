/* Orders freezes and lifts of a user: the latest one holds.
 *
 * Each freeze and lift has a stamp, milliseconds since 1970; the greatest holds. With Redis, the
 * user's record is read and written in one step, so a new stamp exceeds that of the record,
 * whatever the clocks show. A freeze without Redis has only this node's clock. It adds one second
 * in favour of freezing, since clocks agree within a second. It waits in the journal and is applied
 * if it is newer than the record. So it undoes an earlier lift, not a later one on another node.
 *
 * The stamp of a freeze is also its cutoff: sessions created before stay revoked whatever follows.
 * A stamp made by a wrong clock stays as an order number, and later stamps go up by one (rules.h).
 *
 * The record keeps the last stamp (user_record.decided_ms) for FREEZING_REMEMBERED_S. An older
 * freeze that reaches Redis later than that holds. */
#pragma once

#include "journal.h"
#include "record.h"

#define FREEZING_REMEMBERED_S (INT64_C(366) * 24 * 3600)

/* The freeze or lift with the greatest stamp, NULL if there is none. */
const struct revocation *freezing_last(const struct revocation *list, size_t count);
/* Applies the journal's latest freeze or lift if it is newer than the record. True if it was
 * applied. A record's stamp ahead of now (rules_is_ahead()) is from a wrong clock and proves no
 * order: a freeze that Redis lacks is then applied after it. */
bool freezing_apply(struct user_record *user, const struct revocation *last, int64_t now_ms);

/* The stamp of a freeze or lift made now with Redis. */
int64_t freezing_next_stamp(const struct user_record *user, int64_t now_ms);
