/* Allocation that never fails, and the arena of a request. */
#pragma once

#include "text.h"

/* Bytes that processors share or fight for. */
#define CACHE_LINE 64

/* malloc, calloc, realloc and strndup that log and abort when memory runs out: a session service
 * that cannot allocate cannot answer truthfully; systemd restarts it. */
void *xmalloc(size_t size) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *memory, size_t size) __attribute__((returns_nonnull));
char *xstrndup(const char *string, size_t length) __attribute__((malloc, returns_nonnull));
char *xstrdup(const char *string) __attribute__((malloc, returns_nonnull));
/* Bytes of an allocation, its overhead included; 0 for NULL. */
size_t memory_taken(void *memory);

/* Bump allocation with the lifetime of a request: arena_reset() frees everything at once. The first
 * block is kept over resets, so a typical request allocates nothing. */
struct arena_block;
struct arena {
    struct arena_block *blocks; /* newest first */
};

/* Memory aligned for any object, uninitialised, valid until arena_reset(). */
void *arena_alloc(struct arena *arena, size_t size) __attribute__((malloc, returns_nonnull));
/* The same, zeroed. */
void *arena_zalloc(struct arena *arena, size_t size) __attribute__((malloc, returns_nonnull));
/* A copy of the text, NUL-terminated after its length. An absent text stays absent. */
struct text arena_copy(struct arena *arena, struct text text);
/* Formatted text, NUL-terminated after its length. */
struct text arena_format(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Wipes and releases everything but the first block: requests carry tokens. */
void arena_reset(struct arena *arena);
void arena_free(struct arena *arena);
