/* Private to the cache: what its file needs besides the contract. */
#pragma once

#include "cache.h"

/* cache_put() that leaves an entry alone that is there: what comes from a file is older. */
bool cache_put_absent(struct cache *cache, const struct cache_key *key,
                      const struct cache_entry *entry, uint32_t lease);
