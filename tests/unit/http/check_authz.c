/* The pure rules of gateways: settings, encoding, the budget of headers, the lifetime of an answer,
 * the URL of the original request. */
#include <check.h>
#include <string.h>

#include "http/authz/gateway_settings.h"
#include "http/authz/identity_headers.h"
#include "http/authz/original_request.h"
#include "http/authz/verdict_lifetime.h"

#include "support_run.h"

#define ROWS(rows) ((int)(sizeof(rows) / sizeof((rows)[0])))

static struct arena arena;

static bool is(struct text found, const char *expected)
{
    return text_equal(found, text_of(expected));
}

/* --- settings --- */

START_TEST(settings_are_read_and_decoded_once)
{
    struct authz_settings settings;
    struct text detail;
    ck_assert(authz_settings_read((struct text){0}, &arena, &settings, &detail));
    ck_assert(authz_settings_read(TEXT("-"), &arena, &settings, &detail));
    ck_assert(settings.role_count == 0 && settings.max_age_s == -1 && !settings.optional);
    ck_assert(authz_settings_read(TEXT("role=a%3Bb;tenant=acme;role=%C3%9F;max_age=0;acr=urn:x;"
                                       "touch=no;optional=yes;jwt=shop"),
                                  &arena, &settings, &detail));
    ck_assert(settings.role_count == 2 && is(settings.roles[0], "a;b"));
    ck_assert(is(settings.roles[1], "\xc3\x9f") && is(settings.tenant, "acme"));
    ck_assert(settings.max_age_s == 0 && is(settings.acr, "urn:x") &&
              is(settings.audience, "shop"));
    ck_assert(settings.untouched && settings.optional);
}
END_TEST

static const struct {
    const char *segment, *detail;
} faults[] = {
    {"", "Setting \"\" is not known"},
    {"-;role=a", "Setting \"-\" is not known"},
    {"role=a;", "Setting \"\" is not known"},
    {"Role=a", "Setting \"Role\" is not known"},
    {"%72ole=a", "Setting \"%72ole\" is not known"},
    {"at_least=yes", "Setting \"at_least\" is not known"},
    {"tenant=a;tenant=a", "Setting \"tenant\" came twice"},
    {"optional=yes;optional=yes", "Setting \"optional\" came twice"},
    {"role", "Setting \"role\" has no value"},
    {"role=", "Setting \"role\" has no value"},
    {"role=a=b", "Setting \"role\" has a byte that must be percent-encoded"},
    {"role=a b", "Setting \"role\" has a byte that must be percent-encoded"},
    {"role=%", "Setting \"role\" is not percent-encoded correctly"},
    {"role=%4", "Setting \"role\" is not percent-encoded correctly"},
    {"role=%2541", "Setting \"role\" is percent-encoded twice"},
    {"role=%00", "Setting \"role\" must be"},
    {"role=%ff", "Setting \"role\" must be"},
    {"tenant=ACME", "Setting \"tenant\" must match"},
    {"max_age=-1", "Setting \"max_age\" must be a number"},
    {"max_age=+1", "Setting \"max_age\" must be a number"},
    {"max_age=2147483648", "Setting \"max_age\" must be a number"},
    {"touch=yes", "Setting \"touch\" must be no"},
    {"optional=no", "Setting \"optional\" must be yes"},
    {"sa_AQNsXQGrqnEMGpo3zWNmaItvzjn21GBrUXeFU6HPY1w45ApgsQW4Sz3AHeHE=1", "[redacted]"},
};

START_TEST(wrong_settings_are_named)
{
    struct authz_settings settings;
    struct text detail = {0};
    ck_assert(!authz_settings_read(text_of(faults[_i].segment), &arena, &settings, &detail));
    ck_assert_msg(memmem(detail.data, detail.length, faults[_i].detail, strlen(faults[_i].detail)),
                  "%s: %.*s", faults[_i].segment, (int)detail.length, detail.data);
}
END_TEST

/* --- headers --- */

START_TEST(values_are_encoded_where_a_byte_may_not_stand)
{
    struct text plain = TEXT("!\"#$&'()*+-./:;<=>?@[\\]^_`{|}~aZ9");
    ck_assert_ptr_eq(authz_encode(&arena, plain).data, plain.data);
    ck_assert(is(authz_encode(&arena, TEXT("a,b% \xc3\xab\x7f\n")), "a%2Cb%25%20%C3%AB%7F%0A"));
    ck_assert_uint_eq(authz_encode(&arena, TEXT("")).length, 0);
}
END_TEST

START_TEST(roles_that_do_not_fit_are_left_out)
{
    const struct text roles[] = {TEXT("ab"), TEXT("c,d"), TEXT("e")};
    static const struct {
        size_t room;
        const char *joined;
    } rows[] = {{0, ""},     {1, "e"},        {3, "ab"},         {4, "ab,e"},
                {7, "ab,e"}, {8, "ab,c%2Cd"}, {10, "ab,c%2Cd,e"}};
    for (int i = 0; i < ROWS(rows); i++) {
        bool truncated = false;
        struct text joined = authz_join_roles(&arena, roles, 3, rows[i].room, &truncated);
        ck_assert_msg(is(joined, rows[i].joined), "%zu: %.*s", rows[i].room, (int)joined.length,
                      joined.data);
        ck_assert_int_eq(truncated, rows[i].room < 10);
    }
}
END_TEST

/* --- lifetime --- */

static const struct authz_lifetime kept = {
    .most_s = 60, .identified = true, .now_s = 1000, .access_end_s = 2000, .idle_end_s = 2000};

START_TEST(an_answer_lives_as_long_as_the_first_that_ends_it)
{
    struct authz_lifetime of = kept;
    ck_assert_int_eq(authz_lifetime_of(&of), 60);
    of.access_end_s = 1050;
    ck_assert_int_eq(authz_lifetime_of(&of), 50);
    of.idle_end_s = 1040;
    ck_assert_int_eq(authz_lifetime_of(&of), 40);
    of.fresh_end_s = 1030;
    ck_assert_int_eq(authz_lifetime_of(&of), 30);
    of.jwt_ttl_s = 41;
    ck_assert_int_eq(authz_lifetime_of(&of), 20);
    of.access_end_s = 999;
    ck_assert_int_eq(authz_lifetime_of(&of), 0);
}
END_TEST

START_TEST(some_answers_are_not_kept)
{
    struct authz_lifetime of[5] = {kept, kept, kept, kept, kept};
    of[0].identified = false;
    of[1].stale = of[2].bound = of[3].forgeable = true;
    of[4].most_s = 0;
    for (int i = 0; i < ROWS(of); i++)
        ck_assert_int_eq(authz_lifetime_of(&of[i]), 0);
}
END_TEST

/* --- the original request --- */

static const struct {
    const char *url, *scheme, *host, *path;
} urls[] = {
    {"https://shop.example/cart?a=b", "https", "shop.example", "/cart"},
    {"HTTP://shop.example:8080", "http", "shop.example:8080", NULL},
    {"https://shop.example?x", "https", "shop.example", NULL},
    {"https://shop.example/a;jsessionid=1?x", "https", "shop.example", "/a"},
    {"https://[2001:db8::1]:8443/", "https", "[2001:db8::1]:8443", "/"},
    {"https://user@shop.example/", "https", NULL, "/"},
    {"https://a,b/", "https", NULL, "/"},
    {"https:///x", "https", NULL, "/x"},
    {"ftp://shop.example/", "https", NULL, NULL},
    {"//shop.example/", "https", NULL, "//shop.example/"},
    {"/cart?x=https://evil.example/", "https", NULL, "/cart"},
    {"", "https", NULL, NULL},
};

START_TEST(a_url_is_taken_apart)
{
    struct authz_original original = authz_original_read(text_of(urls[_i].url));
    ck_assert_str_eq(original.target.scheme, urls[_i].scheme);
    ck_assert_msg(is(original.target.host, urls[_i].host), "%s", urls[_i].url);
    ck_assert_msg(is(original.path, urls[_i].path), "%s: %.*s", urls[_i].url,
                  (int)original.path.length, original.path.data);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("authz");
    TCase *cases = tcase_create("rules");
    tcase_add_test(cases, settings_are_read_and_decoded_once);
    tcase_add_loop_test(cases, wrong_settings_are_named, 0, ROWS(faults));
    tcase_add_test(cases, values_are_encoded_where_a_byte_may_not_stand);
    tcase_add_test(cases, roles_that_do_not_fit_are_left_out);
    tcase_add_test(cases, an_answer_lives_as_long_as_the_first_that_ends_it);
    tcase_add_test(cases, some_answers_are_not_kept);
    tcase_add_loop_test(cases, a_url_is_taken_apart, 0, ROWS(urls));
    suite_add_tcase(suite, cases);
    int failed = support_run(suite);
    arena_free(&arena);
    return failed;
}
