/* The row of the route table that a request means, and percent-decoding. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "http/exchange/router.h"

#include "support_run.h"

static const struct {
    enum plane plane;
    const char *method, *path;
    enum route_match_result result;
    const char *route; /* template of the row */
    const char *first, *second;
} requests[] = {
    {PLANE_MAIN, "GET", "/v1/validate", MATCH_FOUND, "/v1/validate", NULL, NULL},
    {PLANE_MAIN, "POST", "/v1/validate", MATCH_FOUND, "/v1/validate", NULL, NULL},
    {PLANE_MAIN, "GET", "/problems/key_invalid", MATCH_FOUND, "/problems/{code}", "key_invalid",
     NULL},
    {PLANE_MAIN, "GET", "/v1/users/alice", MATCH_FOUND, "/v1/users/{user_id}", "alice", NULL},
    {PLANE_MAIN, "GET", "/v1/users/a%2Fb", MATCH_FOUND, "/v1/users/{user_id}", "a%2Fb", NULL},
    {PLANE_MAIN, "GET", "/v1/users/alice/devices", MATCH_FOUND, "/v1/users/{user_id}/devices",
     "alice", NULL},
    {PLANE_MAIN, "DELETE", "/v1/users/alice/devices/0123", MATCH_FOUND,
     "/v1/users/{user_id}/devices/{session_id}", "alice", "0123"},
    {PLANE_MAIN, "OPTIONS", "*", MATCH_FOUND, "*", NULL, NULL},
    {PLANE_OPS, "GET", "/livez", MATCH_FOUND, "/livez", NULL, NULL},
    {PLANE_OPS, "HEAD", "/livez", MATCH_FOUND, "/livez", NULL, NULL},
    {PLANE_MAIN, "HEAD", "/v1/validate", MATCH_FOUND, "/v1/validate", NULL, NULL},
    /* any method, and any path below */
    {PLANE_MAIN, "*", "/authz/auth-request/-", MATCH_FOUND, "/authz/auth-request/{settings}", "-",
     NULL},
    {PLANE_MAIN, "*", "/authz/ext-authz/a;b", MATCH_FOUND, "/authz/ext-authz/{settings}", "a;b",
     NULL},
    {PLANE_MAIN, "*", "/authz/ext-authz/-/", MATCH_FOUND, "/authz/ext-authz/{settings}/*", "-",
     NULL},
    {PLANE_MAIN, "*", "/authz/ext-authz/-//a/../\xff%00", MATCH_FOUND,
     "/authz/ext-authz/{settings}/*", "-", NULL},
    {PLANE_MAIN, "GET", "/authz/ext-authz", MATCH_NO_PATH, NULL, NULL, NULL},
    {PLANE_MAIN, "GET", "/authz/ext-authz/", MATCH_NO_PATH, NULL, NULL, NULL},
    {PLANE_MAIN, "GET", "/authz/ext-authz//a", MATCH_NO_PATH, NULL, NULL, NULL},
    {PLANE_MAIN, "GET", "/authz/forward-auth/-/", MATCH_NO_PATH, NULL, NULL, NULL},
    {PLANE_OPS, "GET", "/authz/ext-authz/-/a", MATCH_NO_PATH, NULL, NULL, NULL},
    /* no such path */
    {PLANE_MAIN, "GET", "/", MATCH_NO_PATH, NULL, NULL, NULL},
    {PLANE_MAIN, "GET", "", MATCH_NO_PATH, NULL, NULL, NULL},
    {PLANE_OPS, "OPTIONS", "*", MATCH_NO_PATH, NULL, NULL, NULL},
    {PLANE_MAIN, "GET", "/v1/validate/", MATCH_NO_PATH, NULL, NULL, NULL},
    {PLANE_MAIN, "GET", "/v1//validate", MATCH_NO_PATH, NULL, NULL, NULL},
    {PLANE_MAIN, "GET", "/V1/validate", MATCH_NO_PATH, NULL, NULL, NULL},
    {PLANE_MAIN, "GET", "/v1/validat%65", MATCH_NO_PATH, NULL, NULL, NULL},
    {PLANE_MAIN, "GET", "/problems/", MATCH_NO_PATH, NULL, NULL, NULL},
    {PLANE_MAIN, "GET", "/v1/users/", MATCH_NO_PATH, NULL, NULL, NULL},
    {PLANE_MAIN, "GET", "/v1/users//devices", MATCH_NO_PATH, NULL, NULL, NULL},
    {PLANE_MAIN, "GET", "/v1/users/alice/devices/", MATCH_NO_PATH, NULL, NULL, NULL},
    {PLANE_MAIN, "GET", "/v1/users/alice/devices/1/2", MATCH_NO_PATH, NULL, NULL, NULL},
    /* the other plane's */
    {PLANE_MAIN, "GET", "/livez", MATCH_NO_PATH, NULL, NULL, NULL},
    {PLANE_MAIN, "GET", "/metrics", MATCH_NO_PATH, NULL, NULL, NULL},
    {PLANE_OPS, "GET", "/v1/validate", MATCH_NO_PATH, NULL, NULL, NULL},
    /* other methods */
    {PLANE_MAIN, "HEAD", "/v1/login", MATCH_OTHER_METHOD, NULL, NULL, NULL},
    {PLANE_MAIN, "headers", "/v1/validate", MATCH_OTHER_METHOD, NULL, NULL, NULL},
    {PLANE_MAIN, "get", "/v1/validate", MATCH_OTHER_METHOD, NULL, NULL, NULL},
    {PLANE_MAIN, "GETS", "/v1/validate", MATCH_OTHER_METHOD, NULL, NULL, NULL},
    {PLANE_MAIN, "TRACE", "/v1/login", MATCH_OTHER_METHOD, NULL, NULL, NULL},
    {PLANE_MAIN, "GET", "/v1/users/alice/devices/0123", MATCH_OTHER_METHOD, NULL, NULL, NULL},
    {PLANE_OPS, "POST", "/readyz", MATCH_OTHER_METHOD, NULL, NULL, NULL},
};

static void assert_text(struct text found, const char *expected)
{
    ck_assert_msg(text_equal(found, text_of(expected)), "%.*s, not %s", (int)found.length,
                  found.data, expected == NULL ? "nothing" : expected);
}

START_TEST(a_request_means_exactly_one_row_or_none)
{
    router_prepare();
    struct route_match match;
    enum route_match_result result = router_route(requests[_i].plane, text_of(requests[_i].method),
                                                  text_of(requests[_i].path), &match);
    ck_assert_msg(result == requests[_i].result, "%s %s", requests[_i].method, requests[_i].path);
    if (requests[_i].route == NULL) {
        ck_assert_ptr_null(match.route);
        return;
    }
    ck_assert_str_eq(match.route->path, requests[_i].route);
    bool head = strcmp(requests[_i].method, "HEAD") == 0;
    ck_assert_str_eq(match.route->method, head ? "GET" : requests[_i].method);
    assert_text(match.segments[0], requests[_i].first);
    assert_text(match.segments[1], requests[_i].second);
}
END_TEST

START_TEST(a_wrong_method_learns_all_right_ones)
{
    router_prepare();
    struct route_match match;
    ck_assert_int_eq(router_route(PLANE_MAIN, TEXT("PUT"), TEXT("/v1/validate"), &match),
                     MATCH_OTHER_METHOD);
    ck_assert_uint_eq(match.allowed_count, 3);
    ck_assert_str_eq(match.allowed[0], "GET");
    ck_assert_str_eq(match.allowed[1], "HEAD");
    ck_assert_str_eq(match.allowed[2], "POST");
}
END_TEST

static const struct {
    const char *target, *path, *authority;
} targets[] = {
    {"/v1/validate", "/v1/validate", NULL},
    {"*", "*", NULL},
    {"", "", NULL},
    {"http://auth.example/v1/validate", "/v1/validate", "auth.example"},
    {"HTTPS://[::1]:8080/v1/users/a%2Fb", "/v1/users/a%2Fb", "[::1]:8080"},
    {"http://auth.example", "/", "auth.example"},
    {"http://auth.example/", "/", "auth.example"},
    {"http://a//v1/validate", "//v1/validate", "a"},
    /* none of these is in absolute form */
    {"http:///v1/validate", "http:///v1/validate", NULL},
    {"http://", "http://", NULL},
    {"http:/a/v1/validate", "http:/a/v1/validate", NULL},
    {"ftp://a/v1/validate", "ftp://a/v1/validate", NULL},
    {"/http://a/v1/validate", "/http://a/v1/validate", NULL},
    {"a:443", "a:443", NULL},
};

START_TEST(the_path_of_a_target_stands_behind_its_host)
{
    struct text authority = TEXT("as it was");
    assert_text(router_path(text_of(targets[_i].target), &authority), targets[_i].path);
    assert_text(authority, targets[_i].authority);
    ck_assert_int_eq(!authority.data, !targets[_i].authority);
}
END_TEST

START_TEST(a_row_with_any_method_matches_each_of_them)
{
    static const struct {
        const char *path, *below;
    } paths[] = {
        {"/authz/forward-auth", NULL}, {"/authz/ext-authz/-", NULL},
        {"/authz/ext-authz/-/", ""},   {"/authz/ext-authz/-/a/b", "a/b"},
        {"/authz/ext-authz/-//", "/"},
    };
    static const char *const methods[] = {"GET", "HEAD", "POST", "OPTIONS", "PROPFIND", "get"};
    router_prepare();
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        for (size_t j = 0; j < sizeof(methods) / sizeof(methods[0]); j++) {
            struct route_match match;
            ck_assert_int_eq(
                router_route(PLANE_MAIN, text_of(methods[j]), text_of(paths[i].path), &match),
                MATCH_FOUND);
            ck_assert_str_eq(match.route->method, "*");
            assert_text(match.below, paths[i].below);
        }
}
END_TEST

START_TEST(no_two_rows_of_the_table_are_for_the_same_call)
{
    router_prepare();
    for (size_t i = 0; i < route_count; i++) {
        struct route_match match;
        ck_assert_int_eq(router_route(routes[i].plane, text_of(routes[i].method),
                                      text_of(routes[i].path), &match),
                         MATCH_FOUND);
        ck_assert_msg(match.route == &routes[i], "%s %s", routes[i].method, routes[i].path);
    }
}
END_TEST

static bool may_row_be(const struct route *route)
{
    bool public = route->access == ACCESS_PUBLIC, token = route->access == ACCESS_TOKEN;
    bool gateway = route->access == ACCESS_GATEWAY;
    bool ends = route->ends != ENDS_NOTHING;
    return (public || route->plane == PLANE_MAIN) && (public || gateway) == (route->scope == 0) &&
           public == (route->rate == RATED_NOBODY) && ends == (route->rate == RATED_ENDING) &&
           gateway == (route->rate == RATED_AUTHZ) &&
           (token || route->user_needs == PERMISSION_NONE) &&
           (!ends || audit_event_durable(route->event));
}

START_TEST(the_columns_of_a_row_do_not_contradict_each_other)
{
    for (size_t i = 0; i < route_count; i++)
        ck_assert_msg(may_row_be(&routes[i]), "%s %s", routes[i].method, routes[i].path);
}
END_TEST

static const struct {
    const char *encoded;
    bool form;
    const char *decoded; /* NULL: refused */
} codings[] = {
    {"plain", false, "plain"},
    {"", false, ""},
    {"a%20b", false, "a b"},
    {"%e7%8e%8b", false, "\xe7\x8e\x8b"},
    {"%E7%8E%8B", false, "\xe7\x8e\x8b"},
    {"a%2Fb", false, "a/b"},
    {"a%252Fb", false, "a%2Fb"},
    {"a+b", false, "a+b"},
    {"a+b", true, "a b"},
    {"%2B", true, "+"},
    {"a%", false, NULL},
    {"a%2", false, NULL},
    {"a%2g", false, NULL},
    {"%%41", false, NULL},
};

START_TEST(percent_encoding_is_decoded_once_or_refused)
{
    char out[64];
    struct text decoded = router_decode(out, text_of(codings[_i].encoded), codings[_i].form);
    if (codings[_i].decoded == NULL) {
        ck_assert_ptr_null(decoded.data);
        return;
    }
    ck_assert_ptr_nonnull(decoded.data);
    assert_text(decoded, codings[_i].decoded);
}
END_TEST

struct query {
    const char *query, *allowed, *odd;
    enum query_fault fault;
};

static const struct query queries[] = {
    {"", "", NULL, QUERY_GOOD},
    {"tenant=a", "tenant", NULL, QUERY_GOOD},
    {"tenant=a&reason=b", "tenant reason", NULL, QUERY_GOOD},
    {"reason=b&tenant=a", "tenant reason", NULL, QUERY_GOOD},
    {"tennant=a", "tenant", "tennant", QUERY_UNKNOWN},
    {"tenan=a", "tenant", "tenan", QUERY_UNKNOWN},
    {"tenants=a", "tenant", "tenants", QUERY_UNKNOWN},
    {"tenant=a", "", "tenant", QUERY_UNKNOWN},
    {"tenant=a&tenant=b", "tenant", "tenant", QUERY_TWICE},
    {"tenant", "tenant", "tenant", QUERY_NO_VALUE},
    {"x", "tenant", "x", QUERY_UNKNOWN},
    {"tenant&x=1", "tenant", "tenant", QUERY_NO_VALUE},
    {"&tenant=a", "tenant", "", QUERY_UNKNOWN},
    {"tenant=a&", "tenant", NULL, QUERY_GOOD},
    {"=a", "tenant", "", QUERY_UNKNOWN},
    {"tenant=&x=y", "tenant", "x", QUERY_UNKNOWN},
};

START_TEST(a_query_has_known_parameters_once_each_with_a_value)
{
    const struct query *row = &queries[_i];
    struct text odd;
    ck_assert_int_eq(router_query(text_of(row->query), row->allowed, &odd), row->fault);
    assert_text(odd, row->odd);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

int main(void)
{
    Suite *suite = suite_create("http_match");
    TCase *cases = tcase_create("match");
    tcase_add_loop_test(cases, a_request_means_exactly_one_row_or_none, 0, ROWS(requests));
    tcase_add_test(cases, a_wrong_method_learns_all_right_ones);
    tcase_add_loop_test(cases, the_path_of_a_target_stands_behind_its_host, 0, ROWS(targets));
    tcase_add_test(cases, a_row_with_any_method_matches_each_of_them);
    tcase_add_test(cases, no_two_rows_of_the_table_are_for_the_same_call);
    tcase_add_test(cases, the_columns_of_a_row_do_not_contradict_each_other);
    tcase_add_loop_test(cases, percent_encoding_is_decoded_once_or_refused, 0, ROWS(codings));
    tcase_add_loop_test(cases, a_query_has_known_parameters_once_each_with_a_value, 0,
                        ROWS(queries));
    suite_add_tcase(suite, cases);
    return support_run(suite);
}
