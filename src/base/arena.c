/* The arena of a request. */
#include <assert.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

/* The oldest block is the last of the list and outlives every reset. Later ones double in size, so
 * that a large request takes few of them. */
struct arena_block {
    struct arena_block *older;
    size_t size;
    size_t used;
    alignas(max_align_t) char data[];
};

enum {
    ARENA_ALIGNMENT = alignof(max_align_t),
    FIRST_BLOCK = 4096 - (int)sizeof(struct arena_block),
    LARGEST_STEP = 256 * 1024
};

static void add_block(struct arena *arena, size_t least)
{
    size_t size = FIRST_BLOCK;
    if (arena->blocks && arena->blocks->size <= LARGEST_STEP / 2)
        size = arena->blocks->size * 2;
    if (size < least)
        size = least;
    struct arena_block *block = xmalloc(sizeof(*block) + size);
    block->older = arena->blocks;
    block->size = size;
    block->used = 0;
    arena->blocks = block;
}

static size_t room_left(const struct arena *arena)
{
    return arena->blocks ? arena->blocks->size - arena->blocks->used : 0;
}

static size_t rounded_up(size_t size)
{
    return (size + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    assert(size <= SIZE_MAX / 2);
    size_t rounded = rounded_up(size);
    if (!arena->blocks)
        add_block(arena, FIRST_BLOCK);
    if (rounded > room_left(arena))
        add_block(arena, rounded);
    struct arena_block *block = arena->blocks;
    void *memory = block->data + block->used;
    block->used += rounded;
    return memory;
}

void *arena_zalloc(struct arena *arena, size_t size)
{
    return memset(arena_alloc(arena, size), 0, size);
}

struct text arena_copy(struct arena *arena, struct text text)
{
    if (!text.data)
        return text;
    char *copy = arena_alloc(arena, text.length + 1);
    memcpy(copy, text.data, text.length);
    copy[text.length] = '\0';
    return (struct text){copy, text.length};
}

/* Returns the memory after `end` to the block of the latest allocation. */
static void return_rest(struct arena *arena, const char *end)
{
    struct arena_block *block = arena->blocks;
    block->used = rounded_up((size_t)(end - block->data));
}

/* Printed in place: a copy of a secret would stay on the stack. */
struct text arena_format(struct arena *arena, const char *format, ...)
{
    enum { MOSTLY_ENOUGH = 256 };
    char *out = arena_alloc(arena, MOSTLY_ENOUGH);
    va_list arguments;
    va_start(arguments, format);
    int printed = vsnprintf(out, MOSTLY_ENOUGH, format, arguments);
    va_end(arguments);
    assert(printed >= 0);
    size_t length = (size_t)printed;
    if (length < MOSTLY_ENOUGH) {
        return_rest(arena, out + length + 1);
        return (struct text){out, length};
    }
    char *large = arena_alloc(arena, length + 1);
    va_start(arguments, format);
    vsnprintf(large, length + 1, format, arguments);
    va_end(arguments);
    return (struct text){large, length};
}

/* Wipes only the used part: this runs after each request. */
static void wipe_block(struct arena_block *block)
{
    explicit_bzero(block->data, block->used);
    block->used = 0;
}

static void drop_newest(struct arena *arena)
{
    struct arena_block *block = arena->blocks;
    arena->blocks = block->older;
    wipe_block(block);
    free(block);
}

void arena_reset(struct arena *arena)
{
    if (!arena->blocks)
        return;
    while (arena->blocks->older)
        drop_newest(arena);
    wipe_block(arena->blocks);
}

void arena_free(struct arena *arena)
{
    while (arena->blocks)
        drop_newest(arena);
}
