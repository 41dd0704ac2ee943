/* All that Redis holds of one user, read from `sd:u:{T.U}`, and the edit that changes it.
 *
 * Fields of the hash: "!" the version (a decimal number, raised by every change) and, behind a
 * blank, the epoch (the version of the last change that could make a token invalid) if there was
 * one; "=" the sealed user record, "~" what the user was seen with (contexts.h), "#" how often
 * codes were guessed wrongly (guesses.h), an 8-byte session
 * id for each session's sealed record or tombstone, the id with 't' behind it for the time of last
 * use in seconds. The last is absent until the first touch: the session was last used when its pair
 * was issued. */
#pragma once

#include "conf.h"
#include "contexts.h"
#include "guesses.h"
#include "policy.h"
#include "record.h"
#include "store.h"

#define STATE_FIELD_VERSION  "!"
#define STATE_FIELD_USER     "="
#define STATE_FIELD_CONTEXTS "~"
#define STATE_FIELD_GUESSES  "#"
#define TOUCH_FIELD          (SESSION_ID + 1)

struct session {
    uint8_t id[SESSION_ID];
    struct record record;
    struct text device_id, device_type; /* out of the record's shown members; absent if not there */
    int64_t last_seen_s;
    const struct policy *policy; /* that holds for it; NULL: the configuration's defaults */
    bool ended; /* given up by the edit under way: rules_admit() and rules_bury() set it */
};

struct grave {
    uint8_t id[SESSION_ID];
    struct tombstone tombstone;
};

struct user_state {
    struct text stamp; /* the field "!" as it is, "0" if Redis has nothing of the user */
    int64_t version;   /* 0: nothing */
    int64_t epoch;     /* 0: no token was ever made invalid */
    struct user_record user;
    bool user_unreadable; /* then every session counts as revoked, see change.c */
    bool user_foreign;    /* sealed under a key that this node lacks: nothing can be said */
    bool user_outdated;   /* sealed under an older key: to be written again at the next change */
    struct session *sessions;
    size_t session_count;
    struct grave *graves;
    size_t grave_count;
    struct contexts contexts;
    bool contexts_foreign; /* sealed under a key that this node lacks: `contexts` is empty */
    struct guesses guesses;
    size_t unreadable_count; /* records that did not open: left alone */
    /* Of those the ones that are sealed under a key that this node lacks: sessions, living or
     * ended, of which nothing can be said. */
    uint8_t (*foreign)[SESSION_ID];
    size_t foreign_count;
};

/* A session as its record tells it, last used when its pair was issued. Texts lie in the arena. */
void session_open(struct session *ret, const uint8_t id[SESSION_ID], const struct record *record,
                  struct arena *arena);

/* What is needed to read and write records. */
struct state_codec {
    const struct keyring *keyring;
    bool encrypt;
    struct user_tag owner;
};

/* Reads the field "!"; both are 0 if the text is absent or nothing of the kind. */
void state_read_stamp(struct text stamp, int64_t *version, int64_t *epoch);

/* Reads the user record; an absent text means that nothing holds for the user. False if there is
 * one that does not open, which must not pass for "nothing holds". */
bool state_read_user(const struct state_codec *codec, struct text stored, struct arena *arena,
                     struct user_record *ret) MUST_CHECK;

/* Reads HGETALL's reply; everything lies in the arena. ERR_STORE_PROTOCOL if the reply is not an
 * array of fields and values that are strings, ERR_SEAL_KEY_UNKNOWN if the user record is foreign.
 */
enum err state_read(const struct state_codec *codec, const struct store_reply *reply,
                    struct arena *arena, struct user_state *ret) MUST_CHECK;

/* The session or grave with this id, NULL if there is none. */
struct session *state_find(const struct user_state *state, const uint8_t id[SESSION_ID]);
const struct grave *state_find_grave(const struct user_state *state, const uint8_t id[SESSION_ID]);
bool state_is_foreign(const struct user_state *state, const uint8_t id[SESSION_ID]);

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
    int64_t expire_ms; /* of the whole hash, wall clock; 0: never */
    bool raises_epoch; /* a token that was valid before may not be after */
};

/* Takes the session out of the state and puts a grave in its place. */
void state_bury(struct user_state *state, struct session *session,
                const struct tombstone *tombstone);

void edit_set_session(struct edit *edit, const uint8_t id[SESSION_ID], const struct record *record);
void edit_set_grave(struct edit *edit, const uint8_t id[SESSION_ID],
                    const struct tombstone *tombstone);
void edit_set_user(struct edit *edit, const struct user_record *user);
void edit_set_contexts(struct edit *edit, const struct contexts *contexts);
void edit_set_guesses(struct edit *edit, const struct guesses *guesses);
/* A code was right. */
void state_forget_guesses(struct user_state *state, struct edit *edit);
/* Deletes the record or tombstone and the time of last use. */
void edit_delete_session(struct edit *edit, const uint8_t id[SESSION_ID]);
void edit_delete_touch(struct edit *edit, const uint8_t id[SESSION_ID]);
