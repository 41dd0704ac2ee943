/* Allocation that never fails. */
#include "memory.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

static void *must(void *memory, size_t size)
{
    if (!memory) {
        log_error("out_of_memory", "bytes=%zu", size);
        abort();
    }
    return memory;
}

void *xmalloc(size_t size)
{
    return must(malloc(size ? size : 1), size);
}

void *xcalloc(size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total))
        total = SIZE_MAX; /* calloc will refuse; this is for the log */
    return must(calloc(count ? count : 1, size ? size : 1), total);
}

void *xrealloc(void *memory, size_t size)
{
    return must(realloc(memory, size ? size : 1), size);
}

char *xstrndup(const char *string, size_t length)
{
    size_t bytes = strnlen(string, length);
    char *copy = xmalloc(bytes + 1);
    memcpy(copy, string, bytes);
    copy[bytes] = '\0';
    return copy;
}

char *xstrdup(const char *string)
{
    return xstrndup(string, strlen(string));
}

size_t memory_taken(void *memory)
{
    return memory ? malloc_usable_size(memory) + sizeof(size_t) : 0;
}
