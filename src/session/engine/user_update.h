/* One change of a user's state: read it, decide in pure C, write with one compare-and-set, all over
 * again if somebody else was faster.
 *
 *   read ──► decide ──► write ──┬─► raise the epoch (if a token died) ──┬─► finish
 *              ▲           │      └─► journal what was revoked, on disk ──┘
 *              └───────────┘ conflict: the script answers with the state it found
 * What the journal knows of the user is applied to every state that is read, so that a revocation
 * that Redis lost is written again by whatever change comes first.
 * Changes of one user that meet on one worker go one after the other: racing each other, all but
 * one would lose every round. Those of other workers and nodes are what the compare-and-set is for.
 * A write whose fate is unknown (the connection broke) is resolved by reading again: `decide` runs
 * again and recognises its own work (user_update_wrote()). The epoch is a key and a step of its
 * own, after the write: raised before it, another node could fill its cache with the old state and
 * believe it fresh; and two keys in one script would be refused with TRYAGAIN for as long as their
 * slot migrates. */
#pragma once

#include "attempts.h"
#include "session/model/expiry.h"
#include "freshness.h"
#include "session/model/state.h"
#include "waiter.h"

enum update_decision {
    UPDATE_WRITE,    /* commit the edit */
    UPDATE_DONE,     /* nothing to write; operation->out.err says how it went */
    UPDATE_RESOLVED, /* the write of an earlier round is in Redis; what follows it is to be done */
};

struct user_update;
/* What a kind of change does. */
struct user_update_ops {
    /* Fills *edit from *state, and says in it what the journal must know once the write is in Redis
     * (revocation_add_to_edit()). May be called several times, each time with a fresh edit. */
    enum update_decision (*decide)(struct user_update *change, struct user_state *state,
                                   struct edit *edit);
    /* Called once; operation->out.err and durability are set. */
    void (*finish)(struct user_update *change);
};

/* Private to user_update.c. */
struct user_update_run {
    struct user_update *next;      /* among the changes under way of this worker */
    struct user_update *successor; /* the change of the same user that goes next */
    struct user_update *last;      /* the end of that row, NULL if nobody waits */
    char key[USER_KEY_LENGTH], epoch_key[USER_KEY_LENGTH];
    struct edit edit;
    unsigned rounds;
    struct text *arguments;
    char numbers[4][EXPIRY_TEXT];
    struct store_call call;
    struct read_guard guard;         /* of the state that was asked for last */
    struct attempts attempts;        /* writes whose fate is unknown */
    const struct store_reply *reply; /* that is being decided on */
    int64_t epoch;                   /* of the state that is written */
    unsigned owed;                   /* answers that the steps behind the write wait for */
    enum err epoch_err;
    struct commit_ticket ticket;
    uint64_t *numbers_journaled;
    bool journaled, kept; /* the journal took all of it; and has it on disk */
};

/* Lies in the operation's arena, until `finish`. */
struct user_update {
    /* Set by user_update_init(). */
    const struct user_update_ops *ops;
    struct operation *operation;
    struct state_codec codec; /* its owner is the user */
    /* Set by the operation, if so. */
    bool repairs; /* a replay: a state that is behind is what it comes to mend */

    /* To be read by decide and finish. */
    bool applied; /* the journal knew of revocations that Redis had not */

    struct user_update_run run;
};
void user_update_init(struct user_update *change, const struct user_update_ops *ops,
                      struct operation *operation, const struct user_tag *owner);

/* For decide: true if what the state has under this session's id, its record or its tombstone, was
 * written by an earlier round of this very change (attempts.h). */
bool user_update_wrote(const struct user_update *change, const uint8_t session_id[SESSION_ID]);

/* The verdict on a session that has ended already, or was never there. The node that ended it may
 * have died, or lost its connection, before the news was out: as long as a token of it could be
 * held for alive somewhere the news is told (again). */
enum update_decision user_update_ended(struct user_update *change, const struct user_state *state,
                                       const uint8_t session_id[SESSION_ID], struct edit *edit);

/* Starts with the read. */
void user_update_begin(struct user_update *change);

/* Records that a session was used, if Redis still has it: sent and forgotten. The hash's expiry
 * grows to expire_ms if that is later. */
void user_update_touch(struct operation *operation, const struct user_tag *owner,
                       const uint8_t session_id[SESSION_ID], int64_t seen_s, int64_t expire_ms);
