/* The short spelling: everything comes back, hostile bytes too, and what callers send gets short.
 */
#include "session/model/dictionary.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "support_keys.h"
#include "support_run.h"

static struct arena arena;
static struct buffer packed;

static void teardown(void)
{
    buffer_free(&packed);
    arena_free(&arena);
}

static bool comes_back(struct text text)
{
    struct text unpacked;
    packed.length = 0;
    dictionary_pack(&packed, text);
    ck_assert(dictionary_unpack(&arena, buffer_text(&packed), 100000, &unpacked));
    return text_equal(unpacked, text);
}

struct sample {
    const char *text;
    size_t length; /* packed */
};

static const struct sample samples[] = {
    {"", 0},
    {"plain", 5},
    {"\"tenant\":\"default\",\"user_id\":\"alice\",\"roles\":[\"buyer\",\"vip\"],"
     "\"device\":{\"id\":\"d-1\",\"type\":\"phone\",\"name\":\"Phone\"}",
     33},
    {"\"tenant\":\"acme\",\"user_id\":\"u\",\"roles\":[],\"device\":{}", 9},
    {"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
     "Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
     17},
    {"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
     "Chrome/126.0.0.0 Safari/537.36",
     7},
    {"\x01\x1e\x1f\n", 8},
};

START_TEST(texts_come_back_and_get_as_short_as_they_should)
{
    ck_assert(comes_back(text_of(samples[_i].text)));
    ck_assert_uint_eq(packed.length, samples[_i].length);
}
END_TEST

START_TEST(every_byte_comes_back)
{
    char bytes[256];
    for (int i = 0; i < 256; i++)
        bytes[i] = (char)i;
    ck_assert(comes_back((struct text){bytes, sizeof(bytes)}));
}
END_TEST

START_TEST(what_is_no_spelling_is_refused)
{
    struct text unpacked;
    ck_assert(!dictionary_unpack(&arena, (struct text){"a\0", 2}, 100, &unpacked));
    ck_assert(!dictionary_unpack(&arena, TEXT("a\x1f"), 100, &unpacked));
    ck_assert(dictionary_unpack(&arena, TEXT("\x0f"), 13, &unpacked));
    ck_assert(!dictionary_unpack(&arena, TEXT("\x0f"), 12, &unpacked));
    ck_assert_ptr_null(unpacked.data);
}
END_TEST

START_TEST(random_bytes_unpack_within_their_bound_or_not_at_all)
{
    uint64_t state = 7;
    char bytes[64];
    for (int i = 0; i < 100000; i++) {
        struct text unpacked;
        size_t length = support_next(&state) % sizeof(bytes);
        for (size_t j = 0; j < length; j++)
            bytes[j] = (char)(support_next(&state) % 40);
        if (dictionary_unpack(&arena, (struct text){bytes, length}, 300, &unpacked))
            ck_assert_uint_le(unpacked.length, 300);
        if (i % 100 == 0)
            arena_reset(&arena);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dictionary");
    TCase *spelling = tcase_create("spelling");
    tcase_add_checked_fixture(spelling, NULL, teardown);
    tcase_add_loop_test(spelling, texts_come_back_and_get_as_short_as_they_should, 0,
                        (int)(sizeof(samples) / sizeof(samples[0])));
    tcase_add_test(spelling, every_byte_comes_back);
    tcase_add_test(spelling, what_is_no_spelling_is_refused);
    tcase_add_test(spelling, random_bytes_unpack_within_their_bound_or_not_at_all);
    suite_add_tcase(suite, spelling);
    return support_run(suite);
}
