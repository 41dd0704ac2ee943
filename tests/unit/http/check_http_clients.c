/* The origin and number of clients: trusted proxies, limits, deadlines of connections. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "crypto.h"
#include "http/access/proxies.h"
#include "http/server/client.h"
#include "http/server/connection_limits.h"

#include "support_run.h"

static struct ip_address address_of(const char *literal)
{
    struct ip_address address;
    ck_assert_msg(ip_parse(text_of(literal), &address), "%s", literal);
    return address;
}

static void load_proxies(struct proxies *proxies)
{
    static char *words[] = {"10.0.0.0/8", "fd00::/8", "192.0.2.1"};
    const struct conf_list list = {words, 3};
    proxies_load(proxies, &list);
    ck_assert_uint_eq(proxies->count, 3);
}

static const struct {
    const char *peer, *forwarded_for, *client;
} hops[] = {
    /* an untrusted peer is the client, whatever it says */
    {"203.0.113.9", "198.51.100.1", "203.0.113.9"},
    {"203.0.113.9", "", "203.0.113.9"},
    {"192.0.2.2", "198.51.100.1", "192.0.2.2"},
    /* a trusted one names it */
    {"10.1.2.3", "198.51.100.1", "198.51.100.1"},
    {"192.0.2.1", "2001:db8::1", "2001:db8::1"},
    {"fd00::1", " 198.51.100.1\t", "198.51.100.1"},
    {"10.1.2.3", "", "10.1.2.3"},
    /* the right-most untrusted hop counts: what stands left of it anyone can write */
    {"10.1.2.3", "1.1.1.1, 198.51.100.1", "198.51.100.1"},
    {"10.1.2.3", "1.1.1.1, 198.51.100.1, 10.9.9.9", "198.51.100.1"},
    {"10.1.2.3", "1.1.1.1,198.51.100.1,192.0.2.1,fd00::2", "198.51.100.1"},
    {"10.1.2.3", "10.0.0.5, 10.0.0.6", "10.0.0.5"},
    {"10.1.2.3", "garbage, 198.51.100.1", "198.51.100.1"},
    /* some proxies write the port, too */
    {"10.1.2.3", "198.51.100.1:8080", "198.51.100.1"},
    {"10.1.2.3", "[2001:db8::1]:443", "2001:db8::1"},
    {"10.1.2.3", "[2001:db8::1]", "2001:db8::1"},
    {"10.1.2.3", "1.1.1.1, [2001:db8::1]:443, 10.9.9.9:80, [fd00::2]", "2001:db8::1"},
    /* empty elements are none */
    {"10.1.2.3", "198.51.100.1,", "198.51.100.1"},
    {"10.1.2.3", "198.51.100.1, , 10.0.0.6", "198.51.100.1"},
    {"10.1.2.3", ",,198.51.100.1,\t,", "198.51.100.1"},
    {"10.1.2.3", " , ,", "10.1.2.3"},
    /* zones, spellings */
    {"10.1.2.3", "fe80::1%eth0", "fe80::1"},
    {"10.1.2.3", "[fe80::1%25eth0]:443", "fe80::1"},
    {"10.1.2.3", "::FFFF:198.51.100.1", "198.51.100.1"},
    {"10.1.2.3", "[::ffff:198.51.100.1]:80", "198.51.100.1"},
    /* malformed: the peer */
    {"10.1.2.3", "198.51.100.1%eth0", "10.1.2.3"},
    {"10.1.2.3", "garbage", "10.1.2.3"},
    {"10.1.2.3", "198.51.100.1, garbage", "10.1.2.3"},
    {"10.1.2.3", "198.51.100.1, x, 10.0.0.6", "10.1.2.3"},
    {"10.1.2.3", "198.51.100.1:", "10.1.2.3"},
    {"10.1.2.3", "198.51.100.1:80x", "10.1.2.3"},
    {"10.1.2.3", "[2001:db8::1", "10.1.2.3"},
    {"10.1.2.3", "[2001:db8::1]443", "10.1.2.3"},
    {"10.1.2.3", "[198.51.100.1]", "10.1.2.3"},
    {"10.1.2.3", "[]", "10.1.2.3"},
    {"10.1.2.3", "host.example:80", "10.1.2.3"},
    {"10.1.2.3", "unknown", "10.1.2.3"},
    {"10.1.2.3", "garbage, 10.0.0.6", "10.1.2.3"},
};

START_TEST(forwarded_for_is_believed_up_to_the_first_hop_that_is_not_trusted)
{
    struct proxies proxies;
    load_proxies(&proxies);
    struct ip_address peer = address_of(hops[_i].peer);
    struct ip_address expected = address_of(hops[_i].client);
    struct text odd;
    struct ip_address client =
        proxies_unwrap(&proxies, &peer, text_of(hops[_i].forwarded_for), &odd);
    ck_assert_msg(ip_equal(&client, &expected), "%s via %s", hops[_i].forwarded_for, hops[_i].peer);
    ck_assert(!odd.data || ip_equal(&client, &peer));
    proxies_free(&proxies);
}
END_TEST

START_TEST(the_unix_socket_is_a_proxy_if_it_is_named)
{
    static const struct ip_address local = {.family = AF_UNSPEC};
    char *words[] = {"unix", "10.0.0.0/8"};
    struct proxies proxies;
    struct text odd;
    for (size_t first = 0; first < 2; first++) {
        proxies_load(&proxies, &(struct conf_list){words + first, 2 - first});
        struct ip_address client =
            proxies_unwrap(&proxies, &local, TEXT("198.51.100.1, 10.1.2.3"), &odd);
        struct ip_address expected = address_of("198.51.100.1");
        ck_assert(first == 0 ? ip_equal(&client, &expected) : client.family == AF_UNSPEC);
        client = proxies_unwrap(&proxies, &local, (struct text){0}, &odd);
        ck_assert_int_eq(client.family, AF_UNSPEC);
        proxies_free(&proxies);
    }
}
END_TEST

START_TEST(a_hop_that_cannot_be_read_is_told)
{
    static const struct {
        const char *peer, *forwarded_for, *odd;
    } told[] = {
        {"10.1.2.3", "198.51.100.1, garbage", "garbage"},
        {"10.1.2.3", "198.51.100.1, x, 10.0.0.6:80", "x"},
        {"10.1.2.3", "198.51.100.1, x,", "x"},
        {"10.1.2.3", "198.51.100.1,", NULL},
        {"10.1.2.3", "garbage, 198.51.100.1", NULL},
        {"10.1.2.3", "", NULL},
        {"203.0.113.9", "garbage", NULL}, /* nobody asked it */
    };
    struct proxies proxies;
    load_proxies(&proxies);
    for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++) {
        struct ip_address peer = address_of(told[i].peer);
        struct text odd = TEXT("as it was");
        (void)proxies_unwrap(&proxies, &peer, text_of(told[i].forwarded_for), &odd);
        ck_assert_msg(!odd.data == !told[i].odd && text_equal(odd, text_of(told[i].odd)),
                      "%s via %s", told[i].forwarded_for, told[i].peer);
    }
    proxies_free(&proxies);
}
END_TEST

START_TEST(a_list_that_a_service_tells_is_read_in_the_same_way)
{
    static const struct {
        const char *told, *client; /* NULL: none */
    } lists[] = {
        {"198.51.100.1", "198.51.100.1"},
        {"1.1.1.1, 198.51.100.1, 10.9.9.9", "198.51.100.1"},
        {"1.1.1.1, 198.51.100.1", "198.51.100.1"}, /* who is left of it may be invented */
        {"10.0.0.5, 10.0.0.6", "10.0.0.5"},
        {"10.0.0.5", "10.0.0.5"}, /* a user of the own network */
        {"198.51.100.1,", "198.51.100.1"},
        {"198.51.100.1, unknown", NULL},
        {"unknown, 198.51.100.1", "198.51.100.1"},
        {"unknown", NULL},
        {"", NULL},
        {" , ", NULL},
    };
    struct proxies proxies, none = {0};
    load_proxies(&proxies);
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        struct ip_address client;
        bool read = proxies_read(&proxies, text_of(lists[i].told), &client);
        ck_assert_msg(read == (lists[i].client != NULL), "%s", lists[i].told);
        struct ip_address expected = read ? address_of(lists[i].client) : (struct ip_address){0};
        ck_assert_msg(!read || ip_equal(&client, &expected), "%s", lists[i].told);
    }
    struct ip_address client, nearest = address_of("10.9.9.9");
    ck_assert(proxies_read(&none, TEXT("198.51.100.1, 10.9.9.9"), &client));
    ck_assert(ip_equal(&client, &nearest));
    proxies_free(&proxies);
}
END_TEST

START_TEST(words_that_are_no_network_are_left_out)
{
    static char *words[] = {"10.0.0.0/33", "nonsense", "10.0.0.0/8"};
    const struct conf_list list = {words, 3};
    struct proxies proxies;
    log_set_level(LOG_LEVEL_ERROR);
    proxies_load(&proxies, &list);
    ck_assert_uint_eq(proxies.count, 1);
    struct ip_address inside = address_of("10.200.0.1");
    struct ip_address outside = address_of("11.0.0.1");
    ck_assert(proxies_include(&proxies, &inside));
    ck_assert(!proxies_include(&proxies, &outside));
    proxies_free(&proxies);
}
END_TEST

START_TEST(an_address_has_only_its_own_places)
{
    struct connection_limits *limits = connection_limits_create();
    struct ip_address one = address_of("192.0.2.1");
    struct ip_address other = address_of("2001:db8::1");
    connection_limits_set(limits, 100, 2);
    ck_assert(connection_limits_take(limits, &one));
    ck_assert(connection_limits_take(limits, &one));
    ck_assert(!connection_limits_take(limits, &one));
    ck_assert(connection_limits_take(limits, &other));
    connection_limits_give_back(limits, &one);
    ck_assert(connection_limits_take(limits, &one));
    connection_limits_give_back(limits, &one);
    connection_limits_give_back(limits, &one);
    connection_limits_give_back(limits, &other);
    connection_limits_destroy(&limits);
    ck_assert_ptr_null(limits);
}
END_TEST

START_TEST(an_ipv6_client_has_the_places_of_its_network)
{
    struct connection_limits *limits = connection_limits_create();
    struct ip_address one = address_of("2001:db8::1");
    struct ip_address same = address_of("2001:db8::ffff:1:2:3");
    struct ip_address other = address_of("2001:db8:0:1::1");
    connection_limits_set(limits, 100, 1);
    ck_assert(connection_limits_take(limits, &one));
    ck_assert(!connection_limits_take(limits, &same));
    ck_assert(connection_limits_take(limits, &other));
    connection_limits_give_back(limits, &same);
    ck_assert(connection_limits_take(limits, &same));
    connection_limits_give_back(limits, &one);
    connection_limits_give_back(limits, &other);
    connection_limits_destroy(&limits);
}
END_TEST

START_TEST(the_total_bounds_all_addresses_and_unix_sockets_together)
{
    struct connection_limits *limits = connection_limits_create();
    struct ip_address one = address_of("192.0.2.1");
    connection_limits_set(limits, 2, 100);
    ck_assert(connection_limits_take(limits, &one));
    ck_assert(connection_limits_take(limits, NULL));
    ck_assert(!connection_limits_take(limits, NULL));
    ck_assert(!connection_limits_take(limits, &one));
    connection_limits_set(limits, 3, 100);
    ck_assert(connection_limits_take(limits, &one));
    connection_limits_give_back(limits, NULL);
    connection_limits_give_back(limits, &one);
    connection_limits_give_back(limits, &one);
    connection_limits_destroy(&limits);
}
END_TEST

START_TEST(thousands_of_addresses_are_counted_each_for_itself)
{
    struct connection_limits *limits = connection_limits_create();
    connection_limits_set(limits, 20000, 1);
    for (int round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 10000; i++) {
            struct ip_address address = {.family = AF_INET,
                                         .bytes = {10, 1, (uint8_t)(i >> 8), (uint8_t)i}};
            if (round == 0) {
                ck_assert(connection_limits_take(limits, &address));
                ck_assert(!connection_limits_take(limits, &address));
            } else {
                connection_limits_give_back(limits, &address);
            }
        }
    }
    connection_limits_destroy(&limits);
}
END_TEST

/* A connection over a socket pair, whose other end tells whether it was cut. */
static struct client *make_connection(int *other_end)
{
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    const struct sockaddr_storage address = {.ss_family = AF_UNIX};
    *other_end = ends[1];
    return client_create(ends[0], false, &address, sizeof(address.ss_family));
}

static bool is_cut(int other_end)
{
    char byte;
    return recv(other_end, &byte, 1, 0) == 0;
}

static const struct {
    enum client_phase phase;
    bool asked;       /* a request came before */
    int64_t limit_ms; /* with the defaults of the options */
} phases[] = {
    {CLIENT_IDLE, false, 10000}, {CLIENT_IDLE, true, 75000},     {CLIENT_HEADERS, false, 10000},
    {CLIENT_BODY, false, 15000}, {CLIENT_WRITING, false, 10000},
};

START_TEST(each_phase_of_a_connection_ends_at_its_own_deadline)
{
    int other_end;
    struct conf *conf = conf_defaults();
    struct client *connection = make_connection(&other_end);
    if (phases[_i].asked)
        client_enter(connection, CLIENT_BUSY, conf, 500);
    client_enter(connection, phases[_i].phase, conf, 1000);
    ck_assert(!client_check(connection, conf, 1000 + phases[_i].limit_ms - 1));
    ck_assert(!is_cut(other_end));
    ck_assert(client_check(connection, conf, 1000 + phases[_i].limit_ms));
    ck_assert(is_cut(other_end));
    ck_assert(!client_check(connection, conf, 1000 + phases[_i].limit_ms));
    close(connection->fd);
    close(other_end);
    client_destroy(&connection);
    conf_unref(&conf);
}
END_TEST

START_TEST(a_request_that_sessiond_works_on_is_never_cut)
{
    int other_end;
    struct conf *conf = conf_defaults();
    struct client *connection = make_connection(&other_end);
    client_enter(connection, CLIENT_BUSY, conf, 1000);
    ck_assert(!client_check(connection, conf, INT64_MAX));
    ck_assert(!is_cut(other_end));
    close(connection->fd);
    close(other_end);
    client_destroy(&connection);
    conf_unref(&conf);
}
END_TEST

START_TEST(a_unix_socket_is_called_unix)
{
    int other_end;
    struct client *connection = make_connection(&other_end);
    ck_assert(connection->local);
    ck_assert(text_equal(connection->peer, TEXT("unix")));
    close(connection->fd);
    close(other_end);
    client_destroy(&connection);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

int main(void)
{
    crypto_init();
    Suite *suite = suite_create("http_clients");
    TCase *cases = tcase_create("clients");
    tcase_add_loop_test(cases, forwarded_for_is_believed_up_to_the_first_hop_that_is_not_trusted, 0,
                        ROWS(hops));
    tcase_add_test(cases, the_unix_socket_is_a_proxy_if_it_is_named);
    tcase_add_test(cases, a_hop_that_cannot_be_read_is_told);
    tcase_add_test(cases, a_list_that_a_service_tells_is_read_in_the_same_way);
    tcase_add_test(cases, words_that_are_no_network_are_left_out);
    tcase_add_test(cases, an_address_has_only_its_own_places);
    tcase_add_test(cases, an_ipv6_client_has_the_places_of_its_network);
    tcase_add_test(cases, the_total_bounds_all_addresses_and_unix_sockets_together);
    tcase_add_test(cases, thousands_of_addresses_are_counted_each_for_itself);
    tcase_add_loop_test(cases, each_phase_of_a_connection_ends_at_its_own_deadline, 0,
                        ROWS(phases));
    tcase_add_test(cases, a_request_that_sessiond_works_on_is_never_cut);
    tcase_add_test(cases, a_unix_socket_is_called_unix);
    suite_add_tcase(suite, cases);
    return support_run(suite);
}
