#include "keyring_signing.h"

#include <assert.h>

#include "clock.h"

void keyring_signing_add(struct keyring_signing *signing, const uint8_t secret[SIGNING_SECRET])
{
    struct signing_key *key = signing_key_create(secret);
    assert(signing->count < KEY_ID_MAX && key);
    signing->keys[signing->count++] = (struct published_key){.key = key, .published_ms = INT64_MIN};
}

void keyring_signing_complete(struct keyring_signing *signing, int64_t age_ms)
{
    if (signing->count > 0)
        signing->keys[signing->count - 1].published_ms =
            clock_boot_ms() - (age_ms > 0 ? age_ms : 0);
    buffer_add_literal(&signing->jwks, "{\"keys\":[");
    for (size_t i = 0; i < signing->count; i++) {
        if (i > 0)
            buffer_add_char(&signing->jwks, ',');
        signing_key_print(signing->keys[i].key, &signing->jwks);
    }
    buffer_add_literal(&signing->jwks, "]}");
}

static const struct published_key *find_signer(const struct keyring_signing *signing,
                                               const struct signing_key *key)
{
    for (size_t i = 0; i < signing->count; i++)
        if (text_equal(signing_key_id(signing->keys[i].key), signing_key_id(key)))
            return &signing->keys[i];
    return NULL;
}

void keyring_signing_inherit(struct keyring_signing *signing, const struct keyring_signing *before)
{
    for (size_t i = 0; i < signing->count; i++) {
        struct published_key *signer = &signing->keys[i];
        const struct published_key *known = find_signer(before, signer->key);
        signer->published_ms = known ? known->published_ms : clock_boot_ms();
    }
}

const struct signing_key *keyring_signing_choose(const struct keyring_signing *signing,
                                                 int64_t published_ms)
{
    int64_t now_ms = clock_boot_ms();
    const struct published_key *oldest = NULL;
    for (size_t i = signing->count; i-- > 0;) {
        const struct published_key *signer = &signing->keys[i];
        if (signer->published_ms <= now_ms - published_ms)
            return signer->key;
        if (!oldest || signer->published_ms <= oldest->published_ms)
            oldest = signer;
    }
    return oldest ? oldest->key : NULL;
}

void keyring_signing_free(struct keyring_signing *signing)
{
    for (size_t i = 0; i < signing->count; i++)
        signing_key_destroy(&signing->keys[i].key);
    buffer_free(&signing->jwks);
}
