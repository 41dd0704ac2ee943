/* Sentinel mode: who is the master? As in Redis' "Guidelines for Redis clients with support for
 * Redis Sentinel": the sentinels are asked one after the other, beginning with the one that
 * answered last; the server that one names is asked for its ROLE, and only a master will do. */
#pragma once

#include "link.h"

/* One search at a time. The owner sets the first group. */
struct sentinel_search {
    struct store_link *link;
    /* Once for each search, unless the link is closed meanwhile: the master, or NULL with the
     * reason why the last one asked was none. */
    void (*done)(struct sentinel_search *search, const struct endpoint *master, enum err err);

    /* Private. */
    struct store_call call;
    struct settings *settings; /* of this search; NULL: none under way */
    size_t asked;              /* in this search */
    size_t first;              /* index of the sentinel to begin with */
    struct endpoint candidate; /* the server that a sentinel named */
    struct text arguments[3];
};

void sentinel_search(struct sentinel_search *search);
