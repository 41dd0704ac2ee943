/* What the cache holds of a session, and what can be said by it.
 *
 * A living session: what the rules need to judge a token of it, and the text of the answer, ready
 * to send. A dead one: why, by whom, when - which stays true for ever, since session ids never come
 * back. And who a user is that has dead ones, once for all of them, under session id 0.
 * Seconds since 1970 in 32 bits last until 2106. Values are in the machine's own byte order;
 * a snapshot does not leave the machine. */
#pragma once

#include "session/model/rules.h"
#include "service.h"

enum cache_value_kind { CACHE_VALUE_ACTIVE = 1, CACHE_VALUE_ENDED = 2, CACHE_VALUE_NAMES = 3 };

/* Where a text lies in `shown`, whose escapes are left as they are. */
struct cache_value_piece {
    uint16_t offset;
    uint16_t length; /* CACHE_VALUE_ESCAPED: it has escapes, to be read the long way */
};
#define CACHE_VALUE_ESCAPED UINT16_MAX

enum cache_value_flags {
    CACHE_VALUE_REMEMBER = 1,
    CACHE_VALUE_PREVIOUS = 2,      /* the hash of the access token before lies behind the head */
    CACHE_VALUE_PREVIOUS_OVER = 4, /* record.previous_access_over */
    CACHE_VALUE_BOUND = 8,  /* what the session is bound to lies behind that, its length first */
    CACHE_VALUE_BEGAN = 16, /* record.began_s lies before both, 4 bytes */
};

struct cache_value_active {
    uint8_t kind;
    uint8_t flags;
    uint16_t slot;
    struct cache_value_piece tenant, user_id, device_id, device_type;
    bool touch_owed; /* Redis was away when it was used; a byte of its own, to be patched */
    int64_t version; /* of the user's state that it was read from */
    int64_t issued_ms;
    uint32_t absolute_s;  /* since 1970, as the next: until 2106 */
    uint32_t last_seen_s; /* as far as this node knows */
    uint8_t access_hash[SECRET_HASH];
    /* Behind it: began_s if CACHE_VALUE_BEGAN; previous_access_hash if CACHE_VALUE_PREVIOUS; if
     * CACHE_VALUE_BOUND 2 bytes of length and binding.h's items; then the text. */
};

struct cache_value_ended {
    uint8_t kind;
    uint8_t reason_length, actor_length;
    int64_t ended_s;
    /* reason, actor */
};

struct cache_value_names {
    uint8_t kind;
    uint8_t tenant_length, user_id_length;
    /* tenant, user id; both empty where nobody knows them */
};

/* Appends the value for a session that lives, with its text as session_json_complete() makes it,
 * and what it is bound to, if the policy looks at that, else NULL. */
void cache_value_write_active(struct buffer *out, const struct session *session, unsigned slot,
                              int64_t version, struct text session_json, const struct text *items);
void cache_value_write_ended(struct buffer *out, const struct tombstone *tombstone);
void cache_value_write_names(struct buffer *out, const struct names *names);
/* Notes in a living one's value that Redis is still to be told of the last use. */
void cache_value_owe_touch(struct buffer *value);

/* The kind of a value; 0 if it is none of ours. */
enum cache_value_kind cache_value_kind(struct text value);
/* A dead one's words, borrowed from the value. */
void cache_value_read_ended(struct text value, struct tombstone *ret);

/* Names, borrowed from the value; absent if nobody knows them. False if the value is no such thing.
 */
bool cache_value_read_names(struct text value, struct names *ret);

/* A living one, opened: borrowed from the value. */
struct cache_value {
    struct cache_value_active head;
    struct session session; /* what rules_judge_access() needs; the record's texts are absent */
    struct text session_json;
    bool has_items; /* what it is bound to is known */
    struct text items;
};
bool cache_value_read_active(struct text value, const uint8_t session_id[SESSION_ID],
                             struct cache_value *ret);

/* The type of its device; absent if it has none. */
struct text cache_value_device_type(const struct cache_value *cache_value, struct arena *arena);
/* Tenant, user and device for the audit line. */
void cache_value_note(struct operation *operation, const struct cache_value *cache_value);

/* How far back an entry was known to be true, in milliseconds; fresh entries are known to be true
 * now. */
bool cache_value_is_fresh(const struct session_service *service, const struct cache_entry *entry,
                          unsigned slot, int64_t now_ms);
int64_t cache_value_verified_ms(const struct session_service *service,
                                const struct cache_entry *entry, unsigned slot);

/* Notes a use in the cache; `owed`: Redis was not told. */
void cache_value_touch(struct session_service *service, const struct cache_key *key,
                       const struct cache_value *cache_value, int64_t seen_s, bool owed);
