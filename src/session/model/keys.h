/* The names of all keys in Redis.
 *
 * | key               | holds                                                       |
 * | sd:u:{T.U}        | a user's sessions, and what holds for the user              |
 * | sd:e:{T.U}        | the user's epoch                                            |
 * | sd:c:{T.U}:ID     | a pending challenge, ID in hexadecimal                      |
 * | sd:p:{T}          | a tenant's policy, and since when its sessions count        |
 * | sd:i:{T.B}        | index of a tenant's users, bucket B                         |
 * | sd:n:{T.B}        | a tenant's sessions                                         |
 * | sd:v:{T.B}        | logins that wait for a challenge                            |
 * | sd:f:{T.B}        | users who are or were frozen                                |
 * | sd:k, sd:k:NAME   | marks of the keys of an installation                        |
 *
 * T and U are the tags of tenant and user in base64url. Keys with one hash tag, the part in {}, are
 * in one slot. */
#pragma once

#include "conf.h"
#include "store.h"
#include "token.h"

enum keys_kind {
    KEYS_USER = 'u',
    KEYS_EPOCH = 'e',
    KEYS_CHALLENGE = 'c',
    KEYS_TENANT = 'p',
    KEYS_INDEX = 'i',
    KEYS_SESSIONS = 'n',
    KEYS_PENDING = 'v',
    KEYS_FROZEN = 'f'
};

enum {
    KEYS_TAG_AT = 6,                                     /* where the hash tag begins */
    KEYS_OWNER_LENGTH = TENANT_DIGITS + 1 + USER_DIGITS, /* T.U */
    KEYS_USER_LENGTH = KEYS_TAG_AT + KEYS_OWNER_LENGTH + 1,
    KEYS_CHALLENGE_LENGTH = KEYS_USER_LENGTH + 1 + 2 * SESSION_ID,
    KEYS_TENANT_LENGTH = KEYS_TAG_AT + TENANT_DIGITS + 1,
    KEYS_BUCKET_LENGTH = 17,
    KEYS_BUCKETS = 17,
    KEYS_MARKS_MAX = 72
};

/* The part before the hash tag, NUL-terminated. */
void keys_prefix(enum keys_kind kind, char ret[KEYS_TAG_AT + 1]);
/* A user's key, KEYS_USER or KEYS_EPOCH. */
void keys_user(const struct user_tag *owner, enum keys_kind kind, char ret[KEYS_USER_LENGTH]);
void keys_challenge(const struct user_tag *owner, const uint8_t id[SESSION_ID],
                    char ret[KEYS_CHALLENGE_LENGTH]);
void keys_tenant(const uint8_t tag[TENANT_TAG], char ret[KEYS_TENANT_LENGTH]);
/* A bucket of an index, KEYS_INDEX to KEYS_FROZEN. */
void keys_bucket(enum keys_kind kind, const uint8_t tenant[TENANT_TAG], unsigned bucket,
                 char ret[KEYS_BUCKET_LENGTH]);
/* The hash of the installation's marks, in `ret`. */
struct text keys_marks(const struct conf *conf, char ret[KEYS_MARKS_MAX]);

/* The tags out of the name of an epoch's or a tenant's key; false for any other. */
bool keys_read_epoch(struct text key, struct user_tag *owner);
bool keys_read_tenant(struct text key, uint8_t tag[TENANT_TAG]);

/* For store_start(): epochs and tenants are tracked. */
extern const struct store_keys keys_of_store;
