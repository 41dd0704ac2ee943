/* The primitives: random bytes, keyed hashes, the MAC of tokens, sealing of records.
 *
 * Each validation that misses the cache comes through here four times, so everything possible is
 * prepared: hash states with their key (keyring.c), the fetched cipher, one cipher context per
 * thread. Subkeys are not cached: each user has another, so a cache would seldom hit and would keep
 * more secrets for longer. */
#include "keyring.h"

#include <assert.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

#define NONCE_LENGTH 12
#define TAG_LENGTH   16

static_assert(NONCE_LENGTH + TAG_LENGTH == CRYPTO_SEAL_OVERHEAD, "the header tells the overhead");

static EVP_CIPHER *cipher;
static pthread_key_t context_key; /* EVP_CIPHER_CTX of the thread, freed when it ends */

static void free_context(void *context)
{
    EVP_CIPHER_CTX_free(context);
}

void crypto_init(void)
{
    if (cipher)
        return;
    if (sodium_init() >= 0)
        cipher = EVP_CIPHER_fetch(NULL, "AES-128-GCM", NULL);
    if (!cipher || pthread_key_create(&context_key, free_context) != 0) {
        log_error("crypto_unavailable", "cause=\"%s\"", cipher ? "threads" : "libraries");
        abort();
    }
}

void crypto_random(void *out, size_t length)
{
    randombytes_buf(out, length);
}

void crypto_wipe(void *memory, size_t length)
{
    sodium_memzero(memory, length);
}

bool crypto_equal(const void *a, const void *b, size_t length)
{
    return sodium_memcmp(a, b, length) == 0;
}

void crypto_digest(uint8_t out[32], struct text data)
{
    crypto_generichash_blake2b(out, 32, (const uint8_t *)data.data, data.length, NULL, 0);
}

void crypto_hmac_sha256(uint8_t out[32], struct text key, const struct text *parts, size_t count)
{
    crypto_auth_hmacsha256_state state;
    crypto_auth_hmacsha256_init(&state, (const uint8_t *)key.data, key.length);
    for (size_t i = 0; i < count; i++)
        crypto_auth_hmacsha256_update(&state, (const uint8_t *)parts[i].data, parts[i].length);
    crypto_auth_hmacsha256_final(&state, out);
    crypto_wipe(&state, sizeof(state));
}

/* --- Keyed hashes ---------------------------------------------------------------------------- */

void crypto_keyed_hash(const struct keyring *keyring, enum crypto_purpose purpose,
                       const struct text *parts, size_t count, void *out, size_t length)
{
    uint8_t hash[32];
    assert(length >= 6 && length <= sizeof(hash));

    crypto_generichash_blake2b_state state = *keyring_purpose(keyring, purpose);
    for (size_t i = 0; i < count; i++) {
        assert(parts[i].length <= UINT32_MAX);
        uint32_t size = (uint32_t)parts[i].length;
        uint8_t prefix[4] = {(uint8_t)(size >> 24), (uint8_t)(size >> 16), (uint8_t)(size >> 8),
                             (uint8_t)size};
        crypto_generichash_blake2b_update(&state, prefix, sizeof(prefix));
        if (size > 0)
            crypto_generichash_blake2b_update(&state, (const uint8_t *)parts[i].data, size);
    }
    crypto_generichash_blake2b_final(&state, hash, sizeof(hash));
    memcpy(out, hash, length);
    crypto_wipe(&state, sizeof(state));
    crypto_wipe(hash, sizeof(hash));
}

bool crypto_token_mac(const struct keyring *keyring, uint8_t key_id, const void *data,
                      size_t length, uint8_t out[6])
{
    const struct keyring_key *key = keyring_find(keyring, key_id);
    if (!key)
        return false;
    uint8_t mac[crypto_shorthash_siphash24_BYTES];
    crypto_shorthash_siphash24(mac, data, length, key->mac);
    memcpy(out, mac, 6);
    return true;
}

uint64_t crypto_table_hash(const uint8_t key[CRYPTO_TABLE_KEY], const void *data, size_t length)
{
    uint8_t hash[crypto_shorthash_siphash24_BYTES];
    uint64_t ret;
    static_assert(CRYPTO_TABLE_KEY == crypto_shorthash_siphash24_KEYBYTES, "SipHash's key");
    static_assert(sizeof(hash) == sizeof(ret), "SipHash's output");
    crypto_shorthash_siphash24(hash, data, length, key);
    memcpy(&ret, hash, sizeof(ret));
    return ret;
}

void crypto_short_mac(const uint8_t key[CRYPTO_TABLE_KEY], const void *data, size_t length,
                      uint8_t out[CRYPTO_SHORT_MAC])
{
    static_assert(CRYPTO_TABLE_KEY == crypto_shorthash_siphashx24_KEYBYTES, "SipHash's key");
    static_assert(CRYPTO_SHORT_MAC == crypto_shorthash_siphashx24_BYTES, "SipHash's output");
    crypto_shorthash_siphashx24(out, data, length, key);
}

/* --- Sealing --------------------------------------------------------------------------------- */

/* A context keeps its cipher: OpenSSL 3.0 rebuilds a context whose cipher is set again, which costs
 * as much as setting the key. */
static EVP_CIPHER_CTX *thread_context(void)
{
    EVP_CIPHER_CTX *context = pthread_getspecific(context_key);
    if (context)
        return context;
    context = EVP_CIPHER_CTX_new();
    if (!context || !EVP_CipherInit_ex2(context, cipher, NULL, NULL, 1, NULL) ||
        pthread_setspecific(context_key, context) != 0) {
        log_error("crypto_unavailable", "cause=\"no cipher context\"");
        abort();
    }
    return context;
}

static void derive_subkey(const struct keyring_key *key, struct text subject,
                          uint8_t subkey[KEYRING_SUBKEY])
{
    crypto_generichash_blake2b_state state = key->subkey;
    crypto_generichash_blake2b_update(&state, (const uint8_t *)subject.data, subject.length);
    crypto_generichash_blake2b_final(&state, subkey, KEYRING_SUBKEY);
    crypto_wipe(&state, sizeof(state));
}

/* One direction of AES-128-GCM up to the tag. False only if OpenSSL fails. */
static bool run_cipher(EVP_CIPHER_CTX *context, bool encrypt, const uint8_t *subkey,
                       const uint8_t *nonce, struct text additional, struct text in, uint8_t *out)
{
    int done = 0;
    if (!EVP_CipherInit_ex2(context, NULL, subkey, nonce, encrypt ? 1 : 0, NULL))
        return false;
    if (additional.length > 0 &&
        !EVP_CipherUpdate(context, NULL, &done, (const uint8_t *)additional.data,
                          (int)additional.length))
        return false;
    return in.length == 0 ||
           EVP_CipherUpdate(context, out, &done, (const uint8_t *)in.data, (int)in.length);
}

bool crypto_seal(const struct keyring *keyring, uint8_t key_id, struct text subject,
                 struct text additional, struct text plain, void *out)
{
    assert(plain.length <= INT_MAX - CRYPTO_SEAL_OVERHEAD && additional.length <= INT_MAX);
    const struct keyring_key *key = keyring_find(keyring, key_id);
    if (!key)
        return false;

    uint8_t *nonce = out;
    uint8_t *sealed = nonce + NONCE_LENGTH;
    uint8_t *tag = sealed + plain.length;
    crypto_random(nonce, NONCE_LENGTH);

    EVP_CIPHER_CTX *context = thread_context();
    uint8_t subkey[KEYRING_SUBKEY];
    derive_subkey(key, subject, subkey);
    int done = 0;
    if (!run_cipher(context, true, subkey, nonce, additional, plain, sealed) ||
        !EVP_CipherFinal_ex(context, tag, &done) ||
        !EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG_LENGTH, tag)) {
        /* No input of a caller can cause this; continuing would store an unreadable record. */
        log_error("crypto_unavailable", "cause=\"sealing failed\"");
        abort();
    }
    crypto_wipe(subkey, sizeof(subkey));
    return true;
}

bool crypto_open(const struct keyring *keyring, uint8_t key_id, struct text subject,
                 struct text additional, struct text sealed, void *out)
{
    if (sealed.length < CRYPTO_SEAL_OVERHEAD)
        return false;
    size_t length = sealed.length - CRYPTO_SEAL_OVERHEAD;
    const struct keyring_key *key = keyring_find(keyring, key_id);
    if (!key || sealed.length > INT_MAX || additional.length > INT_MAX) {
        crypto_wipe(out, length);
        return false;
    }

    struct text body = {sealed.data + NONCE_LENGTH, length};
    uint8_t tag[TAG_LENGTH];
    memcpy(tag, body.data + length, TAG_LENGTH);

    EVP_CIPHER_CTX *context = thread_context();
    uint8_t subkey[KEYRING_SUBKEY];
    derive_subkey(key, subject, subkey);
    uint8_t rest[16]; /* GCM has nothing left for the last call to write */
    int done = 0;
    bool opened =
        run_cipher(context, false, subkey, (const uint8_t *)sealed.data, additional, body, out) &&
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, TAG_LENGTH, tag) &&
        EVP_CipherFinal_ex(context, rest, &done);
    crypto_wipe(subkey, sizeof(subkey));
    if (!opened) {
        crypto_wipe(out, length);
        ERR_clear_error(); /* the TLS links of this thread read the same queue */
    }
    return opened;
}
