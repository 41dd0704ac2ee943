#include "support_cache.h"

#include <check.h>
#include <string.h>

struct cache_key support_cache_key(uint32_t tenant, uint32_t user, uint32_t session)
{
    struct cache_key key = {0};
    memcpy(key.owner, &tenant, sizeof(tenant));
    memcpy(key.owner + TENANT_TAG, &user, sizeof(user));
    memcpy(key.session, &session, sizeof(session));
    return key;
}

struct cache *support_cache(int64_t bytes, int64_t tenant_state_bytes)
{
    struct conf conf = {.cache_bytes = bytes, .cache_tenant_bytes = tenant_state_bytes};
    crypto_init();
    return cache_create(&conf);
}

void support_cache_resize(struct cache *cache, int64_t bytes, int64_t tenant_state_bytes)
{
    struct conf conf = {.cache_bytes = bytes, .cache_tenant_bytes = tenant_state_bytes};
    cache_resize(cache, &conf);
}

static struct text make_value(const struct cache_key *key, size_t length, char *out)
{
    for (size_t i = 0; i < length; i++)
        out[i] = (char)((const uint8_t *)key)[i % sizeof(*key)];
    return (struct text){out, length};
}

bool support_cache_put_within(struct cache *cache, const struct cache_key *key, size_t length,
                              size_t quota)
{
    char value[CACHE_VALUE_MAX + 1];
    struct cache_entry entry = {
        .value = make_value(key, length, value), .generation = 1, .quota = quota};
    return cache_put(cache, key, &entry, cache_lease(cache, key->owner));
}

bool support_cache_put(struct cache *cache, const struct cache_key *key, size_t length)
{
    return support_cache_put_within(cache, key, length, 0);
}

bool support_cache_has(struct cache *cache, const struct cache_key *key, size_t length)
{
    char value[CACHE_VALUE_MAX];
    struct arena arena = {0};
    struct cache_entry entry;
    bool found = cache_get(cache, key, &arena, &entry);
    if (found)
        ck_assert(text_equal(entry.value, make_value(key, length, value)));
    arena_free(&arena);
    return found;
}

struct cache_usage support_cache_usage(struct cache *cache)
{
    struct cache_usage usage;
    cache_usage(cache, &usage);
    return usage;
}
