/* One update of a user's state: read it, decide in pure C, write with one compare-and-set. On a
 * conflict it starts again with the state found.
 *
 *   read ──► decide ──► write ──┬─► raise the epoch (if a token ended) ──┬─► finish
 *              ▲           │      └─► journal the revocations, on disk ───┘
 *              └───────────┘ conflict: the script answers with the state it found
 * - The journal's revocations of the user are applied to every state that is read. So any update
 *   rewrites a revocation that Redis lost.
 * - Updates of one user on one worker run one after the other; racing, all but one would lose
 *   every round. The compare-and-set orders those of other workers and nodes.
 * - A write of unknown outcome (the connection broke) is resolved by reading again: `decide`
 *   runs again and recognises its own work (user_update_wrote()).
 * - The epoch is a key of its own, raised after the write. Raised before, another node could
 *   cache the old state as fresh. Both keys in one script would get TRYAGAIN while their slot
 *   migrates. */
#pragma once

#include "attempts.h"
#include "freshness.h"
#include "session/model/edit.h"
#include "session/model/expiry.h"
#include "session/model/keys.h"
#include "waiter.h"

enum update_decision {
    UPDATE_WRITE,    /* write the edit */
    UPDATE_DONE,     /* nothing to write; operation->out.err holds the outcome */
    UPDATE_RESOLVED, /* an earlier round's write is in Redis; the steps after it remain */
};

struct user_update;
/* The steps that a kind of update defines. */
struct user_update_ops {
    /* Fills *edit from *state, including the revocations that the journal gets after the write
     * (revocation_add_to_edit()). May be called several times, each time with an empty edit. */
    enum update_decision (*decide)(struct user_update *change, struct user_state *state,
                                   struct edit *edit);
    /* Called once; operation->out.err and durability are set. */
    void (*finish)(struct user_update *change);
};

/* Private to user_update.c. */
struct user_update_run {
    struct user_update *next;      /* among this worker's updates in flight */
    struct user_update *successor; /* the next update of the same user */
    struct user_update *last;      /* the end of that queue, NULL if it is empty */
    char key[KEYS_USER_LENGTH], epoch_key[KEYS_USER_LENGTH];
    struct edit edit;
    unsigned rounds;
    struct text *arguments;
    char numbers[4][EXPIRY_TEXT];
    struct store_call call;
    struct read_guard guard;         /* of the last read */
    struct attempts attempts;        /* writes of unknown outcome */
    const struct store_reply *reply; /* the reply being decided on */
    int64_t epoch;                   /* of the written state */
    unsigned owed;                   /* steps after the write still to be answered */
    enum err epoch_err;
    struct commit_ticket ticket;
    uint64_t *numbers_journaled;
    bool journaled, kept; /* the journal accepted all of it; and has it on disk */
};

/* Lies in the operation's arena, until `finish`. */
struct user_update {
    /* Set by user_update_init(). */
    const struct user_update_ops *ops;
    struct operation *operation;
    struct state_codec codec; /* its owner is the user */
    /* May be set by the operation. */
    bool repairs; /* a replay, which accepts a state that is behind and repairs it */

    /* For decide and finish. */
    bool applied; /* the journal had revocations that Redis lacked */

    struct user_update_run run;
};
/* Names the scripts once, before threads start. */
void user_update_prepare(void);

void user_update_init(struct user_update *change, const struct user_update_ops *ops,
                      struct operation *operation, const struct user_tag *owner);

/* For decide: true if an earlier round of this update wrote the record or tombstone that the state
 * has under this id (attempts.h). */
bool user_update_wrote(const struct user_update *change, const uint8_t session_id[SESSION_ID]);

/* The decision for a session that has ended already or never existed. The node that ended it may
 * have failed before the invalidation was out. So while a token of it may count as valid somewhere,
 * the user is invalidated (again). */
enum update_decision user_update_invalidate_again(struct user_update *change,
                                                  const struct user_state *state,
                                                  const uint8_t session_id[SESSION_ID],
                                                  struct edit *edit);

/* Starts the update with its read. */
void user_update_begin(struct user_update *change);

/* Records a use of the session, if Redis still has it, without waiting. Extends the hash's expiry
 * to expire_ms if that is later. */
void user_update_touch(struct operation *operation, const struct user_tag *owner,
                       const uint8_t session_id[SESSION_ID], int64_t seen_s, int64_t expire_ms);
