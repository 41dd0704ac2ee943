/* Cache values of a session, and what they can answer.
 *
 * - Active session: the input of the rules that judge its token, and the response text, ready to
 *   send.
 * - Ended session: why, by whom and when. Valid for ever, since session ids never come back.
 * - Names: the names of a user with ended sessions, stored once under session id 0.
 * Seconds since 1970 in 32 bits last until 2106. Values are in the machine's byte order; a snapshot
 * does not leave the machine. */
#pragma once

#include "service.h"
#include "session/model/rules.h"

enum cache_value_kind { CACHE_VALUE_ACTIVE = 1, CACHE_VALUE_ENDED = 2, CACHE_VALUE_NAMES = 3 };

/* Location of a text in the session JSON, with its escapes. */
struct cache_value_piece {
    uint16_t offset;
    uint16_t length; /* CACHE_VALUE_ESCAPED: has escapes, must be unescaped */
};
#define CACHE_VALUE_ESCAPED UINT16_MAX

enum cache_value_flags {
    CACHE_VALUE_REMEMBER = 1,
    CACHE_VALUE_PREVIOUS = 2,      /* the hash of the previous access token follows the head */
    CACHE_VALUE_PREVIOUS_OVER = 4, /* record.previous_access_over */
    CACHE_VALUE_BOUND = 8,         /* the bindings follow that, their length first */
    CACHE_VALUE_BEGAN = 16,        /* record.began_s precedes both, 4 bytes */
    CACHE_VALUE_RECOGNISES = 32,   /* a MAC of the present token stands for access_hash */
};

struct cache_value_active {
    uint8_t kind;
    uint8_t flags;
    uint16_t slot;
    struct cache_value_piece tenant, user_id, device_id, device_type;
    bool touch_owed; /* used while Redis was away; a byte of its own, to be patched */
    int64_t version; /* of the user's state that was read */
    int64_t issued_ms;
    uint32_t absolute_s;  /* since 1970, as the next: until 2106 */
    uint32_t last_seen_s; /* as far as this node knows */
    uint8_t access_hash[SECRET_HASH];
    /* Followed by began_s if CACHE_VALUE_BEGAN; previous_access_hash if CACHE_VALUE_PREVIOUS; 2
     * bytes of length and binding.h's items if CACHE_VALUE_BOUND; then the text. */
};

struct cache_value_ended {
    uint8_t kind;
    uint8_t reason_length, actor_length;
    int64_t ended_s;
    /* followed by reason, actor */
};

struct cache_value_names {
    uint8_t kind;
    uint8_t tenant_length, user_id_length;
    /* followed by tenant, user id; both empty if unknown */
};

/* Appends the value of an active session. `session_json` is as session_json_complete() makes it.
 * `items` are the bindings if the policy checks any, else NULL. */
void cache_value_write_active(struct buffer *out, const struct session *session, unsigned slot,
                              int64_t version, struct text session_json, const struct text *items);
void cache_value_write_ended(struct buffer *out, const struct tombstone *tombstone);
void cache_value_write_names(struct buffer *out, const struct names *names);
/* Marks an active session's value: Redis has yet to get its last use. */
void cache_value_owe_touch(struct buffer *value);

/* The kind of a value; 0 if it is not ours. */
enum cache_value_kind cache_value_kind(struct text value);
/* Reads an ended session's value; the texts are borrowed from it. */
void cache_value_read_ended(struct text value, struct tombstone *ret);

/* Reads a names value; the names are borrowed from it, and absent if unknown. False if the value is
 * of another kind. */
bool cache_value_read_names(struct text value, struct names *ret);

/* An active session's value, opened: borrowed from the value. */
struct cache_value {
    struct cache_value_active head;
    struct session session; /* input of rules_judge_access(); the record's texts are absent */
    struct text session_json;
    bool has_items; /* its bindings are known */
    struct text items;
};
bool cache_value_read_active(struct text value, const uint8_t session_id[SESSION_ID],
                             struct cache_value *ret);

/* Recognises the present access token by its MAC under a key of this installation, which costs a
 * fifth of its hash. True: *hash and the record's access_hash are the MAC. False: it is another
 * token, or the value has the hash yet: token_hash_secret() then tells. */
bool cache_value_recognise(const struct session_service *service, struct cache_value *cache_value,
                           const struct token *token, uint8_t hash[SECRET_HASH]);
/* Puts the MAC in place of the hash if `hash`, the token's, is that of the present token; unless
 * the entry changed meanwhile. */
void cache_value_learn(struct session_service *service, const struct cache_key *key,
                       const struct cache_value *cache_value, const struct token *token,
                       const uint8_t hash[SECRET_HASH]);

/* The device type of the session; absent if it has none. */
struct text cache_value_device_type(const struct cache_value *cache_value, struct arena *arena);
/* Notes tenant, user and device for the audit line. */
void cache_value_note(struct operation *operation, const struct cache_value *cache_value);

/* cache_value_is_fresh(): true if the entry is known to be current. cache_value_verified_ms(): when
 * it was last known to be, in milliseconds of clock_boot_ms(). */
bool cache_value_is_fresh(const struct session_service *service, const struct cache_entry *entry,
                          unsigned slot, int64_t now_ms);
int64_t cache_value_verified_ms(const struct session_service *service,
                                const struct cache_entry *entry, unsigned slot);

/* Records a use in the cache. `owed`: Redis has yet to get it. */
void cache_value_touch(struct session_service *service, const struct cache_key *key,
                       const struct cache_value *cache_value, int64_t seen_s, bool owed);
