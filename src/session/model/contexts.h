/* A user's known devices and locations, as keyed hashes: they tell a login from a new context from
 * one like those before. Kept only for users whose tenant wants it (policy verify.on), since they
 * outlive sessions.
 *
 * Stored sealed in the field "~" of the user's hash. Each context has its hash 8 and the day when
 * it was last seen, 2 bytes, big-endian, days since 1970.
 *
 * Contexts that do not open count as empty: everything is new. If the key is missing here, other
 * nodes may have it. So a login without verification leaves them, and a verified one starts again:
 * the key may have been dropped, since contexts live longer than keys. */
#pragma once

#include "crypto.h"
#include "memory.h"
#include "token.h"

#define CONTEXT_HASH  8
#define CONTEXTS_MAX  32
#define CONTEXT_DAYS  180 /* an unseen context is forgotten after so long */
#define CONTEXT_BYTES (CONTEXT_HASH + 2)

struct known_context {
    uint8_t hash[CONTEXT_HASH];
    uint16_t day; /* last seen */
};

/* All zero: no context is known. */
struct contexts {
    struct known_context items[CONTEXTS_MAX];
    size_t count;
};

enum context_kind { CONTEXT_DEVICE = 'd', CONTEXT_FINGERPRINT = 'f', CONTEXT_LOCATION = 'p' };
/* The hash of a device id, a fingerprint or a location_key(), for this user only. */
void contexts_hash(const struct keyring *keyring, const struct user_tag *owner,
                   enum context_kind kind, struct text what, uint8_t ret[CONTEXT_HASH]);

/* Reads stored contexts. False, with *ret empty, for bytes that contexts_write() did not write. */
bool contexts_read(struct text bytes, struct contexts *ret);
void contexts_write(const struct contexts *contexts, struct buffer *out);

bool contexts_have(const struct contexts *contexts, const uint8_t hash[CONTEXT_HASH]);
/* Marks the context as seen now. If there is no room, the one unseen for longest is dropped. */
void contexts_note(struct contexts *contexts, const uint8_t hash[CONTEXT_HASH], int64_t now_s);
/* Drops contexts not seen for CONTEXT_DAYS. */
void contexts_forget(struct contexts *contexts, int64_t now_s);
/* When the last context will be forgotten, seconds since 1970; 0 if there are none. */
int64_t contexts_until_s(const struct contexts *contexts);
/* The same for a context that is seen now. */
int64_t contexts_longest_s(int64_t now_s);
