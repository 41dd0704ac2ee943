/* Tokens: 63 characters, a prefix and 45 bytes in base64url. Three kinds: access (sa_), refresh
 * (sr_) and the ids of second verifications (sc_), whose session id is the challenge's own.
 *
 * byte 0      format (2 bits, 0) and key id (6 bits)
 * byte 1..6   tenant tag: keyed hash of the tenant
 * byte 7..14  user tag: keyed hash of tenant and user
 * byte 15..22 session id: 42 bits of milliseconds since 1970, 22 bits that start at random in each
 *             millisecond and count on within it
 * byte 23..38 secret, 128 bits from the CSPRNG (or, after a rotation, derived from one)
 * byte 39..44 SipHash-2-4 of prefix and bytes 0..38 under the numbered key, truncated
 * A token whose MAC is wrong was never issued and is refused without a look at Redis. */
#pragma once

#include "crypto.h"
#include "text.h"

#define TOKEN_LENGTH  63
#define TENANT_TAG    6
#define USER_TAG      8
#define SESSION_ID    8
#define SECRET_LENGTH 16
#define SECRET_HASH   16

enum token_kind { TOKEN_ACCESS, TOKEN_REFRESH, TOKEN_CHALLENGE };

/* Who a user is in Redis: the 14 bytes that name the hash tag. */
struct user_tag {
    uint8_t tenant[TENANT_TAG];
    uint8_t user[USER_TAG];
};

struct token {
    uint8_t key_id;
    struct user_tag owner;
    uint8_t session_id[SESSION_ID];
    uint8_t secret[SECRET_LENGTH];
};

/* Bytes of a user id: as many as `sub` of OpenID Connect has characters. */
#define USER_ID_MAX 255
/* Tag of a tenant (CRYPTO_TENANT_TAG). */
void token_tag_tenant(const struct keyring *keyring, struct text tenant, uint8_t ret[TENANT_TAG]);
/* Tags of a user (CRYPTO_TENANT_TAG, CRYPTO_USER_TAG). */
void token_tag_user(const struct keyring *keyring, struct text tenant, struct text user_id,
                    struct user_tag *ret);
/* True if the token's tenant tag is this tenant's. */
bool token_is_of_tenant(const struct keyring *keyring, const struct token *token,
                        struct text tenant);

/* A new session id at this time. Those made one after the other in a millisecond count on and so
 * differ; processes keep apart by their random starts. */
void token_new_session_id(int64_t wall_ms, uint8_t ret[SESSION_ID]);
/* The time in a session id, milliseconds since 1970, by which sessions are ordered: when the
 * session was created, as a rule (src/session/model/rules.h). */
int64_t token_session_created_ms(const uint8_t session_id[SESSION_ID]);
/* A cutoff as ids can be compared with it: one that no id could come behind counts as the time 12
 * days before the last that an id holds, in 2109. */
int64_t token_order_ms(int64_t ms);

/* Writes the 63 characters. The token's key id must be in the ring. */
void token_print(const struct keyring *keyring, enum token_kind kind, const struct token *token,
                 char ret[TOKEN_LENGTH]);
/* Reads a token. False, with *ret zeroed, for every text that print did not make under a key of the
 * ring; constant in what it compares. The caller wipes *ret when it is done. */
bool token_read(const struct keyring *keyring, enum token_kind kind, struct text text,
                struct token *ret);

/* Whose a text claims to be if it is a token, genuine or not; false if it is none. */
bool token_claimed_owner(struct text text, struct user_tag *ret);

/* What the record holds instead of the secret: CRYPTO_SECRET_HASH over kind (one byte), session id,
 * secret. */
void token_hash_secret(const struct keyring *keyring, enum token_kind kind,
                       const uint8_t session_id[SESSION_ID], const uint8_t secret[SECRET_LENGTH],
                       uint8_t ret[SECRET_HASH]);
/* What a pair of secrets is derived from: the refresh secret of the pair before, which a refresh
 * shows; or, where a pair is due and nobody showed it (a living session that was verified), the
 * hash of it that the record holds.
 *
 * Who lacks the names secret derives nothing from either. Who has it and a refresh token that was
 * used can follow the session in both ways. What sets them apart is somebody with the key file and
 * a dump of Redis: the dump has the hash of the refresh secret before, so it gives away present
 * pairs that came from a hash, but none that came from a secret. So only what cannot be had from
 * the secret comes from the hash, and the next refresh ends it. */
enum token_origin { ORIGIN_SECRET, ORIGIN_HASH };
/* Secrets of generation `generation` + 1 from the refresh token of `generation`, whose `secret` is
 * the secret or, by `origin`, its hash: the same input always gives the same pair, so that one
 * which is asked for again needs nothing stored. Hashes under the names secret, which never
 * changes, of owner, session id, secret and generation, which tie a pair to its session. The caller
 * wipes the secrets. */
void token_succeed(const struct keyring *keyring, const struct token *refresh,
                   enum token_origin origin, uint32_t generation,
                   uint8_t access_secret[SECRET_LENGTH], uint8_t refresh_secret[SECRET_LENGTH]);

/* True if the text looks like a token of this kind, genuine or not. */
bool token_is_shaped(enum token_kind kind, struct text text);

/* Key names in Redis: "sd:u:{T.U}" and "sd:e:{T.U}", T and U in base64url. */
#define USER_KEY_LENGTH 27
void token_user_key(const struct user_tag *owner, char prefix, char ret[USER_KEY_LENGTH]);
