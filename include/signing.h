/* ES256 (RFC 7518, section 3.4): ECDSA on P-256 over SHA-256, and the public keys as JWK (RFC
 * 7517).
 *
 * A signing key is immutable, and any number of threads may use it at once. Its private part lies
 * in OpenSSL's memory, which is wiped when the key is destroyed; core dumps and ptrace are off
 * (src/main/boot.c). */
#pragma once

#include "text.h"

struct signing_key;

enum {
    SIGNING_SECRET = 32,    /* bytes of a private key */
    SIGNING_SIGNATURE = 64, /* r and s, 32 bytes each, big-endian */
    SIGNING_KEY_ID = 43     /* characters of a key id */
};

/* The key of a private scalar, big-endian; the public key is derived. NULL unless the scalar is at
 * least 1 and less than the order of the curve. The caller owns the key. */
struct signing_key *signing_key_create(const uint8_t secret[SIGNING_SECRET]);
void signing_key_destroy(struct signing_key **key);

/* The key id (kid): the SHA-256 thumbprint of the public key (RFC 7638) in base64url. Two keys
 * never share one, so no client mistakes a new key for a cached one. Valid while the key is. */
struct text signing_key_id(const struct signing_key *key);
/* Appends the public key: {"kty":"EC","crv":"P-256","x","y","kid","alg":"ES256","use":"sig"}. */
void signing_key_print(const struct signing_key *key, struct buffer *out);

/* Signs the input. Two signatures of one input differ. Takes about 20 µs. */
void signing_sign(const struct signing_key *key, struct text input, uint8_t out[SIGNING_SIGNATURE]);
/* Appends the JWS compact serialization (RFC 7515, section 3.1) of a header and claims, both JSON
 * texts. */
void signing_write_jws(const struct signing_key *key, struct text header, struct text claims,
                       struct buffer *out);
