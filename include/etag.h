/* Entity tags, and the conditions If-Match and If-None-Match (RFC 9110 sections 8.8.3, 13.1.1 and
 * 13.1.2). */
#pragma once

#include "crypto.h"
#include "memory.h"

/* A strong tag with its quotes. */
#define ETAG_LENGTH 18

/* The tag of the parts, the same on all nodes: a keyed hash (CRYPTO_ETAG), so that it reveals
 * nothing about them. */
void etag_print(const struct keyring *keyring, const struct text *parts, size_t count,
                char ret[ETAG_LENGTH]);

/* A tag of a condition. */
struct etag {
    struct text text; /* with its quotes, without W/ */
    bool weak;        /* W/"...": proxies that change an answer make its tag so */
};

/* A condition; all zero: an absent one. */
struct etag_list {
    bool given;
    bool any; /* "*" */
    const struct etag *tags;
    size_t count;
};

/* Reads the value of either header, or an absent text; the tags lie in the arena, their texts in
 * the header. False unless it is "*" or a list of entity tags with at least one in it. */
bool etag_read(struct text header, struct arena *arena, struct etag_list *ret);
/* True if the condition If-Match holds where `etag` is the present tag. Weak tags never match; an
 * absent condition always holds. */
bool etag_holds(const struct etag_list *if_match, const char etag[ETAG_LENGTH]);
/* True if a tag of the list is weak. */
bool etag_has_weak(const struct etag_list *list);
/* True if the sender of this If-None-Match has the answer that `etag` is the tag of, so that 304 is
 * enough. A weak tag is as good as a strong one; an absent condition says nothing. */
bool etag_is_known(const struct etag_list *if_none_match, const char etag[ETAG_LENGTH]);
