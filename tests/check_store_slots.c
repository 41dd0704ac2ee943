/* Slots of keys, CLUSTER SLOTS in every shape, redirections, and what errors mean. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "../src/store/reply.h"
#include "../src/store/slots.h"

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
    struct slot_map *map = slot_map_parse(parse(bytes), "10.0.0.9");
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

START_TEST(a_missing_or_empty_host_is_the_one_that_answered)
{
    static const char *const hosts[] = {
        "*1\r\n*3\r\n:0\r\n:1\r\n*3\r\n$-1\r\n:7001\r\n$2\r\nid\r\n",
        "*1\r\n*3\r\n:0\r\n:1\r\n*3\r\n$0\r\n\r\n:7001\r\n$2\r\nid\r\n",
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

START_TEST(a_host_that_the_server_does_not_know_owns_nothing)
{
    struct slot_map *map =
        parse_map("*2\r\n" MASTER(0, 9, "$1\r\n?\r\n", 7001) MASTER(10, 19, HOST_A, 7001));
    ck_assert_ptr_nonnull(map);
    ck_assert_uint_eq(map->covered, 10);
    ck_assert_uint_eq(map->owner[0], SLOT_NONE);
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
    "*1\r\n" MASTER(0, 5, "$1\r\n?\r\n", 7001),
    "*1\r\n*3\r\n:0\r\n:5\r\n*1\r\n" HOST_A,
    "*1\r\n*3\r\n:0\r\n:5\r\n" HOST_A,
};

START_TEST(other_shapes_are_no_map)
{
    ck_assert_ptr_null(parse_map(bad_maps[_i]));
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

/* --- redirections --- */

static const struct {
    const char *text, *host;
    unsigned port; /* 0: refused */
} redirect_rows[] = {
    {"MOVED 3999 127.0.0.1:6381", "127.0.0.1", 6381},
    {"MOVED 3999 :6380", "10.0.0.9", 6380},
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
    ck_assert(!store_reply_int(store_reply_element(reply, 0), &number));
    ck_assert(store_reply_int(store_reply_element(reply, 1), &number));
    ck_assert_int_eq(number, -7);
    ck_assert(store_reply_int(store_reply_element(reply, 2), &number));
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
    tcase_add_loop_test(maps, a_missing_or_empty_host_is_the_one_that_answered, 0, 2);
    tcase_add_test(maps, holes_stay_without_an_owner);
    tcase_add_test(maps, a_host_that_the_server_does_not_know_owns_nothing);
    tcase_add_loop_test(maps, other_shapes_are_no_map, 0, ROWS(bad_maps));
    tcase_add_test(maps, maps_are_equal_if_they_route_alike);
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
