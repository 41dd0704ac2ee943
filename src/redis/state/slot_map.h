/* The slot map: which master owns each of the 16384 slots. Immutable and counted, so that every
 * worker routes by its own reference without a lock. */
#pragma once

#include "endpoint_table.h"
#include "ids.h"
#include "node_id.h"
#include "store.h"

#define SLOT_NONE UINT16_MAX

/* A map with more is refused: what Redis recommends at most is a thousand nodes. */
enum { SLOT_MAP_MASTERS_MAX = 1000, SLOT_MAP_NODES_MAX = 4000 };

struct slot_map {
    _Atomic unsigned references;
    struct endpoint *nodes; /* masters first, then replicas, then other members of the cluster */
    struct node_id *ids;    /* of nodes[i] */
    size_t member_count;
    size_t node_count; /* without the other members */
    size_t master_count;
    bool lists_members;          /* the other members are known */
    struct endpoint_table index; /* of nodes */
    uint16_t *master_of;         /* of nodes[i], a replica: index of its master in nodes */
    unsigned covered;            /* slots that have an owner */
    uint16_t owner[SLOT_COUNT];  /* index into nodes, or SLOT_NONE */
};

/* Reads the answer to CLUSTER SLOTS; a missing, empty or unknown ("?") host without an IP after it
 * means `asked`, the host that answered.
 * Elements that newer servers add are ignored. NULL with *why if the answer has another shape,
 * covers nothing, gives a slot twice, or names more nodes than a map may have. The caller
 * owns one reference. */
struct slot_map *slot_map_parse(const struct store_reply *reply, const char *asked,
                                const char **why);
/* Adds the members of the cluster without slots that replicate no owner of slots, from the answer
 * to CLUSTER NODES. Members that have failed, or whose address is not known, are left out. False if
 * there are more than a map may have. Before the map is shared. */
bool slot_map_add_members(struct slot_map *map, struct text nodes, const char *asked);
/* Keeps only the other members that more than half of those of these maps know that list members.
 * Before the map is shared. */
void slot_map_keep_members(struct slot_map *map, struct slot_map *const *maps, size_t count);
/* True if the endpoint is a master, a replica or another member. */
bool slot_map_knows(const struct slot_map *map, const struct endpoint *endpoint);
/* The id of that member; not known if it is none. */
struct node_id slot_map_id(const struct slot_map *map, const struct endpoint *endpoint);
/* Index of a master or replica in nodes; node_count if it is none. */
size_t slot_map_find(const struct slot_map *map, const struct endpoint *node);
/* The map of a server without cluster: one node owns every slot. */
struct slot_map *slot_map_single(const struct endpoint *node);
struct slot_map *slot_map_ref(struct slot_map *map);
void slot_map_unref(struct slot_map **map);
/* True if both send every slot to the same endpoint and know the same masters and replicas. */
bool slot_map_routes_alike(const struct slot_map *a, const struct slot_map *b);
/* True if they also know the same other members, and the same ids. */
bool slot_map_equal(const struct slot_map *a, const struct slot_map *b);
/* True if a master or replica of the map is one of `present`, by its id, or those of `present` have
 * no ids: false for the map of another cluster, and of one that has been replaced as a whole. */
bool slot_map_is_related(const struct slot_map *map, const struct slot_map *present);
