/* A count and the hour it covers. */
#include "guesses.h"

#include <inttypes.h>
#include <string.h>

#include "record.h"

void guesses_read(struct text text, struct guesses *ret)
{
    struct guesses found;
    const char *blank = text.length > 0 ? memchr(text.data, ' ', text.length) : NULL;
    *ret = (struct guesses){0};
    if (!blank)
        return;
    size_t length = (size_t)(blank - text.data);
    struct text since = {blank + 1, text.length - length - 1};
    if (text_to_int((struct text){text.data, length}, 1, INT32_MAX, &found.count) &&
        text_to_int(since, 0, STORED_S_MAX, &found.since_s))
        *ret = found;
}

struct text guesses_write(const struct guesses *guesses, struct arena *arena)
{
    return arena_format(arena, "%" PRId64 " %" PRId64, guesses->count, guesses->since_s);
}

/* A start more than an hour ahead of now was not written by a clock. */
static bool is_hour_over(const struct guesses *guesses, int64_t now_s)
{
    return now_s >= guesses->since_s + GUESSES_SECONDS ||
           guesses->since_s > now_s + GUESSES_SECONDS;
}

void guesses_note(struct guesses *guesses, int64_t now_s)
{
    if (guesses->count == 0 || is_hour_over(guesses, now_s))
        *guesses = (struct guesses){.since_s = now_s};
    if (guesses->count < INT32_MAX)
        guesses->count++;
}

int64_t guesses_closed_s(const struct guesses *guesses, int64_t now_s)
{
    if (guesses->count < GUESSES_MAX || is_hour_over(guesses, now_s))
        return 0;
    return guesses_until_s(guesses) - now_s;
}

int64_t guesses_until_s(const struct guesses *guesses)
{
    return guesses->count > 0 ? guesses->since_s + GUESSES_SECONDS : 0;
}
