/* Tenant and user id, read back out of the members that a session shows. */
#include "record.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "support_run.h"

#define SESSION_JSON \
    "\"tenant\":\"acme\",\"user_id\":\"alice\",\"roles\":[\"admin\"],\"device\":{\"id\":\"d1\"}"

static void assert_texts(struct text a, struct text b)
{
    ck_assert_msg(text_equal(a, b), "'%.*s' is not '%.*s'", (int)a.length, a.data, (int)b.length,
                  b.data);
    ck_assert(a.data != NULL || b.data == NULL);
}

static const struct {
    const char *shown;
    const char *tenant;
    const char *user_id;
} identities[] = {
    {SESSION_JSON, "acme", "alice"},
    {"\"tenant\":\"a\",\"user_id\":\"b\"", "a", "b"},
    {"\"tenant\":\"a\",\"user_id\":\"q\\\"u\\\\o\\/te\"", "a", "q\"u\\o/te"},
    {"\"tenant\":\"a\",\"user_id\":\"\\b\\f\\n\\r\\t\"", "a", "\b\f\n\r\t"},
    {"\"tenant\":\"a\",\"user_id\":\"\\u0041\\u00e9\\u20ac\\ud83d\\ude00\"", "a", "Aé€😀"},
    {"\"tenant\":\"a\",\"user_id\":\"日本\"", "a", "日本"},
    {"", NULL, NULL},
    {"\"tenant\":\"a\"", NULL, NULL},
    {"\"tenant\":\"a\",\"user_id\":\"b", NULL, NULL},
    {"\"tenant\":\"a\",\"user_id\":\"b\\", NULL, NULL},
    {"\"tenant\":\"a\",\"user_id\":\"\\x\"", NULL, NULL},
    {"\"tenant\":\"a\",\"user_id\":\"\\u12\"", NULL, NULL},
    {"\"tenant\":\"a\",\"user_id\":\"\\u12", NULL, NULL},
    {"\"tenant\":\"a\",\"user_id\":\"\\ud83d\"", NULL, NULL},
    {"\"tenant\":\"a\",\"user_id\":\"\\ud83d\\u0041\"", NULL, NULL},
    {"\"tenant\":\"a\",\"user_id\":\"\\ude00\"", NULL, NULL},
    {"\"tenant\":1,\"user_id\":\"b\"", NULL, NULL},
    {"\"user_id\":\"b\",\"tenant\":\"a\"", NULL, NULL},
};

START_TEST(tenant_and_user_id_come_out_of_the_shown_members)
{
    /* A copy without NUL: reading past the end shows under the address sanitizer. */
    size_t length = strlen(identities[_i].shown);
    char *copy = malloc(length + 1);
    memcpy(copy, identities[_i].shown, length);
    struct arena arena = {0};
    struct text shown = {length > 0 ? copy : NULL, length};
    struct names names = record_identity(shown, &arena);
    assert_texts(names.tenant, text_of(identities[_i].tenant));
    assert_texts(names.user_id, text_of(identities[_i].user_id));
    arena_free(&arena);
    free(copy);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("record identity");
    TCase *identity = tcase_create("identity");
    tcase_add_loop_test(identity, tenant_and_user_id_come_out_of_the_shown_members, 0,
                        (int)(sizeof(identities) / sizeof(identities[0])));
    suite_add_tcase(suite, identity);
    return support_run(suite);
}
