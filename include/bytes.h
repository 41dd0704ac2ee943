/* Stored bytes: big-endian numbers, and a cursor that reads them back and never leaves its input.
 */
#pragma once

#include "text.h"

/* A number of at most 8 bytes; what does not fit in `width` is cut off at its front. */
void bytes_put(void *out, uint64_t value, size_t width);
void bytes_add(struct buffer *out, uint64_t value, size_t width);
uint64_t bytes_get(const void *in, size_t width);

/* The unread rest of an input. After the first take that asked for too much every take gives zeros
 * and absent texts, and `broken` tells: it is enough to look once, at the end. */
struct cursor {
    const char *next;
    size_t left;
    bool broken;
};

struct text bytes_take(struct cursor *cursor, size_t length);
uint64_t bytes_number(struct cursor *cursor, size_t width);
/* Leaves `ret` as it is if that much is not left. */
void bytes_copy(struct cursor *cursor, void *ret, size_t length);
