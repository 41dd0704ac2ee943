/* Does an authentication meet a demand for recency or class? */
#include "session/model/strength.h"

#include <check.h>
#include <stdlib.h>

#include "support_run.h"

static const int64_t now_s = 1700000000;

/* The classes in their order, the weakest first. */
static char *const ordered[] = {"bronze", "silver", "gold"};
static const struct conf_list order = {(char **)ordered, 3}, no_order = {0};

static const struct age_row {
    int64_t auth_s, max_age_s;
    bool meets;
} age_rows[] = {
    {1700000000 - 300, 300, true},
    {1700000000 - 301, 300, false},
    {1700000000, 0, true},
    {1700000000 - 1, 0, false},
    {1, STRENGTH_MAX_AGE, true},
    {1700000000 + 1, 300, true}, /* clocks may be apart */
    {0, 300, false},
    {0, STRENGTH_MAX_AGE, false}, /* unknown is always too old */
    {0, -1, true},
    {1, -1, true},
};

START_TEST(an_authentication_is_recent_enough_or_not)
{
    const struct age_row *row = &age_rows[_i];
    const struct strength strength = {.auth_s = row->auth_s};
    const struct strength_demand demand = {.max_age_s = row->max_age_s};
    ck_assert_int_eq(strength_is_asked(&demand), row->max_age_s >= 0);
    ck_assert_int_eq(strength_meets(&order, &strength, &demand, now_s), row->meets);
}
END_TEST

static const struct class_row {
    const char *had, *wanted; /* NULL: unknown, not asked */
    bool ordered, unordered;  /* is it met with the order, and without one? */
} class_rows[] = {
    {"silver", "silver", true, true},
    {"gold", "silver", true, false},
    {"gold", "bronze", true, false},
    {"bronze", "silver", false, false},
    {NULL, "bronze", false, false}, /* unknown is always too weak */
    {NULL, NULL, true, true},
    {"gold", NULL, true, true},
    {"platinum", "bronze", false, false}, /* not in the order */
    {"gold", "platinum", false, false},
    {"platinum", "platinum", true, true},
    {"Gold", "gold", false, false},
    {"golden", "gold", false, false},
};

START_TEST(a_class_is_strong_enough_or_not)
{
    const struct class_row *row = &class_rows[_i];
    struct strength strength = {0};
    struct strength_demand demand = {.max_age_s = -1};
    if (row->had)
        strength.acr = text_of(row->had);
    if (row->wanted)
        demand.acr = text_of(row->wanted);
    ck_assert_int_eq(strength_is_asked(&demand), row->wanted != NULL);
    ck_assert_int_eq(strength_meets(&order, &strength, &demand, now_s), row->ordered);
    ck_assert_int_eq(strength_meets(&no_order, &strength, &demand, now_s), row->unordered);
}
END_TEST

START_TEST(a_demand_for_both_needs_both)
{
    const struct strength_demand both = {60, TEXT("gold")};
    const struct strength good = {now_s - 60, TEXT("gold")}, old = {now_s - 61, TEXT("gold")},
                          weak = {now_s, TEXT("silver")};
    ck_assert(strength_meets(&order, &good, &both, now_s));
    ck_assert(!strength_meets(&order, &old, &both, now_s));
    ck_assert(!strength_meets(&order, &weak, &both, now_s));
}
END_TEST

int main(void)
{
    TCase *all = tcase_create("strength");
    tcase_add_loop_test(all, an_authentication_is_recent_enough_or_not, 0,
                        sizeof(age_rows) / sizeof(age_rows[0]));
    tcase_add_loop_test(all, a_class_is_strong_enough_or_not, 0,
                        sizeof(class_rows) / sizeof(class_rows[0]));
    tcase_add_test(all, a_demand_for_both_needs_both);
    Suite *suite = suite_create("strength");
    suite_add_tcase(suite, all);
    return support_run(suite);
}
