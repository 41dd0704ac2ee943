/* Stored bytes: big-endian numbers, and a cursor that reads them back and never leaves its input.
 */
#pragma once

#include "text.h"

/* Numbers of at most 8 bytes; `put` drops high bytes beyond `width`. */
void bytes_put(void *out, uint64_t value, size_t width);
void bytes_add(struct buffer *out, uint64_t value, size_t width);
uint64_t bytes_get(const void *in, size_t width);

/* The unread rest of an input. After the first take beyond its end every take returns zeros or
 * absent texts, and `broken` is set: one check at the end is enough. */
struct cursor {
    const char *next;
    size_t left;
    bool broken;
};

struct text bytes_take(struct cursor *cursor, size_t length);
uint64_t bytes_number(struct cursor *cursor, size_t width);
/* Leaves `ret` unchanged if fewer bytes are left. */
void bytes_copy(struct cursor *cursor, void *ret, size_t length);
