/* The session cookie, and which pages may use it. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "http/access/cookies.h"
#include "http/access/cors.h"

#include "support_run.h"

#define NAME  "__Host-session"
#define TOKEN "sa_0123456789"

static const struct {
    const char *header;
    enum cookie_found found;
    const char *value;
} headers[] = {
    {NAME "=" TOKEN, COOKIE_FOUND, TOKEN},
    {"a=1; " NAME "=" TOKEN "; b=2", COOKIE_FOUND, TOKEN},
    {"a=1;" NAME "=" TOKEN ";b=2", COOKIE_FOUND, TOKEN},
    {" \t" NAME " = " TOKEN " \t", COOKIE_FOUND, TOKEN},
    {";;; " NAME "=" TOKEN ";;", COOKIE_FOUND, TOKEN},
    {"a=; " NAME "=" TOKEN, COOKIE_FOUND, TOKEN},
    {NAME "=a=b==", COOKIE_FOUND, "a=b=="},
    {NAME "=\"" TOKEN "\"", COOKIE_FOUND, TOKEN},
    {NAME "=\"\"", COOKIE_ABSENT, NULL},
    {NAME "=\"" TOKEN, COOKIE_FOUND, "\"" TOKEN},
    {"a=" NAME "=x; " NAME "=" TOKEN, COOKIE_FOUND, TOKEN},
    /* not there */
    {"", COOKIE_ABSENT, NULL},
    {";", COOKIE_ABSENT, NULL},
    {"=", COOKIE_ABSENT, NULL},
    {"a=1; b=2", COOKIE_ABSENT, NULL},
    {NAME, COOKIE_ABSENT, NULL},
    {NAME "=", COOKIE_ABSENT, NULL},
    {NAME "= \t ", COOKIE_ABSENT, NULL},
    {"x" NAME "=" TOKEN, COOKIE_ABSENT, NULL},
    {NAME "x=" TOKEN, COOKIE_ABSENT, NULL},
    {"__host-session=" TOKEN, COOKIE_ABSENT, NULL}, /* some servers take it for the same */
    {"__HOST-SESSION=" TOKEN, COOKIE_ABSENT, NULL},
    {"session=" TOKEN, COOKIE_ABSENT, NULL},
    {"=" NAME "=" TOKEN, COOKIE_ABSENT, NULL}, /* a cookie without a name, as some browsers send */
    {"a=\"; " NAME "\"=" TOKEN, COOKIE_ABSENT, NULL},
    {"a, " NAME "=" TOKEN, COOKIE_ABSENT, NULL}, /* a comma divides nothing (RFC 6265) */
    {"a=1, " NAME "=" TOKEN, COOKIE_ABSENT, NULL},
    /* twice */
    {NAME "=" TOKEN "; " NAME "=" TOKEN, COOKIE_REPEATED, NULL},
    {NAME "=" TOKEN "; a=1; " NAME "=other", COOKIE_REPEATED, NULL},
    {NAME "=; " NAME "=" TOKEN, COOKIE_REPEATED, NULL},
    {NAME "=" TOKEN "; " NAME "=", COOKIE_REPEATED, NULL},
    {NAME "=1;" NAME "=2;" NAME "=3", COOKIE_REPEATED, NULL},
};

START_TEST(the_one_cookie_of_the_name_is_found)
{
    struct text value = {0};
    enum cookie_found found = cookies_find(text_of(headers[_i].header), TEXT(NAME), &value);
    ck_assert_msg(found == headers[_i].found, "%s: %d", headers[_i].header, (int)found);
    if (found == COOKIE_FOUND)
        ck_assert_msg(text_equal(value, text_of(headers[_i].value)), "%s", headers[_i].header);
}
END_TEST

/* Every cut of a header is read within its bounds (the sanitizers watch), and nothing but the whole
 * value is ever taken for it. */
START_TEST(no_piece_of_a_header_is_read_beyond_its_end)
{
    static const char whole[] = "a=1; " NAME "=" TOKEN "; b";
    for (size_t begin = 0; begin < sizeof(whole); begin++) {
        for (size_t length = 0; begin + length < sizeof(whole); length++) {
            char *piece = malloc(length + 1);
            struct text value = {0};
            memcpy(piece, whole + begin, length);
            struct text header = {realloc(piece, length > 0 ? length : 1), length};
            if (cookies_find(header, TEXT(NAME), &value) == COOKIE_FOUND)
                ck_assert(memcmp(TOKEN, value.data, value.length) == 0);
            free((char *)header.data);
        }
    }
}
END_TEST

static const struct {
    enum same_site same_site;
    int64_t max_age_s;
    const char *value, *expected;
} cookies[] = {
    {SAME_SITE_LAX, -1, TOKEN, NAME "=" TOKEN "; Path=/; Secure; HttpOnly; SameSite=Lax"},
    {SAME_SITE_STRICT, -1, TOKEN, NAME "=" TOKEN "; Path=/; Secure; HttpOnly; SameSite=Strict"},
    {SAME_SITE_LAX, 7200, TOKEN,
     NAME "=" TOKEN "; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=7200"},
    {SAME_SITE_STRICT, 0, "", NAME "=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0"},
};

START_TEST(a_cookie_has_the_attributes_that_its_prefix_demands)
{
    struct arena arena = {0};
    struct text made = cookies_format(&arena, NAME, text_of(cookies[_i].value),
                                      cookies[_i].same_site, cookies[_i].max_age_s);
    ck_assert_str_eq(made.data, cookies[_i].expected);
    arena_free(&arena);
}
END_TEST

static const struct {
    const char *origin, *host, *scheme;
    bool own;
} origins[] = {
    {"https://shop.example", "shop.example", "https", true},
    {"https://shop.example", "Shop.EXAMPLE", "https", true},
    {"https://shop.example", "shop.example:443", "https", true},
    {"https://shop.example:8443", "shop.example:8443", "https", true},
    {"http://shop.example", "shop.example:80", "http", true},
    {"https://[::1]:8443", "[::1]:8443", "https", true},
    /* somebody else's */
    {"http://shop.example", "shop.example", "https", false},
    {"https://shop.example", "shop.example", "http", false},
    {"https://shop.example:8443", "shop.example", "https", false},
    {"https://shop.example", "shop.example:8443", "https", false},
    {"https://shop.example", "shop.example:80", "https", false},
    {"https://evil.shop.example", "shop.example", "https", false},
    {"https://shop.example.evil.example", "shop.example", "https", false},
    {"https://shop.exampl", "shop.example", "https", false},
    {"https://shop.example/", "shop.example", "https", false},
    {"https://shop.example https://shop.example", "shop.example", "https", false},
    {"https:shop.example", "shop.example", "https", false},
    {"shop.example", "shop.example", "https", false},
    {"null", "null", "https", false},
    {"null", "", "https", false},
    {"https://", "", "https", false},
    {"", "", "https", false},
    {"https://", ":443", "https", false},
};

START_TEST(an_origin_is_the_services_own_only_if_scheme_host_and_port_are)
{
    bool own =
        cors_is_own(text_of(origins[_i].origin), text_of(origins[_i].host), origins[_i].scheme);
    ck_assert_msg(own == origins[_i].own, "%s at %s", origins[_i].origin, origins[_i].host);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

int main(void)
{
    Suite *suite = suite_create("cookies");
    TCase *cases = tcase_create("cookies");
    tcase_add_loop_test(cases, the_one_cookie_of_the_name_is_found, 0, ROWS(headers));
    tcase_add_test(cases, no_piece_of_a_header_is_read_beyond_its_end);
    tcase_add_loop_test(cases, a_cookie_has_the_attributes_that_its_prefix_demands, 0,
                        ROWS(cookies));
    tcase_add_loop_test(cases, an_origin_is_the_services_own_only_if_scheme_host_and_port_are, 0,
                        ROWS(origins));
    suite_add_tcase(suite, cases);
    return support_run(suite);
}
