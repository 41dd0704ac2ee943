/* A hash table of addresses under one lock. */
#include "connection_limits.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "crypto.h"
#include "memory.h"

enum { BUCKETS = 4096 };

struct counted_address {
    struct counted_address *next;
    struct ip_address address;
    int64_t count;
};

struct connection_limits {
    pthread_mutex_t lock;
    int64_t total, most_total, most_per_address;
    uint8_t key[CRYPTO_TABLE_KEY]; /* random: clients cannot choose addresses that share a bucket */
    struct counted_address *buckets[BUCKETS];
};

struct connection_limits *connection_limits_create(void)
{
    struct connection_limits *limits = xcalloc(1, sizeof(*limits));
    pthread_mutex_init(&limits->lock, NULL);
    crypto_random(limits->key, sizeof(limits->key));
    return limits;
}

void connection_limits_destroy(struct connection_limits **limits)
{
    if (*limits == NULL)
        return;
    for (size_t i = 0; i < BUCKETS; i++)
        assert((*limits)->buckets[i] == NULL);
    pthread_mutex_destroy(&(*limits)->lock);
    free(*limits);
    *limits = NULL;
}

void connection_limits_set(struct connection_limits *limits, int64_t total, int64_t per_address)
{
    pthread_mutex_lock(&limits->lock);
    limits->most_total = total;
    limits->most_per_address = per_address;
    pthread_mutex_unlock(&limits->lock);
}

static size_t bucket_of_address(const struct connection_limits *limits,
                                const struct ip_address *address)
{
    return crypto_table_hash(limits->key, address->bytes, sizeof(address->bytes)) % BUCKETS;
}

/* The link to the address's entry, or the one where it would be added. */
static struct counted_address **find_address(struct connection_limits *limits,
                                             const struct ip_address *address)
{
    struct counted_address **link = &limits->buckets[bucket_of_address(limits, address)];
    while (*link != NULL && !ip_equal(&(*link)->address, address))
        link = &(*link)->next;
    return link;
}

static bool take_of_address(struct connection_limits *limits, const struct ip_address *address)
{
    const struct ip_address client = ip_client(address);
    struct counted_address **link = find_address(limits, &client);
    if (*link == NULL) {
        struct counted_address *counted = xcalloc(1, sizeof(*counted));
        counted->address = client;
        *link = counted;
    }
    if ((*link)->count >= limits->most_per_address)
        return false;
    (*link)->count++;
    return true;
}

bool connection_limits_take(struct connection_limits *limits, const struct ip_address *address)
{
    pthread_mutex_lock(&limits->lock);
    bool taken =
        limits->total < limits->most_total && (address == NULL || take_of_address(limits, address));
    if (taken)
        limits->total++;
    pthread_mutex_unlock(&limits->lock);
    return taken;
}

void connection_limits_give_back(struct connection_limits *limits, const struct ip_address *address)
{
    pthread_mutex_lock(&limits->lock);
    assert(limits->total > 0);
    limits->total--;
    if (address != NULL) {
        const struct ip_address client = ip_client(address);
        struct counted_address **link = find_address(limits, &client);
        struct counted_address *counted = *link;
        assert(counted != NULL && counted->count > 0);
        if (--counted->count == 0) {
            *link = counted->next;
            free(counted);
        }
    }
    pthread_mutex_unlock(&limits->lock);
}
