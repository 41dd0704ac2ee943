/* Addresses, host:port, networks. */
#include <arpa/inet.h>
#include <check.h>
#include <stdlib.h>

#include "address.h"

#include "support_run.h"

static const struct split_case {
    const char *text, *host; /* host NULL: refused */
    uint16_t port;
} splits[] = {
    {"127.0.0.1:8080", "127.0.0.1", 8080},
    {"[::]:8080", "::", 8080},
    {"[2001:db8::1]:1", "2001:db8::1", 1},
    {"redis-1.example.com:65535", "redis-1.example.com", 65535},
    {"localhost:6379", "localhost", 6379},
    {"redis_node:6379", "redis_node", 6379},
    {"", NULL, 0},
    {":", NULL, 0},
    {":8080", NULL, 0},
    {"8080", NULL, 0},
    {"host", NULL, 0},
    {"host:", NULL, 0},
    {"host:0", NULL, 0},
    {"host:65536", NULL, 0},
    {"host:-1", NULL, 0},
    {"host:80x", NULL, 0},
    {"ho st:80", NULL, 0},
    {"-host:80", NULL, 0},
    {"host/x:80", NULL, 0},
    {"*:80", NULL, 0},
    {"::1:8080", NULL, 0},
    {"::1", NULL, 0},
    {"[::1]", NULL, 0},
    {"[::1:8080", NULL, 0},
    {"[]:8080", NULL, 0},
    {"[127.0.0.1]:80", NULL, 0},
    {"[host]:80", NULL, 0},
    {"[fe80::1%eth0]:80", NULL, 0},
    {"127.1:80", NULL, 0},
    {"256.0.0.1:80", NULL, 0},
};

START_TEST(a_host_and_a_port_are_split)
{
    const struct split_case *row = &splits[_i];
    char host[ADDRESS_HOST_MAX] = "";
    uint16_t port = 0;
    bool good = address_split(text_of(row->text), host, &port);
    ck_assert_msg(good == (row->host != NULL), "'%s' was %s", row->text,
                  good ? "taken" : "refused");
    if (good) {
        ck_assert_str_eq(host, row->host);
        ck_assert_uint_eq(port, row->port);
        char text[ADDRESS_TEXT_MAX];
        ck_assert_str_eq(address_print(host, port, text).data, row->text);
    }
}
END_TEST

START_TEST(a_host_name_has_at_most_253_bytes)
{
    char text[300], host[ADDRESS_HOST_MAX];
    uint16_t port;
    memset(text, 'a', sizeof(text));
    memcpy(text + 253, ":80", 3);
    ck_assert(address_split((struct text){text, 256}, host, &port));
    ck_assert_uint_eq(strlen(host), 253);
    memset(text, 'a', sizeof(text));
    memcpy(text + 254, ":80", 3);
    ck_assert(!address_split((struct text){text, 257}, host, &port));
}
END_TEST

static const struct ip_case {
    const char *text, *printed; /* NULL: refused */
} ips[] = {
    {"10.1.2.3", "10.1.2.3"},
    {"::ffff:10.1.2.3", "10.1.2.3"},
    {"2001:DB8:0::1", "2001:db8::1"},
    {"::", "::"},
    {"10.1.2", NULL},
    {"10.1.2.3 ", NULL},
    {"010.1.2.3", NULL},
    {"[::1]", NULL},
    {"fe80::1%1", NULL},
    {"", NULL},
    {"10.1.2.3:80", NULL},
    {"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb", NULL},
};

START_TEST(literals_are_read_and_mapped_ones_are_ipv4)
{
    struct ip_address ip;
    char out[INET6_ADDRSTRLEN];
    bool good = ip_parse(text_of(ips[_i].text), &ip);
    ck_assert_msg(good == (ips[_i].printed != NULL), "'%s'", ips[_i].text);
    if (good) {
        ip_print(&ip, out);
        ck_assert_str_eq(out, ips[_i].printed);
    }
}
END_TEST

static const struct ip_case written[] = {
    {" 10.1.2.3\t", "10.1.2.3"},
    {"10.1.2.3:80", "10.1.2.3"},
    {"::FFFF:10.1.2.3", "10.1.2.3"},
    {"[::ffff:10.1.2.3]:65535", "10.1.2.3"},
    {"2001:DB8:0::1", "2001:db8::1"},
    {"[2001:db8::1]", "2001:db8::1"},
    {"[2001:db8::1]:443", "2001:db8::1"},
    {"fe80::1%eth0", "fe80::1"},
    {"fe80::1%", "fe80::1"},
    {"[fe80::1%25eth0]", "fe80::1"},
    {"[fe80::1%eth0]:443", "fe80::1"},
    {"[::1]%eth0", "::1"},
    {"10.1.2.3%eth0", NULL},
    {"%eth0", NULL},
    {"[fe80::1%eth0", NULL},
    {"[10.1.2.3]", NULL},
    {"10.1.2.3:0", NULL},
    {"10.1.2.3:99999", NULL},
    {"010.1.2.3", NULL},
    {"10.1.2", NULL},
    {"host:80", NULL},
    {"unknown", NULL},
    {"[]", NULL},
    {"[", NULL},
    {"", NULL},
    {"10.1.2.3, 10.1.2.4", NULL},
};

START_TEST(addresses_are_read_as_they_are_written)
{
    struct ip_address ip;
    char out[INET6_ADDRSTRLEN];
    bool good = ip_read(text_of(written[_i].text), &ip);
    ck_assert_msg(good == (written[_i].printed != NULL), "'%s'", written[_i].text);
    if (good) {
        ip_print(&ip, out);
        ck_assert_str_eq(out, written[_i].printed);
    }
}
END_TEST

START_TEST(a_literal_with_a_nul_inside_is_refused)
{
    struct ip_address ip;
    ck_assert(!ip_parse((struct text){"10.1.2.3\0x", 10}, &ip));
}
END_TEST

START_TEST(both_ends_of_a_dual_stack_socket_are_the_same_address)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr other = {.sa_family = AF_UNIX};
    struct ip_address a, b;
    inet_pton(AF_INET6, "::ffff:192.0.2.7", &in6.sin6_addr);
    inet_pton(AF_INET, "192.0.2.7", &in.sin_addr);
    ck_assert(ip_from_sockaddr((struct sockaddr *)&in6, &a));
    ck_assert(ip_from_sockaddr((struct sockaddr *)&in, &b));
    ck_assert(ip_equal(&a, &b));
    ck_assert(!ip_from_sockaddr(&other, &a));
}
END_TEST

static const struct network_case {
    const char *network;
    const char *inside, *outside; /* NULL, NULL: the network is refused */
} networks[] = {
    {"10.0.0.0/8", "10.255.0.1", "11.0.0.1"},
    {"10.0.0.0/8", "::ffff:10.1.1.1", "::10.1.1.1"},
    {"192.0.2.128/25", "192.0.2.255", "192.0.2.127"},
    {"192.0.2.1", "192.0.2.1", "192.0.2.2"},
    {"192.0.2.1/32", "192.0.2.1", "192.0.2.0"},
    {"0.0.0.0/0", "203.0.113.9", "2001:db8::1"},
    {"::/0", "2001:db8::1", "10.0.0.1"},
    {"fd00::/8", "fdff::1", "fc00::1"},
    {"2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"},
    {"::1", "::1", "::2"},
    {"::ffff:10.0.0.0/104", "10.9.9.9", "11.0.0.1"},
    {"10.0.0.1/8", NULL, NULL},
    {"2001:db8::1/64", NULL, NULL},
    {"10.0.0.0/33", NULL, NULL},
    {"::/129", NULL, NULL},
    {"10.0.0.0/", NULL, NULL},
    {"10.0.0.0/-0", NULL, NULL},
    {"10.0.0.0/+8", NULL, NULL},
    {"10.0.0.0/8x", NULL, NULL},
    {"10.0.0.0/00008", NULL, NULL},
    {"/8", NULL, NULL},
    {"", NULL, NULL},
    {"10.0.0/8", NULL, NULL},
    {"example.com/8", NULL, NULL},
    {"[::]/0", NULL, NULL},
};

START_TEST(a_network_contains_its_addresses_only)
{
    const struct network_case *row = &networks[_i];
    struct ip_network network;
    bool good = ip_network_parse(text_of(row->network), &network);
    ck_assert_msg(good == (row->inside != NULL), "'%s'", row->network);
    if (good) {
        struct ip_address inside, outside;
        ck_assert(ip_parse(text_of(row->inside), &inside));
        ck_assert(ip_parse(text_of(row->outside), &outside));
        ck_assert_msg(ip_network_contains(&network, &inside), "%s in %s", row->inside,
                      row->network);
        ck_assert_msg(!ip_network_contains(&network, &outside), "%s not in %s", row->outside,
                      row->network);
    }
}
END_TEST

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

int main(void)
{
    Suite *suite = suite_create("address");
    TCase *tests = tcase_create("address");
    tcase_add_loop_test(tests, a_host_and_a_port_are_split, 0, COUNT(splits));
    tcase_add_test(tests, a_host_name_has_at_most_253_bytes);
    tcase_add_loop_test(tests, literals_are_read_and_mapped_ones_are_ipv4, 0, COUNT(ips));
    tcase_add_loop_test(tests, addresses_are_read_as_they_are_written, 0, COUNT(written));
    tcase_add_test(tests, a_literal_with_a_nul_inside_is_refused);
    tcase_add_test(tests, both_ends_of_a_dual_stack_socket_are_the_same_address);
    tcase_add_loop_test(tests, a_network_contains_its_addresses_only, 0, COUNT(networks));
    suite_add_tcase(suite, tests);
    return support_run(suite);
}
