/* Private to the cache, for its file. */
#pragma once

#include "cache.h"

/* cache_put() that does not replace: entries of a file are older than present ones. */
bool cache_put_absent(struct cache *cache, const struct cache_key *key,
                      const struct cache_entry *entry, uint32_t lease);
