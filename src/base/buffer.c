/* Growing byte strings. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "text.h"

enum { BUFFER_LEAST = 128 };

/* Bodies and responses carry tokens, so old memory is wiped. */
static void wipe_and_free(char *data, size_t size)
{
    if (data) {
        explicit_bzero(data, size);
        free(data);
    }
}

/* Out of line, so that buffer_reserve() is small enough to be inlined. */
__attribute__((noinline, cold)) static void grow_buffer(struct buffer *buffer, size_t more)
{
    assert(more <= SIZE_MAX - buffer->length);
    size_t needed = buffer->length + more;
    size_t capacity = buffer->capacity ? buffer->capacity : BUFFER_LEAST;
    while (capacity < needed) {
        assert(capacity <= SIZE_MAX / 2);
        capacity *= 2;
    }
    char *data = xmalloc(capacity);
    if (buffer->data)
        memcpy(data, buffer->data, buffer->length);
    wipe_and_free(buffer->data, buffer->capacity);
    buffer->data = data;
    buffer->capacity = capacity;
}

char *buffer_reserve(struct buffer *buffer, size_t more)
{
    if (more > buffer->capacity - buffer->length || !buffer->data)
        grow_buffer(buffer, more);
    return buffer->data + buffer->length;
}

void buffer_add(struct buffer *buffer, const void *data, size_t length)
{
    if (length > 0) {
        memcpy(buffer_reserve(buffer, length), data, length);
        buffer->length += length;
    }
}

void buffer_add_text(struct buffer *buffer, struct text text)
{
    buffer_add(buffer, text.data, text.length);
}

void buffer_add_char(struct buffer *buffer, char c)
{
    *buffer_reserve(buffer, 1) = c;
    buffer->length++;
}

/* Two digits at a time: half the divisions. */
void buffer_add_int(struct buffer *buffer, int64_t value)
{
    static const char pairs[] = "00010203040506070809101112131415161718192021222324"
                                "25262728293031323334353637383940414243444546474849"
                                "50515253545556575859606162636465666768697071727374"
                                "75767778798081828384858687888990919293949596979899";
    char digits[20];
    size_t start = sizeof(digits);
    uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;
    for (; rest >= 10; rest /= 100) {
        const char *pair = pairs + 2 * (rest % 100);
        digits[--start] = pair[1];
        digits[--start] = pair[0];
    }
    if (rest > 0 || start == sizeof(digits))
        digits[--start] = (char)('0' + rest);
    if (value < 0)
        digits[--start] = '-';
    buffer_add(buffer, digits + start, sizeof(digits) - start);
}

void buffer_addf(struct buffer *buffer, const char *format, ...)
{
    buffer_reserve(buffer, BUFFER_LEAST);
    for (;;) {
        size_t room = buffer->capacity - buffer->length;
        va_list arguments;
        va_start(arguments, format);
        int length = vsnprintf(buffer->data + buffer->length, room, format, arguments);
        va_end(arguments);
        assert(length >= 0);
        if ((size_t)length < room) {
            buffer->length += (size_t)length;
            return;
        }
        buffer_reserve(buffer, (size_t)length + 1);
    }
}

void buffer_free(struct buffer *buffer)
{
    wipe_and_free(buffer->data, buffer->capacity);
    *buffer = (struct buffer){0};
}

struct text buffer_text(const struct buffer *buffer)
{
    return (struct text){buffer->data, buffer->length};
}
