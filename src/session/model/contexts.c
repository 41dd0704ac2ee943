/* A short list, searched linearly. */
#include "contexts.h"

#include <string.h>

#include "bytes.h"
#include "clock.h"

void contexts_hash(const struct keyring *keyring, const struct user_tag *owner,
                   enum context_kind kind, struct text what, uint8_t ret[CONTEXT_HASH])
{
    const char letter = (char)kind;
    const struct text parts[] = {{(const char *)owner, sizeof(*owner)}, {&letter, 1}, what};
    crypto_keyed_hash(keyring, CRYPTO_CONTEXT, parts, 3, ret, CONTEXT_HASH);
}

bool contexts_read(struct text bytes, struct contexts *ret)
{
    *ret = (struct contexts){0};
    if (bytes.length % CONTEXT_BYTES != 0 || bytes.length > CONTEXTS_MAX * CONTEXT_BYTES)
        return false;
    for (size_t at = 0; at < bytes.length; at += CONTEXT_BYTES) {
        struct known_context *item = &ret->items[ret->count++];
        memcpy(item->hash, bytes.data + at, CONTEXT_HASH);
        item->day = (uint16_t)bytes_get(bytes.data + at + CONTEXT_HASH, sizeof(item->day));
    }
    return true;
}

void contexts_write(const struct contexts *contexts, struct buffer *out)
{
    for (size_t i = 0; i < contexts->count; i++) {
        const struct known_context *item = &contexts->items[i];
        buffer_add(out, item->hash, CONTEXT_HASH);
        bytes_add(out, item->day, sizeof(item->day));
    }
}

static size_t position_of(const struct contexts *contexts, const uint8_t hash[CONTEXT_HASH])
{
    size_t i = 0;
    while (i < contexts->count && memcmp(contexts->items[i].hash, hash, CONTEXT_HASH) != 0)
        i++;
    return i;
}

bool contexts_have(const struct contexts *contexts, const uint8_t hash[CONTEXT_HASH])
{
    return position_of(contexts, hash) < contexts->count;
}

static uint16_t day_of(int64_t now_s)
{
    int64_t day = now_s / DAY_S;
    return day < 0 ? 0 : day > UINT16_MAX ? UINT16_MAX : (uint16_t)day;
}

static size_t longest_unseen(const struct contexts *contexts)
{
    size_t found = 0;
    for (size_t i = 1; i < contexts->count; i++)
        if (contexts->items[i].day < contexts->items[found].day)
            found = i;
    return found;
}

void contexts_note(struct contexts *contexts, const uint8_t hash[CONTEXT_HASH], int64_t now_s)
{
    size_t at = position_of(contexts, hash);
    if (at == CONTEXTS_MAX)
        at = longest_unseen(contexts);
    else if (at == contexts->count)
        contexts->count++;
    memcpy(contexts->items[at].hash, hash, CONTEXT_HASH);
    contexts->items[at].day = day_of(now_s);
}

void contexts_forget(struct contexts *contexts, int64_t now_s)
{
    size_t kept = 0;
    for (size_t i = 0; i < contexts->count; i++)
        if (contexts->items[i].day + CONTEXT_DAYS >= day_of(now_s))
            contexts->items[kept++] = contexts->items[i];
    contexts->count = kept;
}

static int64_t forgotten_s(int64_t day)
{
    return (day + CONTEXT_DAYS + 1) * DAY_S;
}

int64_t contexts_longest_s(int64_t now_s)
{
    return forgotten_s(day_of(now_s));
}

int64_t contexts_until_s(const struct contexts *contexts)
{
    int64_t last = -1;
    for (size_t i = 0; i < contexts->count; i++)
        if (contexts->items[i].day > last)
            last = contexts->items[i].day;
    return last < 0 ? 0 : forgotten_s(last);
}
