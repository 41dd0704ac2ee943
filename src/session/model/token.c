/* Mints and reads tokens: one layout, three prefixes, no allocation. */
#include "token.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#define PREFIX 3

/* Offsets of the parts in the 45 bytes. */
enum {
    AT_KEY = 0,
    AT_OWNER = 1,
    AT_SESSION = AT_OWNER + TENANT_TAG + USER_TAG,
    AT_SECRET = AT_SESSION + SESSION_ID,
    AT_MAC = AT_SECRET + SECRET_LENGTH,
    MAC = 6,
    RAW = AT_MAC + MAC
};

static_assert(RAW == 45 && PREFIX + RAW * 4 / 3 == TOKEN_LENGTH, "the layout fills 63 characters");
static_assert(sizeof(struct user_tag) == TENANT_TAG + USER_TAG, "tags lie together, as in a token");

static const char prefixes[][PREFIX + 1] = {
    [TOKEN_ACCESS] = "sa_",
    [TOKEN_REFRESH] = "sr_",
    [TOKEN_CHALLENGE] = "sc_",
};

/* A token before base64url: the bytes under the MAC are contiguous. */
struct spelled {
    char prefix[PREFIX];
    uint8_t raw[RAW];
};

static_assert(sizeof(struct spelled) == PREFIX + RAW, "no gap between prefix and bytes");

static struct text bytes(const void *data, size_t length)
{
    return (struct text){data, length};
}

/* --- Names ----------------------------------------------------------------------------------- */

void token_tag_tenant(const struct keyring *keyring, struct text tenant, uint8_t ret[TENANT_TAG])
{
    crypto_keyed_hash(keyring, CRYPTO_TENANT_TAG, &tenant, 1, ret, TENANT_TAG);
}

void token_tag_user(const struct keyring *keyring, struct text tenant, struct text user_id,
                    struct user_tag *ret)
{
    const struct text parts[] = {tenant, user_id};
    token_tag_tenant(keyring, tenant, ret->tenant);
    crypto_keyed_hash(keyring, CRYPTO_USER_TAG, parts, 2, ret->user, USER_TAG);
}

bool token_is_of_tenant(const struct keyring *keyring, const struct token *token,
                        struct text tenant)
{
    uint8_t tag[TENANT_TAG];
    token_tag_tenant(keyring, tenant, tag);
    return crypto_equal(tag, token->owner.tenant, TENANT_TAG);
}

/* --- Session ids ----------------------------------------------------------------------------- */

#define RANDOM_BITS 22
#define RANDOM_MASK ((UINT64_C(1) << RANDOM_BITS) - 1)
#define TIME_MASK   ((UINT64_C(1) << 42) - 1)

void token_new_session_id(int64_t wall_ms, uint8_t ret[SESSION_ID])
{
    static _Atomic uint64_t latest;
    uint64_t ms = (uint64_t)wall_ms & TIME_MASK;
    uint32_t random;
    crypto_random(&random, sizeof(random));

    /* Ids of one millisecond count on from a random start, so a burst of logins of one user on this
     * node never draws the same id twice. */
    uint64_t id;
    uint64_t previous = atomic_load(&latest);
    do {
        uint64_t low = previous >> RANDOM_BITS == ms ? previous + 1 : random;
        id = ms << RANDOM_BITS | (low & RANDOM_MASK);
    } while (!atomic_compare_exchange_weak(&latest, &previous, id));

    for (size_t i = 0; i < SESSION_ID; i++)
        ret[i] = (uint8_t)(id >> (56 - 8 * i));
}

int64_t token_session_created_ms(const uint8_t session_id[SESSION_ID])
{
    uint64_t id = 0;
    for (size_t i = 0; i < SESSION_ID; i++)
        id = id << 8 | session_id[i];
    return (int64_t)(id >> RANDOM_BITS);
}

int64_t token_order_ms(int64_t ms)
{
    const int64_t beyond = INT64_C(1) << 42, room = INT64_C(1) << 30;
    return ms < beyond ? ms : beyond - room;
}

/* --- The 63 characters ----------------------------------------------------------------------- */

static bool compute_mac(const struct keyring *keyring, uint8_t key_id,
                        const struct spelled *spelled, uint8_t mac[MAC])
{
    return crypto_token_mac(keyring, key_id, spelled, PREFIX + AT_MAC, mac);
}

void token_print(const struct keyring *keyring, enum token_kind kind, const struct token *token,
                 char ret[TOKEN_LENGTH])
{
    assert(token->key_id >= 1 && token->key_id <= KEY_ID_MAX);
    struct spelled spelled;
    memcpy(spelled.prefix, prefixes[kind], PREFIX);
    spelled.raw[AT_KEY] = token->key_id;
    memcpy(spelled.raw + AT_OWNER, &token->owner, sizeof(token->owner));
    memcpy(spelled.raw + AT_SESSION, token->session_id, SESSION_ID);
    memcpy(spelled.raw + AT_SECRET, token->secret, SECRET_LENGTH);
    bool known = compute_mac(keyring, token->key_id, &spelled, spelled.raw + AT_MAC);
    assert(known);
    (void)known;

    memcpy(ret, prefixes[kind], PREFIX);
    text_to_base64url(ret + PREFIX, spelled.raw, RAW);
    crypto_wipe(&spelled, sizeof(spelled));
}

bool token_is_shaped(enum token_kind kind, struct text text)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    if (text.length != TOKEN_LENGTH || memcmp(text.data, prefixes[kind], PREFIX) != 0)
        return false;
    for (size_t i = PREFIX; i < text.length; i++)
        if (!memchr(alphabet, text.data[i], sizeof(alphabet) - 1))
            return false;
    return true;
}

/* The bytes of a text that has a token's shape; the MAC is not checked. */
static bool spell(enum token_kind kind, struct text text, struct spelled *ret)
{
    if (text.length != TOKEN_LENGTH || memcmp(text.data, prefixes[kind], PREFIX) != 0)
        return false;
    memcpy(ret->prefix, prefixes[kind], PREFIX);
    return text_from_base64url(ret->raw, RAW, bytes(text.data + PREFIX, TOKEN_LENGTH - PREFIX)) &&
           ret->raw[AT_KEY] <= KEY_ID_MAX;
}

bool token_read(const struct keyring *keyring, enum token_kind kind, struct text text,
                struct token *ret)
{
    struct spelled spelled;
    uint8_t mac[MAC];
    memset(ret, 0, sizeof(*ret));
    bool genuine = spell(kind, text, &spelled) &&
                   compute_mac(keyring, spelled.raw[AT_KEY], &spelled, mac) &&
                   crypto_equal(mac, spelled.raw + AT_MAC, MAC);
    if (genuine) {
        ret->key_id = spelled.raw[AT_KEY];
        memcpy(&ret->owner, spelled.raw + AT_OWNER, sizeof(ret->owner));
        memcpy(ret->session_id, spelled.raw + AT_SESSION, SESSION_ID);
        memcpy(ret->secret, spelled.raw + AT_SECRET, SECRET_LENGTH);
    }
    crypto_wipe(&spelled, sizeof(spelled));
    return genuine;
}

bool token_claimed_owner(struct text text, struct user_tag *ret)
{
    enum { HEAD = AT_OWNER + sizeof(struct user_tag) };
    static_assert(HEAD % 3 == 0, "whole characters");
    uint8_t head[HEAD];
    if (text.length != TOKEN_LENGTH ||
        !text_from_base64url(head, HEAD, bytes(text.data + PREFIX, HEAD * 4 / 3)))
        return false;
    memcpy(ret, head + AT_OWNER, sizeof(*ret));
    return true;
}

/* --- Secrets --------------------------------------------------------------------------------- */

void token_hash_secret(const struct keyring *keyring, enum token_kind kind,
                       const uint8_t session_id[SESSION_ID], const uint8_t secret[SECRET_LENGTH],
                       uint8_t ret[SECRET_HASH])
{
    const uint8_t kind_byte = (uint8_t)kind;
    const struct text parts[] = {bytes(&kind_byte, 1), bytes(session_id, SESSION_ID),
                                 bytes(secret, SECRET_LENGTH)};
    crypto_keyed_hash(keyring, CRYPTO_SECRET_HASH, parts, 3, ret, SECRET_HASH);
}

static_assert(SECRET_HASH == SECRET_LENGTH, "a hash stands where a secret does");

void token_succeed(const struct keyring *keyring, const struct token *refresh,
                   enum token_origin origin, uint32_t generation,
                   uint8_t access_secret[SECRET_LENGTH], uint8_t refresh_secret[SECRET_LENGTH])
{
    static const struct {
        enum crypto_purpose access, refresh;
    } purposes[] = {
        [ORIGIN_SECRET] = {CRYPTO_SUCCESSOR_ACCESS, CRYPTO_SUCCESSOR_REFRESH},
        [ORIGIN_HASH] = {CRYPTO_HASH_ACCESS, CRYPTO_HASH_REFRESH},
    };
    const uint8_t number[4] = {(uint8_t)(generation >> 24), (uint8_t)(generation >> 16),
                               (uint8_t)(generation >> 8), (uint8_t)generation};
    const struct text parts[] = {bytes(&refresh->owner, sizeof(refresh->owner)),
                                 bytes(refresh->session_id, SESSION_ID),
                                 bytes(refresh->secret, SECRET_LENGTH), bytes(number, 4)};
    crypto_keyed_hash(keyring, purposes[origin].access, parts, 4, access_secret, SECRET_LENGTH);
    crypto_keyed_hash(keyring, purposes[origin].refresh, parts, 4, refresh_secret, SECRET_LENGTH);
}
