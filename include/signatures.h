/* Signed texts in memory, so that one signature serves many answers.
 *
 * A text is kept under a key that identifies everything it states but its times. It is given out
 * during the first half of its lifetime: so its receiver has at least the other half. Bounded in
 * bytes, the oldest text is evicted first. Shards with one mutex each, held for a copy at most.
 * Texts are wiped before their memory is released. Nothing here is proof that a statement still
 * holds: callers ask only for what they have just found to be true. */
#pragma once

#include "memory.h"

enum { SIGNATURES_KEY = 16 };

struct signatures;

struct signed_text {
    struct text text;
    int64_t signed_s, expires_s; /* seconds since 1970 */
};

struct signatures *signatures_create(void);
void signatures_destroy(struct signatures **signatures);

/* Copies the text of this key into the arena. False if there is none, if half its lifetime is over
 * or still to begin at now_s, or if it expires later than last_s. Any thread, as all that follow.
 */
bool signatures_get(struct signatures *signatures, const uint8_t key[SIGNATURES_KEY], int64_t now_s,
                    int64_t last_s, struct arena *arena, struct signed_text *ret);
/* Stores or replaces. `most` bounds the bytes of all texts from now on, everything counted; 0: none
 * is kept. A text too large for its share is not kept. */
void signatures_put(struct signatures *signatures, const uint8_t key[SIGNATURES_KEY],
                    const struct signed_text *signed_text, size_t most);

struct signatures_usage {
    size_t texts, bytes;
};
void signatures_usage(struct signatures *signatures, struct signatures_usage *ret);
