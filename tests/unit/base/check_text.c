/* Text: UTF-8, numbers, buffers, hexadecimal and base64url. */
#include "text.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support_run.h"

#define BYTES(literal) TEXT(literal)

static const struct text clean[] = {
    BYTES(""),
    BYTES("a"),
    BYTES("plain ASCII of more than eight bytes ~"),
    BYTES("\xc2\xa0"),         /* U+00A0, the first after C1 */
    BYTES("\xdf\xbf"),         /* U+07FF */
    BYTES("\xe0\xa0\x80"),     /* U+0800 */
    BYTES("\xed\x9f\xbf"),     /* U+D7FF */
    BYTES("\xee\x80\x80"),     /* U+E000 */
    BYTES("\xef\xbf\xbf"),     /* U+FFFF */
    BYTES("\xf0\x90\x80\x80"), /* U+10000 */
    BYTES("\xf4\x8f\xbf\xbf"), /* U+10FFFF */
    BYTES("12345678\xe5\xbc\xa0\xe4\xb8\x89 12345678"),
};

static const struct text unclean[] = {
    BYTES("\x00"),
    BYTES("\n"),
    BYTES("\x1f"),
    BYTES("\x7f"),
    BYTES("1234567\x7f"),
    BYTES("12345\t78"),
    BYTES("12345678\x01"),
    BYTES("\xc2\x80"),     /* C1 */
    BYTES("\xc2\x9f"),     /* C1 */
    BYTES("\x80"),         /* a lone continuation */
    BYTES("\xc2"),         /* cut */
    BYTES("\xe2\x82"),     /* cut */
    BYTES("\xf0\x9f\x98"), /* cut */
    BYTES("\xc3\x28"),     /* no continuation */
    BYTES("\xe2\x82\x28"),
    BYTES("\xf0\x9f\x98\x28"),
    BYTES("\xc0\x80"), /* overlong */
    BYTES("\xc1\xbf"),
    BYTES("\xe0\x9f\xbf"),
    BYTES("\xf0\x8f\xbf\xbf"),
    BYTES("\xed\xa0\x80"), /* surrogates */
    BYTES("\xed\xbf\xbf"),
    BYTES("\xf4\x90\x80\x80"), /* above U+10FFFF */
    BYTES("\xf5\x80\x80\x80"),
    BYTES("\xff"),
};

START_TEST(clean_text_is_accepted)
{
    ck_assert(text_is_clean_utf8(clean[_i]));
}
END_TEST

START_TEST(controls_and_malformed_utf8_are_refused)
{
    ck_assert(!text_is_clean_utf8(unclean[_i]));
}
END_TEST

static const struct {
    const char *text;
    size_t most;
    const char *cut;
} cuts[] = {
    {"abc", 3, "abc"},
    {"abc", 4, "abc"},
    {"abc", 2, "ab"},
    {"abc", 0, ""},
    {"", 0, ""},
    {"a\u00e9b", 3, "a\u00e9"},
    {"a\u00e9b", 2, "a"},
    {"\u20ac", 2, ""},
    {"x\U0001f600", 5, "x\U0001f600"},
    {"x\U0001f600y", 5, "x\U0001f600"},
    {"x\U0001f600", 4, "x"},
    {"x\U0001f600", 2, "x"},
    {"\x80\x80\x80\x80\x80\x80\x80\x80\x80", 8, "\x80\x80\x80\x80"}, /* no UTF-8 */
};

START_TEST(text_is_cut_at_the_end_of_a_character)
{
    struct text cut = text_cut(text_of(cuts[_i].text), cuts[_i].most);
    ck_assert_msg(text_equal(cut, text_of(cuts[_i].cut)), "%s", cuts[_i].text);
}
END_TEST

START_TEST(a_bad_byte_is_found_wherever_it_stands)
{
    char bytes[24];
    for (size_t at = 0; at < sizeof(bytes); at++) {
        memset(bytes, 'x', sizeof(bytes));
        ck_assert(text_is_clean_utf8((struct text){bytes, sizeof(bytes)}));
        bytes[at] = (char)(at % 2 ? 0x7f : 0x1f);
        ck_assert(!text_is_clean_utf8((struct text){bytes, sizeof(bytes)}));
        ck_assert(text_is_clean_utf8((struct text){bytes, at}));
    }
}
END_TEST

START_TEST(texts_are_equal_byte_by_byte)
{
    ck_assert(text_equal(TEXT("abc"), TEXT("abc")));
    ck_assert(!text_equal(TEXT("abc"), TEXT("abd")));
    ck_assert(!text_equal(TEXT("abc"), TEXT("ab")));
    ck_assert(text_equal(TEXT(""), (struct text){0}));
    ck_assert_ptr_null(text_of(NULL).data);
    ck_assert_uint_eq(text_of("four").length, 4);
}
END_TEST

static const struct {
    struct text text;
    int64_t minimum;
    int64_t maximum;
    bool ok;
    int64_t value;
} numbers[] = {
    {BYTES("0"), 0, 10, true, 0},
    {BYTES("10"), 0, 10, true, 10},
    {BYTES("11"), 0, 10, false, 0},
    {BYTES("-1"), 0, 10, false, 0},
    {BYTES("-5"), -5, 5, true, -5},
    {BYTES("007"), 0, 10, true, 7},
    {BYTES("9223372036854775807"), INT64_MIN, INT64_MAX, true, INT64_MAX},
    {BYTES("9223372036854775808"), INT64_MIN, INT64_MAX, false, 0},
    {BYTES("-9223372036854775808"), INT64_MIN, INT64_MAX, true, INT64_MIN},
    {BYTES("-9223372036854775809"), INT64_MIN, INT64_MAX, false, 0},
    {BYTES("99999999999999999999999"), INT64_MIN, INT64_MAX, false, 0},
    {BYTES(""), INT64_MIN, INT64_MAX, false, 0},
    {BYTES("-"), INT64_MIN, INT64_MAX, false, 0},
    {BYTES("+1"), INT64_MIN, INT64_MAX, false, 0},
    {BYTES(" 1"), INT64_MIN, INT64_MAX, false, 0},
    {BYTES("1 "), INT64_MIN, INT64_MAX, false, 0},
    {BYTES("1x"), INT64_MIN, INT64_MAX, false, 0},
    {BYTES("0x1"), INT64_MIN, INT64_MAX, false, 0},
    {BYTES("1\0"), INT64_MIN, INT64_MAX, false, 0},
};

START_TEST(numbers_are_read_whole_or_not_at_all)
{
    int64_t value = 4711;
    bool ok = text_to_int(numbers[_i].text, numbers[_i].minimum, numbers[_i].maximum, &value);
    ck_assert_int_eq(ok, numbers[_i].ok);
    ck_assert_int_eq(value, ok ? numbers[_i].value : 4711);
}
END_TEST

static void assert_content(const struct buffer *buffer, const char *expected)
{
    ck_assert_uint_eq(buffer->length, strlen(expected));
    ck_assert_mem_eq(buffer->data, expected, buffer->length);
}

START_TEST(a_buffer_grows_and_keeps_its_content)
{
    struct buffer buffer = {0};
    for (int i = 0; i < 10000; i++)
        buffer_add_char(&buffer, (char)('a' + i % 26));
    ck_assert_uint_eq(buffer.length, 10000);
    for (size_t i = 0; i < buffer.length; i++)
        ck_assert_int_eq(buffer.data[i], (char)('a' + i % 26));
    buffer_free(&buffer);
    ck_assert_ptr_null(buffer.data);
    ck_assert_uint_eq(buffer.capacity, 0);
}
END_TEST

START_TEST(a_buffer_takes_every_kind_of_text)
{
    struct buffer buffer = {0};
    buffer_add_literal(&buffer, "one ");
    buffer_add_text(&buffer, TEXT("two "));
    buffer_add_text(&buffer, (struct text){0});
    buffer_addf(&buffer, "%s %d ", "three", 4);
    buffer_add_int(&buffer, 5);
    assert_content(&buffer, "one two three 4 5");
    ck_assert(text_equal(buffer_text(&buffer), TEXT("one two three 4 5")));
    buffer_free(&buffer);
}
END_TEST

START_TEST(formatted_text_may_be_longer_than_the_room_left)
{
    char large[3000];
    memset(large, 'x', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    struct buffer buffer = {0};
    buffer_addf(&buffer, "<%s>", large);
    ck_assert_uint_eq(buffer.length, sizeof(large) + 1);
    ck_assert_int_eq(buffer.data[0], '<');
    ck_assert_int_eq(buffer.data[buffer.length - 1], '>');
    buffer_free(&buffer);
}
END_TEST

static const int64_t integers[] = {0,    1,    -1,    9,     10,          99,        100,
                                   1005, 1050, 10009, 90100, -1234567890, INT64_MAX, INT64_MIN};

START_TEST(integers_print_like_printf)
{
    char expected[32];
    struct buffer buffer = {0};
    snprintf(expected, sizeof(expected), "%" PRId64, integers[_i]);
    buffer_add_int(&buffer, integers[_i]);
    assert_content(&buffer, expected);
    buffer_free(&buffer);
}
END_TEST

START_TEST(hexadecimal_goes_there_and_back)
{
    const unsigned char bytes[] = {0x00, 0x01, 0x7f, 0x80, 0xab, 0xff};
    char hex[12];
    unsigned char back[6];
    text_to_hex(hex, bytes, sizeof(bytes));
    ck_assert_mem_eq(hex, "00017f80abff", sizeof(hex));
    ck_assert(text_from_hex(back, sizeof(back), (struct text){hex, sizeof(hex)}));
    ck_assert_mem_eq(back, bytes, sizeof(bytes));
    ck_assert(text_from_hex(back, 2, TEXT("AbFf")));
    ck_assert_mem_eq(back, "\xab\xff", 2);
}
END_TEST

START_TEST(other_text_is_not_hexadecimal)
{
    unsigned char back[8];
    ck_assert(!text_from_hex(back, 2, TEXT("abc")));
    ck_assert(!text_from_hex(back, 2, TEXT("abcde")));
    ck_assert(!text_from_hex(back, 2, TEXT("abcdef")));
    ck_assert(!text_from_hex(back, 2, TEXT("abcg")));
    ck_assert(!text_from_hex(back, 2, TEXT(" abc")));
    ck_assert(!text_from_hex(back, 2, TEXT("ab\0c")));
    ck_assert(text_from_hex(back, 0, TEXT("")));
}
END_TEST

/* RFC 4648 section 10, and bytes whose digits differ between base64 and base64url. */
static const struct {
    struct text bytes;
    struct text encoded;
} encodings[] = {
    {BYTES(""), BYTES("")},
    {BYTES("f"), BYTES("Zg")},
    {BYTES("fo"), BYTES("Zm8")},
    {BYTES("foo"), BYTES("Zm9v")},
    {BYTES("foob"), BYTES("Zm9vYg")},
    {BYTES("fooba"), BYTES("Zm9vYmE")},
    {BYTES("foobar"), BYTES("Zm9vYmFy")},
    {BYTES("\xfb\xff\xbf"), BYTES("-_-_")},
    {BYTES("\x00\x00"), BYTES("AAA")},
};

START_TEST(base64url_follows_the_rfc)
{
    char encoded[16];
    unsigned char back[16];
    struct text bytes = encodings[_i].bytes;
    size_t length = text_to_base64url(encoded, bytes.data, bytes.length);
    ck_assert(text_equal((struct text){encoded, length}, encodings[_i].encoded));
    ck_assert_uint_eq(length, (bytes.length * 4 + 2) / 3);
    ck_assert(text_from_base64url(back, bytes.length, encodings[_i].encoded));
    ck_assert(text_equal((struct text){(char *)back, bytes.length}, bytes));
}
END_TEST

/* The same digits but for the last two, and padded to fours. */
START_TEST(base64_follows_the_rfc)
{
    char encoded[16], expected[16];
    struct text bytes = encodings[_i].bytes, url = encodings[_i].encoded;
    size_t length = 0;
    for (; length < url.length; length++) {
        char digit = url.data[length];
        expected[length] = (char)(digit == '-' ? '+' : digit == '_' ? '/' : digit);
    }
    while (length % 4 != 0)
        expected[length++] = '=';
    ck_assert_uint_eq(text_to_base64(encoded, bytes.data, bytes.length), length);
    ck_assert_mem_eq(encoded, expected, length);
}
END_TEST

START_TEST(base64url_of_any_bytes_comes_back)
{
    unsigned char bytes[64] = {0};
    unsigned char back[64];
    char encoded[96];
    unsigned state = 1;
    for (size_t length = 0; length <= sizeof(bytes); length++) {
        for (size_t i = 0; i < length; i++) {
            state = state * 1103515245U + 12345U;
            bytes[i] = (unsigned char)(state >> 16);
        }
        size_t digits = text_to_base64url(encoded, bytes, length);
        ck_assert(text_from_base64url(back, length, (struct text){encoded, digits}));
        ck_assert(memcmp(back, bytes, length) == 0);
    }
}
END_TEST

/* Two bytes take 18 bits of digits: the last two must be zero, which 16 of 64 digits have. */
START_TEST(each_value_has_one_base64url_spelling)
{
    unsigned char back[4];
    ck_assert(text_from_base64url(back, 1, TEXT("Zg")));
    ck_assert(!text_from_base64url(back, 1, TEXT("Zh")));
    ck_assert(!text_from_base64url(back, 2, TEXT("Zm9")));
    int decodable = 0;
    for (int byte = 0; byte < 256; byte++) {
        char spelling[] = {'Z', 'm', (char)byte};
        decodable += text_from_base64url(back, 2, (struct text){spelling, 3});
    }
    ck_assert_int_eq(decodable, 16);
}
END_TEST

static const struct text not_base64url[] = {
    BYTES("Zm9"),  BYTES("Zm9vY"), BYTES("Zm9v="), BYTES("Zm9="),    BYTES("Zm9 "),
    BYTES("Zm+v"), BYTES("Zm/v"),  BYTES("Zm\0v"), BYTES("Zm\xffv"), BYTES(""),
};

START_TEST(other_text_is_not_base64url)
{
    unsigned char back[3];
    ck_assert(!text_from_base64url(back, sizeof(back), not_base64url[_i]));
}
END_TEST

#define LENGTH(table) ((int)(sizeof(table) / sizeof((table)[0])))

START_TEST(blanks_and_tabs_are_trimmed_at_both_ends)
{
    ck_assert(text_equal(text_trim(TEXT(" \ta b\t ")), TEXT("a b")));
    ck_assert(text_equal(text_trim(TEXT("a")), TEXT("a")));
    ck_assert(text_equal(text_trim(TEXT("\ra\n")), TEXT("\ra\n")));
    ck_assert_uint_eq(text_trim(TEXT(" \t ")).length, 0);
    ck_assert_uint_eq(text_trim((struct text){0}).length, 0);
}
END_TEST

START_TEST(words_have_numbers)
{
    static const char words[] = "off|log|logs";
    ck_assert_int_eq(text_word_find(words, TEXT("off")), 0);
    ck_assert_int_eq(text_word_find(words, TEXT("log")), 1);
    ck_assert_int_eq(text_word_find(words, TEXT("logs")), 2);
    ck_assert_int_eq(text_word_find(words, TEXT("log|logs")), -1);
    ck_assert_int_eq(text_word_find(words, TEXT("lo")), -1);
    ck_assert_int_eq(text_word_find(words, TEXT("")), -1);
    ck_assert(text_equal(text_word_at(words, 0), TEXT("off")));
    ck_assert(text_equal(text_word_at(words, 2), TEXT("logs")));
    ck_assert_ptr_null(text_word_at(words, 3).data);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("text");
    TCase *characters = tcase_create("characters");
    tcase_add_loop_test(characters, clean_text_is_accepted, 0, LENGTH(clean));
    tcase_add_loop_test(characters, controls_and_malformed_utf8_are_refused, 0, LENGTH(unclean));
    tcase_add_loop_test(characters, text_is_cut_at_the_end_of_a_character, 0, LENGTH(cuts));
    tcase_add_test(characters, a_bad_byte_is_found_wherever_it_stands);
    tcase_add_test(characters, texts_are_equal_byte_by_byte);
    tcase_add_loop_test(characters, numbers_are_read_whole_or_not_at_all, 0, LENGTH(numbers));
    tcase_add_test(characters, blanks_and_tabs_are_trimmed_at_both_ends);
    tcase_add_test(characters, words_have_numbers);
    suite_add_tcase(suite, characters);
    TCase *buffers = tcase_create("buffers");
    tcase_add_test(buffers, a_buffer_grows_and_keeps_its_content);
    tcase_add_test(buffers, a_buffer_takes_every_kind_of_text);
    tcase_add_test(buffers, formatted_text_may_be_longer_than_the_room_left);
    tcase_add_loop_test(buffers, integers_print_like_printf, 0, LENGTH(integers));
    suite_add_tcase(suite, buffers);
    TCase *codes = tcase_create("encodings");
    tcase_add_test(codes, hexadecimal_goes_there_and_back);
    tcase_add_test(codes, other_text_is_not_hexadecimal);
    tcase_add_loop_test(codes, base64url_follows_the_rfc, 0, LENGTH(encodings));
    tcase_add_loop_test(codes, base64_follows_the_rfc, 0, LENGTH(encodings));
    tcase_add_test(codes, base64url_of_any_bytes_comes_back);
    tcase_add_test(codes, each_value_has_one_base64url_spelling);
    tcase_add_loop_test(codes, other_text_is_not_base64url, 0, LENGTH(not_base64url));
    suite_add_tcase(suite, codes);
    return suite;
}

int main(void)
{
    return support_run(suite());
}
