/* Signatures: ES256, and the public keys as JWK.
 *
 * Setting up OpenSSL's signing context costs a tenth of a signature. So each key keeps one ready,
 * and a signature works on a copy: threads share nothing that changes. */
#include "signing.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "memory.h"

enum {
    COORDINATE = 32,
    POINT = 1 + 2 * COORDINATE, /* uncompressed: 4, x, y (SEC 1, section 2.3.3) */
    DIGITS = 43,                /* of 32 bytes in base64url */
    DER_MAX = 72
};

struct signing_key {
    EVP_PKEY_CTX *ready; /* never used itself, only copied */
    char x[DIGITS], y[DIGITS];
    char id[SIGNING_KEY_ID];
};

static void fail_signing(const char *cause)
{
    /* No input of a caller can cause this. */
    log_error("crypto_unavailable", "cause=\"%s\"", cause);
    abort();
}

/* --- Making ---------------------------------------------------------------------------------- */

/* The public point of the scalar. False if the scalar is none of the curve's. */
static bool derive_point(const EC_GROUP *group, const BIGNUM *scalar, uint8_t out[POINT])
{
    if (BN_is_zero(scalar) || BN_cmp(scalar, EC_GROUP_get0_order(group)) >= 0)
        return false;
    EC_POINT *point = EC_POINT_new(group);
    bool derived =
        point && EC_POINT_mul(group, point, scalar, NULL, NULL, NULL) &&
        EC_POINT_point2oct(group, point, POINT_CONVERSION_UNCOMPRESSED, out, POINT, NULL) == POINT;
    EC_POINT_free(point);
    if (!derived)
        fail_signing("no public key");
    return true;
}

static EVP_PKEY *import_pair(const BIGNUM *scalar, const uint8_t point[POINT])
{
    EVP_PKEY *pair = NULL;
    OSSL_PARAM *parameters = NULL;
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    EVP_PKEY_CTX *importer = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    if (builder && importer &&
        OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0) &&
        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_PRIV_KEY, scalar) &&
        OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, point, POINT))
        parameters = OSSL_PARAM_BLD_to_param(builder);
    if (!parameters || EVP_PKEY_fromdata_init(importer) <= 0 ||
        EVP_PKEY_fromdata(importer, &pair, EVP_PKEY_KEYPAIR, parameters) <= 0)
        fail_signing("no signing key");
    OSSL_PARAM *secret = OSSL_PARAM_locate(parameters, OSSL_PKEY_PARAM_PRIV_KEY);
    sodium_memzero(secret->data, secret->data_size);
    OSSL_PARAM_free(parameters);
    OSSL_PARAM_BLD_free(builder);
    EVP_PKEY_CTX_free(importer);
    return pair;
}

/* The members that make the thumbprint, in the order and form that RFC 7638, section 3, wants. */
static void add_required_members(const struct signing_key *key, struct buffer *out)
{
    buffer_addf(out, "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"%.*s\",\"y\":\"%.*s\"}", DIGITS,
                key->x, DIGITS, key->y);
}

static void name_key(struct signing_key *key, const uint8_t point[POINT])
{
    text_to_base64url(key->x, point + 1, COORDINATE);
    text_to_base64url(key->y, point + 1 + COORDINATE, COORDINATE);
    SCOPED(buffer_free) struct buffer members = {0};
    add_required_members(key, &members);
    uint8_t hash[crypto_hash_sha256_BYTES];
    crypto_hash_sha256(hash, (const uint8_t *)members.data, members.length);
    text_to_base64url(key->id, hash, sizeof(hash));
}

struct signing_key *signing_key_create(const uint8_t secret[SIGNING_SECRET])
{
    uint8_t point[POINT];
    struct signing_key *key = NULL;
    EC_GROUP *group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
    BIGNUM *scalar = BN_bin2bn(secret, SIGNING_SECRET, NULL);
    if (!group || !scalar)
        fail_signing("no curve");
    BN_set_flags(scalar, BN_FLG_CONSTTIME);
    if (derive_point(group, scalar, point)) {
        key = xcalloc(1, sizeof(*key));
        EVP_PKEY *pair = import_pair(scalar, point);
        key->ready = EVP_PKEY_CTX_new_from_pkey(NULL, pair, NULL);
        if (!key->ready || EVP_PKEY_sign_init(key->ready) <= 0)
            fail_signing("no signing context");
        EVP_PKEY_free(pair); /* the context has a reference */
        name_key(key, point);
    }
    BN_clear_free(scalar);
    EC_GROUP_free(group);
    return key;
}

void signing_key_destroy(struct signing_key **key)
{
    struct signing_key *own = *key;
    *key = NULL;
    if (own)
        EVP_PKEY_CTX_free(own->ready);
    free(own);
}

struct text signing_key_id(const struct signing_key *key)
{
    return (struct text){key->id, SIGNING_KEY_ID};
}

void signing_key_print(const struct signing_key *key, struct buffer *out)
{
    buffer_addf(out,
                "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%.*s\",\"y\":\"%.*s\",\"kid\":\"%.*s\","
                "\"alg\":\"ES256\",\"use\":\"sig\"}",
                DIGITS, key->x, DIGITS, key->y, SIGNING_KEY_ID, key->id);
}

/* --- Signing --------------------------------------------------------------------------------- */

/* OpenSSL's DER to the form of RFC 7518, section 3.4: r and s, padded to 32 bytes each. */
static bool flatten_signature(const uint8_t *der, size_t length, uint8_t out[SIGNING_SIGNATURE])
{
    ECDSA_SIG *parts = d2i_ECDSA_SIG(NULL, &der, (long)length);
    const BIGNUM *r = parts ? ECDSA_SIG_get0_r(parts) : NULL;
    const BIGNUM *s = parts ? ECDSA_SIG_get0_s(parts) : NULL;
    bool flat = parts && BN_bn2binpad(r, out, COORDINATE) == COORDINATE &&
                BN_bn2binpad(s, out + COORDINATE, COORDINATE) == COORDINATE;
    ECDSA_SIG_free(parts);
    return flat;
}

void signing_sign(const struct signing_key *key, struct text input, uint8_t out[SIGNING_SIGNATURE])
{
    uint8_t hash[crypto_hash_sha256_BYTES], der[DER_MAX];
    size_t length = sizeof(der);
    crypto_hash_sha256(hash, (const uint8_t *)input.data, input.length);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_dup(key->ready);
    if (!context || EVP_PKEY_sign(context, der, &length, hash, sizeof(hash)) <= 0 ||
        !flatten_signature(der, length, out))
        fail_signing("signing failed");
    EVP_PKEY_CTX_free(context);
}

static void add_base64url(struct buffer *out, const void *data, size_t length)
{
    char *end = buffer_reserve(out, (length * 4 + 2) / 3);
    out->length += text_to_base64url(end, data, length);
}

void signing_write_jws(const struct signing_key *key, struct text header, struct text claims,
                       struct buffer *out)
{
    uint8_t signature[SIGNING_SIGNATURE];
    size_t start = out->length;
    add_base64url(out, header.data, header.length);
    buffer_add_char(out, '.');
    add_base64url(out, claims.data, claims.length);
    signing_sign(key, (struct text){out->data + start, out->length - start}, signature);
    buffer_add_char(out, '.');
    add_base64url(out, signature, sizeof(signature));
}
