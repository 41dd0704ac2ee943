/* Forms: each way in which a member may be written, missing or wrong. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "http/exchange/form.h"

#include "support_run.h"

struct sample {
    struct text token, hint, device;
};

static const struct form_field fields[] = {
    {"token", FORM_ANY, offsetof(struct sample, token), 0},
    {"hint", FORM_TEXT, offsetof(struct sample, hint), 8},
    {"device", FORM_DECORATION, offsetof(struct sample, device), 8},
};

static struct arena arena;

static bool read_form(const char *body, size_t length, struct sample *ret, struct text *detail)
{
    /* In memory of its own, so that a read beyond the end is seen. */
    char *copy = malloc(length + 1);
    memcpy(copy, body, length);
    *ret = (struct sample){0};
    *detail = (struct text){0};
    bool good = form_read((struct text){copy, length}, fields, sizeof(fields) / sizeof(fields[0]),
                          ret, &arena, detail);
    free(copy);
    return good;
}

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

static const struct {
    const char *body;
    const char *token, *hint, *device; /* NULL: absent */
} good[] = {
    {"token=a", "a", NULL, NULL},
    {"token=a&hint=b&device=c", "a", "b", "c"},
    {"device=c&hint=b&token=a", "a", "b", "c"},
    {"", NULL, NULL, NULL},
    {"&", NULL, NULL, NULL},
    {"&&token=a&&", "a", NULL, NULL},
    {"token", NULL, NULL, NULL},
    {"token=", NULL, NULL, NULL},
    {"token&hint=b", NULL, "b", NULL},
    {"=a", NULL, NULL, NULL},
    {"=", NULL, NULL, NULL},
    {"token=a=b==", "a=b==", NULL, NULL},
    {"token=a+b", "a b", NULL, NULL},
    {"token=a%2Bb%20c", "a+b c", NULL, NULL},
    {"token=%26%3d%25", "&=%", NULL, NULL},
    {"t%6fken=a", "a", NULL, NULL},
    {"token=a;hint=b", "a;hint=b", NULL, NULL}, /* a semicolon divides nothing */
    {"token=a%0a", "a\n", NULL, NULL},
    {"token=%ff", "\xff", NULL, NULL},
    {"hint=%c3%a9", NULL, "\xc3\xa9", NULL},
    {"hint=12345678", NULL, "12345678", NULL},
    {"device=1234567890", NULL, NULL, "12345678"},
    {"device=a%0ab", NULL, NULL, "a b"},
    {"device=%e9", NULL, NULL, "\xc3\xa9"},
    {"device=%0a", NULL, NULL, NULL},
    {"other=1&token=a&scope=x+y", "a", NULL, NULL},
    {"Token=a", NULL, NULL, NULL},
    {"token =a", NULL, NULL, NULL},
};

static void assert_value(struct text found, const char *wanted, const char *body)
{
    struct text expected = text_of(wanted);
    ck_assert_msg(text_equal(found, expected) && !found.data == !wanted, "%s: %.*s", body,
                  (int)found.length, found.data);
}

START_TEST(a_form_is_read_as_browsers_and_clients_write_it)
{
    struct sample sample;
    struct text detail;
    const char *body = good[_i].body;
    ck_assert_msg(read_form(body, strlen(body), &sample, &detail), "%s: %.*s", body,
                  (int)detail.length, detail.data);
    assert_value(sample.token, good[_i].token, body);
    assert_value(sample.hint, good[_i].hint, body);
    assert_value(sample.device, good[_i].device, body);
}
END_TEST

static const struct {
    const char *body, *detail;
} bad[] = {
    {"token=a&token=a", "\"token\" came twice"},
    {"token=&token=a", "\"token\" came twice"},
    {"token&token", "\"token\" came twice"},
    {"token=a&t%6Fken=b", "\"token\" came twice"},
    {"other=a&token=a&other=b", "\"other\" came twice"},
    {"token=%", "\"token\" has a broken percent-encoding"},
    {"token=%4", "\"token\" has a broken percent-encoding"},
    {"token=%4g", "\"token\" has a broken percent-encoding"},
    {"token=a&other=%zz", "\"other\" has a broken percent-encoding"},
    {"%zz=a", "\"?\" has a broken percent-encoding"},
    {"hint=%c3", "\"hint\" must be UTF-8 without control characters"},
    {"hint=a%00b", "\"hint\" must be UTF-8 without control characters"},
    {"hint=%7f", "\"hint\" must be UTF-8 without control characters"},
    {"hint=123456789", "\"hint\" may have at most 8 bytes"},
    {"sk_0123456789012345678901234567890123456789012=1&x=1&"
     "sk_0123456789012345678901234567890123456789012=2",
     "\"sk_[redacted]\" came twice"},
};

START_TEST(a_fault_is_refused_by_its_name_and_without_its_value)
{
    struct sample sample;
    struct text detail;
    const char *body = bad[_i].body;
    ck_assert_msg(!read_form(body, strlen(body), &sample, &detail), "%s", body);
    ck_assert_msg(text_equal(detail, text_of(bad[_i].detail)), "%s: %.*s", body, (int)detail.length,
                  detail.data);
}
END_TEST

START_TEST(a_form_has_so_many_members_and_no_more)
{
    struct sample sample;
    struct text detail;
    SCOPED(buffer_free) struct buffer body = {0};
    for (int i = 0; i < FORM_MEMBERS_MAX; i++)
        buffer_addf(&body, "m%d=%d&", i, i);
    ck_assert(read_form(body.data, body.length, &sample, &detail));
    buffer_add_literal(&body, "token=a");
    ck_assert(!read_form(body.data, body.length, &sample, &detail));
    ck_assert(text_equal(detail, TEXT("The form may have at most 64 members")));
}
END_TEST

START_TEST(a_nul_ends_nothing)
{
    static const char body[] = "token=a\0b&hint=c";
    struct sample sample;
    struct text detail;
    ck_assert(read_form(body, sizeof(body) - 1, &sample, &detail));
    ck_assert_uint_eq(sample.token.length, 3);
    ck_assert(text_equal(sample.hint, TEXT("c")));
}
END_TEST

static void reset_arena(void)
{
    arena_free(&arena);
}

int main(void)
{
    Suite *suite = suite_create("form");
    TCase *cases = tcase_create("form");
    tcase_add_checked_fixture(cases, NULL, reset_arena);
    tcase_add_loop_test(cases, a_form_is_read_as_browsers_and_clients_write_it, 0, ROWS(good));
    tcase_add_loop_test(cases, a_fault_is_refused_by_its_name_and_without_its_value, 0, ROWS(bad));
    tcase_add_test(cases, a_form_has_so_many_members_and_no_more);
    tcase_add_test(cases, a_nul_ends_nothing);
    suite_add_tcase(suite, cases);
    return support_run(suite);
}
