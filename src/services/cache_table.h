/* The two structures that the cache grows a little at a time: an array of pointers in segments, and
 * a hash table by linear hashing on top of it. Neither ever stops to copy or rehash everything it
 * holds; both shrink as they empty. Not locked: the owner is. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define CACHE_SEGMENT 64

struct cache_array {
    void ***segments;
    uint32_t count;     /* pointers */
    uint32_t directory; /* segments that there is room for */
    size_t bytes;       /* of memory, the allocator's share included */
};

static inline void **cache_array_at(const struct cache_array *array, uint32_t index)
{
    return &array->segments[index / CACHE_SEGMENT][index % CACHE_SEGMENT];
}

void cache_array_push(struct cache_array *array, void *pointer);
void cache_array_pop(struct cache_array *array);
/* What an allocation takes in all. */
size_t cache_allocated(void *memory);

/* First member of what a table holds. */
struct cache_node {
    struct cache_node *next;
};

/* Random numbers that nobody outside can know, so that nobody can choose who collides. */
struct cache_seed {
    uint64_t tenant, user;
};
uint64_t cache_hash_tenant(const struct cache_seed *seed, const uint8_t *tag);
uint64_t cache_hash_owner(const struct cache_seed *seed, const uint8_t *tag, const uint8_t *user);

struct cache_table {
    struct cache_array chains; /* as many as nodes */
    const struct cache_seed *seed;
    uint64_t (*hash)(const struct cache_seed *seed, const struct cache_node *node);
};

/* The link to the first node that may have this hash; NULL if the table is empty. */
struct cache_node **cache_table_chain(const struct cache_table *table, uint64_t hash);
/* Adds in front of the nodes of the same hash. */
void cache_table_add(struct cache_table *table, struct cache_node *node, uint64_t hash);
/* To be called once for each node that was taken out of its chain; all links are void after that.
 */
void cache_table_shrink(struct cache_table *table);
