/* Tokens: 63 characters, a prefix and 45 bytes in base64url. There are three kinds: access (sa_),
 * refresh (sr_) and challenge ids (sc_), whose session id is that of the challenge.
 *
 *   byte 0      format (2 bits, 0) and key id (6 bits)
 *   byte 1..6   tenant tag: keyed hash of the tenant
 *   byte 7..14  user tag: keyed hash of tenant and user
 *   byte 15..22 session id: 42 bits of milliseconds since 1970, then 22 bits that start at random
 *               in each millisecond and count on
 *   byte 23..38 secret, 128 bits from the CSPRNG (or, after a rotation, derived from one)
 *   byte 39..44 SipHash-2-4 of prefix and bytes 0..38 under the numbered key, truncated
 * A token with a wrong MAC was never issued. It is refused without asking Redis. */
#pragma once

#include "crypto.h"
#include "ids.h"
#include "text.h"

#define TOKEN_LENGTH  63
#define SECRET_LENGTH 16
#define SECRET_HASH   16

enum token_kind { TOKEN_ACCESS, TOKEN_REFRESH, TOKEN_CHALLENGE };

/* A user in Redis: the 14 bytes of the hash tag. */
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

/* Longest user id in bytes, as for `sub` of OpenID Connect. */
#define USER_ID_MAX 255
/* Tag of a tenant (CRYPTO_TENANT_TAG). */
void token_tag_tenant(const struct keyring *keyring, struct text tenant, uint8_t ret[TENANT_TAG]);
/* Tags of a user (CRYPTO_TENANT_TAG, CRYPTO_USER_TAG). */
void token_tag_user(const struct keyring *keyring, struct text tenant, struct text user_id,
                    struct user_tag *ret);
/* True if the token's tenant tag is this tenant's. */
bool token_is_of_tenant(const struct keyring *keyring, const struct token *token,
                        struct text tenant);

/* A new session id for this time. Ids of one millisecond count on and so differ; processes differ
 * by their random starts. */
void token_new_session_id(int64_t wall_ms, uint8_t ret[SESSION_ID]);
/* The time in a session id, milliseconds since 1970. Sessions are ordered by it; usually it is when
 * the session was created (src/session/model/rules.h). */
int64_t token_session_created_ms(const uint8_t session_id[SESSION_ID]);
/* A cutoff in the range of ids. Cutoffs beyond the last possible id count as 12 days before it, in
 * 2109. */
int64_t token_order_ms(int64_t ms);

/* Writes the 63 characters. The token's key id must be in the ring. */
void token_print(const struct keyring *keyring, enum token_kind kind, const struct token *token,
                 char ret[TOKEN_LENGTH]);
/* Reads a token. False, with *ret zeroed, unless token_print() made the text under a key of the
 * ring. Compares in constant time. The caller wipes *ret. */
bool token_read(const struct keyring *keyring, enum token_kind kind, struct text text,
                struct token *ret);

/* The owner that a text claims, if it is shaped like a token; the MAC is not checked. False if it
 * is not. */
bool token_claimed_owner(struct text text, struct user_tag *ret);

/* The hash that the record holds instead of the secret: CRYPTO_SECRET_HASH over kind (one byte),
 * session id, secret. */
void token_hash_secret(const struct keyring *keyring, enum token_kind kind,
                       const uint8_t session_id[SESSION_ID], const uint8_t secret[SECRET_LENGTH],
                       uint8_t ret[SECRET_HASH]);
/* Origin of a derived pair. ORIGIN_SECRET: the refresh secret of the previous pair, which a refresh
 * shows. ORIGIN_HASH: its hash from the record, when a pair is due and nobody showed the secret (an
 * active session after step-up).
 *
 * Without the names secret neither can be derived. With it and a used refresh token, a session can
 * be followed either way. They differ for an attacker with the key file and a dump of Redis. The
 * dump has the hash of the previous refresh secret, so it reveals pairs derived from a hash, never
 * those derived from a secret. So ORIGIN_HASH is used only when the secret is unavailable, and the
 * next refresh ends it. */
enum token_origin { ORIGIN_SECRET, ORIGIN_HASH };
/* Derives the secrets of generation `generation` + 1 from the refresh token of `generation`. Its
 * `secret` is the secret or, by `origin`, its hash. The same input always gives the same pair, so a
 * repeated answer needs nothing stored. Hashes owner, session id, secret and generation under the
 * names secret, which never changes; so a pair belongs to one session. The caller wipes the
 * secrets. */
void token_succeed(const struct keyring *keyring, const struct token *refresh,
                   enum token_origin origin, uint32_t generation,
                   uint8_t access_secret[SECRET_LENGTH], uint8_t refresh_secret[SECRET_LENGTH]);

/* True if the text is shaped like a token of this kind; the MAC is not checked. */
bool token_is_shaped(enum token_kind kind, struct text text);
