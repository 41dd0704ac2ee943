/* Two structures that grow a little at a time: an array of pointers in segments, and a hash table
 * by linear hashing on top of it. Neither ever stops to copy or rehash everything it holds; both
 * shrink as they empty. Not locked: locking is the owner's. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ids.h"

#define HASH_SEGMENT 64
/* Entries that get a second chance in one eviction; then the next one is evicted, used or not, so
 * that the lock is not held for a whole turn of the hand when everything is in use. */
#define HASH_SECOND_CHANCES 128

struct hash_array {
    void ***segments;
    uint32_t count;     /* pointers */
    uint32_t directory; /* capacity in segments */
    size_t bytes;       /* of memory, the allocator's share included */
};

static inline void **hash_array_at(const struct hash_array *array, uint32_t index)
{
    return &array->segments[index / HASH_SEGMENT][index % HASH_SEGMENT];
}

void hash_array_push(struct hash_array *array, void *pointer);
void hash_array_pop(struct hash_array *array);

/* First member of what a table holds. */
struct hash_node {
    struct hash_node *next;
};

/* Secret random numbers, so that no caller can cause collisions. */
struct hash_seed {
    uint64_t tenant, user;
};
uint64_t hash_of_tenant(const struct hash_seed *seed, const uint8_t *tag);
uint64_t hash_of_owner(const struct hash_seed *seed, const uint8_t *tag, const uint8_t *user);

struct hash_table {
    struct hash_array chains; /* as many as nodes */
    const struct hash_seed *seed;
    uint64_t (*hash)(const struct hash_seed *seed, const struct hash_node *node);
};

/* The link to the first node that may have this hash; NULL if the table is empty. */
struct hash_node **hash_table_chain(const struct hash_table *table, uint64_t hash);
/* Adds in front of the nodes of the same hash. */
void hash_table_add(struct hash_table *table, struct hash_node *node, uint64_t hash);
/* Removes a node. All links are void afterwards. */
void hash_table_remove(struct hash_table *table, struct hash_node *node, uint64_t hash);
/* The second step of removing, for a walk that unlinks several nodes of a chain: call it once for
 * each. All links are void afterwards. */
void hash_table_shrink(struct hash_table *table);

/* First member of a struct in a table by a tenant's tag, one for each tag. */
struct hash_tagged {
    struct hash_node node;
    uint8_t tag[TENANT_TAG];
    bool used; /* the owner's */
};
/* An empty table of these; the seed is borrowed. */
struct hash_table hash_tagged_table(const struct hash_seed *seed);
/* NULL if there is none; `hash` is the tag's. */
struct hash_tagged *hash_tagged_find(const struct hash_table *table, const uint8_t *tag,
                                     uint64_t hash);
