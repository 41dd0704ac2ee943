/* All that Redis holds of one user, read from `sd:u:{T.U}` (edit.h changes it).
 *
 * Fields of the hash: "!" the version (a decimal number, raised by every change) and, behind a
 * blank, the epoch (the version of the last change that could make a token invalid) if there was
 * one; "=" the sealed user record, "~" what the user was seen with (contexts.h), "#" how often
 * codes were guessed wrongly (guesses.h), "@" who the user is, sealed, once a session was given up
 * whose record told it (a node that does not know the field leaves it alone), an 8-byte session
 * id for each session's sealed record or tombstone, the id with 't' behind it for the time of last
 * use in seconds. The last is absent until the first touch: the session was last used when its pair
 * was issued. */
#pragma once

#include "clock.h"
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
#define STATE_FIELD_NAMES    "@"
#define TOUCH_FIELD          (SESSION_ID + 1)

/* The id to which records are bound that hold for the user, not for a session. */
extern const uint8_t state_no_session[SESSION_ID];

struct session {
    uint8_t id[SESSION_ID];
    struct record record;
    struct text device_id, device_type; /* out of the record's shown members; absent if not there */
    int64_t last_seen_s;
    const struct policy *policy; /* that holds for it; NULL: the configuration's defaults */
    bool ended; /* given up by the edit under way: admit_login() and rules_end_session() set it */
};

struct tombstone_entry {
    uint8_t id[SESSION_ID];
    struct tombstone tombstone;
};

struct user_state {
    struct text stamp; /* the field "!" as it is, "0" if Redis has nothing of the user */
    int64_t version;   /* 0: nothing */
    int64_t epoch;     /* 0: no token was ever made invalid */
    struct user_record user;
    bool user_unreadable; /* then every session counts as revoked, see user_update.c */
    bool user_foreign;    /* sealed under a key that this node lacks: nothing can be said */
    bool user_outdated;   /* sealed under an older key: to be written again at the next change */
    struct session *sessions;
    size_t session_count;
    struct tombstone_entry *tombstones;
    size_t tombstone_count;
    struct contexts contexts;
    bool contexts_foreign; /* sealed under a key that this node lacks: `contexts` is empty */
    struct guesses guesses;
    struct names names; /* absent until they are kept */
    bool names_outdated;
    struct text session_json; /* the members of a session that was read: they tell the names, too */
    size_t unreadable_count;  /* records that did not open: left alone */
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

/* The user's names; absent if they are not kept, or do not open. */
struct names state_read_names(const struct state_codec *codec, struct text stored,
                              struct arena *arena);

/* Reads HGETALL's reply; everything lies in the arena. ERR_STORE_PROTOCOL if the reply is not an
 * array of fields and values that are strings, ERR_SEAL_KEY_UNKNOWN if the user record is foreign.
 */
enum err state_read(const struct state_codec *codec, const struct store_reply *reply,
                    struct arena *arena, struct user_state *ret) MUST_CHECK;

/* The session or tombstone with this id, NULL if there is none. */
struct session *state_find(const struct user_state *state, const uint8_t id[SESSION_ID]);
const struct tombstone_entry *state_find_tombstone(const struct user_state *state,
                                                   const uint8_t id[SESSION_ID]);
bool state_is_foreign(const struct user_state *state, const uint8_t id[SESSION_ID]);

/* As they are kept, or as a session tells them; absent if nothing does. */
struct names state_names(const struct user_state *state, struct arena *arena);
