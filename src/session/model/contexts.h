/* What a user was seen with: devices and places, as keyed hashes, so that a login from another can
 * be told from one like those before. Kept only for users whose tenant asks for it (policy
 * verify.on), since it outlives their sessions.
 *
 * Stored sealed in the field "~" of the user's hash: for each context its hash 8 and the day on
 * which it was last seen, 2 bytes, big-endian, days since 1970.
 *
 * Those that do not open are nobody's: then everything is new. If that is for want of a key, other
 * nodes may have it, so a login whose user was not verified leaves them as they are; a verified one
 * begins anew, since the key may as well have been dropped: contexts live longer than keys. */
#pragma once

#include "crypto.h"
#include "memory.h"
#include "token.h"

#define CONTEXT_HASH  8
#define CONTEXTS_MAX  32
#define CONTEXT_DAYS  180 /* a context that was not seen for so long is forgotten */
#define CONTEXT_BYTES (CONTEXT_HASH + 2)

struct known_context {
    uint8_t hash[CONTEXT_HASH];
    uint16_t day; /* last seen */
};

/* All zero: nothing is known. */
struct contexts {
    struct known_context items[CONTEXTS_MAX];
    size_t count;
};

enum context_kind { CONTEXT_DEVICE = 'd', CONTEXT_FINGERPRINT = 'f', CONTEXT_LOCATION = 'p' };
/* The hash of a device's id, its fingerprint, or a location_key(), for this user alone. */
void contexts_hash(const struct keyring *keyring, const struct user_tag *owner,
                   enum context_kind kind, struct text what, uint8_t ret[CONTEXT_HASH]);

/* False, with *ret empty, for bytes that contexts_write() did not write. */
bool contexts_read(struct text bytes, struct contexts *ret);
void contexts_write(const struct contexts *contexts, struct buffer *out);

bool contexts_have(const struct contexts *contexts, const uint8_t hash[CONTEXT_HASH]);
/* Takes note that it was seen; where there is no room the one that was not seen for longest goes.
 */
void contexts_note(struct contexts *contexts, const uint8_t hash[CONTEXT_HASH], int64_t now_s);
/* Drops what was not seen for CONTEXT_DAYS. */
void contexts_forget(struct contexts *contexts, int64_t now_s);
/* When the last of them is forgotten, seconds since 1970; 0 if there are none. */
int64_t contexts_until_s(const struct contexts *contexts);
/* When the last one is forgotten, if there may be one that was seen now. */
int64_t contexts_longest_s(int64_t now_s);
