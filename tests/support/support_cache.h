/* Keys, values and calls for the tests of the cache. */
#pragma once

#include "cache.h"

/* Session `session` of user `user` of tenant `tenant`; every number is a key of its own. */
struct cache_key support_cache_key(uint32_t tenant, uint32_t user, uint32_t session);
/* A cache of so many bytes, `tenant_state_bytes` of them for each tenant (0: all). */
struct cache *support_cache(int64_t bytes, int64_t tenant_state_bytes);
/* New bounds. */
void support_cache_resize(struct cache *cache, int64_t bytes, int64_t tenant_state_bytes);

/* Stores `length` bytes that are made of the key, with a fresh lease. */
bool support_cache_put(struct cache *cache, const struct cache_key *key, size_t length);
/* The same with a quota for the tenant. */
bool support_cache_put_within(struct cache *cache, const struct cache_key *key, size_t length,
                              size_t quota);
/* True if there is an entry; it must hold what support_cache_put() stored of that length. */
bool support_cache_has(struct cache *cache, const struct cache_key *key, size_t length);

struct cache_usage support_cache_usage(struct cache *cache);
