/* JSON: what the writer writes, and what the reader takes and refuses, in which words. */
#include "json.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support_run.h"

#define LENGTH(table) ((int)(sizeof(table) / sizeof((table)[0])))

/* --- writing --- */

static void assert_written(struct buffer *buffer, const char *expected)
{
    ck_assert_msg(text_equal(buffer_text(buffer), text_of(expected)), "got %.*s, not %s",
                  (int)buffer->length, buffer->data, expected);
    buffer_free(buffer);
}

START_TEST(commas_stand_between_values_only)
{
    struct buffer out = {0};
    struct json_writer writer = {.out = &out};
    json_open_object(&writer);
    json_member_string(&writer, "s", TEXT("x"));
    json_member_int(&writer, "i", -12);
    json_member_bool(&writer, "b", true);
    json_name(&writer, "a");
    json_open_array(&writer);
    json_int(&writer, 1);
    json_text(&writer, TEXT("two"));
    json_bool(&writer, false);
    json_none(&writer);
    json_open_object(&writer);
    json_close_object(&writer);
    json_open_array(&writer);
    json_close_array(&writer);
    json_close_array(&writer);
    json_member_string(&writer, "n", (struct text){0});
    json_close_object(&writer);
    assert_written(&out, "{\"s\":\"x\",\"i\":-12,\"b\":true,\"a\":[1,\"two\",false,null,{},[]],"
                         "\"n\":null}");
}
END_TEST

START_TEST(ready_json_is_copied_where_a_value_or_members_go)
{
    struct buffer out = {0};
    struct json_writer writer = {.out = &out};
    json_open_object(&writer);
    json_raw(&writer, TEXT(""));
    json_raw(&writer, TEXT("\"a\":1,\"b\":2"));
    json_raw(&writer, TEXT(""));
    json_member_raw(&writer, "c", TEXT("{\"d\":3}"));
    json_member_raw(&writer, "e", TEXT(""));
    json_member_int(&writer, "f", 4);
    json_close_object(&writer);
    assert_written(&out, "{\"a\":1,\"b\":2,\"c\":{\"d\":3},\"e\":null,\"f\":4}");
}
END_TEST

static const struct {
    struct text text;
    const char *escaped;
} escapes[] = {
    {TEXT(""), ""},
    {TEXT("plain"), "plain"},
    {TEXT("a longer run of plain text"), "a longer run of plain text"},
    {TEXT("\""), "\\\""},
    {TEXT("back\\slash and \"quotes\""), "back\\\\slash and \\\"quotes\\\""},
    {TEXT("12345678\"12345678"), "12345678\\\"12345678"},
    {TEXT("/"), "/"},
    {TEXT("\n\t\0\x1f"), "\\u000a\\u0009\\u0000\\u001f"},
    {TEXT("\x7f\xc2\x80\xc2\x9f"), "\\u007f\\u0080\\u009f"},
    {TEXT("\xc2\xa0\xc3\xa9\xe5\xbc\xa0\xf0\x9f\x98\x80"),
     "\xc2\xa0\xc3\xa9\xe5\xbc\xa0\xf0\x9f\x98\x80"},
    {TEXT("a\xff"
          "b"),
     "a\xef\xbf\xbd"
     "b"},
    {TEXT("cut\xe5\xbc"), "cut\xef\xbf\xbd\xef\xbf\xbd"},
    {TEXT("\xc0\x80"), "\xef\xbf\xbd\xef\xbf\xbd"},
    {TEXT("\xed\xa0\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
    {TEXT("\xf0\x9f\x98\"x"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\\\"x"},
};

START_TEST(strings_are_escaped)
{
    struct buffer out = {0};
    json_escape(&out, escapes[_i].text);
    assert_written(&out, escapes[_i].escaped);
}
END_TEST

START_TEST(every_byte_at_every_place_gives_clean_text)
{
    char bytes[20];
    for (int byte = 0; byte < 256; byte++) {
        for (size_t at = 0; at < sizeof(bytes); at++) {
            struct buffer out = {0};
            memset(bytes, 'x', sizeof(bytes));
            bytes[at] = (char)byte;
            json_escape(&out, (struct text){bytes, sizeof(bytes)});
            ck_assert(text_is_clean_utf8(buffer_text(&out)));
            ck_assert_uint_ge(out.length, sizeof(bytes));
            buffer_free(&out);
        }
    }
}
END_TEST

/* --- reading --- */

struct sample_device {
    struct text type;
    struct text name;
};

struct sample {
    struct text user;
    bool remember;
    enum tristate verified;
    int64_t limit;
    struct json_texts roles;
    struct sample_device device;
    struct text attributes;
    struct text note, session_json, token;
};

static const struct json_field device_fields[] = {
    {"type", JSON_TEXT, true, offsetof(struct sample_device, type), 1, 8, NULL, 0, NULL},
    {"name", JSON_TEXT, false, offsetof(struct sample_device, name), 0, 64, NULL, 0, NULL},
};

static const struct json_field fields[] = {
    {"user", JSON_TEXT, true, offsetof(struct sample, user), 1, 128, NULL, 0, NULL},
    {"remember", JSON_BOOLEAN, false, offsetof(struct sample, remember), 0, 0, NULL, 0, NULL},
    {"verified", JSON_TRISTATE, false, offsetof(struct sample, verified), 0, 0, NULL, 0, NULL},
    {"limit", JSON_INT, false, offsetof(struct sample, limit), -5, 1000, NULL, 0, NULL},
    {"roles", JSON_TEXT_ARRAY, false, offsetof(struct sample, roles), 0, 3, NULL, 0, NULL},
    {"device", JSON_MEMBERS, false, offsetof(struct sample, device), 0, 0, device_fields,
     LENGTH(device_fields), NULL},
    {"attributes", JSON_ANY_OBJECT, false, offsetof(struct sample, attributes), 0, 64, NULL, 0,
     NULL},
    {"note", JSON_DECORATION, false, offsetof(struct sample, note), 1, 10, NULL, 0, NULL},
    {"shown", JSON_DECORATION, false, offsetof(struct sample, session_json), 0, 10, NULL, 0, NULL},
    {"token", JSON_ANY_TEXT, false, offsetof(struct sample, token), 0, 0, NULL, 0, NULL},
};

#define KNOWN "user, remember, verified, limit, roles, device, attributes, note, shown, token"

static struct arena arena;
static struct sample sample;
static struct text detail;

static bool read_sample(struct text body)
{
    memset(&sample, 0, sizeof(sample));
    detail = (struct text){0};
    return json_read(body, fields, LENGTH(fields), &sample, &arena, &detail);
}

static void assert_refused(struct text body, const char *why)
{
    ck_assert_msg(!read_sample(body), "%.*s was taken", (int)body.length, body.data);
    ck_assert_msg(text_equal(detail, text_of(why)), "got: %.*s\nnot: %s", (int)detail.length,
                  detail.data, why);
}

START_TEST(every_kind_of_member_arrives)
{
    ck_assert(read_sample(TEXT(" {\"user\":\"\xe5\xbc\xa0\xe4\xb8\x89\",\"remember\":true,"
                               "\"limit\":-5,\"roles\":[\"a\",\"bc\"],"
                               "\"device\":{\"type\":\"ios\"},\"attributes\":{\"k\":[1,{}]}} \n")));
    ck_assert(text_equal(sample.user, TEXT("\xe5\xbc\xa0\xe4\xb8\x89")));
    ck_assert(sample.remember);
    ck_assert_int_eq(sample.limit, -5);
    ck_assert_uint_eq(sample.roles.count, 2);
    ck_assert(text_equal(sample.roles.items[0], TEXT("a")));
    ck_assert(text_equal(sample.roles.items[1], TEXT("bc")));
    ck_assert(text_equal(sample.device.type, TEXT("ios")));
    ck_assert_ptr_null(sample.device.name.data);
    ck_assert(text_equal(sample.attributes, TEXT("{\"k\":[1,{}]}")));
}
END_TEST

START_TEST(no_is_not_the_same_as_nothing)
{
    ck_assert(read_sample(TEXT("{\"user\":\"u\"}")));
    ck_assert_int_eq(sample.verified, TRISTATE_ABSENT);
    ck_assert(read_sample(TEXT("{\"user\":\"u\",\"verified\":false}")));
    ck_assert_int_eq(sample.verified, TRISTATE_FALSE);
    ck_assert(read_sample(TEXT("{\"user\":\"u\",\"verified\":true}")));
    ck_assert_int_eq(sample.verified, TRISTATE_TRUE);
    ck_assert(read_sample(TEXT("{\"user\":\"u\",\"verified\":null}")));
    ck_assert_int_eq(sample.verified, TRISTATE_ABSENT);
}
END_TEST

START_TEST(members_that_may_be_missing_stay_as_they_were)
{
    ck_assert(read_sample(TEXT("{\"user\":\"u\"}")));
    ck_assert(!sample.remember);
    ck_assert_int_eq(sample.limit, 0);
    ck_assert_uint_eq(sample.roles.count, 0);
    ck_assert_ptr_null(sample.attributes.data);
    ck_assert_ptr_null(detail.data);
}
END_TEST

START_TEST(null_is_as_nothing_where_nothing_may_be)
{
    ck_assert(read_sample(TEXT("{\"user\":\"u\",\"remember\":null,\"verified\":null,"
                               "\"limit\":null,\"roles\":null,\"device\":null,"
                               "\"attributes\":null,\"note\":null,\"token\":null}")));
    ck_assert(!sample.remember);
    ck_assert_int_eq(sample.verified, TRISTATE_ABSENT);
    ck_assert_int_eq(sample.limit, 0);
    ck_assert_uint_eq(sample.roles.count, 0);
    ck_assert_ptr_null(sample.device.type.data);
    ck_assert_ptr_null(sample.attributes.data);
    ck_assert_ptr_null(sample.note.data);
    ck_assert_ptr_null(sample.token.data);
    ck_assert(read_sample(TEXT("{\"user\":\"u\",\"device\":{\"type\":\"t\",\"name\":null}}")));
    ck_assert_ptr_null(sample.device.name.data);
    assert_refused(TEXT("{\"user\":\"u\",\"unknown\":null}"),
                   "\"unknown\" is not known here; known are: " KNOWN);
    assert_refused(TEXT("{\"user\":\"u\",\"roles\":[null]}"),
                   "\"roles\" must be an array of at most 3 strings of 1 to 128 bytes without "
                   "control characters");
    assert_refused(TEXT("{\"user\":\"u\",\"device\":{\"type\":null}}"),
                   "\"device.type\" must be a string of 1 to 8 bytes without control characters");
}
END_TEST

START_TEST(a_body_that_says_nothing_reads_as_an_empty_object)
{
    static const struct text nothing[] = {
        {NULL, 0},     TEXT(""),     TEXT(" \r\n\t"), TEXT("{}"),
        TEXT(" { } "), TEXT("null"), TEXT("\nnull "),
    };
    for (size_t i = 0; i < LENGTH(nothing); i++) {
        ck_assert(json_read(nothing[i], fields + 1, 1, &sample, &arena, &detail));
        ck_assert(json_read(nothing[i], NULL, 0, &sample, &arena, &detail));
    }
    assert_refused(TEXT(" "), "\"user\" is missing");
    assert_refused(TEXT("null"), "The body must be a JSON object");
}
END_TEST

START_TEST(what_decorates_is_cleaned_not_refused)
{
    ck_assert(read_sample(TEXT("{\"user\":\"u\",\"note\":\"\\ta\\u0085b\\u007f\"}")));
    ck_assert(text_equal(sample.note, TEXT("a b")));
    ck_assert(read_sample(TEXT("{\"user\":\"u\",\"note\":\"123456789Ã©\"}")));
    ck_assert(text_equal(sample.note, TEXT("123456789")));
    ck_assert(read_sample(TEXT("{\"user\":\"u\",\"note\":\"\"}")));
    ck_assert_ptr_null(sample.note.data);
    ck_assert(read_sample(TEXT("{\"user\":\"u\",\"shown\":\"\\n\"}")));
    ck_assert_ptr_nonnull(sample.session_json.data); /* given as empty, which differs from absent */
    ck_assert_uint_eq(sample.session_json.length, 0);
    assert_refused(TEXT("{\"user\":\"u\",\"note\":1}"), "\"note\" must be a string");
}
END_TEST

START_TEST(any_text_comes_as_it_is)
{
    ck_assert(read_sample(TEXT("{\"user\":\"u\",\"token\":\"\\u0001\\t\\u007f\"}")));
    ck_assert(text_equal(sample.token, TEXT("\x01\t\x7f")));
    assert_refused(TEXT("{\"user\":\"u\",\"token\":[]}"), "\"token\" must be a string");
}
END_TEST

static const struct {
    struct text body;
    const char *why;
} refusals[] = {
    {TEXT("{}"), "\"user\" is missing"},
    {TEXT("{\"user\":\"u\",\"device\":{}}"), "\"device.type\" is missing"},
    {TEXT("{\"usr\":\"u\"}"), "\"usr\" is not known here; known are: " KNOWN},
    {TEXT("{\"user\":\"u\",\"device\":{\"type\":\"x\",\"colour\":1}}"),
     "\"device.colour\" is not known here; known are: type, name"},
    {TEXT("{\"user\":\"u\",\"a\\n\\\"\xc3\xa9\":1}"),
     "\"a????\" is not known here; known are: " KNOWN},
    {TEXT("{\"0123456789012345678901234567890123456789x\":1}"),
     "\"0123456789012345678901234567890123456789...\" is not known here; known are: " KNOWN},
    {TEXT("{\"user\":1}"),
     "\"user\" must be a string of 1 to 128 bytes without control characters"},
    {TEXT("{\"user\":null}"),
     "\"user\" must be a string of 1 to 128 bytes without control characters"},
    {TEXT("{\"user\":\"\"}"),
     "\"user\" must be a string of 1 to 128 bytes without control characters"},
    {TEXT("{\"user\":\"a\\nb\"}"),
     "\"user\" must be a string of 1 to 128 bytes without control characters"},
    {TEXT("{\"user\":\"a\\u0085b\"}"),
     "\"user\" must be a string of 1 to 128 bytes without control characters"},
    {TEXT("{\"user\":\"u\",\"device\":{\"type\":\"123456789\"}}"),
     "\"device.type\" must be a string of 1 to 8 bytes without control characters"},
    {TEXT("{\"user\":\"u\",\"remember\":1}"), "\"remember\" must be true or false"},
    {TEXT("{\"user\":\"u\",\"remember\":\"true\"}"), "\"remember\" must be true or false"},
    {TEXT("{\"user\":\"u\",\"limit\":1001}"), "\"limit\" must be an integer from -5 to 1000"},
    {TEXT("{\"user\":\"u\",\"limit\":-6}"), "\"limit\" must be an integer from -5 to 1000"},
    {TEXT("{\"user\":\"u\",\"limit\":1.0}"), "\"limit\" must be an integer from -5 to 1000"},
    {TEXT("{\"user\":\"u\",\"limit\":\"1\"}"), "\"limit\" must be an integer from -5 to 1000"},
    {TEXT("{\"user\":\"u\",\"roles\":\"a\"}"), "\"roles\" must be an array of at most 3 strings of "
                                               "1 to 128 bytes without control characters"},
    {TEXT("{\"user\":\"u\",\"roles\":[\"a\",\"b\",\"c\",\"d\"]}"),
     "\"roles\" must be an array of at most 3 strings of 1 to 128 bytes without control "
     "characters"},
    {TEXT("{\"user\":\"u\",\"roles\":[\"a\",1]}"),
     "\"roles\" must be an array of at most 3 strings of 1 to 128 bytes without control "
     "characters"},
    {TEXT("{\"user\":\"u\",\"roles\":[\"\"]}"), "\"roles\" must be an array of at most 3 strings "
                                                "of 1 to 128 bytes without control characters"},
    {TEXT("{\"user\":\"u\",\"device\":[]}"), "\"device\" must be an object"},
    {TEXT("{\"user\":\"u\",\"attributes\":[]}"),
     "\"attributes\" must be an object of at most 64 bytes of JSON"},
    {TEXT("{\"user\":\"u\",\"attributes\":{\"k\":\"0123456789012345678901234567890123456789"
          "012345678901234567\"}}"),
     "\"attributes\" must be an object of at most 64 bytes of JSON"},
    {TEXT("{\"user\":\"u\",\"user\":\"v\"}"), "\"user\" is there twice"},
    {TEXT("{\"a member with a rather long name\":1,\"a member with a rather long name\":2}"),
     "The body holds a member twice"},
    {TEXT("[]"), "The body must be a JSON object"},
    {TEXT(" 17 "), "The body must be a JSON object"},
    {TEXT("\"sr_secret\""), "The body must be a JSON object"},
    {TEXT("{\"user\":sr_secret}"), "The body is not valid JSON (line 1, column 10)"},
    {TEXT("{\"user\":\"sr_secret}"), "The body is JSON that ends too early (line 1, column 19)"},
    {TEXT("{\"user\":\"u\"} x"),
     "The body has something behind its JSON object (line 1, column 14)"},
    {TEXT("{\"user\":\"u\"}{}"),
     "The body has something behind its JSON object (line 1, column 13)"},
    {TEXT("{\n\"user\":\"\xff\"}"), "\"user\" is not valid UTF-8 (line 2, column 8)"},
    {TEXT("\xff"), "The body is not valid UTF-8 (line 1, column 0)"},
    {TEXT("{\"user\":\"a\\u0000b\"}"), "\"user\" holds a NUL character (line 1, column 18)"},
    {TEXT("{\"user\":\"u\",\"device\":{\"x\":[],\"name\":\"\\u0000\"}}"),
     "\"device.name\" holds a NUL character (line 1, column 44)"},
    {TEXT("{\"device\":{},\"roles\":[\"a\",\"\\u0000\"]}"),
     "\"roles\" holds a NUL character (line 1, column 34)"},
    {TEXT("{\"user\":\"a\\\"\\ud800b\"}"),
     "\"user\" holds half of a surrogate pair (line 1, column 20)"},
    {TEXT("{\"user\":\"a\tb\"}"),
     "\"user\" holds a control character as it is (line 1, column 10)"},
    {TEXT("{\"limit\":1\0}"), "\"limit\" holds a NUL character (line 1, column 11)"},
    {TEXT("{\"limit\":1\0"
          "2}"),
     "\"limit\" holds a NUL character (line 1, column 11)"},
    {TEXT("{\"remember\":true\0}"), "\"remember\" holds a NUL character (line 1, column 17)"},
    {TEXT("{\"user\":\"u\",\n\"limit\":null\0}"),
     "\"limit\" holds a NUL character (line 2, column 13)"},
    {TEXT("{}\0"), "The body holds a NUL character (line 1, column 3)"},
    {TEXT("null\0"), "The body holds a NUL character (line 1, column 5)"},
    {TEXT("{\"a\\u0000b\":1}"),
     "The body holds a NUL character in a member's name (line 1, column 11)"},
    {TEXT("{\"limit\":99999999999999999999}"),
     "The body holds a number that is too large (line 1, column 29)"},
    {TEXT("{\"user\":\"u\",}"), "The body is not valid JSON (line 1, column 13)"},
    {TEXT("{'user':'u'}"), "The body is not valid JSON (line 1, column 2)"},
    {TEXT("{"), "The body is JSON that ends too early (line 1, column 1)"},
};

START_TEST(a_refusal_names_the_member_and_what_is_allowed)
{
    assert_refused(refusals[_i].body, refusals[_i].why);
}
END_TEST

/* "of 16 to 16 bytes" and "of 0 to 2147483647 bytes" are no help. */
START_TEST(a_number_with_a_meaning_is_asked_for_in_its_words)
{
    static const struct json_field row = {
        "day", JSON_INT, false, offsetof(struct sample, limit), 1,
        31,    NULL,     0,     "a day of the month",
    };
    static const struct text wrong[] = {{"{\"day\":32}", 10}, {"{\"day\":\"1\"}", 11}};
    for (size_t i = 0; i < LENGTH(wrong); i++) {
        ck_assert(!json_read(wrong[i], &row, 1, &sample, &arena, &detail));
        ck_assert(text_equal(detail, TEXT("\"day\" must be a day of the month")));
    }
}
END_TEST

START_TEST(a_length_is_told_as_people_would)
{
    static const struct json_field lengths[] = {
        {"exact", JSON_TEXT, false, offsetof(struct sample, user), 16, 16, NULL, 0, NULL},
        {"any", JSON_TEXT, false, offsetof(struct sample, user), 0, INT32_MAX, NULL, 0, NULL},
    };
    ck_assert(!json_read(TEXT("{\"exact\":\"x\"}"), lengths, 2, &sample, &arena, &detail));
    ck_assert(text_equal(
        detail, TEXT("\"exact\" must be a string of 16 bytes without control characters")));
    ck_assert(!json_read(TEXT("{\"any\":1}"), lengths, 2, &sample, &arena, &detail));
    ck_assert(text_equal(detail, TEXT("\"any\" must be a string without control characters")));
}
END_TEST

START_TEST(no_refusal_repeats_a_value)
{
    for (int i = 0; i < LENGTH(refusals); i++) {
        ck_assert(!read_sample(refusals[i].body));
        ck_assert_ptr_null(strstr(detail.data, "secret"));
        ck_assert(text_is_clean_utf8(detail));
    }
}
END_TEST

START_TEST(a_bomb_of_brackets_is_harmless)
{
    static char bomb[1 << 20];
    memset(bomb, '[', sizeof(bomb));
    assert_refused((struct text){bomb, sizeof(bomb)}, "The body nests deeper than 32 levels");
    for (size_t i = 0; i + 5 <= sizeof(bomb); i += 5)
        memcpy(bomb + i, "{\"a\":", 5);
    assert_refused((struct text){bomb, sizeof(bomb)}, "The body nests deeper than 32 levels");
}
END_TEST

START_TEST(brackets_inside_strings_do_not_count_as_depth)
{
    char body[200];
    char brackets[65];
    memset(brackets, '[', 64);
    brackets[64] = '\0';
    snprintf(body, sizeof(body), "{\"user\":\"\\\"%s\\\\\"}", brackets);
    ck_assert(read_sample(text_of(body)));
    ck_assert_uint_eq(sample.user.length, 66);
}
END_TEST

/* Body, object and 30 arrays are 32 levels; one more is too many. */
START_TEST(thirty_two_levels_are_allowed)
{
    static const struct json_field wide[] = {
        {"k", JSON_ANY_OBJECT, false, 0, 0, 100, NULL, 0, NULL},
    };
    for (int arrays = 30; arrays <= 31; arrays++) {
        char body[128] = "{\"k\":{\"k\":";
        size_t length = strlen(body);
        memset(body + length, '[', (size_t)arrays);
        memset(body + length + arrays, ']', (size_t)arrays);
        strcpy(body + length + 2 * arrays, "}}");
        struct text object = {0};
        ck_assert_int_eq(json_read(text_of(body), wide, 1, &object, &arena, &detail), arrays == 30);
    }
}
END_TEST

static const struct {
    const char *from;
    const char *to;
} objects[] = {
    {"{}", "{}"},
    {"{ \"b\" : 1 , \"a\" : [ true , false , null ] }", "{\"b\":1,\"a\":[true,false,null]}"},
    {"{\"lat\":52.52,\"tenth\":0.1}", "{\"lat\":52.52,\"tenth\":0.1}"},
    {"{\"third\":0.3333333333333333}", "{\"third\":0.3333333333333333}"},
    {"{\"one\":1.0,\"exp\":1e-7}", "{\"one\":1.0,\"exp\":1e-7}"},
    {"{\"big\":9223372036854775807}", "{\"big\":9223372036854775807}"},
    {"{\"\":\"\\u5f20\\n\\u007f\\\"\"}", "{\"\":\"\xe5\xbc\xa0\\u000a\\u007f\\\"\"}"},
    {"{\"k\":{\"k\":{\"k\":[[],[{}]]}}}", "{\"k\":{\"k\":{\"k\":[[],[{}]]}}}"},
};

START_TEST(any_object_is_kept_as_it_was_meant)
{
    char body[200];
    snprintf(body, sizeof(body), "{\"user\":\"u\",\"attributes\":%s}", objects[_i].from);
    ck_assert(read_sample(text_of(body)));
    ck_assert_str_eq(sample.attributes.data, objects[_i].to);
}
END_TEST

/* Cuts a good body everywhere and puts every byte everywhere: it is accepted or refused with words,
 * and nothing is read after its end (the body is an allocation, which the sanitizers watch). */
START_TEST(damaged_bodies_are_taken_or_refused_with_words)
{
    static const char good[] = "{\"user\":\"u\\u00e9\",\"limit\":12,\"roles\":[\"a\"],"
                               "\"device\":{\"type\":\"t\"},\"attributes\":{\"k\":0.5}}";
    size_t length = sizeof(good) - 1;
    for (size_t at = 0; at < length; at++) {
        for (int byte = 0; byte < 257; byte++) {
            size_t kept = byte == 256 ? at : length;
            char *body = xmalloc(kept);
            memcpy(body, good, kept);
            if (byte < 256)
                body[at] = (char)byte;
            bool ok = read_sample((struct text){body, kept});
            ck_assert(ok || detail.length > 0);
            ck_assert(ok || text_is_clean_utf8(detail));
            free(body);
            arena_reset(&arena);
        }
    }
}
END_TEST

/* --- merge patches --- */

/* The cases of RFC 7396 appendix A that are about objects, and what else must hold. */
static const struct {
    const char *target, *patch, *result;
} merges[] = {
    {"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
    {"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
    {"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
    {"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
    {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
    {"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
    {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
    {"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
    {"{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}"},
    {"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
    {"", " { \"a\" : 0.1 } ", "{\"a\":0.1}"},
    {"{\"a\":{\"b\":1},\"c\":2}", "{}", "{\"a\":{\"b\":1},\"c\":2}"},
    {"{\"a\":1}", "{\"a\":{\"b\":{\"c\":[null]},\"d\":null}}", "{\"a\":{\"b\":{\"c\":[null]}}}"},
};

START_TEST(a_merge_patch_changes_what_it_names)
{
    struct buffer out = {0}, error = {0};
    ck_assert(
        json_merge_patch(text_of(merges[_i].target), text_of(merges[_i].patch), &out, &error));
    ck_assert_uint_eq(error.length, 0);
    assert_written(&out, merges[_i].result);
}
END_TEST

static const struct {
    const char *target, *patch, *error;
} bad_merges[] = {
    {"{}", "", "The body is JSON that ends too early (line 1, column 0)"},
    {"{}", "[]", "The body must be a JSON object"},
    {"{}", "null", "The body must be a JSON object"},
    {"{}", "{\"a\":1,\"a\":2}", "\"a\" is there twice"},
    {"[]", "{}", "The body must be a JSON object"},
};

START_TEST(a_bad_merge_patch_is_refused_and_nothing_is_written)
{
    struct buffer out = {0}, error = {0};
    ck_assert(!json_merge_patch(text_of(bad_merges[_i].target), text_of(bad_merges[_i].patch), &out,
                                &error));
    ck_assert_uint_eq(out.length, 0);
    assert_written(&error, bad_merges[_i].error);
}
END_TEST

/* --- views --- */

START_TEST(a_view_walks_in_the_order_of_the_text)
{
    struct buffer error = {0};
    struct json_view *root =
        json_view_open(TEXT("{\"n\":-7,\"b\":true,\"t\":\"x\",\"a\":[1,2]}"), &error);
    ck_assert_ptr_nonnull(root);
    ck_assert_uint_eq(json_view_count(root), 4);
    struct json_member member = {0};
    int64_t number = 0;
    bool yes = false;
    struct text text = {0};
    ck_assert(json_view_next(root, &member) && strcmp(member.name, "n") == 0);
    ck_assert(!json_view_text(member.value, &text) && !json_view_bool(member.value, &yes));
    ck_assert(json_view_int(member.value, &number) && number == -7);
    ck_assert(json_view_next(root, &member) && json_view_bool(member.value, &yes) && yes);
    ck_assert(!json_view_int(member.value, &number));
    ck_assert(json_view_next(root, &member) && json_view_text(member.value, &text));
    ck_assert(text_equal(text, TEXT("x")));
    ck_assert(json_view_next(root, &member) && json_view_is_array(member.value));
    ck_assert(!json_view_is_object(member.value) && json_view_is_object(root));
    ck_assert_uint_eq(json_view_count(member.value), 2);
    ck_assert(json_view_int(json_view_item(member.value, 1), &number) && number == 2);
    struct json_member none = {0};
    ck_assert(!json_view_next(member.value, &none) && !json_view_next(root, &member));
    json_view_close(&root);
    ck_assert_ptr_null(root);
    ck_assert_ptr_null(json_view_open(TEXT("{"), &error));
    buffer_free(&error);
}
END_TEST

static void free_arena(void)
{
    arena_free(&arena);
}

static Suite *suite(void)
{
    Suite *suite = suite_create("json");
    TCase *writing = tcase_create("writing");
    tcase_add_test(writing, commas_stand_between_values_only);
    tcase_add_test(writing, ready_json_is_copied_where_a_value_or_members_go);
    tcase_add_loop_test(writing, strings_are_escaped, 0, LENGTH(escapes));
    tcase_add_test(writing, every_byte_at_every_place_gives_clean_text);
    suite_add_tcase(suite, writing);
    TCase *reading = tcase_create("reading");
    tcase_add_checked_fixture(reading, NULL, free_arena);
    tcase_add_test(reading, every_kind_of_member_arrives);
    tcase_add_test(reading, no_is_not_the_same_as_nothing);
    tcase_add_test(reading, members_that_may_be_missing_stay_as_they_were);
    tcase_add_test(reading, null_is_as_nothing_where_nothing_may_be);
    tcase_add_test(reading, a_body_that_says_nothing_reads_as_an_empty_object);
    tcase_add_test(reading, what_decorates_is_cleaned_not_refused);
    tcase_add_test(reading, any_text_comes_as_it_is);
    tcase_add_loop_test(reading, a_refusal_names_the_member_and_what_is_allowed, 0,
                        LENGTH(refusals));
    tcase_add_test(reading, a_number_with_a_meaning_is_asked_for_in_its_words);
    tcase_add_test(reading, a_length_is_told_as_people_would);
    tcase_add_test(reading, no_refusal_repeats_a_value);
    tcase_add_test(reading, a_bomb_of_brackets_is_harmless);
    tcase_add_test(reading, brackets_inside_strings_do_not_count_as_depth);
    tcase_add_test(reading, thirty_two_levels_are_allowed);
    tcase_add_loop_test(reading, any_object_is_kept_as_it_was_meant, 0, LENGTH(objects));
    tcase_add_test(reading, damaged_bodies_are_taken_or_refused_with_words);
    suite_add_tcase(suite, reading);
    TCase *free_form = tcase_create("free form");
    tcase_add_loop_test(free_form, a_merge_patch_changes_what_it_names, 0, LENGTH(merges));
    tcase_add_loop_test(free_form, a_bad_merge_patch_is_refused_and_nothing_is_written, 0,
                        LENGTH(bad_merges));
    tcase_add_test(free_form, a_view_walks_in_the_order_of_the_text);
    suite_add_tcase(suite, free_form);
    return suite;
}

int main(void)
{
    return support_run(suite());
}
