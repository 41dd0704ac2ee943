/* All cryptography, and the only user of libsodium and OpenSSL's ciphers.
 *
 * The key file holds one `names` secret for the keyed hashes that must never change (key names in
 * Redis, hashes of token secrets), numbered keys, of which the newest (the last such line) mints
 * and seals while all of them read, and signing keys (signing.h). Text format, one entry a line:
 *     names 64-hex-digits
 *     key ID 64-hex-digits        (ID 1..63)
 *     sign ID 64-hex-digits       (the same numbers: each is used once)
 * '#' starts a comment. The file is a regular one, of the service's user or root, and closed to all
 * others, except for the group bits that systemd sets on a credential. A second 'names' line,
 * repeated numbers or digits, and anything else are refused. A new key is added above the last line
 * on all nodes first, and becomes the last line when all of them read it. A new signing key is
 * appended, and signs when it has been published for long enough (keyring_signer()). */
#pragma once

#include "signing.h"
#include "text.h"

/* Sets the libraries up; call first, once, before threads. Aborts if there is no entropy. */
void crypto_init(void);
void crypto_random(void *out, size_t length);
/* Clears memory that held a secret; not removed by the compiler. */
void crypto_wipe(void *memory, size_t length);
/* Constant-time comparison of equally long secrets. */
bool crypto_equal(const void *a, const void *b, size_t length);
/* Unkeyed BLAKE2b of 32 bytes: the configuration's form of a service key. */
void crypto_digest(uint8_t out[32], struct text data);

/* HMAC-SHA-256 (RFC 2104) over the concatenated parts, for receivers of alerts to check. */
void crypto_hmac_sha256(uint8_t out[32], struct text key, const struct text *parts, size_t count);

/* Keys: immutable and reference-counted; replaced as a whole on reload. */
struct keyring;
#define KEY_ID_MAX 63

/* Reads the key file, a path or a credential's name (private_file.h, with the rule of who may read
 * it); with `create`, creates one with mode 0600 if there is none at the path. If several processes
 * do so at once one wins, and all read its keys. Returns NULL with *error, one line (keys.file,
 * path and line, never a key). The caller owns one reference. Blocks: not for loop threads. */
struct keyring *keyring_load(const char *value, bool create, struct buffer *error);
struct keyring *keyring_ref(struct keyring *keyring);
/* Releases the reference and clears the pointer; the last one wipes the keys. */
void keyring_unref(struct keyring **keyring);
/* The id of the key that mints and seals. */
uint8_t keyring_newest(const struct keyring *keyring);
bool keyring_has(const struct keyring *keyring, uint8_t key_id);
/* Fingerprint of a numbered or signing key, of the names secret with key_id 0: BLAKE2b of a
 * constant keyed with it, which reveals nothing about it. NULL if the id is not in the ring. */
#define KEY_MARK 8
const uint8_t *keyring_mark(const struct keyring *keyring, uint8_t key_id);

/* True if the id is that of a signing key. */
bool keyring_signs(const struct keyring *keyring, uint8_t key_id);
/* The key that signs now: the newest one published for `published_ms`, or, if none is, the one
 * published longest; NULL if the ring has no signing key. Valid while the ring is. */
const struct signing_key *keyring_signer(const struct keyring *keyring, int64_t published_ms);
/* The public keys, a JWK Set (RFC 7517, section 5). Valid while the ring is. */
struct text keyring_jwks(const struct keyring *keyring);
/* Before a ring replaces another in the same process: signing keys that both have keep their time
 * of publication; the others are published now. */
void keyring_succeed(struct keyring *keyring, const struct keyring *before);

/* The purpose of a keyed hash; two purposes never give the same output for one input. */
enum crypto_purpose {
    CRYPTO_TENANT_TAG,
    CRYPTO_USER_TAG,
    CRYPTO_SECRET_HASH,       /* a token's secret as Redis stores it */
    CRYPTO_SUCCESSOR_ACCESS,  /* next generation's access secret, from the refresh secret */
    CRYPTO_SUCCESSOR_REFRESH, /* next generation's refresh secret */
    CRYPTO_HASH_ACCESS,       /* the same without the refresh secret: from its hash */
    CRYPTO_HASH_REFRESH,      /* and the refresh secret */
    CRYPTO_FINGERPRINT,       /* device fingerprints */
    CRYPTO_JOURNAL,           /* checksums of the journal's records */
    CRYPTO_ETAG,              /* entity tags */
    CRYPTO_PAGE,              /* tokens for the next page of a list */
    CRYPTO_CONTEXT,           /* known devices and locations of a user */
    CRYPTO_CHALLENGE,         /* ids of challenges */
    CRYPTO_CODE,              /* their codes */
    CRYPTO_RECOGNITION,       /* the key by which memory recognises tokens */
    CRYPTO_STATEMENT,         /* what signed identities state, to find them in memory */
    CRYPTO_PURPOSES
};

/* BLAKE2b-256 keyed with the names secret and personalised with the purpose, over the parts, each
 * preceded by its length (4 bytes, big-endian) so that ("ab","c") and ("a","bc") differ. Returns
 * its first `length` bytes, 6..32. */
void crypto_keyed_hash(const struct keyring *keyring, enum crypto_purpose purpose,
                       const struct text *parts, size_t count, void *out, size_t length);

/* SipHash-2-4 truncated to 6 bytes under a numbered key. False if the id is not in the ring. */
bool crypto_token_mac(const struct keyring *keyring, uint8_t key_id, const void *data,
                      size_t length, uint8_t out[6]);

/* SipHash-2-4 under a key of the caller's own, for tables in memory whose slots attackers must not
 * choose. */
#define CRYPTO_TABLE_KEY 16
uint64_t crypto_table_hash(const uint8_t key[CRYPTO_TABLE_KEY], const void *data, size_t length);
/* SipHash-2-4 of 128 bits under such a key: a MAC that costs a fifth of crypto_keyed_hash(). */
#define CRYPTO_SHORT_MAC 16
void crypto_short_mac(const uint8_t key[CRYPTO_TABLE_KEY], const void *data, size_t length,
                      uint8_t out[CRYPTO_SHORT_MAC]);

/* AES-128-GCM (NIST SP 800-38D) under a subkey of the numbered key, one for each subject, with a
 * random 96-bit nonce. Sealed form: nonce 12, ciphertext, tag 16. A subject has at most 2^32
 * messages under one key in the standard's bounds; rotate long before. */
#define CRYPTO_SEAL_OVERHEAD 28
/* `out` takes plain.length + CRYPTO_SEAL_OVERHEAD bytes. False if the id is not in the ring. */
bool crypto_seal(const struct keyring *keyring, uint8_t key_id, struct text subject,
                 struct text additional, struct text plain, void *out);
/* `out` takes sealed.length - CRYPTO_SEAL_OVERHEAD bytes. False, with `out` wiped, for anything
 * that was not sealed so: unknown id, wrong tag, too short - one outcome for all. */
bool crypto_open(const struct keyring *keyring, uint8_t key_id, struct text subject,
                 struct text additional, struct text sealed, void *out);
