/* Entity tags, and the conditions If-Match and If-None-Match (RFC 9110 sections 8.8.3, 13.1.1 and
 * 13.1.2). */
#pragma once

#include "crypto.h"

/* A strong tag with its quotes. */
#define ETAG_LENGTH 18

/* The tag of what the parts say, the same on all nodes: a keyed hash (CRYPTO_ETAG), so that it
 * tells nothing of what it stands for. */
void etag_print(const struct keyring *keyring, const struct text *parts, size_t count,
                char ret[ETAG_LENGTH]);

/* True for the value of either: "*", or a list of entity tags with at least one in it. */
bool etag_is_condition(struct text tags);
/* True if the condition holds where this is the present tag. Weak tags never match; an absent
 * condition always holds. */
bool etag_holds(struct text if_match, const char etag[ETAG_LENGTH]);
/* True if a tag of the list is weak (W/"..."): proxies that change an answer make it so. */
bool etag_has_weak(struct text tags);
/* True if whoever sends this If-None-Match has what this is the tag of, so that 304 says enough. A
 * weak tag is as good as a strong one; an absent one says nothing. */
bool etag_is_known(struct text if_none_match, const char etag[ETAG_LENGTH]);
