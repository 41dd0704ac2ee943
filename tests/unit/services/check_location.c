/* Places by network, and databases that cannot be used; look-ups in a database are tested with the
 * whole daemon. */
#include "location.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support_run.h"

static struct conf *conf;

static void setup(void)
{
    conf = conf_defaults();
}

static void teardown(void)
{
    conf_unref(&conf);
}

static struct ip_address address_of(const char *literal)
{
    struct ip_address address;
    ck_assert_msg(ip_parse(text_of(literal), &address), "%s", literal);
    return address;
}

static const struct pair {
    const char *a, *b;
    bool same;
} pairs[] = {
    {"203.0.113.7", "203.0.113.250", true},
    {"203.0.113.7", "203.0.112.7", false},
    {"203.0.113.7", "::ffff:203.0.113.99", true},
    {"::ffff:203.0.113.7", "::ffff:203.0.112.7", false},
    {"2001:db8:1:2::3", "2001:db8:1:ffff::9", true},
    {"2001:db8:1::1", "2001:db8:2::1", false},
    {"203.0.113.7", "2001:db8:1::1", false},
    {"::", "0.0.0.0", false},
};

START_TEST(networks_are_what_the_prefixes_say)
{
    const struct pair *pair = &pairs[_i];
    struct ip_address a = address_of(pair->a), b = address_of(pair->b);
    char key_a[LOCATION_KEY_MAX], key_b[LOCATION_KEY_MAX];
    ck_assert_int_eq(location_same_network(conf, &a, &b), pair->same);
    ck_assert_int_eq(location_same_network(conf, &b, &a), pair->same);
    ck_assert_int_eq(
        text_equal(location_key(NULL, conf, &a, key_a), location_key(NULL, conf, &b, key_b)),
        pair->same);
}
END_TEST

START_TEST(the_prefixes_may_be_others)
{
    struct ip_address a = address_of("10.1.2.3"), b = address_of("10.9.9.9");
    struct ip_address c = address_of("2001:db8::1"), d = address_of("2001:db8::2");
    char key[LOCATION_KEY_MAX], other[LOCATION_KEY_MAX];
    conf->binding_ipv4_prefix = 8;
    conf->binding_ipv6_prefix = 128;
    ck_assert(location_same_network(conf, &a, &b));
    ck_assert(text_equal(location_key(NULL, conf, &a, key), location_key(NULL, conf, &b, other)));
    ck_assert(!location_same_network(conf, &c, &d));
    ck_assert(!text_equal(location_key(NULL, conf, &c, key), location_key(NULL, conf, &d, other)));
}
END_TEST

START_TEST(without_a_database_places_have_no_names)
{
    struct buffer error = {0};
    struct arena arena = {0};
    struct ip_address address = address_of("203.0.113.7");
    struct location_db *locations = location_db_open(conf, &error);
    ck_assert_ptr_nonnull(locations);
    ck_assert_ptr_null(location_name(locations, &address, &arena).data);
    ck_assert_ptr_null(location_name(NULL, &address, &arena).data);
    location_db_unref(&locations);
    ck_assert_ptr_null(locations);
    arena_free(&arena);
}
END_TEST

static void assert_unusable(const char *path)
{
    struct buffer error = {0};
    free(conf->geoip_database);
    conf->geoip_database = xstrdup(path);
    ck_assert_ptr_null(location_db_open(conf, &error));
    buffer_add_char(&error, '\0');
    ck_assert_msg(strstr(error.data, "geoip.database") && strstr(error.data, path), "%s",
                  error.data);
    buffer_free(&error);
}

START_TEST(a_file_that_is_no_database_is_named)
{
    char path[] = "/tmp/check_place.XXXXXX";
    int file = mkstemp(path);
    ck_assert_int_ge(file, 0);
    ck_assert_int_eq(write(file, "nothing of the kind", 19), 19);
    close(file);
    assert_unusable(path);
    unlink(path);
    assert_unusable(path);
}
END_TEST

START_TEST(who_holds_the_published_places_keeps_them)
{
    struct buffer error = {0};
    ck_assert_ptr_null(location_db_current());
    location_db_publish(location_db_open(conf, &error));
    struct location_db *held = location_db_current();
    ck_assert_ptr_nonnull(held);
    location_db_publish(NULL);
    ck_assert_ptr_null(location_db_current());
    location_db_unref(&held);
}
END_TEST

int main(void)
{
    TCase *all = tcase_create("place");
    tcase_add_checked_fixture(all, setup, teardown);
    tcase_add_loop_test(all, networks_are_what_the_prefixes_say, 0,
                        sizeof(pairs) / sizeof(pairs[0]));
    tcase_add_test(all, the_prefixes_may_be_others);
    tcase_add_test(all, without_a_database_places_have_no_names);
    tcase_add_test(all, a_file_that_is_no_database_is_named);
    tcase_add_test(all, who_holds_the_published_places_keeps_them);
    Suite *suite = suite_create("place");
    suite_add_tcase(suite, all);
    return support_run(suite);
}
