/* The revocation journal: what was revoked through this node, on this node's disk, until Redis has
 * it and no token that it kills could live any more, by the time that deletion goes by
 * (clock_deletion_ms()). It is what keeps a revoked token dead when Redis is away, or forgets.
 *
 * A revocation holds on this node from journal_add() on, before it is on disk (journal_find). The
 * journal's thread writes what all lanes gave it in one go and syncs it (fdatasync, group
 * commit); then the tickets are done. A revocation is *unconfirmed* until somebody says that Redis
 * has it, on a replica too (journal_confirm); after a start all of them are to be looked at again,
 * but those that were confirmed stay so.
 *
 * File (mode 0600): a head, then records: length, kind, fields, and a checksum keyed with the names
 * secret (CRYPTO_JOURNAL), so that neither a torn nor a forged record is taken for one. Reading
 * stops at the first that does not check: the rest is cut off, kept beside it as FILE.damaged-TIME
 * if it is more than a torn last record, and told loudly; never silently. Rewritten (beside, then
 * renamed) when more than half of it is of no use any more. After a failed write or sync the file
 * is not trusted again: it is written anew from memory; until that works journal_healthy() is
 * false.
 *
 * Bounded by journal.max_bytes, of which an eighth is kept for appending: beyond it confirmed
 * revocations of the tenant that has most go, oldest first. Unsettled ones that are there are never
 * given up: when a tenant has as much unconfirmed as is left for all others together (alone: half),
 * journal_add() refuses more of it. Of one owner the newest 256 confirmed ones are kept. */
#pragma once

#include "commit_ticket.h"
#include "conf.h"
#include "crypto.h"
#include "memory.h"

#define JOURNAL_OWNER   14
#define JOURNAL_TENANT  6 /* the owner's first bytes tell the tenant */
#define JOURNAL_SESSION 8

enum revocation_kind {
    REVOKE_SESSION = 1, /* this session */
    REVOKE_BEFORE = 2,  /* the owner's sessions created before before_ms, but for an exempt one */
    REVOKE_FREEZE = 3,  /* the owner's sessions created before before_ms; and the owner is frozen */
    REVOKE_LIFT = 4     /* kills nothing: what was frozen before before_ms is so no more */
};
/* Of the freezes and lifts of an owner the one with the greatest before_ms holds; what that means
 * for the owner is the domain's to say (src/session/model/freezing.h). */

struct revocation {
    enum revocation_kind kind;
    uint8_t owner[JOURNAL_OWNER];
    union {
        uint8_t session[JOURNAL_SESSION]; /* REVOKE_SESSION: the one; REVOKE_BEFORE: the exempt */
        int64_t until_s; /* REVOKE_FREEZE: it ends by itself then; 0: it does not */
    };
    bool has_exempt;
    int64_t before_ms;
    int64_t at_ms;             /* when it was revoked, wall clock */
    int64_t forget_s;          /* no token that it kills lives in a later second */
    struct text reason, actor; /* at most 255 bytes each, cut if longer */
    uint64_t number;           /* given by journal_add(), grows */
    bool confirmed;
};

struct journal;
struct journal_lane;

/* Reads the file (journal.file) or makes one, starts the thread. NULL with *error if it cannot be
 * written, or is not to be read: of another names secret, not a journal, in use. The keyring is
 * only used for its names secret; the journal takes a reference of its own. */
struct journal *journal_open(const struct conf *conf, struct keyring *keyring,
                             struct buffer *error);
/* Writes and syncs what is left, stops the thread. Lanes must be gone. */
void journal_close(struct journal **journal);
void journal_reload(struct journal *journal, const struct conf *conf);
/* The keyring from now on. One with another names secret has the file written anew, so that the
 * next start can read it. Any thread. */
void journal_rekey(struct journal *journal, struct keyring *keyring);
/* False while revocations cannot be brought to disk. Any thread, an atomic read. */
bool journal_healthy(const struct journal *journal);

/* A worker's end, like the audit's: `wake` is called on the journal's thread when tickets are done
 * and must only wake the worker's loop, which then calls journal_collect(). Destroying waits until
 * every ticket is decided and its `done` was called. */
struct journal_lane *journal_lane_create(struct journal *journal, void (*wake)(void *), void *user);
void journal_lane_destroy(struct journal_lane **lane);
/* Takes a revocation: it holds from now on. With a ticket `done` is called when it is on disk, or
 * cannot be brought there (then it still holds, and is still replayed, as long as this process
 * lives). False, with nothing taken and no call of `done`, if the journal is full for this tenant.
 * One that says no more than an unconfirmed one that is there gets that one's number and still
 * waits for the disk. *number (may be NULL) tells its number. */
bool journal_add(struct journal_lane *lane, const struct revocation *revocation,
                 struct commit_ticket *ticket, uint64_t *number);
/* Hands over to the thread; once at the end of each loop turn. */
void journal_flush(struct journal_lane *lane);
void journal_collect(struct journal_lane *lane);

/* Is this session revoked here? Costs an atomic read for owners without revocations. *ret (texts in
 * the arena) tells by which, the first if there are several; may be NULL. Any thread, as all that
 * follow. */
bool journal_find(struct journal *journal, const uint8_t owner[JOURNAL_OWNER],
                  const uint8_t session[JOURNAL_SESSION], int64_t created_ms, struct arena *arena,
                  struct revocation *ret);
/* The read of an owner without revocations comes nearer to the processor, for journal_find() some
 * hundred nanoseconds later. */
void journal_prefetch(struct journal *journal, const uint8_t owner[JOURNAL_OWNER]);
/* All revocations of the owner, oldest first; NULL and 0 if there are none. Lies in the arena. */
struct revocation *journal_of_owner(struct journal *journal, const uint8_t owner[JOURNAL_OWNER],
                                    struct arena *arena, size_t *count);

/* Redis has it, on a replica too. Numbers that are not there are ignored. */
void journal_confirm(struct journal *journal, uint64_t number);
/* Up to `most` revocations with numbers below `before`, newest first, texts in the arena. */
size_t journal_list(struct journal *journal, uint64_t before, bool unconfirmed_only,
                    struct arena *arena, struct revocation *ret, size_t most);

struct journal_usage {
    size_t records, unconfirmed;
    int64_t bytes; /* of the file */
};
void journal_usage(struct journal *journal, struct journal_usage *ret);
