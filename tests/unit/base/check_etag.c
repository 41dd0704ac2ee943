/* Entity tags, If-Match and If-None-Match. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "etag.h"

#include "support_keys.h"
#include "support_run.h"

#define OURS "\"0123456789abcdef\""

static const struct condition {
    const char *tags;
    bool well_formed;
    bool holds; /* as If-Match */
    bool known; /* as If-None-Match */
} conditions[] = {
    {"*", true, true, true},
    {OURS, true, true, true},
    {"  " OURS "\t", true, true, true},
    {"\"other\", " OURS, true, true, true},
    {"\"other\"," OURS ",\"third\"", true, true, true},
    {",, " OURS " ,", true, true, true},
    {"\"with,comma\", " OURS, true, true, true},
    {"\"\"", true, false, false},
    {"\"other\"", true, false, false},
    {"W/" OURS, true, false, true},
    {"\"other\", W/" OURS, true, false, true},
    {"W/\"other\"", true, false, false},
    {"W/" OURS ", " OURS, true, true, true},
    {"\"0123456789abcde\"", true, false, false},
    {"", false, false, false},
    {" , ", false, false, false},
    {"0123456789abcdef", false, false, false},
    {"\"0123456789abcdef", false, false, false},
    {OURS "x", false, false, false},
    {"\"a\"" OURS, false, false, false},
    {"*, " OURS, false, false, false},
    {"\"with blank \"", false, false, false},
    {"w/" OURS, false, false, false},
    {"W/", false, false, false},
    {"\"", false, false, false},
};

START_TEST(a_condition_is_read_as_the_standard_says)
{
    const struct condition *row = &conditions[_i];
    struct arena arena = {0};
    struct etag_list list;
    ck_assert_msg(etag_read(text_of(row->tags), &arena, &list) == row->well_formed, "%s",
                  row->tags);
    if (row->well_formed) {
        ck_assert_msg(etag_holds(&list, OURS) == row->holds, "%s", row->tags);
        ck_assert_msg(etag_is_known(&list, OURS) == row->known, "%s", row->tags);
        ck_assert_msg(etag_has_weak(&list) == (strstr(row->tags, "W/") != NULL), "%s", row->tags);
    }
    arena_free(&arena);
}
END_TEST

START_TEST(without_a_condition_anything_holds_and_nothing_is_known)
{
    struct arena arena = {0};
    struct etag_list list;
    ck_assert(etag_read((struct text){0}, &arena, &list) && !list.given);
    ck_assert(etag_holds(&list, OURS));
    ck_assert(!etag_is_known(&list, OURS));
    ck_assert(!etag_has_weak(&list));
}
END_TEST

START_TEST(a_tag_is_of_its_content_and_is_itself_a_condition)
{
    struct keyring *ring = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1);
    struct keyring *rotated = support_keyring(SUPPORT_NAMES SUPPORT_KEY_2);
    const struct text one[] = {TEXT("session"), TEXT("{\"a\":1}")};
    const struct text two[] = {TEXT("session"), TEXT("{\"a\":2}")};
    char tag[ETAG_LENGTH], again[ETAG_LENGTH], other[ETAG_LENGTH];
    etag_print(ring, one, 2, tag);
    etag_print(rotated, one, 2, again);
    etag_print(ring, two, 2, other);
    ck_assert_mem_eq(tag, again, ETAG_LENGTH);
    ck_assert_mem_ne(tag, other, ETAG_LENGTH);
    struct arena arena = {0};
    struct etag_list condition;
    ck_assert(etag_read((struct text){tag, ETAG_LENGTH}, &arena, &condition));
    ck_assert(etag_holds(&condition, tag));
    ck_assert(!etag_holds(&condition, other));
    arena_free(&arena);
    keyring_unref(&ring);
    keyring_unref(&rotated);
}
END_TEST

static Suite *make_suite(void)
{
    Suite *suite = suite_create("etag");
    TCase *all = tcase_create("all");
    tcase_add_loop_test(all, a_condition_is_read_as_the_standard_says, 0,
                        sizeof(conditions) / sizeof(conditions[0]));
    tcase_add_test(all, without_a_condition_anything_holds_and_nothing_is_known);
    tcase_add_test(all, a_tag_is_of_its_content_and_is_itself_a_condition);
    suite_add_tcase(suite, all);
    return suite;
}

int main(void)
{
    return support_run(make_suite());
}
