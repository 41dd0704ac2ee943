/* Wrong codes of a user. */
#include "session/model/guesses.h"

#include <check.h>
#include <stdlib.h>

#include "support_run.h"

static const int64_t now_s = 1700000000;

START_TEST(they_are_counted_for_an_hour)
{
    struct guesses guesses = {0};
    for (int i = 1; i < GUESSES_MAX; i++)
        guesses_note(&guesses, now_s + i);
    ck_assert_int_eq(guesses_closed_s(&guesses, now_s + 100), 0);
    guesses_note(&guesses, now_s + 100);
    ck_assert_int_eq(guesses.count, GUESSES_MAX);
    ck_assert_int_eq(guesses_closed_s(&guesses, now_s + 100), GUESSES_SECONDS - 99);
    ck_assert_int_eq(guesses_closed_s(&guesses, now_s + 1 + GUESSES_SECONDS), 0);
    ck_assert_int_eq(guesses_until_s(&guesses), now_s + 1 + GUESSES_SECONDS);
    guesses_note(&guesses, now_s + 1 + GUESSES_SECONDS);
    ck_assert_int_eq(guesses.count, 1);
}
END_TEST

/* A number that no clock wrote would lock the user out for ever. */
START_TEST(an_hour_that_begins_far_ahead_is_over)
{
    static const char *const texts[] = {"99 9223372036854775807", "99 1099511627776",
                                        "99 1099511627775"};
    for (size_t i = 0; i < 3; i++) {
        struct guesses guesses;
        guesses_read(text_of(texts[i]), &guesses);
        ck_assert_int_eq(guesses_closed_s(&guesses, now_s), 0);
        guesses_note(&guesses, now_s);
        ck_assert_int_eq(guesses.count, 1);
        ck_assert_int_eq(guesses.since_s, now_s);
    }
}
END_TEST

START_TEST(what_was_written_is_read)
{
    struct arena arena = {0};
    struct guesses guesses = {0}, again;
    ck_assert_int_eq(guesses_until_s(&guesses), 0);
    for (int i = 0; i < 300; i++)
        guesses_note(&guesses, now_s);
    struct text text = guesses_write(&guesses, &arena);
    ck_assert(text_equal(text, TEXT("300 1700000000")));
    guesses_read(text, &again);
    ck_assert_int_eq(again.count, 300);
    ck_assert_int_eq(again.since_s, now_s);
    arena_free(&arena);
}
END_TEST

static const char *const others[] = {
    "",    " ",    "1",      "1 ",           " 1",
    "0 5", "-1 5", "x 1700", "1 2 3",        "1  2",
    "1 x", "1 -1", "1\n2",   "3000000000 1", "1 9223372036854775807"};

START_TEST(other_texts_are_none)
{
    struct guesses guesses = {9, 9};
    guesses_read(text_of(others[_i]), &guesses);
    ck_assert_int_eq(guesses.count, 0);
    ck_assert_int_eq(guesses.since_s, 0);
}
END_TEST

int main(void)
{
    TCase *all = tcase_create("guesses");
    tcase_add_test(all, they_are_counted_for_an_hour);
    tcase_add_test(all, what_was_written_is_read);
    tcase_add_test(all, an_hour_that_begins_far_ahead_is_over);
    tcase_add_loop_test(all, other_texts_are_none, 0, sizeof(others) / sizeof(others[0]));
    Suite *suite = suite_create("guesses");
    suite_add_tcase(suite, all);
    return support_run(suite);
}
