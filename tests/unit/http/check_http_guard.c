/* The guard against malformed requests. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "http/exchange/guard.h"

#include "support_run.h"

enum { MOST_HEADERS = 6 };

struct header_line {
    const char *name, *value;
};

/* Gives a header to the guard from memory of its own, where credentials are wiped. */
static bool give(struct headers *headers, const char *name, const char *value)
{
    char *own = strdup(value);
    bool taken = guard_header(headers, text_of(name), (struct text){own, strlen(value)});
    free(own);
    return taken;
}

/* Puts headers through the guard as libmicrohttpd would; NULL if it lets them pass. */
static const char *fault_of(const struct header_line lines[MOST_HEADERS], bool http_1_1,
                            struct framing *framing)
{
    static struct headers headers;
    static struct arena arena;
    headers = (struct headers){.arena = &arena};
    for (size_t i = 0; i < MOST_HEADERS && lines[i].name != NULL; i++)
        give(&headers, lines[i].name, lines[i].value);
    guard_framing(&headers, http_1_1, framing);
    return headers.fault;
}

static const struct {
    struct header_line lines[MOST_HEADERS];
    bool http_1_0;
    bool passes;
} requests[] = {
    {{{"Host", "x"}}, false, true},
    {{{"hOsT", "x"}, {"X-Any", "a\tb"}}, false, true},
    {{{"Host", "x"}, {"X-Any", ""}}, false, true},
    {{{"Host", "x"}, {"X-Any", "caf\xc3\xa9 is fine here"}}, false, true},
    {{{NULL, NULL}}, true, true},   /* HTTP/1.0 may lack Host */
    {{{NULL, NULL}}, false, false}, /* HTTP/1.1 may not */
    {{{"Host", "x"}, {"Host", "x"}}, false, false},
    {{{"Host", "x"}, {"Authorization", "a"}, {"authorization", "a"}}, false, false},
    {{{"Host", "x"}, {"Content-Type", "a"}, {"Content-Type", "a"}}, false, false},
    {{{"Host", "x"}, {"X-Session-Token", "a"}, {"X-Session-Token", "a"}}, false, false},
    {{{"Host", "x"}, {"X-Operator", "a"}, {"X-Operator", "a"}}, false, false},
    {{{"Host", "x"}, {"X-Request-Id", "a"}, {"X-Request-Id", "a"}}, false, false},
    {{{"Host", "x"}, {"Origin", "a"}, {"Origin", "a"}}, false, false},
    {{{"Host", "x"}, {"Sec-Fetch-Site", "a"}, {"Sec-Fetch-Site", "a"}}, false, false},
    {{{"Host", "x"}, {"Cookie", "a=1"}, {"Cookie", "b=2"}}, false, true},
    {{{"Host", "x"}, {"X-Any", "a"}, {"X-Any", "a"}}, false, true},
    {{{"Host", "x"}, {"User-Agent", "a"}, {"User-Agent", "b"}}, false, true},
    /* values */
    {{{"Host", "x"}, {"X-Any", "a\001b"}}, false, false},
    {{{"Host", "x"}, {"X-Any", "a\033[31m"}}, false, false},
    {{{"Host", "x"}, {"X-Any", "a\rb"}}, false, false},
    {{{"Host", "x"}, {"X-Any", "a\177"}}, false, false},
    {{{"Host", "x"}, {"X-Any", "0123456789abcde\177f"}}, false, false},
    {{{"Host", "x"}, {"X-Any", "01234567\n9abcdef0123"}}, false, false},
    {{{"Host", "x"}, {"X-Any", "0123456789\t abcdefghijklm"}}, false, true},
    /* names */
    {{{"Host", "x"}, {"X-A ", "v"}}, false, false},
    {{{"Host", "x"}, {"", "v"}}, false, false},
    {{{"Host", "x"}, {"X(A)", "v"}}, false, false},
    {{{"Host", "x"}, {"X\xc3\xa9", "v"}}, false, false},
    /* framing */
    {{{"Host", "x"}, {"Content-Length", "0"}}, false, true},
    {{{"Host", "x"}, {"Content-Length", "12"}}, false, true},
    {{{"Host", "x"}, {"Content-Length", ""}}, false, false},
    {{{"Host", "x"}, {"Content-Length", "+3"}}, false, false},
    {{{"Host", "x"}, {"Content-Length", "-1"}}, false, false},
    {{{"Host", "x"}, {"Content-Length", "3, 3"}}, false, false},
    {{{"Host", "x"}, {"Content-Length", "3 "}}, false, false},
    {{{"Host", "x"}, {"Content-Length", "0x3"}}, false, false},
    {{{"Host", "x"}, {"Content-Length", "99999999999999999999"}}, false, false},
    {{{"Host", "x"}, {"Content-Length", "2"}, {"Content-Length", "2"}}, false, false},
    {{{"Host", "x"}, {"Content-Length", "2"}, {"Content-Length", "4"}}, false, false},
    {{{"Host", "x"}, {"Transfer-Encoding", "chunked"}}, false, true},
    {{{"Host", "x"}, {"Transfer-Encoding", "CHUNKED"}}, false, true},
    {{{"Host", "x"}, {"Transfer-Encoding", "chunked "}}, false, false},
    {{{"Host", "x"}, {"Transfer-Encoding", "identity"}}, false, false},
    {{{"Host", "x"}, {"Transfer-Encoding", "gzip, chunked"}}, false, false},
    {{{"Host", "x"}, {"Transfer-Encoding", "xchunked"}}, false, false},
    {{{"Host", "x"}, {"Transfer-Encoding", ""}}, false, false},
    {{{"Host", "x"}, {"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "chunked"}},
     false,
     false},
    {{{"Host", "x"}, {"Transfer-Encoding", "chunked"}, {"Content-Length", "4"}}, false, false},
    {{{"Host", "x"}, {"Content-Length", "4"}, {"Transfer-Encoding", "chunked"}}, false, false},
    {{{"Host", "x"}, {"Transfer-Encoding", "chunked"}}, true, false},
};

START_TEST(a_request_passes_only_if_its_framing_and_headers_are_beyond_doubt)
{
    struct framing framing;
    const char *fault = fault_of(requests[_i].lines, !requests[_i].http_1_0, &framing);
    ck_assert_msg((fault == NULL) == requests[_i].passes, "case %d: %s", _i,
                  fault == NULL ? "let through" : fault);
}
END_TEST

START_TEST(framing_tells_how_the_body_travels)
{
    struct framing framing;
    const struct header_line counted[MOST_HEADERS] = {{"Host", "x"}, {"Content-Length", "1234"}};
    ck_assert_ptr_null(fault_of(counted, true, &framing));
    ck_assert_int_eq(framing.length, 1234);
    ck_assert(!framing.chunked);
    const struct header_line chunked[MOST_HEADERS] = {{"Host", "x"},
                                                      {"Transfer-Encoding", "chunked"}};
    ck_assert_ptr_null(fault_of(chunked, true, &framing));
    ck_assert(framing.chunked);
}
END_TEST

START_TEST(values_are_kept_without_trailing_blanks_and_lists_are_joined)
{
    struct arena arena = {0};
    struct headers headers = {.arena = &arena};
    ck_assert(give(&headers, "authorization", "Bearer abc \t"));
    ck_assert(guard_header(&headers, TEXT("X-Forwarded-For"), TEXT("1.2.3.4")));
    ck_assert(guard_header(&headers, TEXT("X-Forwarded-For"), TEXT("5.6.7.8, 9.9.9.9")));
    ck_assert(text_equal(headers.values[HEADER_AUTHORIZATION], TEXT("Bearer abc")));
    ck_assert(text_equal(headers.values[HEADER_FORWARDED_FOR], TEXT("1.2.3.4,5.6.7.8, 9.9.9.9")));
    ck_assert(give(&headers, "Cookie", "a=1"));
    ck_assert(give(&headers, "cookie", "b=2; c=3"));
    ck_assert(text_equal(headers.values[HEADER_COOKIE], TEXT("a=1; b=2; c=3")));
    arena_free(&arena);
}
END_TEST

static const struct {
    const char *name;
    bool wiped;
} values[] = {{"Authorization", true},
              {"X-Session-Token", true},
              {"cookie", true},
              {"User-Agent", false},
              {"X-Any", false}};

START_TEST(credentials_are_wiped_where_they_came_in_and_nothing_else)
{
    struct arena arena = {0};
    struct headers headers = {.arena = &arena};
    for (int time = 0; time < 2; time++) { /* a second one is refused, and wiped too */
        char value[] = "sa_secret";
        guard_header(&headers, text_of(values[_i].name), (struct text){value, sizeof(value) - 1});
        for (size_t at = 0; at < sizeof(value) - 1; at++)
            ck_assert_int_eq(value[at] == 0, values[_i].wiped);
    }
    arena_free(&arena);
}
END_TEST

START_TEST(every_control_byte_is_found_wherever_it_stands_in_a_value)
{
    for (int byte = 1; byte < 256; byte++) {
        for (size_t at = 0; at < 20; at++) {
            char value[20];
            memset(value, 'a', sizeof(value));
            value[at] = (char)byte;
            struct headers headers = {0};
            bool control = (byte < 0x20 && byte != '\t') || byte == 0x7f;
            ck_assert_msg(guard_header(&headers, TEXT("X"), (struct text){value, sizeof(value)}) !=
                              control,
                          "byte %d at %zu", byte, at);
        }
    }
}
END_TEST

/* A head in the library's buffer as it leaves it: `:` and line ends are NULs. */
static bool places_pass(const char *head, size_t length, size_t first, size_t first_value,
                        size_t second, size_t second_value)
{
    struct headers headers = {0};
    return guard_place(&headers, text_of(head + first), text_of(head + first_value)) &&
           guard_place(&headers, text_of(head + second), text_of(head + second_value)) &&
           guard_end(&headers, (struct text){head, length});
}

#define PLACES_PASS(head, ...) places_pass(head, sizeof(head) - 1, __VA_ARGS__)

START_TEST(headers_that_do_not_lie_as_they_came_are_refused)
{
    ck_assert(PLACES_PASS("A\0 1\0\0B\0\t 2\0\0\0\0", 0, 3, 6, 9));
    ck_assert(PLACES_PASS("A\0\0\0B\0\0\0\0\0", 0, 2, 4, 6));
    /* Folded: the name, glued together, lies elsewhere. */
    ck_assert(!PLACES_PASS("A\0 1\0\0B\0 2\0\0\0\0 Bfold", 0, 3, 15, 8));
    ck_assert(!PLACES_PASS("Bfold\0A\0 1\0\0B\0 2\0\0\0\0", 6, 9, 0, 14));
    /* A NUL in the first value, in the last; a lone LF; a line without a name. */
    ck_assert(!PLACES_PASS("A\0 1\0x\0\0B\0 2\0\0\0\0", 0, 3, 8, 11));
    ck_assert(!PLACES_PASS("A\0 1\0\0B\0 2\0x\0\0\0\0", 0, 3, 6, 9));
    ck_assert(!PLACES_PASS("A\0 1\0B\0 2\0\0\0\0", 0, 3, 5, 8));
    ck_assert(!PLACES_PASS("A\0 1\0\0B\0 2\0\0\0 x\0\0", 0, 3, 6, 9));
    /* A lone LF after the last, where nothing has come yet. */
    ck_assert(!places_pass("A\0 1\0\0B\0 2\0\0\0\0", 12, 0, 3, 6, 9));
}
END_TEST

static const struct {
    const char *target;
    bool passes;
} targets[] = {
    {"/v1/validate", true},
    {"/v1/users/al%20ice", true},
    {"/v1/users/%E7%8E%8B", true},
    {"/a(b)[c]{d}\"<>", true},
    {"a=1&b=%2F", true},
    {"", true},
    {"/a%00b", false},
    {"/a%0ab", false},
    {"/a%1F", false},
    {"/a%7f", false},
    {"/a%", false},
    {"/a%2", false},
    {"/a%zz", false},
    {"/a%2g", false},
    {"/a b", false},
    {"/a\tb", false},
    {"/a\177", false},
    {"/\xc3\xa9", false},
};

START_TEST(a_target_passes_only_if_it_is_printable_and_well_encoded)
{
    ck_assert_msg(guard_target(text_of(targets[_i].target)) == targets[_i].passes, "%s",
                  targets[_i].target);
}
END_TEST

static const struct {
    const char *path;
    bool passes;
} paths[] = {
    {"", true},          {"/", true},        {"//", true},      {"/v1/login", true},
    {"/a.", true},       {"/a../b", true},   {"/.a", true},     {"/..a/b", true},
    {"/...", true},      {"/.../b", true},   {"/....", true},   {"/a.b..c/d.", true},
    {".", false},        {"..", false},      {"/.", false},     {"/..", false},
    {"/./a", false},     {"/../a", false},   {"./a", false},    {"../a", false},
    {"/a/.", false},     {"/a/..", false},   {"/a/./b", false}, {"/a/../b", false},
    {"/.a/../b", false}, {"/.../..", false}, {"//./", false},   {"/a./.", false},
};

START_TEST(a_path_passes_only_without_segments_that_lead_elsewhere)
{
    ck_assert_msg(guard_segments(text_of(paths[_i].path)) == paths[_i].passes, "%s",
                  paths[_i].path);
}
END_TEST

#define DIGITS_43 "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_AbCdE"
#define DIGITS_60 DIGITS_43 "fGhIjKlMnOpQrStUv"

START_TEST(a_request_id_is_echoed_only_if_it_is_harmless)
{
    ck_assert(guard_request_id(TEXT("a")));
    ck_assert(guard_request_id(TEXT("Az09._:-")));
    ck_assert(!guard_request_id(TEXT("")));
    ck_assert(!guard_request_id((struct text){0}));
    ck_assert(!guard_request_id(TEXT("a b")));
    ck_assert(!guard_request_id(TEXT("a\"b")));
    ck_assert(!guard_request_id(TEXT("a/b")));
    ck_assert(!guard_request_id(TEXT("\xc3\xa9")));
    ck_assert(!guard_request_id(TEXT("sa_" DIGITS_60)));
    ck_assert(!guard_request_id(TEXT("call:sk_" DIGITS_43)));
    ck_assert(guard_request_id(TEXT("sa_0123456789abcdef0123456789abcdef")));
    char longest[65];
    memset(longest, 'x', sizeof(longest));
    ck_assert(guard_request_id((struct text){longest, 64}));
    ck_assert(!guard_request_id((struct text){longest, 65}));
}
END_TEST

#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN  "00f067aa0ba902b7"

static const struct {
    const char *header;
    bool heeded;
} traces[] = {
    {"00-" TRACE "-" SPAN "-01", true},
    {"00-" TRACE "-" SPAN "-00", true},
    {"01-" TRACE "-" SPAN "-01", true},
    {"cc-" TRACE "-" SPAN "-01-what-the-future-holds", true},
    {"cc-" TRACE "-" SPAN "-01.what", false},
    {"00-" TRACE "-" SPAN "-01-more", false},
    {"ff-" TRACE "-" SPAN "-01", false},
    {"00-00000000000000000000000000000000-" SPAN "-01", false},
    {"00-" TRACE "-0000000000000000-01", false},
    {"00-4BF92F3577B34DA6A3CE929D0E0E4736-" SPAN "-01", false},
    {"00-" TRACE "-" SPAN "-0x", false},
    {"00-" TRACE "-" SPAN, false},
    {"00_" TRACE "-" SPAN "-01", false},
    {"", false},
};

START_TEST(a_traceparent_is_heeded_only_if_it_is_well_formed)
{
    struct text trace_id = {0};
    struct text span_id = {0};
    bool heeded = guard_traceparent(text_of(traces[_i].header), &trace_id, &span_id);
    ck_assert_msg(heeded == traces[_i].heeded, "%s", traces[_i].header);
    if (heeded) {
        ck_assert(text_equal(trace_id, TEXT(TRACE)));
        ck_assert(text_equal(span_id, TEXT(SPAN)));
    } else {
        ck_assert_ptr_null(trace_id.data);
    }
}
END_TEST

static const struct {
    const char *content_type;
    bool taken;
} media_types[] = {
    {"application/json", true},
    {"Application/JSON", true},
    {"application/json;charset=utf-8", true},
    {"application/json; charset=utf8", true},
    {"application/json; charset=\"UTF8\"", true},
    {"application/json ; Charset=UTF-8", true},
    {"application/json; charset=\"Utf-8\"", true},
    {"application/json;", true},
    {"application/json; version=2", true},
    {"application/json; version=2; charset=utf-8; x", true},
    {"application/json; charset=latin1", false},
    {"application/json;charset=\"iso-8859-1\"", false},
    {"application/json; version=2;CHARSET=utf-16", false},
    {"application/json; charset=utf-8; charset=latin1", false},
    {"application/json; charset=utf-80", false},
    {"application/json; charset=utf", false},
    {"application/json; charset=\"utf-8", false},
    {"application/json; charset=\"", false},
    {"application/json; charset=", false},
    {"application/jsonx", false},
    {"application/json x", false},
    {"application/merge-patch+json", false},
    {"text/plain; charset=utf-8", false},
    {"application", false},
    {"", false},
    {NULL, false},
};

START_TEST(a_media_type_is_taken_in_utf_8_alone)
{
    bool taken = guard_media_type(text_of(media_types[_i].content_type), "application/json");
    ck_assert_msg(taken == media_types[_i].taken, "%s", media_types[_i].content_type);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

int main(void)
{
    Suite *suite = suite_create("http_guard");
    TCase *cases = tcase_create("guard");
    tcase_add_loop_test(cases, a_request_passes_only_if_its_framing_and_headers_are_beyond_doubt, 0,
                        ROWS(requests));
    tcase_add_test(cases, framing_tells_how_the_body_travels);
    tcase_add_test(cases, values_are_kept_without_trailing_blanks_and_lists_are_joined);
    tcase_add_loop_test(cases, credentials_are_wiped_where_they_came_in_and_nothing_else, 0,
                        sizeof(values) / sizeof(values[0]));
    tcase_add_test(cases, every_control_byte_is_found_wherever_it_stands_in_a_value);
    tcase_add_test(cases, headers_that_do_not_lie_as_they_came_are_refused);
    tcase_add_loop_test(cases, a_target_passes_only_if_it_is_printable_and_well_encoded, 0,
                        ROWS(targets));
    tcase_add_loop_test(cases, a_path_passes_only_without_segments_that_lead_elsewhere, 0,
                        ROWS(paths));
    tcase_add_test(cases, a_request_id_is_echoed_only_if_it_is_harmless);
    tcase_add_loop_test(cases, a_traceparent_is_heeded_only_if_it_is_well_formed, 0, ROWS(traces));
    tcase_add_loop_test(cases, a_media_type_is_taken_in_utf_8_alone, 0, ROWS(media_types));
    suite_add_tcase(suite, cases);
    return support_run(suite);
}
