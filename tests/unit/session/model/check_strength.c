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
    const struct authentication strength = {.auth_s = row->auth_s};
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
    struct authentication strength = {0};
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
    const struct authentication good = {now_s - 60, TEXT("gold"), 0},
                                old = {now_s - 61, TEXT("gold"), 0},
                                weak = {now_s, TEXT("silver"), 0};
    ck_assert(strength_meets(&order, &good, &both, now_s));
    ck_assert(!strength_meets(&order, &old, &both, now_s));
    ck_assert(!strength_meets(&order, &weak, &both, now_s));
}
END_TEST

/* A service that states a time says all that it knows; an old class must not pass for a recent one.
 */
START_TEST(a_verification_adds_to_what_was_known_or_replaces_it)
{
    const uint32_t pwd = session_find_amr(TEXT("pwd")), otp = session_find_amr(TEXT("otp"));
    const struct authentication before = {1000, TEXT("gold"), pwd}, nothing = {0},
                                class = {0, TEXT("silver"), 0}, method = {0, {0}, otp},
                                time = {2000, {0}, 0}, all = {2000, TEXT("silver"), otp};
    static const struct {
        int stated;
        int64_t auth_s;
        const char *acr;
        bool pwd, otp;
    } rows[] = {
        {0, 1000, "gold", true, false},   {1, 1000, "silver", true, false},
        {2, 1000, "gold", false, true},   {3, 2000, NULL, false, false},
        {4, 2000, "silver", false, true},
    };
    const struct authentication *stated[] = {&nothing, &class, &method, &time, &all};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct authentication after = strength_verified(&before, stated[rows[i].stated]);
        ck_assert_int_eq(strength_is_unstated(stated[i]), i == 0);
        ck_assert_int_eq(after.auth_s, rows[i].auth_s);
        ck_assert(text_equal(after.acr, rows[i].acr ? text_of(rows[i].acr) : (struct text){0}));
        ck_assert_uint_eq(after.amr,
                          strength_mfa() | (rows[i].pwd ? pwd : 0) | (rows[i].otp ? otp : 0));
    }
}
END_TEST

START_TEST(each_method_has_a_word_and_a_bit)
{
    uint32_t seen = 0;
    unsigned count = 0;
    for (; session_amr_word(count).data; count++) {
        uint32_t bit = session_find_amr(session_amr_word(count));
        ck_assert_uint_eq(bit, UINT32_C(1) << count);
        seen |= bit;
    }
    ck_assert_uint_eq(count, 21); /* RFC 8176, section 2 */
    ck_assert_uint_ne(strength_mfa(), 0);
    ck_assert_uint_eq(session_find_amr(TEXT("password")), 0);
    ck_assert_uint_eq(session_find_amr(TEXT("")), 0);
    ck_assert_uint_eq(session_find_amr((struct text){0}), 0);
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
    tcase_add_test(all, a_verification_adds_to_what_was_known_or_replaces_it);
    tcase_add_test(all, each_method_has_a_word_and_a_bit);
    Suite *suite = suite_create("strength");
    suite_add_tcase(suite, all);
    return support_run(suite);
}
