/* The granters of roles: written, found, and not found in broken bytes. */
#include "session/model/grants.h"

#include <check.h>

#include "memory.h"
#include "support_run.h"

START_TEST(each_role_has_its_granter)
{
    struct buffer items = {0};
    ck_assert(grants_add(&items, TEXT("admin"), TEXT("key:ops")));
    ck_assert(grants_add(&items, TEXT("audit"), TEXT("user:acme/alice")));
    struct text all = buffer_text(&items);
    ck_assert(text_equal(grants_find(all, TEXT("admin")), TEXT("key:ops")));
    ck_assert(text_equal(grants_find(all, TEXT("audit")), TEXT("user:acme/alice")));
    ck_assert_ptr_null(grants_find(all, TEXT("admi")).data);
    ck_assert_ptr_null(grants_find((struct text){0}, TEXT("admin")).data);
    for (size_t length = 1; length < all.length; length++)
        ck_assert_ptr_null(grants_find((struct text){all.data, length}, TEXT("audit")).data);
    ck_assert(!grants_add(&items, TEXT(""), TEXT("key:ops")));
    ck_assert(!grants_add(&items, TEXT("admin"), (struct text){0}));
    ck_assert_uint_eq(items.length, all.length);
    buffer_free(&items);
}
END_TEST

int main(void)
{
    TCase *all = tcase_create("grants");
    tcase_add_test(all, each_role_has_its_granter);
    Suite *suite = suite_create("grants");
    suite_add_tcase(suite, all);
    return support_run(suite);
}
