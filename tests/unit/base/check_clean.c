/* Texts that decorate: what is cleaned, and how; secrets where none should be. */
#include "clean.h"
#include "credential.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "support_run.h"

/* As many as a token and a key have after their prefix, and one less than is taken for either. */
#define DIGITS_43 "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_AbCdE"
#define DIGITS_60 DIGITS_43 "fGhIjKlMnOpQrStUv"
#define DIGITS_39 "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_A"

static struct arena arena;

static void end_arena(void)
{
    arena_free(&arena);
}

static void assert_clean(struct text given, size_t most, struct text expected)
{
    struct text clean = clean_text(given, most, &arena);
    ck_assert_msg(text_equal(clean, expected), "\"%.*s\" became \"%.*s\", not \"%.*s\"",
                  (int)given.length, given.data, (int)clean.length, clean.data,
                  (int)expected.length, expected.data);
    ck_assert(text_is_clean_utf8(clean));
    ck_assert(clean.length > 0 || clean.data == NULL);
}

static const struct {
    struct text given, expected;
} cases[] = {
    {TEXT("Mozilla/5.0 (X11)"), TEXT("Mozilla/5.0 (X11)")},
    {TEXT("  two blanks  "), TEXT("  two blanks  ")}, /* nothing to clean: as it came */
    {TEXT("a\tb"), TEXT("a b")},
    {TEXT("a\r\n\tb"), TEXT("a b")},
    {TEXT("\ta\n"), TEXT("a")},
    {TEXT("a\x7f b"), TEXT("a  b")},
    {TEXT("a\xc2\x85z"), TEXT("a z")}, /* NEL, of C1 */
    {TEXT("a\0z"), TEXT("a z")},
    {TEXT("\t\x01\x7f"), {NULL, 0}},
    {TEXT(""), {NULL, 0}},
    {{NULL, 0}, {NULL, 0}},
    {TEXT("J\xfcrgen"), TEXT("J\xc3\xbcrgen")},               /* ISO 8859-1 */
    {TEXT("J\xc3\xbcrgen"), TEXT("J\xc3\xbcrgen")},           /* UTF-8 */
    {TEXT("J\xc3\xbcrg\xe9"), TEXT("J\xc3\xbcrg\xc3\xa9")},   /* both */
    {TEXT("a\x85z"), TEXT("a z")},                            /* C1 of ISO 8859-1 */
    {TEXT("\xed\xa0\xbd"), TEXT("\xc3\xad\xc2\xa0\xc2\xbd")}, /* half a surrogate pair */
    {TEXT("cut \xe2\x82"), TEXT("cut \xc3\xa2")},
    {TEXT("sa_" DIGITS_60), TEXT("sa_[redacted]")},
    {TEXT("sk_" DIGITS_43), TEXT("sk_[redacted]")},
    {TEXT("Bearer sr_" DIGITS_60 "; x"), TEXT("Bearer sr_[redacted]; x")},
    {TEXT("sc_" DIGITS_60 ",sa_" DIGITS_60), TEXT("sc_[redacted],sa_[redacted]")},
    {TEXT("token=sa_" DIGITS_43), TEXT("token=sa_[redacted]")}, /* its end is missing */
    {TEXT("\tsa_" DIGITS_60 "\n"), TEXT("sa_[redacted]")},
    {TEXT("sa_" DIGITS_39), TEXT("sa_" DIGITS_39)}, /* a word */
    {TEXT("sb_" DIGITS_60), TEXT("sb_" DIGITS_60)},
};

START_TEST(what_decorates_is_cleaned)
{
    assert_clean(cases[_i].given, 512, cases[_i].expected);
}
END_TEST

START_TEST(what_is_good_is_not_copied)
{
    struct text given = TEXT("plain");
    ck_assert_ptr_eq(clean_text(given, 512, &arena).data, given.data);
}
END_TEST

START_TEST(what_is_too_long_is_cut_between_characters)
{
    assert_clean(TEXT("abcdef"), 4, TEXT("abcd"));
    assert_clean(TEXT("abc\xc3\xbc"), 4, TEXT("abc"));
    assert_clean(TEXT("ab\xfc\xfc"), 5, TEXT("ab\xc3\xbc")); /* longer as UTF-8 */
    assert_clean(TEXT("\t\t\tabcd"), 4, TEXT("abcd"));
}
END_TEST

START_TEST(what_is_cut_leaves_no_half_of_a_secret)
{
    assert_clean(TEXT("12345678 sa_" DIGITS_60), 40, TEXT("12345678 sa_[redacted]"));
}
END_TEST

START_TEST(an_id_that_begins_with_a_credential_is_known)
{
    ck_assert(credential_begins(TEXT("sa_" DIGITS_60)));
    ck_assert(credential_begins(TEXT("sk_" DIGITS_43 "...")));
    ck_assert(!credential_begins(TEXT("visa_" DIGITS_60)));
    ck_assert(!credential_begins(TEXT("Bearer sa_" DIGITS_60)));
    ck_assert(!credential_begins(TEXT("sa_0123456789abcdef0123456789abcdef"))); /* a UUID */
    ck_assert(!credential_begins(TEXT("_")));
    ck_assert(!credential_begins(TEXT("a_" DIGITS_60)));
    ck_assert(!credential_begins((struct text){0}));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("clean");
    TCase *texts = tcase_create("texts");
    tcase_add_checked_fixture(texts, NULL, end_arena);
    tcase_add_loop_test(texts, what_decorates_is_cleaned, 0, sizeof(cases) / sizeof(cases[0]));
    tcase_add_test(texts, what_is_good_is_not_copied);
    tcase_add_test(texts, what_is_too_long_is_cut_between_characters);
    tcase_add_test(texts, what_is_cut_leaves_no_half_of_a_secret);
    tcase_add_test(texts, an_id_that_begins_with_a_credential_is_known);
    suite_add_tcase(suite, texts);
    return support_run(suite);
}
