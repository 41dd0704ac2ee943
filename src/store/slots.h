/* The slot map: which master owns each of the 16384 slots. Immutable and counted, so that every
 * worker routes by its own reference without a lock. */
#pragma once

#include "endpoint.h"
#include "store.h"

#define SLOT_COUNT 16384
#define SLOT_NONE  UINT16_MAX

struct slot_map {
    _Atomic unsigned references;
    struct endpoint *nodes; /* masters first, then replicas */
    size_t node_count;
    size_t master_count;
    uint16_t *master_of;        /* of nodes[i], a replica: index of its master in nodes */
    unsigned covered;           /* slots that have an owner */
    uint16_t owner[SLOT_COUNT]; /* index into nodes, or SLOT_NONE */
};

/* Reads the answer to CLUSTER SLOTS; a missing or empty host means `asked`, the host that answered.
 * Elements that newer servers add are ignored. NULL if the answer has another shape or covers
 * nothing. The caller owns one reference. */
struct slot_map *slot_map_parse(const struct store_reply *reply, const char *asked);
/* The map of a standalone server: one node owns every slot. */
struct slot_map *slot_map_single(const struct endpoint *node);
struct slot_map *slot_map_ref(struct slot_map *map);
void slot_map_unref(struct slot_map **map);
/* True if both send every slot to the same endpoint and know the same nodes, with the same masters.
 */
bool slot_map_equal(const struct slot_map *a, const struct slot_map *b);
