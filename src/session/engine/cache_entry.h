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

enum cached_kind { CACHED_LIVE = 1, CACHED_DEAD = 2, CACHED_NAMES = 3 };

/* Where a text lies in `shown`, whose escapes are left as they are. */
struct cached_piece {
    uint16_t offset;
    uint16_t length; /* CACHED_ESCAPED: it has escapes, to be read the long way */
};
#define CACHED_ESCAPED UINT16_MAX

enum cached_flags {
    CACHED_REMEMBER = 1,
    CACHED_PREVIOUS = 2,      /* the hash of the access token before lies behind the head */
    CACHED_PREVIOUS_OVER = 4, /* record.previous_access_over */
    CACHED_BOUND = 8,         /* what the session is bound to lies behind that, its length first */
    CACHED_BEGAN = 16,        /* record.began_s lies before both, 4 bytes */
};

struct cached_live {
    uint8_t kind;
    uint8_t flags;
    uint16_t slot;
    struct cached_piece tenant, user_id, device_id, device_type;
    bool touch_owed; /* Redis was away when it was used; a byte of its own, to be patched */
    int64_t version; /* of the user's state that it was read from */
    int64_t issued_ms;
    uint32_t absolute_s;  /* since 1970, as the next: until 2106 */
    uint32_t last_seen_s; /* as far as this node knows */
    uint8_t access_hash[SECRET_HASH];
    /* Behind it: began_s if CACHED_BEGAN; previous_access_hash if CACHED_PREVIOUS; if CACHED_BOUND
     * 2 bytes of length and binding.h's items; then the text. */
};

struct cached_dead {
    uint8_t kind;
    uint8_t reason_length, actor_length;
    int64_t ended_s;
    /* reason, actor */
};

struct cached_names {
    uint8_t kind;
    uint8_t tenant_length, user_id_length;
    /* tenant, user id; both empty where nobody knows them */
};

/* Appends the value for a session that lives, with its text as shown_complete() makes it, and what
 * it is bound to, if the policy looks at that, else NULL. */
void cached_write_live(struct buffer *out, const struct session *session, unsigned slot,
                       int64_t version, struct text shown, const struct text *items);
void cached_write_dead(struct buffer *out, const struct tombstone *tombstone);
void cached_write_names(struct buffer *out, const struct names *names);
/* Notes in a living one's value that Redis is still to be told of the last use. */
void cached_owe_touch(struct buffer *value);

/* The kind of a value; 0 if it is none of ours. */
enum cached_kind cached_kind(struct text value);
/* A dead one's words, borrowed from the value. */
void cached_read_dead(struct text value, struct tombstone *ret);

/* Names, borrowed from the value; absent if nobody knows them. False if the value is no such thing.
 */
bool cached_read_names(struct text value, struct names *ret);

/* A living one, opened: borrowed from the value. */
struct cached {
    struct cached_live head;
    struct session session; /* what rules_judge_access() needs; the record's texts are absent */
    struct text shown;
    bool has_items; /* what it is bound to is known */
    struct text items;
};
bool cached_read_live(struct text value, const uint8_t session_id[SESSION_ID], struct cached *ret);

/* The type of its device; absent if it has none. */
struct text cached_device_type(const struct cached *cached, struct arena *arena);
/* Tenant, user and device for the audit line. */
void cached_note(struct operation *operation, const struct cached *cached);

/* How far back an entry was known to be true, in milliseconds; fresh entries are known to be true
 * now. */
bool cached_is_fresh(const struct session_service *service, const struct cache_entry *entry,
                     unsigned slot, int64_t now_ms);
int64_t cached_verified_ms(const struct session_service *service, const struct cache_entry *entry,
                           unsigned slot);

/* Notes a use in the cache; `owed`: Redis was not told. */
void cached_touch(struct session_service *service, const struct cache_key *key,
                  const struct cached *cached, int64_t seen_s, bool owed);
