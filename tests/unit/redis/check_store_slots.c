/* Slots of keys, CLUSTER SLOTS in every shape, redirections, and what errors mean. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "redis/protocol/reply.h"
#include "redis/state/slot_map.h"

#include "support_run.h"

static struct reply_reader reader;

static const struct store_reply *parse(const char *bytes)
{
    reply_reader_open(&reader);
    const struct store_reply *reply = NULL;
    ck_assert(reply_reader_feed(&reader, bytes, strlen(bytes)));
    ck_assert_int_eq(reply_reader_next(&reader, &reply), REPLY_READY);
    return reply;
}

static struct slot_map *parse_map(const char *bytes)
{
    const char *why;
    struct slot_map *map = slot_map_parse(parse(bytes), "10.0.0.9", &why);
    ck_assert_int_eq(map == NULL, why != NULL);
    reply_reader_close(&reader);
    return map;
}

/* --- slots --- */

static const struct {
    const char *key;
    unsigned slot;
} slot_rows[] = {
    {"123456789", 0x31C3}, /* the check value of CRC16/XMODEM, below 16384 */
    {"", 0},
    {"foo", 12182},
    {"somekey", 11058},
    {"foo{hash_tag}", 2515},
    {"bar{hash_tag}", 2515},
    {"hash_tag", 2515},
};

START_TEST(slots_of_known_keys)
{
    ck_assert_uint_eq(store_slot(text_of(slot_rows[_i].key)), slot_rows[_i].slot);
}
END_TEST

static const struct {
    const char *key, *same;
} tag_rows[] = {
    {"{user1000}.following", "user1000"},
    {"foo{{bar}}zap", "{bar"}, /* no closing brace: hashed whole */
    {"foo{bar}{zap}", "bar"},
    {"}{bar}", "bar"},
};

START_TEST(the_first_tag_alone_is_hashed)
{
    ck_assert_uint_eq(store_slot(text_of(tag_rows[_i].key)),
                      store_slot(text_of(tag_rows[_i].same)));
}
END_TEST

START_TEST(an_empty_tag_leaves_the_whole_key)
{
    ck_assert_uint_ne(store_slot(TEXT("foo{}{bar}")), store_slot(TEXT("bar")));
    ck_assert_uint_ne(store_slot(TEXT("foo{}1")), store_slot(TEXT("foo{}2")));
}
END_TEST

/* --- CLUSTER SLOTS --- */

#define MASTER(first, last, host, port) \
    "*3\r\n:" #first "\r\n:" #last "\r\n*3\r\n" host ":" #port "\r\n$2\r\nid\r\n"
#define HOST_A "$8\r\n10.0.0.1\r\n"

START_TEST(a_map_with_replicas_and_metadata_is_read)
{
    struct slot_map *map =
        parse_map("*2\r\n"
                  "*4\r\n:0\r\n:8191\r\n"
                  "*4\r\n" HOST_A ":7001\r\n$2\r\nid\r\n*2\r\n$8\r\nhostname\r\n$1\r\nh\r\n"
                  "*3\r\n$8\r\n10.0.0.2\r\n:7002\r\n$2\r\nid\r\n"
                  "*3\r\n:8192\r\n:16383\r\n*2\r\n$7\r\nredis-b\r\n:7003\r\n");
    ck_assert_ptr_nonnull(map);
    ck_assert_uint_eq(map->covered, SLOT_COUNT);
    ck_assert_uint_eq(map->master_count, 2);
    ck_assert_uint_eq(map->node_count, 3);
    ck_assert_str_eq(map->nodes[map->owner[8191]].host, "10.0.0.1");
    ck_assert_str_eq(map->nodes[map->owner[8192]].host, "redis-b");
    ck_assert_uint_eq(map->nodes[map->owner[8192]].port, 7003);
    slot_map_unref(&map);
}
END_TEST

START_TEST(a_missing_or_unknown_host_is_the_one_that_answered)
{
    static const char *const hosts[] = {
        "*1\r\n*3\r\n:0\r\n:1\r\n*3\r\n$-1\r\n:7001\r\n$2\r\nid\r\n",
        "*1\r\n*3\r\n:0\r\n:1\r\n*3\r\n$0\r\n\r\n:7001\r\n$2\r\nid\r\n",
        "*1\r\n*3\r\n:0\r\n:1\r\n*3\r\n$1\r\n?\r\n:7001\r\n$2\r\nid\r\n",
        "*1\r\n*3\r\n:0\r\n:1\r\n*4\r\n$1\r\n?\r\n:7001\r\n$2\r\nid\r\n"
        "*2\r\n$2\r\nip\r\n$8\r\n10.0.0.9\r\n",
    };
    struct slot_map *map = parse_map(hosts[_i]);
    ck_assert_ptr_nonnull(map);
    ck_assert_str_eq(map->nodes[map->owner[1]].host, "10.0.0.9");
    slot_map_unref(&map);
}
END_TEST

START_TEST(holes_stay_without_an_owner)
{
    struct slot_map *map =
        parse_map("*2\r\n" MASTER(5, 9, HOST_A, 7001) MASTER(20, 20, "$3\r\n::1\r\n", 7002));
    ck_assert_ptr_nonnull(map);
    ck_assert_uint_eq(map->covered, 6);
    ck_assert_uint_eq(map->owner[4], SLOT_NONE);
    ck_assert_uint_eq(map->owner[10], SLOT_NONE);
    ck_assert_str_eq(map->nodes[map->owner[20]].host, "::1");
    slot_map_unref(&map);
}
END_TEST

START_TEST(a_host_without_a_name_has_the_ip_that_stands_behind_it)
{
    struct slot_map *map = parse_map("*1\r\n*3\r\n:0\r\n:1\r\n*4\r\n$1\r\n?\r\n:7001\r\n"
                                     "$2\r\nid\r\n*2\r\n$2\r\nip\r\n$8\r\n10.0.0.7\r\n");
    ck_assert_ptr_nonnull(map);
    ck_assert_str_eq(map->nodes[map->owner[0]].host, "10.0.0.7");
    slot_map_unref(&map);
}
END_TEST

static const char *const bad_maps[] = {
    "*0\r\n",
    "$-1\r\n",
    ":1\r\n",
    "+OK\r\n",
    "*1\r\n:5\r\n",
    "*1\r\n*2\r\n:0\r\n:1\r\n",
    "*1\r\n" MASTER(0, 16384, HOST_A, 7001),
    "*1\r\n" MASTER(-1, 5, HOST_A, 7001),
    "*1\r\n" MASTER(9, 5, HOST_A, 7001),
    "*1\r\n" MASTER(0, 5, HOST_A, 0),
    "*1\r\n" MASTER(0, 5, HOST_A, 65536),
    "*1\r\n" MASTER(0, 5, ":3\r\n", 7001),
    "*1\r\n*3\r\n:0\r\n:5\r\n*1\r\n" HOST_A,
    "*1\r\n*3\r\n:0\r\n:5\r\n" HOST_A,
    "*2\r\n" MASTER(0, 5, HOST_A, 7001) MASTER(5, 9, HOST_A, 7002),
};

START_TEST(other_shapes_are_no_map)
{
    ck_assert_ptr_null(parse_map(bad_maps[_i]));
}
END_TEST

/* A range of a slot for each master, and all the replicas with the first. */
static struct slot_map *parse_many(unsigned masters, unsigned replicas)
{
    struct buffer bytes = {0};
    buffer_addf(&bytes, "*%u\r\n", masters);
    for (unsigned i = 0; i < masters; i++) {
        unsigned more = i == 0 ? replicas : 0;
        buffer_addf(&bytes, "*%u\r\n:%u\r\n:%u\r\n*2\r\n" HOST_A ":%u\r\n", 3 + more, i, i, 1 + i);
        for (unsigned j = 0; j < more; j++)
            buffer_addf(&bytes, "*2\r\n$8\r\n10.0.0.2\r\n:%u\r\n", 1 + j);
    }
    buffer_add_char(&bytes, '\0');
    struct slot_map *map = parse_map(bytes.data);
    buffer_free(&bytes);
    return map;
}

START_TEST(a_map_has_a_thousand_masters_and_four_thousand_nodes_at_most)
{
    struct slot_map *full = parse_many(SLOT_MAP_MASTERS_MAX, 3000);
    ck_assert_ptr_nonnull(full);
    ck_assert_uint_eq(full->master_count, 1000);
    ck_assert_uint_eq(full->node_count, 4000);
    for (size_t i = 0; i < full->node_count; i++)
        ck_assert_uint_eq(slot_map_find(full, &full->nodes[i]), i);
    slot_map_unref(&full);
    ck_assert_ptr_null(parse_many(1001, 0));
    ck_assert_ptr_null(parse_many(16384, 0));
    ck_assert_ptr_null(parse_many(1000, 3001));
    ck_assert_ptr_null(parse_many(1, 60000));
}
END_TEST

static const char *const bad_hosts[] = {
    "$3\r\na b\r\n",          "$3\r\na\nb\r\n", "$3\r\na\"b\r\n",  "$2\r\n\xc3\xa4\r\n",
    "$10\r\n127.0.0.1\r\r\n", "$2\r\n-a\r\n",   "$5\r\n127.1\r\n", "$4\r\n:::1\r\n",
    "$5\r\n[::1]\r\n",        "$3\r\na/b\r\n",
};

START_TEST(hosts_of_another_form_make_no_map)
{
    char bytes[128];
    snprintf(bytes, sizeof(bytes), "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n%s:7001\r\n", bad_hosts[_i]);
    reply_reader_open(&reader);
    const struct store_reply *reply;
    ck_assert(reply_reader_feed(&reader, bytes, strlen(bytes)));
    ck_assert_int_ne(reply_reader_next(&reader, &reply), REPLY_INCOMPLETE);
    ck_assert_ptr_null(parse_map(bytes));
}
END_TEST

/* --- other members --- */

#define NODES                                                               \
    "a1 10.0.0.1:7001@17001 myself,master - 0 0 1 connected 0-9\n"          \
    "a2 10.0.0.2:7002@17002,redis-b,shard-id=0f master - 0 0 2 connected\n" \
    "a3 :7003@17003 slave,noaddr a1 0 0 1 disconnected\n"                   \
    "a4 10.0.0.4:7004@17004 master,fail - 0 0 4 connected\n"                \
    "a5 10.0.0.5:7005@17005 slave,fail? a1 0 0 5 connected\n"               \
    "a6 10.0.0.6:7006@17006 handshake - 0 0 0 disconnected\n"               \
    "a7 fd00::7:7007@17007,,shard-id=0e master - 0 0 7 connected\n"         \
    "a8 10.0.0.8 master - 0 0 8 connected\n"                                \
    "a9 \"x:7009@17009 master - 0 0 8 connected\n"

static const struct {
    const char *host;
    uint16_t port;
    bool known;
} member_rows[] = {
    {"10.0.0.1", 7001, true},  {"10.0.0.2", 7002, true},  {"redis-b", 7002, true},
    {"REDIS-B", 7002, true},   {"redis-b", 7001, false},  {"10.0.0.9", 7003, false},
    {"10.0.0.4", 7004, false}, {"10.0.0.5", 7005, true},  {"10.0.0.6", 7006, false},
    {"fd00::7", 7007, true},   {"10.0.0.8", 7008, false},
};

START_TEST(members_without_slots_are_read_of_cluster_nodes)
{
    struct slot_map *map = parse_map("*1\r\n" MASTER(0, 9, HOST_A, 7001));
    ck_assert(slot_map_add_members(map, TEXT(NODES), "10.0.0.9"));
    for (size_t i = 0; i < sizeof(member_rows) / sizeof(member_rows[0]); i++) {
        struct endpoint endpoint = {.port = member_rows[i].port};
        snprintf(endpoint.host, sizeof(endpoint.host), "%s", member_rows[i].host);
        ck_assert_msg(slot_map_knows(map, &endpoint) == member_rows[i].known, "%s", endpoint.host);
    }
    ck_assert_uint_eq(map->node_count, 1);
    ck_assert_uint_eq(map->member_count, 5);
    slot_map_unref(&map);
}
END_TEST

START_TEST(members_that_one_of_two_maps_lists_are_not_kept)
{
    struct endpoint both = {"10.0.0.2", 7002}, one = {"10.0.0.3", 7003};
    struct slot_map *maps[3];
    for (size_t i = 0; i < 3; i++)
        maps[i] = parse_map("*1\r\n" MASTER(0, 9, HOST_A, 7001));
    slot_map_add_members(maps[0], TEXT("a 10.0.0.2:7002@1 master\nb 10.0.0.3:7003@1 master\n"),
                         "h");
    slot_map_add_members(maps[1], TEXT("a 10.0.0.2:7002@1 master\n"), "h");
    ck_assert(slot_map_routes_alike(maps[0], maps[1]));
    ck_assert(!slot_map_equal(maps[0], maps[1]));
    slot_map_keep_members(maps[0], maps, 3);
    ck_assert(slot_map_knows(maps[0], &both));
    ck_assert(!slot_map_knows(maps[0], &one));
    ck_assert(slot_map_equal(maps[0], maps[1]));
    for (size_t i = 0; i < 3; i++)
        slot_map_unref(&maps[i]);
}
END_TEST

START_TEST(more_members_than_a_map_may_have_are_refused)
{
    struct slot_map *map = parse_map("*1\r\n" MASTER(0, 9, HOST_A, 7001));
    struct buffer nodes = {0};
    for (unsigned i = 1; i <= SLOT_MAP_NODES_MAX; i++)
        buffer_addf(&nodes, "a 10.0.0.2:%u@1 master\n", i);
    ck_assert(slot_map_add_members(map, buffer_text(&nodes), "h"));
    buffer_add_literal(&nodes, "a 10.0.0.3:1@1 master\n");
    ck_assert(!slot_map_add_members(map, buffer_text(&nodes), "h"));
    buffer_free(&nodes);
    slot_map_unref(&map);
}
END_TEST

START_TEST(maps_are_equal_if_they_route_alike)
{
    struct slot_map *a = parse_map("*1\r\n" MASTER(0, 9, HOST_A, 7001));
    struct slot_map *split =
        parse_map("*2\r\n" MASTER(0, 4, HOST_A, 7001) MASTER(5, 9, HOST_A, 7001));
    struct slot_map *shorter = parse_map("*1\r\n" MASTER(0, 8, HOST_A, 7001));
    struct slot_map *port = parse_map("*1\r\n" MASTER(0, 9, HOST_A, 7002));
    ck_assert(slot_map_equal(a, split));
    ck_assert(!slot_map_equal(a, shorter));
    ck_assert(!slot_map_equal(a, port));
    struct slot_map *maps[] = {a, split, shorter, port};
    for (size_t i = 0; i < 4; i++)
        slot_map_unref(&maps[i]);
}
END_TEST

#define ID_A "0123456789abcdef0123456789abcdef01234567"
#define ID_B "76543210fedcba9876543210fedcba9876543210"

/* A master of slot 0 with this id, and a replica. */
static struct slot_map *parse_ids(const char *master, const char *replica, unsigned port)
{
    char text[256];
    snprintf(text, sizeof(text),
             "*1\r\n*4\r\n:0\r\n:0\r\n*3\r\n" HOST_A ":%u\r\n$%zu\r\n%s\r\n*3\r\n" HOST_A
             ":%u\r\n$%zu\r\n%s\r\n",
             port, strlen(master), master, port + 1, strlen(replica), replica);
    return parse_map(text);
}

static const struct {
    const char *before[2], *after[2];
    bool kin;
} kin_rows[] = {
    {{ID_A, ID_B}, {ID_A, ID_B}, true}, {{ID_A, "x"}, {ID_B, "x"}, false},
    {{ID_A, "x"}, {ID_B, ID_A}, true},  {{ID_A, ID_B}, {"x", ID_B}, true},
    {{ID_A, ID_B}, {"x", "x"}, false},  {{"x", "x"}, {ID_A, "x"}, true},
};

START_TEST(clusters_are_kin_if_they_share_a_node)
{
    struct slot_map *before = parse_ids(kin_rows[_i].before[0], kin_rows[_i].before[1], 7001);
    struct slot_map *after = parse_ids(kin_rows[_i].after[0], kin_rows[_i].after[1], 8001);
    ck_assert_int_eq(slot_map_is_related(after, before), kin_rows[_i].kin);
    slot_map_unref(&before);
    slot_map_unref(&after);
}
END_TEST

START_TEST(maps_with_other_ids_route_alike_and_are_not_equal)
{
    struct slot_map *before = parse_ids(ID_A, "x", 7001), *after = parse_ids(ID_B, "x", 7001);
    ck_assert(slot_map_routes_alike(before, after));
    ck_assert(!slot_map_equal(before, after));
    struct node_id of_b = node_id_read(TEXT(ID_B)), found = slot_map_id(after, &after->nodes[0]);
    ck_assert_int_eq(node_id_compare(&of_b, &found), 0);
    slot_map_unref(&before);
    slot_map_unref(&after);
}
END_TEST

START_TEST(other_members_have_ids_too)
{
    struct endpoint kept = {"10.0.0.3", 7003};
    struct slot_map *map = parse_map("*1\r\n" MASTER(0, 9, HOST_A, 7001));
    slot_map_add_members(map, TEXT("a 10.0.0.2:7002@1 master\n" ID_B " 10.0.0.3:7003@1 master\n"),
                         "h");
    struct slot_map *other = parse_map("*1\r\n" MASTER(0, 9, HOST_A, 7001));
    slot_map_add_members(other, TEXT(ID_B " 10.0.0.3:7003@1 master\n"), "h");
    struct slot_map *maps[] = {map, other};
    slot_map_keep_members(map, maps, 2);
    struct node_id of_b = node_id_read(TEXT(ID_B)), found = slot_map_id(map, &kept);
    ck_assert_int_eq(node_id_compare(&of_b, &found), 0);
    slot_map_unref(&map);
    slot_map_unref(&other);
}
END_TEST

/* --- redirections --- */

static const struct {
    const char *text, *host;
    unsigned port; /* 0: refused */
} redirect_rows[] = {
    {"MOVED 3999 127.0.0.1:6381", "127.0.0.1", 6381},
    {"MOVED 3999 :6380", "10.0.0.9", 6380},
    {"MOVED 3999 ?:6380", "10.0.0.9", 6380},
    {"ASK 3999 redis-b.example:6380", "redis-b.example", 6380},
    {"MOVED 3999 ::1:6380", "::1", 6380},
    {"MOVED 3999 [2001:db8::7]:6380", "2001:db8::7", 6380},
    {"MOVED 3999 127.0.0.1:0", NULL, 0},
    {"MOVED 3999 127.0.0.1:70000", NULL, 0},
    {"MOVED 3999 127.0.0.1", NULL, 0},
    {"MOVED 3999 127.0.0.1:", NULL, 0},
    {"MOVED 3999", NULL, 0},
    {"MOVED", NULL, 0},
};

START_TEST(addresses_of_redirections_are_read)
{
    struct store_reply reply = {.is_error = true, .text = text_of(redirect_rows[_i].text)};
    struct endpoint endpoint;
    bool good = endpoint_parse_redirect(reply_redirect_address(&reply), "10.0.0.9", &endpoint);
    ck_assert_int_eq(good, redirect_rows[_i].port != 0);
    if (good) {
        ck_assert_str_eq(endpoint.host, redirect_rows[_i].host);
        ck_assert_uint_eq(endpoint.port, redirect_rows[_i].port);
    }
}
END_TEST

/* --- errors --- */

static const struct {
    const char *reply;
    enum reply_outcome outcome;
} outcome_rows[] = {
    {"+OK\r\n", OUTCOME_ANSWER},
    {"$5\r\nMOVED\r\n", OUTCOME_ANSWER},
    {"+MOVED 1 a:1\r\n", OUTCOME_ANSWER},
    {"-MOVED 1 a:1\r\n", OUTCOME_MOVED},
    {"-MOVEDX 1 a:1\r\n", OUTCOME_UNEXPECTED},
    {"-ASK 1 a:1\r\n", OUTCOME_ASK},
    {"-ASKING\r\n", OUTCOME_UNEXPECTED},
    {"-TRYAGAIN Multiple keys\r\n", OUTCOME_AGAIN},
    {"-LOADING Redis is loading\r\n", OUTCOME_AGAIN},
    {"-BUSY Redis is busy\r\n", OUTCOME_AGAIN},
    {"-BUSYKEY Target key exists\r\n", OUTCOME_UNEXPECTED},
    {"-CLUSTERDOWN\r\n", OUTCOME_STALE},
    {"-MASTERDOWN Link\r\n", OUTCOME_STALE},
    {"-READONLY You\r\n", OUTCOME_STALE},
    {"-NOSCRIPT No\r\n", OUTCOME_NOSCRIPT},
    {"-NOAUTH A\r\n", OUTCOME_DENIED},
    {"-WRONGPASS i\r\n", OUTCOME_DENIED},
    {"-NOPERM t\r\n", OUTCOME_DENIED},
    {"-OOM c\r\n", OUTCOME_REFUSED},
    {"-MISCONF R\r\n", OUTCOME_REFUSED},
    {"-NOREPLICAS N\r\n", OUTCOME_REFUSED},
    {"-ERR unknown\r\n", OUTCOME_UNEXPECTED},
    {"-ERR max number of clients reached\r\n", OUTCOME_AGAIN},
    {"-\r\n", OUTCOME_UNEXPECTED},
};

START_TEST(every_error_has_its_outcome)
{
    ck_assert_int_eq(reply_outcome(parse(outcome_rows[_i].reply)), outcome_rows[_i].outcome);
    reply_reader_close(&reader);
}
END_TEST

START_TEST(replies_show_what_they_hold)
{
    const struct store_reply *reply =
        parse("*7\r\n$3\r\na\r\n\r\n:-7\r\n$2\r\n42\r\n$-1\r\n*-1\r\n$0\r\n\r\n+fine\r\n");
    int64_t number = 0;
    ck_assert_int_eq(store_reply_type(reply), STORE_ARRAY);
    ck_assert_uint_eq(store_reply_count(reply), 7);
    ck_assert(text_equal(store_reply_text(store_reply_element(reply, 0)), TEXT("a\r\n")));
    ck_assert(!store_reply_int(store_reply_element(reply, 0), 0, 99, &number));
    ck_assert(store_reply_int(store_reply_element(reply, 1), -7, 0, &number));
    ck_assert_int_eq(number, -7);
    ck_assert(store_reply_int(store_reply_element(reply, 2), 42, 42, &number));
    ck_assert_int_eq(number, 42);
    ck_assert(!store_reply_int(store_reply_element(reply, 1), -6, 0, &number));
    ck_assert(!store_reply_int(store_reply_element(reply, 2), 0, 41, &number));
    ck_assert(!store_reply_int(store_reply_element(reply, 3), 0, 41, &number));
    ck_assert_int_eq(number, 42);
    ck_assert_int_eq(store_reply_type(store_reply_element(reply, 3)), STORE_NIL);
    ck_assert_int_eq(store_reply_type(store_reply_element(reply, 4)), STORE_NIL);
    ck_assert_ptr_null(store_reply_text(store_reply_element(reply, 4)).data);
    ck_assert_ptr_nonnull(store_reply_text(store_reply_element(reply, 5)).data);
    ck_assert_int_eq(store_reply_type(store_reply_element(reply, 6)), STORE_STATUS);
    ck_assert_ptr_null(store_reply_element(reply, 7));
    reply_reader_close(&reader);
}
END_TEST

static const char *const refused_replies[] = {
    "?1\r\n",
    "HTTP/1.1 400 Bad Request\r\n\r\n",
    "*2000000000\r\n",
    "*1\r\n*1000000000\r\n",
};

START_TEST(bytes_that_are_no_reply_are_told)
{
    const struct store_reply *reply;
    reply_reader_open(&reader);
    bool fed = reply_reader_feed(&reader, refused_replies[_i], strlen(refused_replies[_i]));
    ck_assert(!fed || reply_reader_next(&reader, &reply) == REPLY_BROKEN);
    reply_reader_close(&reader);
}
END_TEST

START_TEST(a_reply_without_end_is_refused)
{
    static char chunk[65536];
    memset(chunk, 'x', sizeof(chunk));
    const struct store_reply *reply;
    reply_reader_open(&reader);
    bool fed = reply_reader_feed(&reader, "$100000000\r\n", 12);
    size_t bytes = 0;
    while (fed && bytes <= 2 * REPLY_BYTES_MAX) {
        ck_assert_int_eq(reply_reader_next(&reader, &reply), REPLY_INCOMPLETE);
        fed = reply_reader_feed(&reader, chunk, sizeof(chunk));
        bytes += sizeof(chunk);
    }
    ck_assert(!fed);
    reply_reader_close(&reader);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

int main(void)
{
    Suite *suite = suite_create("store_slots");
    TCase *slots = tcase_create("slots");
    tcase_add_loop_test(slots, slots_of_known_keys, 0, ROWS(slot_rows));
    tcase_add_loop_test(slots, the_first_tag_alone_is_hashed, 0, ROWS(tag_rows));
    tcase_add_test(slots, an_empty_tag_leaves_the_whole_key);
    suite_add_tcase(suite, slots);

    TCase *maps = tcase_create("maps");
    tcase_add_test(maps, a_map_with_replicas_and_metadata_is_read);
    tcase_add_loop_test(maps, a_missing_or_unknown_host_is_the_one_that_answered, 0, 4);
    tcase_add_test(maps, holes_stay_without_an_owner);
    tcase_add_test(maps, a_host_without_a_name_has_the_ip_that_stands_behind_it);
    tcase_add_loop_test(maps, other_shapes_are_no_map, 0, ROWS(bad_maps));
    tcase_add_test(maps, maps_are_equal_if_they_route_alike);
    tcase_add_loop_test(maps, clusters_are_kin_if_they_share_a_node, 0, ROWS(kin_rows));
    tcase_add_test(maps, maps_with_other_ids_route_alike_and_are_not_equal);
    tcase_add_test(maps, other_members_have_ids_too);
    tcase_add_test(maps, a_map_has_a_thousand_masters_and_four_thousand_nodes_at_most);
    tcase_add_loop_test(maps, hosts_of_another_form_make_no_map, 0, ROWS(bad_hosts));
    tcase_add_test(maps, members_without_slots_are_read_of_cluster_nodes);
    tcase_add_test(maps, members_that_one_of_two_maps_lists_are_not_kept);
    tcase_add_test(maps, more_members_than_a_map_may_have_are_refused);
    suite_add_tcase(suite, maps);

    TCase *replies = tcase_create("replies");
    tcase_add_loop_test(replies, addresses_of_redirections_are_read, 0, ROWS(redirect_rows));
    tcase_add_loop_test(replies, every_error_has_its_outcome, 0, ROWS(outcome_rows));
    tcase_add_test(replies, replies_show_what_they_hold);
    tcase_add_loop_test(replies, bytes_that_are_no_reply_are_told, 0, ROWS(refused_replies));
    tcase_add_test(replies, a_reply_without_end_is_refused);
    suite_add_tcase(suite, replies);

    return support_run(suite);
}
