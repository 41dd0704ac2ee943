/* The edit that changes a user's state in Redis (state.h). */
#pragma once

#include "state.h"

/* Sets and deletes of hash fields that are applied together, or not at all. Lies in the arena. */
struct edit {
    struct arena *arena;
    const struct state_codec *codec;
    struct text *sets; /* field, value, field, value … */
    size_t set_count;
    size_t set_capacity;
    struct text *deletes;
    size_t delete_count;
    size_t delete_capacity;
    struct revocation *revocations; /* for the journal (journal.h), once the edit is written */
    size_t revocation_count;
    int64_t version;        /* of the user's state with this edit */
    int64_t expire_ms;      /* of the whole hash, wall clock; 0: never */
    bool invalidates;       /* a token valid before may not be valid after */
    bool gives_up;          /* it removes a session's record, which held the names */
    enum clock_trust trust; /* is there common time? */
    int64_t age_ms;         /* entries old by this time are removed: operation_age_ms() */
};

void edit_set_session(struct edit *edit, const uint8_t id[SESSION_ID], const struct record *record);
/* Replaces the session's record by a tombstone, and deletes the time of last use ... */
void edit_set_tombstone(struct edit *edit, const uint8_t id[SESSION_ID],
                        const struct tombstone *tombstone);
/* ... of a session with valid tokens, so every node is to be invalidated. */
void edit_end_session(struct edit *edit, const uint8_t id[SESSION_ID],
                      const struct tombstone *tombstone);
void edit_set_user(struct edit *edit, const struct user_record *user);
void edit_set_contexts(struct edit *edit, const struct contexts *contexts);
void edit_set_guesses(struct edit *edit, const struct guesses *guesses);
void edit_set_names(struct edit *edit, const struct names *names);
/* Deletes the record or tombstone and the time of last use. */
void edit_delete_session(struct edit *edit, const uint8_t id[SESSION_ID]);
void edit_delete_touch(struct edit *edit, const uint8_t id[SESSION_ID]);

/* Replaces a session of the state by a tombstone; in the edit too, unless that is NULL. */
void edit_end_in_state(struct user_state *state, struct session *session,
                       const struct tombstone *tombstone, struct edit *edit);
/* The same for a session that is not in the state: lost, or not to be opened here. At most one that
 * is not foreign. */
void edit_add_tombstone(struct user_state *state, const uint8_t id[SESSION_ID],
                        const struct tombstone *tombstone, struct edit *edit);

/* Clears the count of wrong codes: a code was right. */
void edit_forget_guesses(struct user_state *state, struct edit *edit);
