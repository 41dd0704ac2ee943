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
 * with `resolving` set and must recognise its own work. The epoch is a key and a step of its own,
 * after the write: raised before it, another node could fill its cache with the old state and
 * believe it fresh; and two keys in one script would be refused with TRYAGAIN for as long as their
 * slot migrates. */
#pragma once

#include "service.h"
#include "state.h"

enum verdict {
    CHANGE_WRITE,    /* commit the edit */
    CHANGE_DONE,     /* nothing to write; operation->err says how it went */
    CHANGE_RESOLVED, /* the write of an earlier round is in Redis; what follows it is to be done */
};

struct change {
    /* Set by the operation. */
    struct operation *operation;
    struct state_codec codec;
    /* Fills *edit from *state. May be called several times, each time with a fresh edit. */
    enum verdict (*decide)(struct change *change, struct user_state *state, struct edit *edit);
    /* Called once; operation->err and durability are set. */
    void (*finish)(struct change *change);
    bool repairs; /* a replay: a state that is behind is what it comes to mend */

    /* Set by decide in each round: what the journal must know once the write is in Redis. */
    struct revocation *revocations;
    size_t revocation_count;

    struct change *next;      /* among the changes under way of this worker */
    struct change *successor; /* the change of the same user that goes next */
    struct change *last;      /* the end of that row, NULL if nobody waits */
    bool resolving;           /* an earlier write of this change may or may not have happened */
    bool applied;             /* the journal knew of revocations that Redis had not */

    /* Private to change.c. */
    char key[USER_KEY_LENGTH], epoch_key[USER_KEY_LENGTH];
    struct edit edit;
    unsigned attempts;
    struct text *arguments;
    char numbers[4][24];
    struct store_call call;
    int64_t fence_ms; /* as it was when the state was asked for */
    int64_t epoch;    /* of the state that is written */
    unsigned owed;    /* answers that the steps behind the write wait for */
    enum err epoch_err;
    struct journal_ticket ticket;
    uint64_t *numbers_journaled;
    bool journaled, kept; /* the journal took all of it; and has it on disk */
};

/* The verdict on a session that has ended already, or was never there. The node that ended it may
 * have died, or lost its connection, before the news was out: as long as a token of it could be
 * held for alive somewhere the news is told (again). */
enum verdict change_ended(struct change *change, const struct user_state *state,
                          const uint8_t session_id[SESSION_ID], struct edit *edit);

/* Starts with the read. */
void change_begin(struct change *change);

/* Records that a session was used, if Redis still has it: sent and forgotten. The hash's expiry
 * grows to expire_ms if that is later. */
void change_touch(struct operation *operation, const struct user_tag *owner,
                  const uint8_t session_id[SESSION_ID], int64_t seen_s, int64_t expire_ms);
