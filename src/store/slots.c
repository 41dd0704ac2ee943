/* Slots of keys and owners of slots. */
#include "slots.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "reply.h"

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

/* What is between the first '{' and the next '}', if that is not empty; else the whole key. */
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
        free(gone->nodes);
        free(gone->master_of);
        free(gone);
    }
}

/* --- CLUSTER SLOTS --- */

/* A node's entry is [host, port, id, ...]. False if it has another shape; "?" is how Redis spells a
 * host it does not know yet, and stays unknown. */
static bool read_node(const struct store_reply *entry, const char *asked, struct endpoint *ret,
                      bool *known)
{
    const struct store_reply *host = store_reply_element(entry, 0);
    const struct store_reply *port = store_reply_element(entry, 1);
    int64_t number;
    if (!host || !port || !store_reply_int(port, &number))
        return false;
    if (host->type != STORE_STRING && host->type != STORE_NIL)
        return false;
    *known = !text_equal(host->text, TEXT("?"));
    return endpoint_set(ret, host->text.length ? host->text : text_of(asked), number);
}

/* Index of the node; the map's node_count if it does not have it. */
static size_t find_node(const struct slot_map *map, const struct endpoint *node)
{
    size_t i = 0;
    while (i < map->node_count && !endpoint_equal(&map->nodes[i], node))
        i++;
    return i;
}

/* Index of the node within the map, added if it is new. */
static size_t add_node(struct slot_map *map, const struct endpoint *node)
{
    size_t index = find_node(map, node);
    if (index == map->node_count)
        map->nodes[map->node_count++] = *node;
    return index;
}

static void own_slots(struct slot_map *map, int64_t first, int64_t last, size_t owner)
{
    for (int64_t slot = first; slot <= last; slot++) {
        map->covered += map->owner[slot] == SLOT_NONE;
        map->owner[slot] = (uint16_t)owner;
    }
}

/* A range is [first slot, last slot, master, replica, ...]. */
static bool read_master(struct slot_map *map, const struct store_reply *range, const char *asked)
{
    const struct store_reply *first = store_reply_element(range, 0);
    const struct store_reply *last = store_reply_element(range, 1);
    const struct store_reply *master = store_reply_element(range, 2);
    int64_t from, to;
    if (!master || !store_reply_int(first, &from) || !store_reply_int(last, &to))
        return false;
    struct endpoint node;
    bool known;
    if (from < 0 || from > to || to >= SLOT_COUNT || !read_node(master, asked, &node, &known))
        return false;
    if (known)
        own_slots(map, from, to, add_node(map, &node));
    return true;
}

/* All ranges of a master name the same replicas. One that cannot be read is left out, with those
 * of a master that is not known. */
static void read_replicas(struct slot_map *map, const struct store_reply *range, const char *asked)
{
    int64_t first = 0;
    (void)store_reply_int(store_reply_element(range, 0), &first);
    uint16_t master = map->owner[first];
    if (master == SLOT_NONE)
        return;
    for (size_t i = 3; i < store_reply_count(range); i++) {
        struct endpoint node;
        bool known;
        if (!read_node(store_reply_element(range, i), asked, &node, &known) || !known)
            continue;
        size_t index = add_node(map, &node);
        if (index >= map->master_count)
            map->master_of[index] = master;
    }
}

static bool read_ranges(struct slot_map *map, const struct store_reply *reply, const char *asked)
{
    size_t count = store_reply_count(reply);
    for (size_t i = 0; i < count; i++)
        if (!read_master(map, store_reply_element(reply, i), asked))
            return false;
    map->master_count = map->node_count;
    for (size_t i = 0; i < count; i++)
        read_replicas(map, store_reply_element(reply, i), asked);
    return map->covered > 0;
}

static size_t count_nodes(const struct store_reply *reply)
{
    size_t nodes = 0;
    for (size_t i = 0; i < store_reply_count(reply); i++)
        nodes += store_reply_count(store_reply_element(reply, i));
    return nodes;
}

struct slot_map *slot_map_parse(const struct store_reply *reply, const char *asked)
{
    size_t most = count_nodes(reply);
    if (reply->type != STORE_ARRAY || most >= SLOT_NONE)
        return NULL;
    struct slot_map *map = create_map(most);
    if (!read_ranges(map, reply, asked))
        slot_map_unref(&map);
    return map;
}

struct slot_map *slot_map_single(const struct endpoint *node)
{
    struct slot_map *map = create_map(1);
    own_slots(map, 0, SLOT_COUNT - 1, add_node(map, node));
    map->master_count = 1;
    return map;
}

/* --- comparison --- */

static bool same_nodes(const struct slot_map *a, const struct slot_map *b)
{
    if (a->node_count != b->node_count || a->master_count != b->master_count)
        return false;
    for (size_t i = 0; i < a->node_count; i++) {
        size_t j = find_node(b, &a->nodes[i]);
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

bool slot_map_equal(const struct slot_map *a, const struct slot_map *b)
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
