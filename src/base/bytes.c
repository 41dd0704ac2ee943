/* Numbers as bytes, and the way back. */
#include "bytes.h"

#include <string.h>

void bytes_put(void *out, uint64_t value, size_t width)
{
    uint8_t *bytes = out;
    for (size_t i = width; i-- > 0; value >>= 8)
        bytes[i] = (uint8_t)value;
}

void bytes_add(struct buffer *out, uint64_t value, size_t width)
{
    bytes_put(buffer_reserve(out, width), value, width);
    out->length += width;
}

uint64_t bytes_get(const void *in, size_t width)
{
    const uint8_t *bytes = in;
    uint64_t value = 0;
    for (size_t i = 0; i < width; i++)
        value = value << 8 | bytes[i];
    return value;
}

struct text bytes_take(struct cursor *cursor, size_t length)
{
    if (cursor->broken || length > cursor->left) {
        cursor->broken = true;
        return (struct text){0};
    }
    struct text taken = {cursor->next, length};
    cursor->next += length;
    cursor->left -= length;
    return taken;
}

uint64_t bytes_number(struct cursor *cursor, size_t width)
{
    struct text taken = bytes_take(cursor, width);
    return bytes_get(taken.data, taken.length);
}

void bytes_copy(struct cursor *cursor, void *ret, size_t length)
{
    struct text taken = bytes_take(cursor, length);
    if (taken.length > 0)
        memcpy(ret, taken.data, length);
}
