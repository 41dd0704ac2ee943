/* One read of a user's whole state, guarded (freshness.h). */
#pragma once

#include "freshness.h"
#include "session/model/keys.h"
#include "session/model/state.h"

/* Lies in the reader's memory until `done`. */
struct user_read {
    /* Set by the reader. `state` lies in the operation's arena; NULL if err. */
    void (*done)(struct user_read *read, enum err err, struct user_state *state);
    struct operation *operation;
    struct user_tag owner;

    /* Private. */
    struct store_call call;
    struct text arguments[2];
    char key[KEYS_USER_LENGTH];
    struct read_guard guard;
};

/* Reads by the operation's deadline. With `near` a replica may answer, maybe a little late. If it
 * is behind what this node has seen, the master is asked. */
void user_read_begin(struct user_read *read, bool near);
