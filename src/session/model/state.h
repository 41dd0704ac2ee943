/* All that Redis holds of one user, read from `sd:u:{T.U}` (edit.h changes it). Fields of the hash:
 *
 *   "!"     version, a decimal number raised by every change; then, if there was one, a blank and
 *           the epoch, the version of the last change that could make a token invalid
 *   "="     sealed user record
 *   "~"     known devices and locations (contexts.h)
 *   "#"     count of wrong codes (guesses.h)
 *   "@"     the user's sealed names, once a session record that held them was removed; a node
 *           that does not know the field leaves it alone
 *   id      8 bytes, a session: its sealed record or tombstone
 *   id 't'  time of the session's last use in seconds. Absent until the first touch: the session
 *           was last used when its pair was issued */
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

/* Session id 0: records of the user, not of a session, are bound to it. */
extern const uint8_t state_no_session[SESSION_ID];

struct session {
    uint8_t id[SESSION_ID];
    struct record record;
    struct text device_id, device_type; /* from the session JSON; absent if missing there */
    int64_t last_seen_s;
    const struct policy *policy; /* the session's own; NULL: the configuration's defaults */
    bool ended; /* by the edit in progress: admit_login() and rules_end_session() set it */
};

struct tombstone_entry {
    uint8_t id[SESSION_ID];
    struct tombstone tombstone;
};

struct user_state {
    struct text stamp; /* the field "!" as it is, "0" if Redis has no state of the user */
    int64_t version;   /* 0: no state */
    int64_t epoch;     /* 0: no token was ever made invalid */
    struct user_record user;
    bool user_unreadable; /* then every session counts as revoked, see user_update.c */
    bool user_foreign;    /* sealed under a key that this node lacks: its content is unknown */
    bool user_outdated;   /* sealed under an older key: rewritten at the next update */
    struct session *sessions;
    size_t session_count;
    struct tombstone_entry *tombstones;
    size_t tombstone_count;
    struct contexts contexts;
    bool contexts_foreign; /* sealed under a key that this node lacks: `contexts` is empty */
    struct guesses guesses;
    struct names names; /* absent until they are kept */
    bool names_outdated;
    struct text session_json; /* session JSON of a session that was read; it has the names too */
    size_t unreadable_count;  /* records that did not open: left alone */
    /* The unreadable ones sealed under a key that this node lacks: sessions, active or ended, of
     * unknown content. */
    uint8_t (*foreign)[SESSION_ID];
    size_t foreign_count;
};

/* Opens a session from its record, last used when its pair was issued. Texts lie in the arena. */
void session_open(struct session *ret, const uint8_t id[SESSION_ID], const struct record *record,
                  struct arena *arena);

/* Keys to read and write a user's records. */
struct state_codec {
    const struct keyring *keyring;
    bool encrypt;
    struct user_tag owner;
    unsigned format; /* the latest that all nodes read: of the records to write (record.h) */
};

/* Reads the field "!". Both are 0 if the text is absent or invalid. */
void state_read_stamp(struct text stamp, int64_t *version, int64_t *epoch);

/* Reads the user record. An absent text is an empty record: no freeze, no cutoff. False if the
 * record does not open, which must not pass for an empty one. */
bool state_read_user(const struct state_codec *codec, struct text stored, struct arena *arena,
                     struct user_record *ret) MUST_CHECK;

/* The user's names; absent if not kept, or if they do not open. */
struct names state_read_names(const struct state_codec *codec, struct text stored,
                              struct arena *arena);

/* Reads the reply of HGETALL; everything lies in the arena. ERR_STORE_PROTOCOL if it is not an
 * array of fields and string values, ERR_SEAL_KEY_UNKNOWN if the user record is foreign. */
enum err state_read(const struct state_codec *codec, const struct store_reply *reply,
                    struct arena *arena, struct user_state *ret) MUST_CHECK;

/* The session or tombstone with this id, NULL if there is none. */
struct session *state_find(const struct user_state *state, const uint8_t id[SESSION_ID]);
const struct tombstone_entry *state_find_tombstone(const struct user_state *state,
                                                   const uint8_t id[SESSION_ID]);
bool state_is_foreign(const struct user_state *state, const uint8_t id[SESSION_ID]);

/* The names as kept, or from a session; absent if neither has them. */
struct names state_names(const struct user_state *state, struct arena *arena);
