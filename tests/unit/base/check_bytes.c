/* Numbers as bytes, and the cursor that reads them back. */
#include <check.h>

#include "bytes.h"

#include "support_run.h"

START_TEST(numbers_are_big_endian_and_come_back)
{
    uint8_t out[8];
    for (size_t width = 1; width <= sizeof(out); width++) {
        uint64_t most = width == 8 ? UINT64_MAX : (UINT64_C(1) << (8 * width)) - 1;
        bytes_put(out, most - 1, width);
        ck_assert_uint_eq(bytes_get(out, width), most - 1);
        ck_assert_uint_eq(out[width - 1], 0xfe);
    }
    bytes_put(out, 0x0102030405, 5);
    ck_assert_mem_eq(out, "\x01\x02\x03\x04\x05", 5);
    bytes_put(out, 0x010203, 2); /* the front is cut off */
    ck_assert_mem_eq(out, "\x02\x03\x03", 3);
    ck_assert_uint_eq(bytes_get(out, 0), 0);
}
END_TEST

START_TEST(added_numbers_follow_each_other)
{
    struct buffer out = {0};
    for (unsigned i = 0; i < 1000; i++)
        bytes_add(&out, i, 2);
    ck_assert_uint_eq(out.length, 2000);
    for (unsigned i = 0; i < 1000; i++)
        ck_assert_uint_eq(bytes_get(out.data + 2 * (size_t)i, 2), i);
    buffer_free(&out);
}
END_TEST

START_TEST(a_cursor_takes_what_is_there)
{
    struct cursor cursor = {"\x01\x02"
                            "abc"
                            "\x07",
                            6, false};
    char copy[3];
    ck_assert_uint_eq(bytes_number(&cursor, 2), 0x0102);
    ck_assert_uint_eq(bytes_take(&cursor, 0).length, 0);
    bytes_copy(&cursor, copy, 3);
    ck_assert_mem_eq(copy, "abc", 3);
    ck_assert_uint_eq(bytes_number(&cursor, 1), 7);
    ck_assert(!cursor.broken && cursor.left == 0);
}
END_TEST

START_TEST(a_cursor_that_asked_for_too_much_gives_nothing_more)
{
    struct cursor cursor = {"abcdef", 6, false};
    char copy[8] = "same";
    bytes_copy(&cursor, copy, 7);
    ck_assert(cursor.broken);
    ck_assert_str_eq(copy, "same");
    ck_assert_ptr_null(bytes_take(&cursor, 1).data);
    ck_assert_uint_eq(bytes_number(&cursor, 1), 0);
    bytes_copy(&cursor, copy, 1);
    ck_assert_str_eq(copy, "same");
    ck_assert_uint_eq(cursor.left, 6);
}
END_TEST

START_TEST(a_number_that_is_cut_off_is_none)
{
    struct cursor cursor = {"\xff\xff\xff", 3, false};
    ck_assert_uint_eq(bytes_number(&cursor, 4), 0);
    ck_assert(cursor.broken);
}
END_TEST

static Suite *make_suite(void)
{
    Suite *suite = suite_create("bytes");
    TCase *all = tcase_create("all");
    tcase_add_test(all, numbers_are_big_endian_and_come_back);
    tcase_add_test(all, added_numbers_follow_each_other);
    tcase_add_test(all, a_cursor_takes_what_is_there);
    tcase_add_test(all, a_cursor_that_asked_for_too_much_gives_nothing_more);
    tcase_add_test(all, a_number_that_is_cut_off_is_none);
    suite_add_tcase(suite, all);
    return suite;
}

int main(void)
{
    return support_run(make_suite());
}
