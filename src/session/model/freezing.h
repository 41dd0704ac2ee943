/* Freezes and their lifting, put in order: what holds for a user is what was said last.
 *
 * Every freeze and every lift has a stamp, milliseconds since 1970; the greatest one holds. With
 * Redis at hand the user's record is read and written in one go, so its stamp is greater than that
 * of the record, whatever the clocks say. A freeze without Redis has only this node's clock, and
 * claims a second more than it shows, in favour of freezing: clocks agree within a second. It waits
 * in the journal, and is carried out where it is newer than the record: a lift that was said later
 * on another node is not undone by it, an earlier one is. The stamp of a freeze is its cutoff too:
 * sessions that were created before are dead whatever was said later. A stamp that a wrong clock
 * has made stays, as an order number: those after it go up by one (rules.h).
 *
 * The record keeps the stamp of the last decision (user_record.decided_ms) for
 * FREEZING_REMEMBERED_S. An older freeze that reaches Redis later than that holds. */
#pragma once

#include "journal.h"
#include "record.h"

#define FREEZING_REMEMBERED_S (INT64_C(366) * 24 * 3600)

/* The freeze or lift with the greatest stamp, NULL if there is none. */
const struct revocation *freezing_last(const struct revocation *list, size_t count);
/* Carries out what the journal says last, unless the record is as new. True if it was not. A stamp
 * of the record that lies ahead of now (rules_is_ahead()) was made by a wrong clock, and does not
 * tell whether it came later: a freeze that Redis has not got yet is carried out behind it. */
bool freezing_apply(struct user_record *user, const struct revocation *last, int64_t now_ms);

/* For a freeze or lift at this time with Redis at hand. */
int64_t freezing_next_stamp(const struct user_record *user, int64_t now_ms);
