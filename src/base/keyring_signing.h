/* The signing keys of a ring: which of them signs, and their public parts.
 *
 * A key signs once it has been published for long enough that no client's copy of the JWKS lacks
 * it. Its time of publication is when this process first read it; a newest key read at the start
 * counts from the last change of the file, and all before it as long published. Until then the
 * newest key that may sign does; if none may, the one published longest. So a key file is rotated
 * in one step, and a ring with one key always signs. */
#pragma once

#include "crypto.h"

struct keyring_signing {
    size_t count;
    struct published_key {
        struct signing_key *key;
        int64_t published_ms; /* clock_boot_ms(); INT64_MIN: long ago */
    } keys[KEY_ID_MAX];       /* in the file's order */
    struct buffer jwks;
};

/* Adds a key. The secret must be one that signing_key_create() accepts. */
void keyring_signing_add(struct keyring_signing *signing, const uint8_t secret[SIGNING_SECRET]);
/* Writes the JWKS, and counts the newest key as published since `age_ms` before now. */
void keyring_signing_complete(struct keyring_signing *signing, int64_t age_ms);
/* Takes the times of publication over from the ring before; keys that it lacks are published now.
 */
void keyring_signing_inherit(struct keyring_signing *signing, const struct keyring_signing *before);
const struct signing_key *keyring_signing_choose(const struct keyring_signing *signing,
                                                 int64_t published_ms);
void keyring_signing_free(struct keyring_signing *signing);
