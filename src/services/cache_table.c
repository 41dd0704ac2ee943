/* Array and hash table that grow by one.
 *
 * Linear hashing (Litwin, "Linear hashing: a new tool for file and table addressing", VLDB 1980):
 * there are as many chains as nodes. To add a node is to add one chain, and to move to it what
 * belongs there from the one chain that held it, its buddy: the chain whose number lacks the
 * highest bit. Nodes of the same hash keep their order, newest first. */
#include "cache_table.h"

#include <assert.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

/* --- array --- */

size_t cache_allocated(void *memory)
{
    return memory ? malloc_usable_size(memory) + sizeof(size_t) : 0;
}

static void resize_directory(struct cache_array *array, uint32_t segments)
{
    array->bytes -= cache_allocated(array->segments);
    array->segments = xrealloc(array->segments, segments * sizeof(*array->segments));
    array->bytes += cache_allocated(array->segments);
    array->directory = segments;
}

void cache_array_push(struct cache_array *array, void *pointer)
{
    uint32_t segment = array->count / CACHE_SEGMENT;
    if (array->count % CACHE_SEGMENT == 0) {
        if (segment == array->directory)
            resize_directory(array, segment ? 2 * segment : 1);
        array->segments[segment] = xmalloc(CACHE_SEGMENT * sizeof(void *));
        array->bytes += cache_allocated(array->segments[segment]);
    }
    array->count++;
    *cache_array_at(array, array->count - 1) = pointer;
}

void cache_array_pop(struct cache_array *array)
{
    assert(array->count > 0);
    array->count--;
    if (array->count % CACHE_SEGMENT != 0)
        return;
    uint32_t segment = array->count / CACHE_SEGMENT;
    array->bytes -= cache_allocated(array->segments[segment]);
    free(array->segments[segment]);
    if (segment == 0) {
        free(array->segments);
        *array = (struct cache_array){0};
    } else if (segment < array->directory / 4) {
        resize_directory(array, array->directory / 2);
    }
}

/* --- hashing --- */

/* The finaliser of MurmurHash3: every bit of the result depends on every bit of the input. */
static uint64_t mix(uint64_t value)
{
    value ^= value >> 33;
    value *= UINT64_C(0xff51afd7ed558ccd);
    value ^= value >> 33;
    value *= UINT64_C(0xc4ceb9fe1a85ec53);
    return value ^ value >> 33;
}

/* Tags are keyed hashes already, so that mixing in a seed is enough. */
uint64_t cache_hash_tenant(const struct cache_seed *seed, const uint8_t *tag)
{
    uint64_t value = 0;
    memcpy(&value, tag, 6);
    return mix(value ^ seed->tenant);
}

uint64_t cache_hash_owner(const struct cache_seed *seed, const uint8_t *tag, const uint8_t *user)
{
    uint64_t value;
    memcpy(&value, user, sizeof(value));
    return mix(cache_hash_tenant(seed, tag) ^ value ^ seed->user);
}

/* --- table --- */

/* Chain of a hash among `count`: its low bits, one fewer where that chain is not there yet. */
static uint32_t address(uint64_t hash, uint32_t count)
{
    uint32_t mask = count > 1 ? UINT32_MAX >> __builtin_clz(count - 1) : 0;
    uint32_t chain = (uint32_t)hash & mask;
    return chain < count ? chain : chain & mask >> 1;
}

static struct cache_node **chain_at(const struct cache_table *table, uint32_t index)
{
    return (struct cache_node **)cache_array_at(&table->chains, index);
}

static uint32_t buddy_of(uint32_t chain)
{
    return chain > 0 ? chain & ~(UINT32_C(1) << (31 - __builtin_clz(chain))) : 0;
}

static struct cache_node **end_of(struct cache_node **link)
{
    while (*link)
        link = &(*link)->next;
    return link;
}

struct cache_node **cache_table_chain(const struct cache_table *table, uint64_t hash)
{
    uint32_t count = table->chains.count;
    return count > 0 ? chain_at(table, address(hash, count)) : NULL;
}

static void split(struct cache_table *table)
{
    uint32_t added = table->chains.count;
    cache_array_push(&table->chains, NULL);
    if (added == 0)
        return;
    struct cache_node **stay = chain_at(table, buddy_of(added));
    struct cache_node **move = chain_at(table, added);
    for (struct cache_node *node = *stay; node; node = node->next)
        if (address(table->hash(table->seed, node), added + 1) == added) {
            *move = node;
            move = &node->next;
        } else {
            *stay = node;
            stay = &node->next;
        }
    *stay = NULL;
    *move = NULL;
}

void cache_table_add(struct cache_table *table, struct cache_node *node, uint64_t hash)
{
    split(table);
    struct cache_node **chain = cache_table_chain(table, hash);
    node->next = *chain;
    *chain = node;
}

void cache_table_shrink(struct cache_table *table)
{
    uint32_t last = table->chains.count - 1;
    struct cache_node *left = *chain_at(table, last);
    if (last > 0)
        *end_of(chain_at(table, buddy_of(last))) = left;
    cache_array_pop(&table->chains);
}
