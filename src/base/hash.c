/* Array and hash table that grow by one.
 *
 * Linear hashing (Litwin, "Linear hashing: a new tool for file and table addressing", VLDB 1980):
 * there are as many chains as nodes. Adding a node adds one chain, and moves the new chain's nodes
 * from its buddy: the chain whose number lacks the highest bit. Nodes of the same hash keep their
 * order, newest first. */
#include "hash.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

/* --- array --- */

static void resize_directory(struct hash_array *array, uint32_t segments)
{
    array->bytes -= memory_taken(array->segments);
    array->segments = xrealloc(array->segments, segments * sizeof(*array->segments));
    array->bytes += memory_taken(array->segments);
    array->directory = segments;
}

void hash_array_push(struct hash_array *array, void *pointer)
{
    uint32_t segment = array->count / HASH_SEGMENT;
    if (array->count % HASH_SEGMENT == 0) {
        if (segment == array->directory)
            resize_directory(array, segment ? 2 * segment : 1);
        array->segments[segment] = xmalloc(HASH_SEGMENT * sizeof(void *));
        array->bytes += memory_taken(array->segments[segment]);
    }
    assert(array->count < UINT32_MAX);
    array->count++;
    *hash_array_at(array, array->count - 1) = pointer;
}

void hash_array_pop(struct hash_array *array)
{
    assert(array->count > 0);
    array->count--;
    if (array->count % HASH_SEGMENT != 0)
        return;
    uint32_t segment = array->count / HASH_SEGMENT;
    array->bytes -= memory_taken(array->segments[segment]);
    free(array->segments[segment]);
    if (segment == 0) {
        free(array->segments);
        *array = (struct hash_array){0};
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
uint64_t hash_of_tenant(const struct hash_seed *seed, const uint8_t *tag)
{
    uint64_t value = 0;
    memcpy(&value, tag, TENANT_TAG);
    return mix(value ^ seed->tenant);
}

uint64_t hash_of_owner(const struct hash_seed *seed, const uint8_t *tag, const uint8_t *user)
{
    uint64_t value;
    memcpy(&value, user, sizeof(value));
    return mix(hash_of_tenant(seed, tag) ^ value ^ seed->user);
}

/* --- table --- */

/* Chain of a hash among `count`: its low bits, one fewer if that chain does not exist yet. */
static uint32_t address(uint64_t hash, uint32_t count)
{
    uint32_t mask = count > 1 ? UINT32_MAX >> __builtin_clz(count - 1) : 0;
    uint32_t chain = (uint32_t)hash & mask;
    return chain < count ? chain : chain & mask >> 1;
}

static struct hash_node **chain_at(const struct hash_table *table, uint32_t index)
{
    return (struct hash_node **)hash_array_at(&table->chains, index);
}

static uint32_t buddy_of(uint32_t chain)
{
    return chain > 0 ? chain & ~(UINT32_C(1) << (31 - __builtin_clz(chain))) : 0;
}

static struct hash_node **end_of(struct hash_node **link)
{
    while (*link)
        link = &(*link)->next;
    return link;
}

struct hash_node **hash_table_chain(const struct hash_table *table, uint64_t hash)
{
    uint32_t count = table->chains.count;
    return count > 0 ? chain_at(table, address(hash, count)) : NULL;
}

static void split(struct hash_table *table)
{
    uint32_t added = table->chains.count;
    hash_array_push(&table->chains, NULL);
    if (added == 0)
        return;
    struct hash_node **stay = chain_at(table, buddy_of(added));
    struct hash_node **move = chain_at(table, added);
    for (struct hash_node *node = *stay; node; node = node->next)
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

void hash_table_add(struct hash_table *table, struct hash_node *node, uint64_t hash)
{
    split(table);
    struct hash_node **chain = hash_table_chain(table, hash);
    node->next = *chain;
    *chain = node;
}

void hash_table_shrink(struct hash_table *table)
{
    assert(table->chains.count > 0);
    uint32_t last = table->chains.count - 1;
    struct hash_node *left = *chain_at(table, last);
    if (last > 0)
        *end_of(chain_at(table, buddy_of(last))) = left;
    hash_array_pop(&table->chains);
}

void hash_table_remove(struct hash_table *table, struct hash_node *node, uint64_t hash)
{
    struct hash_node **link = hash_table_chain(table, hash);
    assert(link);
    while (*link != node) {
        assert(*link);
        link = &(*link)->next;
    }
    *link = node->next;
    hash_table_shrink(table);
}

/* --- by tag --- */

static uint64_t hash_of_tagged(const struct hash_seed *seed, const struct hash_node *node)
{
    return hash_of_tenant(seed, ((const struct hash_tagged *)node)->tag);
}

struct hash_table hash_tagged_table(const struct hash_seed *seed)
{
    return (struct hash_table){.seed = seed, .hash = hash_of_tagged};
}

struct hash_tagged *hash_tagged_find(const struct hash_table *table, const uint8_t *tag,
                                     uint64_t hash)
{
    struct hash_node **link = hash_table_chain(table, hash);
    struct hash_tagged *at = link ? (struct hash_tagged *)*link : NULL;
    while (at && memcmp(at->tag, tag, TENANT_TAG) != 0)
        at = (struct hash_tagged *)at->node.next;
    return at;
}
