/* A hash set of endpoints, owned elsewhere, by host and port. The hash is keyed, since hosts and
 * ports come from servers. */
#pragma once

#include "crypto.h"
#include "endpoint.h"

/* Starts from {0}. */
struct endpoint_table {
    const struct endpoint **buckets; /* open addressing with linear probing; NULL: free */
    size_t capacity;                 /* a power of two, at least twice the count */
    size_t count;
    uint8_t key[CRYPTO_TABLE_KEY];
};

/* The endpoint that was added under this host and port; NULL if there is none. */
const struct endpoint *endpoint_table_find(const struct endpoint_table *table,
                                           const struct endpoint *endpoint);
/* Adds an endpoint that is not in the table; it must stay where it is until it is removed. */
void endpoint_table_add(struct endpoint_table *table, const struct endpoint *endpoint);
/* Removes the endpoint with this host and port, if there is one. */
void endpoint_table_remove(struct endpoint_table *table, const struct endpoint *endpoint);
/* Back to {0}; the endpoints stay. */
void endpoint_table_free(struct endpoint_table *table);
