/* The revocation journal keeps what was revoked through this node on this node's disk, until Redis
 * has it and every token that it revokes has expired by the clock of deletions
 * (clock_deletion_ms()). The journal keeps a revoked token dead when Redis is unreachable or loses
 * data.
 *
 * A revocation holds on this node from journal_add() on, before it is on disk (journal_find). The
 * journal's thread writes the batches of all lanes in one go and syncs them (fdatasync, group
 * commit); then the tickets are done. A revocation is *unconfirmed* until journal_confirm() says
 * that Redis has it, on a replica too. Confirmed ones stay so across a restart; the others are to
 * be replayed.
 *
 * File (mode 0600): a header, then records: length, kind, fields, and a checksum keyed with the
 * names secret (CRYPTO_JOURNAL), so that neither a torn nor a forged record is taken for one.
 * Reading stops at the first record that fails its check. The rest is cut off and logged, and kept
 * beside the file as FILE.damaged-TIME if it is more than a torn last record. The file is rewritten
 * (beside, then renamed) when more than half of it is obsolete. After a failed write or sync the
 * file is not trusted: it is rewritten from memory, and until that works journal_healthy() is
 * false.
 *
 * The journal is bounded by journal.max_bytes, of which an eighth is kept for appending. Beyond it
 * confirmed revocations of the tenant that has most are dropped, oldest first. Unconfirmed ones are
 * never dropped: journal_add() refuses more of a tenant whose unconfirmed ones take as much space
 * as remains for all others (half, if it is the only one). The newest 256 confirmed ones of an
 * owner are kept. */
#pragma once

#include "commit_ticket.h"
#include "conf.h"
#include "crypto.h"
#include "ids.h"
#include "memory.h"

enum revocation_kind {
    REVOKE_SESSION = 1, /* this session */
    REVOKE_BEFORE = 2,  /* the owner's sessions created before before_ms, except one */
    REVOKE_FREEZE = 3,  /* the owner's sessions created before before_ms; and the owner is frozen */
    REVOKE_LIFT = 4     /* revokes nothing: lifts a freeze from before before_ms */
};
/* The freeze or lift of an owner with the greatest before_ms holds; its meaning for the owner is
 * the domain's (src/session/model/freezing.h). */

struct revocation {
    enum revocation_kind kind;
    uint8_t owner[OWNER_TAG];
    union {
        uint8_t session[SESSION_ID]; /* REVOKE_SESSION: the one; REVOKE_BEFORE: the exempt */
        int64_t until_s;             /* REVOKE_FREEZE: its end; 0: none */
    };
    bool has_exempt;
    int64_t before_ms;
    int64_t at_ms;             /* time of the revocation, wall clock */
    int64_t forget_s;          /* all its tokens have expired after this second */
    struct text reason, actor; /* at most 255 bytes each, cut if longer */
    uint64_t number;           /* given by journal_add(), grows */
    bool confirmed;
};

struct journal;
struct journal_lane;

/* Reads the file (journal.file) or creates it, and starts the thread. NULL with *error if the file
 * cannot be written, or is no journal of this names secret. The keyring is only used for its names
 * secret; the journal takes a reference of its own. */
struct journal *journal_open(const struct conf *conf, struct keyring *keyring,
                             struct buffer *error);
/* Writes and syncs the rest, stops the thread. Lanes must be destroyed. */
void journal_close(struct journal **journal);
void journal_reload(struct journal *journal, const struct conf *conf);
/* Replaces the keyring. One with another names secret makes the thread rewrite the file, so that
 * the next start can read it. Any thread. */
void journal_rekey(struct journal *journal, struct keyring *keyring);
/* False while revocations cannot be written to disk. Any thread, an atomic read. */
bool journal_healthy(const struct journal *journal);

/* A worker's end of the queue, like the audit's: `wake` is called on the journal's thread when
 * tickets are done and must only wake the worker's loop, which then calls journal_collect().
 * Destroying waits until every ticket is decided and its `done` was called. */
struct journal_lane *journal_lane_create(struct journal *journal, void (*wake)(void *), void *user);
void journal_lane_destroy(struct journal_lane **lane);
/* Adds a revocation, which holds from now on. With a ticket, `done` is called when it is on disk or
 * could not be written; in the latter case it still holds and is replayed while this process runs.
 * False, with nothing added and no call of `done`, if the journal is full for this tenant. A
 * revocation that an unconfirmed one covers already gets that one's number, and its ticket still
 * waits for the disk. *number (may be NULL) is its number. */
bool journal_add(struct journal_lane *lane, const struct revocation *revocation,
                 struct commit_ticket *ticket, uint64_t *number);
/* Hands over to the thread; once at the end of each loop turn. */
void journal_flush(struct journal_lane *lane);
void journal_collect(struct journal_lane *lane);

/* True if this session is revoked here. An owner without revocations costs an atomic read. *ret
 * (may be NULL) is the first revocation that revokes it, with texts in the arena. Any thread, as
 * all that follow. */
bool journal_find(struct journal *journal, const uint8_t owner[OWNER_TAG],
                  const uint8_t session[SESSION_ID], int64_t created_ms, struct arena *arena,
                  struct revocation *ret);
/* Prefetches the counter that journal_find() reads, to be called some hundred nanoseconds before.
 */
void journal_prefetch(struct journal *journal, const uint8_t owner[OWNER_TAG]);
/* All revocations of the owner, oldest first; NULL and 0 if there are none. Lies in the arena. */
struct revocation *journal_of_owner(struct journal *journal, const uint8_t owner[OWNER_TAG],
                                    struct arena *arena, size_t *count);

/* Notes that Redis has it, on a replica too. Unknown numbers are ignored. */
void journal_confirm(struct journal *journal, uint64_t number);
/* Up to `most` revocations with numbers below `before`, newest first, texts in the arena. */
size_t journal_list(struct journal *journal, uint64_t before, bool unconfirmed_only,
                    struct arena *arena, struct revocation *ret, size_t most);

struct journal_usage {
    size_t records, unconfirmed;
    int64_t bytes; /* of the file */
};
void journal_usage(struct journal *journal, struct journal_usage *ret);
