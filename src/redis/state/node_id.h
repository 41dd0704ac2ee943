/* The identity of a server, whatever its address: the id of a cluster's node, or the mark of a
 * store (store.h). Up to 40 hexadecimal digits. */
#pragma once

#include <string.h>

#include "text.h"

enum { NODE_ID = 20 };

/* All zero: not known. */
struct node_id {
    uint8_t bytes[NODE_ID];
};

/* The first word of the text; not known if it is no id. */
static inline struct node_id node_id_read(struct text text)
{
    struct node_id id = {{0}};
    struct text digits = text_take(&text, ' ');
    if (digits.length / 2 > NODE_ID || !text_from_hex(id.bytes, digits.length / 2, digits))
        return (struct node_id){{0}};
    return id;
}

static inline int node_id_compare(const struct node_id *a, const struct node_id *b)
{
    return memcmp(a->bytes, b->bytes, NODE_ID);
}

static inline bool node_id_known(const struct node_id *id)
{
    return node_id_compare(id, &(struct node_id){{0}}) != 0;
}

/* True if both are known, and of two servers. */
static inline bool node_id_differs(const struct node_id *a, const struct node_id *b)
{
    return node_id_known(a) && node_id_known(b) && node_id_compare(a, b) != 0;
}
