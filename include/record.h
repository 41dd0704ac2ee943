/* Records of sessions, tombstones, users and tenants as stored in Redis.
 *
 * Head of format 1: byte 0 is 0x01 (sealed) or 0x02 (plain, for encryption = none), byte 1 the key
 * id (0 if plain). Head of later formats: byte 0 is 0x01, byte 1 the key id with bit 7 set (0x80 if
 * plain), byte 2 the format. Nodes that know format 1 alone take such a record for one under a key
 * that they lack. So they leave it alone and answer 503, as this version does for a format above
 * RECORD_FORMAT_MAX: what cannot be read is unknown, not invalid.
 *
 * The content follows, sealed or plain. Subject of the subkey: the user tag. Additional data:
 * format and byte 1, user tag, session id; so a record copied to another user or session does not
 * open. Plain records are bound to nothing.
 *
 * Content: a kind byte and its fields without gaps, all of it used. Integers are big-endian;
 * unknown flags are refused. A session in format 2 has members behind its fields, to the end of the
 * record: tag 1, value (2). Unknown members are kept as they are, so a member may only be added if
 * nodes that do not know it may go on without; others need another format. (n) is a text after its
 * length in n bytes; an empty one reads as absent. 's' session    flags 1 (bit 0 remember, 1 second
 * factor, 2 previous pair present, 3 its access token was over, 4 contexts present, 5 derived from
 * a hash, 6 began_s present), generation 4, issued_ms 6, absolute_s 5, access hash 16, refresh hash
 * 16, with bit 2: previous access hash 16, previous refresh hash 16; session JSON (2), ip (1), user
 * agent (2); with bit 4: contexts (1); with bit 6: began_s 5; in format 2: members 1 version of the
 * user's state that the record was written with, 6 2 the previous pair was over at once, 0 3 who
 * granted which role: src/session/model/grants.h 't' tombstone  reason (1), actor (1), ended_s 5,
 * forget_s 5 'n' names      under session id 0 only: tenant (1), user id (1) 'u' user       under
 * session id 0 only: flags 1 (bit 0 frozen, 1 exempt present, 2 decided_ms present), not_before_ms
 * 6, frozen_until_s 5 (0: for ever), with bit 1: exempt session id 8; with bit 2: decided_ms 6;
 * frozen reason (1) 'c' contexts   under session id 0 only: bytes, see src/session/model/contexts.h
 *   'q' challenge  under the challenge's id: bytes, see src/session/operations/challenge.h
 *   'p' tenant     under session id 0 only: version 6, not_before_ms 6, ended_s 5, reason (1),
 *                  actor (1), policy (2)
 * Sealed records spell session JSON and user agent by src/session/model/dictionary.h. The
 * session JSON is members without braces, ready to send, beginning "tenant":"…","user_id":"…"
 *
 * Times are not negative. A time out of its field's range is stored as the nearest in it. A text
 * too long for its length field is cut between two characters; the callers' limits are far
 * below. */
#pragma once

#include "memory.h"
#include "token.h"

#define RECORD_JSON_MAX 65535

/* The formats that this version reads. A session is written in the first one that can hold it. A
 * build with -DRECORD_FORMAT_MAX=1 stands for an earlier version in tests. */
#define RECORD_FORMAT_LEAST 1
#ifndef RECORD_FORMAT_MAX
#define RECORD_FORMAT_MAX 2
#endif

/* Largest stored times. A larger number in Redis was not written by us, and sums of stored times do
 * not overflow. */
#define STORED_MS_MAX ((INT64_C(1) << 48) - 1)
#define STORED_S_MAX  ((INT64_C(1) << 40) - 1)

struct record {
    bool remember;
    bool second_factor;
    uint32_t generation;
    int64_t issued_ms;  /* of the present pair */
    int64_t absolute_s; /* latest end of the session */
    int64_t began_s;    /* time of the login, if the session id does not tell it; else 0 */
    uint8_t access_hash[SECRET_HASH];
    uint8_t refresh_hash[SECRET_HASH];
    bool has_previous;
    bool previous_access_over; /* its time was over before the refresh, so it gets no grace */
    uint8_t previous_access_hash[SECRET_HASH];
    uint8_t previous_refresh_hash[SECRET_HASH];
    bool from_hash;           /* the present pair is of ORIGIN_HASH (token.h) */
    struct text session_json; /* at most RECORD_JSON_MAX bytes */
    struct text ip;
    struct text user_agent;
    struct text contexts; /* the session's bindings: src/session/engine/binding.h */

    /* With one of these the record needs format 2. */
    bool previous_refresh_over; /* the previous pair got no grace at all: its refresh token is
                                   refused. In format 1 it counts as used before */
    struct text grants;         /* src/session/model/grants.h */
    struct text unknown;        /* members of a later version, as they stood in the record */
    /* In format 2 only. */
    int64_t version; /* of the user's state that the record was written with; 0: unknown */

    unsigned format; /* it was read in this one; 0: it is new */
};

struct tombstone {
    struct text reason;
    struct text actor;
    int64_t ended_s;
    int64_t forget_s; /* end of the longest possible lifetime of its tokens */
};

/* The user's names, for when no session is left that holds them. */
struct names {
    struct text tenant, user_id;
};

/* State that holds for all sessions of a user. */
struct user_record {
    int64_t not_before_ms; /* cutoff: sessions created before are revoked ... */
    bool has_exempt;
    uint8_t exempt[SESSION_ID]; /* ... except this one */
    bool frozen;
    int64_t frozen_until_s; /* 0: until it is lifted */
    struct text frozen_reason;
    int64_t decided_ms; /* stamp of the last freeze or unfreeze, which orders them
                           (src/session/model/freezing.h); 0: none */
};

/* State of a tenant, under a key of its own. Its position is the tenant's tag with an empty user's,
 * and session id 0. */
struct tenant_record {
    int64_t version;
    int64_t not_before_ms, ended_s; /* of the tenant's cutoff; 0: none */
    struct text reason, actor;
    struct text policy; /* JSON, or absent */
};

enum record_kind {
    RECORD_UNREADABLE,
    RECORD_SESSION,
    RECORD_TOMBSTONE,
    RECORD_USER,
    RECORD_CONTEXTS,
    RECORD_CHALLENGE,
    RECORD_TENANT,
    RECORD_NAMES
};

/* Result of record_read(): the member of the returned kind is set. */
struct record_content {
    struct record session;
    struct tombstone tombstone;
    struct user_record user;
    struct tenant_record tenant;
    struct names names;
    struct text bytes; /* contexts, challenge */
};

/* The key and session that a record is bound to. */
struct record_position {
    const struct user_tag *owner;
    const uint8_t *session_id;
};

/* Seals with the newest key (or stores plain) and appends the bytes. A record that needs format 2
 * is written in it if `format` allows, or if it was read in it; else without what needs it. */
void record_write(const struct keyring *keyring, bool encrypt, struct record_position place,
                  unsigned format, const struct record *record, struct buffer *out);
void record_write_tombstone(const struct keyring *keyring, bool encrypt,
                            struct record_position place, const struct tombstone *tombstone,
                            struct buffer *out);

void record_write_user(const struct keyring *keyring, bool encrypt, const struct user_tag *owner,
                       const struct user_record *user, struct buffer *out);

void record_write_tenant(const struct keyring *keyring, bool encrypt, struct record_position place,
                         const struct tenant_record *tenant, struct buffer *out);

void record_write_names(const struct keyring *keyring, bool encrypt, const struct user_tag *owner,
                        const struct names *names, struct buffer *out);

/* Contexts or a challenge. */
void record_write_bytes(const struct keyring *keyring, bool encrypt, struct record_position place,
                        enum record_kind kind, struct text bytes, struct buffer *out);

/* Opens stored bytes; the texts lie in the arena. RECORD_UNREADABLE, with *ret zeroed, for all
 * bytes that these functions did not write for this position under a key of the ring, whatever the
 * cause.
 *
 * Sealed records are always read, plain ones only if !encrypt. Anybody who can write to Redis can
 * write plain records. So their texts are checked: clean UTF-8, and session JSON in the form of
 * src/session/model/session_json.h. */
enum record_kind record_read(const struct keyring *keyring, bool encrypt,
                             struct record_position place, struct text stored, struct arena *arena,
                             struct record_content *ret);

/* True if the bytes are sealed under a key that the ring lacks, or written in a later format, so
 * their content is unknown. Other nodes may use that key or format already, or it was dropped too
 * early. */
bool record_is_foreign(const struct keyring *keyring, struct text stored);
/* True if the bytes are sealed under an older key than the newest. */
bool record_is_outdated(const struct keyring *keyring, struct text stored);

/* Tenant and user id from a record's session JSON, unescaped into the arena. Both are absent if the
 * JSON does not begin with them. */
struct names record_identity(struct text session_json, struct arena *arena);
