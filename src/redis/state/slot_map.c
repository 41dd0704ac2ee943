/* Slots of keys and owners of slots. */
#include "slot_map.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "redis/protocol/reply.h"

/* --- slot of a key --- */

/* CRC16/XMODEM: polynomial 0x1021, initial value 0, four bits a step. The table is built from the
 * definition by the compiler, so that there is none to mistype. */
#define CRC_BIT(crc)  ((uint16_t)(((crc) << 1) ^ (((crc)&0x8000) ? 0x1021 : 0)))
#define CRC_2(crc)    CRC_BIT(CRC_BIT(crc))
#define CRC_NIBBLE(n) CRC_2(CRC_2((uint16_t)((n) << 12)))
#define ROW_4(n)      CRC_NIBBLE(n), CRC_NIBBLE((n) + 1), CRC_NIBBLE((n) + 2), CRC_NIBBLE((n) + 3)
static const uint16_t crc_nibbles[16] = {ROW_4(0), ROW_4(4), ROW_4(8), ROW_4(12)};

static uint16_t crc_add_nibble(uint16_t crc, unsigned nibble)
{
    return (uint16_t)((crc << 4) ^ crc_nibbles[(crc >> 12) ^ nibble]);
}

static unsigned crc16(struct text text)
{
    uint16_t crc = 0;
    for (size_t i = 0; i < text.length; i++) {
        unsigned byte = (unsigned char)text.data[i];
        crc = crc_add_nibble(crc, byte >> 4);
        crc = crc_add_nibble(crc, byte & 15);
    }
    return crc;
}

/* The part between the first '{' and the next '}', if it is not empty; else the whole key. */
static struct text hash_tag(struct text key)
{
    const char *open = key.length ? memchr(key.data, '{', key.length) : NULL;
    if (!open)
        return key;
    size_t left = key.length - (size_t)(open + 1 - key.data);
    const char *close = memchr(open + 1, '}', left);
    if (!close || close == open + 1)
        return key;
    return (struct text){open + 1, (size_t)(close - open - 1)};
}

unsigned store_slot(struct text key)
{
    return crc16(hash_tag(key)) % SLOT_COUNT;
}

/* --- references --- */

static struct slot_map *create_map(size_t node_capacity)
{
    struct slot_map *map = xcalloc(1, sizeof(*map));
    atomic_init(&map->references, 1);
    map->nodes = xcalloc(node_capacity, sizeof(map->nodes[0]));
    map->ids = xcalloc(node_capacity, sizeof(map->ids[0]));
    map->master_of = xcalloc(node_capacity, sizeof(map->master_of[0]));
    memset(map->owner, 0xff, sizeof(map->owner));
    return map;
}

struct slot_map *slot_map_ref(struct slot_map *map)
{
    atomic_fetch_add_explicit(&map->references, 1, memory_order_relaxed);
    return map;
}

void slot_map_unref(struct slot_map **map)
{
    struct slot_map *gone = *map;
    *map = NULL;
    if (gone && atomic_fetch_sub_explicit(&gone->references, 1, memory_order_acq_rel) == 1) {
        endpoint_table_free(&gone->index);
        free(gone->nodes);
        free(gone->ids);
        free(gone->master_of);
        free(gone);
    }
}

/* --- CLUSTER SLOTS --- */

/* The address of a host that has no name, of [host, port, id, [key, value, ...]]: Redis writes "?"
 * for a name that it lacks, and the IP after it. */
static struct text named_ip(const struct store_reply *entry)
{
    const struct store_reply *more = store_reply_element(entry, 3);
    for (size_t i = 0; more && i + 1 < store_reply_count(more); i += 2)
        if (text_equal(store_reply_text(store_reply_element(more, i)), TEXT("ip")))
            return store_reply_text(store_reply_element(more, i + 1));
    return (struct text){NULL, 0};
}

/* A node's entry is [host, port, id, ...]. False if it has another shape. */
static bool read_node(const struct store_reply *entry, const char *asked, struct endpoint *ret,
                      struct node_id *id)
{
    const struct store_reply *host = store_reply_element(entry, 0);
    const struct store_reply *port = store_reply_element(entry, 1);
    const struct store_reply *told = store_reply_element(entry, 2);
    *id = told ? node_id_read(store_reply_text(told)) : (struct node_id){{0}};
    int64_t number;
    if (!host || !port || !store_reply_int(port, 1, UINT16_MAX, &number))
        return false;
    if (host->type != STORE_STRING && host->type != STORE_NIL)
        return false;
    struct text name = text_equal(host->text, TEXT("?")) ? named_ip(entry) : host->text;
    return endpoint_set(ret, name.length ? name : text_of(asked), number);
}

size_t slot_map_find(const struct slot_map *map, const struct endpoint *node)
{
    const struct endpoint *found = endpoint_table_find(&map->index, node);
    size_t index = found ? (size_t)(found - map->nodes) : map->node_count;
    return index < map->node_count ? index : map->node_count;
}

struct node_id slot_map_id(const struct slot_map *map, const struct endpoint *endpoint)
{
    const struct endpoint *found = endpoint_table_find(&map->index, endpoint);
    return found ? map->ids[found - map->nodes] : (struct node_id){{0}};
}

bool slot_map_knows(const struct slot_map *map, const struct endpoint *endpoint)
{
    return endpoint_table_find(&map->index, endpoint) != NULL;
}

/* Index of the node within the map, added if it is new; SLOT_NONE if the map is full. */
static size_t add_node(struct slot_map *map, const struct endpoint *node, struct node_id id,
                       size_t most)
{
    size_t index = slot_map_find(map, node);
    if (index < map->node_count)
        return index;
    if (index == most)
        return SLOT_NONE;
    map->nodes[index] = *node;
    map->ids[index] = id;
    endpoint_table_add(&map->index, &map->nodes[index]);
    map->node_count++;
    map->member_count = map->node_count;
    return index;
}

/* False if one of the slots has an owner. */
static bool own_slots(struct slot_map *map, int64_t first, int64_t last, size_t owner)
{
    for (int64_t slot = first; slot <= last; slot++) {
        if (map->owner[slot] != SLOT_NONE)
            return false;
        map->owner[slot] = (uint16_t)owner;
        map->covered++;
    }
    return true;
}

/* A range is [first slot, last slot, master, replica, ...]. Returns its fault, or NULL. */
static const char *read_master(struct slot_map *map, const struct store_reply *range,
                               const char *asked)
{
    static const char other_shape[] = "is no answer to CLUSTER SLOTS";
    const struct store_reply *first = store_reply_element(range, 0);
    const struct store_reply *last = store_reply_element(range, 1);
    const struct store_reply *master = store_reply_element(range, 2);
    int64_t from, to;
    if (!master || !store_reply_int(first, 0, SLOT_COUNT - 1, &from) ||
        !store_reply_int(last, from, SLOT_COUNT - 1, &to))
        return other_shape;
    struct endpoint node;
    struct node_id id;
    if (!read_node(master, asked, &node, &id))
        return other_shape;
    size_t owner = add_node(map, &node, id, SLOT_MAP_MASTERS_MAX);
    if (owner == SLOT_NONE)
        return "names more than 1000 masters";
    return own_slots(map, from, to, owner) ? NULL : "gives a slot twice";
}

/* All ranges of a master name the same replicas. One that cannot be read is left out. False if
 * there are too many. */
static bool read_replicas(struct slot_map *map, const struct store_reply *range, const char *asked)
{
    int64_t first = 0;
    (void)store_reply_int(store_reply_element(range, 0), 0, SLOT_COUNT - 1, &first);
    uint16_t master = map->owner[first];
    for (size_t i = 3; i < store_reply_count(range); i++) {
        struct endpoint node;
        struct node_id id;
        if (!read_node(store_reply_element(range, i), asked, &node, &id))
            continue;
        size_t index = add_node(map, &node, id, SLOT_MAP_NODES_MAX);
        if (index == SLOT_NONE)
            return false;
        if (index >= map->master_count)
            map->master_of[index] = master;
    }
    return true;
}

static const char *read_ranges(struct slot_map *map, const struct store_reply *reply,
                               const char *asked)
{
    size_t count = store_reply_count(reply);
    for (size_t i = 0; i < count; i++) {
        const char *why = read_master(map, store_reply_element(reply, i), asked);
        if (why)
            return why;
    }
    map->master_count = map->node_count;
    for (size_t i = 0; i < count; i++)
        if (!read_replicas(map, store_reply_element(reply, i), asked))
            return "names more than 4000 nodes";
    return map->covered > 0 ? NULL : "names no master";
}

static size_t count_nodes(const struct store_reply *reply)
{
    size_t nodes = 0;
    for (size_t i = 0; i < store_reply_count(reply); i++)
        nodes += store_reply_count(store_reply_element(reply, i));
    return nodes;
}

struct slot_map *slot_map_parse(const struct store_reply *reply, const char *asked,
                                const char **why)
{
    size_t named = count_nodes(reply);
    struct slot_map *map =
        create_map(named < SLOT_MAP_NODES_MAX ? named : (size_t)SLOT_MAP_NODES_MAX);
    *why = read_ranges(map, reply, asked);
    if (*why)
        slot_map_unref(&map);
    return map;
}

struct slot_map *slot_map_single(const struct endpoint *node)
{
    struct node_id id = {{0}};
    struct slot_map *map = create_map(1);
    (void)own_slots(map, 0, SLOT_COUNT - 1, add_node(map, node, id, 1));
    map->master_count = 1;
    return map;
}

/* --- other members --- */

/* The nodes have moved, or gone. */
static void index_again(struct slot_map *map)
{
    endpoint_table_free(&map->index);
    for (size_t i = 0; i < map->member_count; i++)
        endpoint_table_add(&map->index, &map->nodes[i]);
}

struct members {
    struct slot_map *map;
    size_t capacity;
};

static bool add_cluster_member(struct members *members, const struct endpoint *endpoint,
                               struct node_id id)
{
    struct slot_map *map = members->map;
    if (slot_map_knows(map, endpoint))
        return true;
    if (map->member_count == map->node_count + SLOT_MAP_NODES_MAX)
        return false;
    if (map->member_count == members->capacity) {
        members->capacity = 2 * members->capacity + 8;
        map->nodes = xrealloc(map->nodes, members->capacity * sizeof(map->nodes[0]));
        map->ids = xrealloc(map->ids, members->capacity * sizeof(map->ids[0]));
        index_again(map);
    }
    map->nodes[map->member_count] = *endpoint;
    map->ids[map->member_count] = id;
    endpoint_table_add(&map->index, &map->nodes[map->member_count]);
    map->member_count++;
    return true;
}

static bool is_away(struct text flags)
{
    static const char away[] = "fail|handshake|noaddr";
    while (flags.length > 0)
        if (text_word_find(away, text_take(&flags, ',')) >= 0)
            return true;
    return false;
}

/* "id 10.0.0.1:6379@16379,host,key=value flags ...": the address, and the name if it has one, since
 * redirections may carry either. */
static bool add_line(struct members *members, struct text line, const char *asked)
{
    struct node_id id = node_id_read(text_take(&line, ' '));
    struct text names = text_take(&line, ' ');
    if (is_away(text_take(&line, ' ')))
        return true;
    struct text address = text_take(&names, ',');
    struct text host = text_take(&names, ',');
    struct endpoint endpoint;
    if (!endpoint_parse_redirect(text_take(&address, '@'), asked, &endpoint))
        return true;
    struct endpoint named;
    if (endpoint_set(&named, host, endpoint.port) && !add_cluster_member(members, &named, id))
        return false;
    return add_cluster_member(members, &endpoint, id);
}

bool slot_map_add_members(struct slot_map *map, struct text nodes, const char *asked)
{
    struct members members = {map, map->member_count};
    map->lists_members = true;
    while (nodes.length > 0)
        if (!add_line(&members, text_take(&nodes, '\n'), asked))
            return false;
    return true;
}

static bool most_know(struct slot_map *const *maps, size_t count, const struct endpoint *endpoint)
{
    size_t asked = 0, known = 0;
    for (size_t i = 0; i < count; i++) {
        asked += maps[i]->lists_members;
        known += maps[i]->lists_members && slot_map_knows(maps[i], endpoint);
    }
    return 2 * known > asked;
}

void slot_map_keep_members(struct slot_map *map, struct slot_map *const *maps, size_t count)
{
    bool *kept = xcalloc(map->member_count, sizeof(kept[0]));
    for (size_t i = map->node_count; i < map->member_count; i++)
        kept[i] = most_know(maps, count, &map->nodes[i]);
    size_t left = map->node_count;
    for (size_t i = map->node_count; i < map->member_count; i++)
        if (kept[i]) {
            map->nodes[left] = map->nodes[i];
            map->ids[left++] = map->ids[i];
        }
    free(kept);
    map->member_count = left;
    index_again(map);
}

/* --- comparison --- */

static bool same_nodes(const struct slot_map *a, const struct slot_map *b)
{
    if (a->node_count != b->node_count || a->master_count != b->master_count)
        return false;
    for (size_t i = 0; i < a->node_count; i++) {
        size_t j = slot_map_find(b, &a->nodes[i]);
        if (j == b->node_count || (i < a->master_count) != (j < b->master_count))
            return false;
        if (i >= a->master_count &&
            !endpoint_equal(&a->nodes[a->master_of[i]], &b->nodes[b->master_of[j]]))
            return false;
    }
    return true;
}

static bool same_owner(const struct slot_map *a, unsigned owner_a, const struct slot_map *b,
                       unsigned owner_b)
{
    if (owner_a == SLOT_NONE || owner_b == SLOT_NONE)
        return owner_a == owner_b;
    return endpoint_equal(&a->nodes[owner_a], &b->nodes[owner_b]);
}

bool slot_map_routes_alike(const struct slot_map *a, const struct slot_map *b)
{
    if (!same_nodes(a, b))
        return false;
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
        /* Slots come in runs: names are compared where a run begins. */
        bool same_run = slot > 0 && a->owner[slot] == a->owner[slot - 1] &&
                        b->owner[slot] == b->owner[slot - 1];
        if (!same_run && !same_owner(a, a->owner[slot], b, b->owner[slot]))
            return false;
    }
    return true;
}

bool slot_map_equal(const struct slot_map *a, const struct slot_map *b)
{
    if (a->member_count != b->member_count || !slot_map_routes_alike(a, b))
        return false;
    for (size_t i = 0; i < a->member_count; i++) {
        struct node_id id = slot_map_id(b, &a->nodes[i]);
        if (!slot_map_knows(b, &a->nodes[i]) || node_id_compare(&id, &a->ids[i]) != 0)
            return false;
    }
    return true;
}

static int compare_ids(const void *a, const void *b)
{
    return node_id_compare(a, b);
}

/* The ids of masters and replicas, in order. */
static struct node_id *sort_ids(const struct slot_map *map)
{
    struct node_id *ids = xcalloc(map->node_count, sizeof(ids[0]));
    memcpy(ids, map->ids, map->node_count * sizeof(ids[0]));
    qsort(ids, map->node_count, sizeof(ids[0]), compare_ids);
    return ids;
}

bool slot_map_is_related(const struct slot_map *map, const struct slot_map *present)
{
    struct node_id *before = sort_ids(present), *ids = sort_ids(map);
    /* Ids that are not known come first. */
    bool related = !node_id_known(&before[present->node_count - 1]);
    for (size_t i = 0; i < map->node_count && !related; i++)
        related = node_id_known(&ids[i]) && bsearch(&ids[i], before, present->node_count,
                                                    sizeof(before[0]), compare_ids) != NULL;
    free(before);
    free(ids);
    return related;
}
