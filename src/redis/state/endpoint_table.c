/* Linear probing; removal moves later entries of the run back, so that there are no tombstones. */
#include "endpoint_table.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"

enum { CAPACITY_FIRST = 16 };

/* Host names are equal in either case. */
static size_t hash(const struct endpoint_table *table, const struct endpoint *endpoint)
{
    char bytes[ADDRESS_HOST_MAX + sizeof(endpoint->port)];
    size_t length = 0;
    for (; endpoint->host[length]; length++) {
        char c = endpoint->host[length];
        bytes[length] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    memcpy(bytes + length, &endpoint->port, sizeof(endpoint->port));
    return crypto_table_hash(table->key, bytes, length + sizeof(endpoint->port)) &
           (table->capacity - 1);
}

/* The position of the endpoint, or the free one where it belongs. */
static size_t endpoint_position(const struct endpoint_table *table, const struct endpoint *endpoint)
{
    size_t at = hash(table, endpoint);
    while (table->buckets[at] && !endpoint_equal(table->buckets[at], endpoint))
        at = (at + 1) & (table->capacity - 1);
    return at;
}

const struct endpoint *endpoint_table_find(const struct endpoint_table *table,
                                           const struct endpoint *endpoint)
{
    return table->count ? table->buckets[endpoint_position(table, endpoint)] : NULL;
}

static void grow_endpoints(struct endpoint_table *table)
{
    if (table->capacity == 0)
        crypto_random(table->key, sizeof(table->key));
    struct endpoint_table old = *table;
    table->capacity = old.capacity ? old.capacity * 2 : CAPACITY_FIRST;
    table->buckets = xcalloc(table->capacity, sizeof(void *));
    for (size_t i = 0; i < old.capacity; i++)
        if (old.buckets[i])
            table->buckets[endpoint_position(table, old.buckets[i])] = old.buckets[i];
    free(old.buckets);
}

void endpoint_table_add(struct endpoint_table *table, const struct endpoint *endpoint)
{
    if (2 * (table->count + 1) > table->capacity)
        grow_endpoints(table);
    table->buckets[endpoint_position(table, endpoint)] = endpoint;
    table->count++;
}

void endpoint_table_remove(struct endpoint_table *table, const struct endpoint *endpoint)
{
    if (!endpoint_table_find(table, endpoint))
        return;
    size_t mask = table->capacity - 1;
    size_t gap = endpoint_position(table, endpoint);
    table->buckets[gap] = NULL;
    table->count--;
    for (size_t at = (gap + 1) & mask; table->buckets[at]; at = (at + 1) & mask) {
        const struct endpoint *moved = table->buckets[at];
        table->buckets[at] = NULL;
        table->buckets[endpoint_position(table, moved)] = moved;
    }
}

void endpoint_table_free(struct endpoint_table *table)
{
    free(table->buckets);
    *table = (struct endpoint_table){0};
}
