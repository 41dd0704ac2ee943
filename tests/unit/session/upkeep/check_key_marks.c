/* Judging a node's own key file by the marks in Redis. */
#include "session/upkeep/key_marks.h"

#include <check.h>
#include <string.h>

#include "support_keys.h"
#include "support_run.h"

#define NAMES   UINT64_C(1)
#define KEY(id) (UINT64_C(1) << (id))

enum { NOW = 1000000, HOUR = 3600, NONE = -1 };

/* Ages in seconds before NOW; NONE: Redis has no such mark. */
struct age {
    int first, last;
};

static const struct row {
    const char *name;
    const char *ring;               /* of this node */
    struct age names, key_1, key_2; /* as the other nodes marked them */
    unsigned others_digits;         /* bits by id: the others have other digits */
    struct key_verdict verdict;
} rows[] = {
    {"nothing is known",
     SUPPORT_NAMES SUPPORT_KEY_1,
     {NONE, 0},
     {NONE, 0},
     {NONE, 0},
     0,
     {.unmarked = NAMES | KEY(1)}},
    {"all agree", SUPPORT_NAMES SUPPORT_KEY_1, {9, 9}, {9, 9}, {NONE, 0}, 0, {0}},
    {"another file",
     SUPPORT_NAMES SUPPORT_KEY_1,
     {9, 9},
     {9, 9},
     {NONE, 0},
     NAMES | KEY(1),
     {.foreign = NAMES | KEY(1)}},
    {"another names secret",
     SUPPORT_NAMES SUPPORT_KEY_1,
     {9, 9},
     {9, 9},
     {NONE, 0},
     NAMES,
     {.foreign = NAMES}},
    {"another names secret after a long pause",
     SUPPORT_NAMES SUPPORT_KEY_1,
     {9, 99999},
     {9, 9},
     {NONE, 0},
     NAMES,
     {.foreign = NAMES}},
    {"one key differs",
     SUPPORT_NAMES SUPPORT_KEY_1 SUPPORT_KEY_2,
     {9, 9},
     {9, 9},
     {9, 9},
     KEY(2),
     {.foreign = KEY(2)}},
    {"all nodes were down for long",
     SUPPORT_NAMES SUPPORT_KEY_1,
     {99999, 99999},
     {99999, 99999},
     {NONE, 0},
     KEY(1),
     {.foreign = KEY(1)}},
    {"a number given to another key after the first was dropped everywhere",
     SUPPORT_NAMES SUPPORT_KEY_2 SUPPORT_KEY_1,
     {99999, 0},
     {99999, HOUR + 1},
     {99999, 0},
     KEY(1),
     {.unmarked = KEY(1)}},
    {"the same too soon",
     SUPPORT_NAMES SUPPORT_KEY_2 SUPPORT_KEY_1,
     {99999, 0},
     {99999, HOUR},
     {99999, 0},
     KEY(1),
     {.foreign = KEY(1)}},
    {"others have a newer key",
     SUPPORT_NAMES SUPPORT_KEY_1,
     {900, 0},
     {900, 0},
     {60, 0},
     0,
     {.missing = KEY(2)}},
    {"both marked at once: the higher number is newer",
     SUPPORT_NAMES SUPPORT_KEY_1,
     {60, 0},
     {60, 0},
     {60, 0},
     0,
     {.missing = KEY(2)}},
    {"and the lower one was dropped",
     SUPPORT_NAMES SUPPORT_KEY_2,
     {60, 0},
     {60, 0},
     {60, 0},
     0,
     {0}},
    {"an older key was dropped here first",
     SUPPORT_NAMES SUPPORT_KEY_2,
     {900, 0},
     {900, 0},
     {60, 0},
     0,
     {0}},
    {"a newer key that was dropped again",
     SUPPORT_NAMES SUPPORT_KEY_1,
     {99999, 0},
     {99999, 0},
     {5000, 901},
     0,
     {0}},
    {"this node has more than the others",
     SUPPORT_NAMES SUPPORT_KEY_1 SUPPORT_KEY_2,
     {9, 9},
     {9, 9},
     {NONE, 0},
     0,
     {.unmarked = KEY(2)}},
};

static void set_mark(struct key_marks *marks, const struct keyring *all, unsigned id,
                     const struct row *row, struct age age)
{
    if (age.first == NONE)
        return;
    struct key_mark *mark = &marks->of[id];
    *mark =
        (struct key_mark){.present = true, .first_s = NOW - age.first, .last_s = NOW - age.last};
    memcpy(mark->mark, keyring_mark(all, (uint8_t)id), KEY_MARK);
    if (row->others_digits & 1u << id)
        mark->mark[0] ^= 1;
}

START_TEST(the_marks_say_what_is_foreign_and_what_is_missing)
{
    const struct row *row = &rows[_i];
    struct keyring *all = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1 SUPPORT_KEY_2);
    struct keyring *ring = support_keyring(row->ring);
    struct key_marks marks = {0};
    struct key_verdict verdict;
    set_mark(&marks, all, 0, row, row->names);
    set_mark(&marks, all, 1, row, row->key_1);
    set_mark(&marks, all, 2, row, row->key_2);
    key_marks_judge(&marks, ring, &verdict);
    ck_assert_msg(memcmp(&verdict, &row->verdict, sizeof(verdict)) == 0,
                  "%s: foreign %lx missing %lx unmarked %lx", row->name, verdict.foreign,
                  verdict.missing, verdict.unmarked);
    keyring_unref(&all);
    keyring_unref(&ring);
}
END_TEST

START_TEST(every_key_has_a_mark_of_its_own_that_never_changes)
{
    struct keyring *ring = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1 SUPPORT_KEY_2);
    struct keyring *turned = support_keyring(SUPPORT_KEY_2 SUPPORT_KEY_1 SUPPORT_NAMES);
    ck_assert_ptr_null(keyring_mark(ring, 3));
    for (uint8_t id = 0; id < 3; id++) {
        ck_assert_mem_eq(keyring_mark(ring, id), keyring_mark(turned, id), KEY_MARK);
        ck_assert_mem_ne(keyring_mark(ring, id), keyring_mark(ring, (uint8_t)((id + 1) % 3)),
                         KEY_MARK);
    }
    /* Worked out with Python: blake2b(digest_size=16, key, person=b"sd key mark").digest()[:8]. */
    char digits[2 * KEY_MARK + 1] = {0};
    text_to_hex(digits, keyring_mark(ring, 0), KEY_MARK);
    ck_assert_str_eq(digits, "99867f73f1b8d39c");
    text_to_hex(digits, keyring_mark(ring, 1), KEY_MARK);
    ck_assert_str_eq(digits, "255759230d7fe365");
    keyring_unref(&ring);
    keyring_unref(&turned);
}
END_TEST

static const struct {
    const char *value;
    bool good;
} values[] = {
    {"0123456789abcdef 10 20", true},
    {"0123456789abcdef 10 20 and what a later version adds", true},
    {"", false},
    {"0123456789abcdef", false},
    {"0123456789abcdef 10", false},
    {"0123456789abcdeg 10 20", false},
    {"0123456789abcd 10 20", false},
    {"0123456789abcdef -1 20", false},
    {"0123456789abcdef 10 9223372036854775808", false},
    {"0123456789abcdef  10 20", false},
};

START_TEST(a_value_is_a_mark_and_two_times_or_nothing)
{
    struct key_mark mark;
    ck_assert_int_eq(key_marks_read_one(text_of(values[_i].value), &mark), values[_i].good);
    ck_assert_int_eq(mark.present, values[_i].good);
    if (values[_i].good)
        ck_assert(mark.mark[0] == 1 && mark.first_s == 10 && mark.last_s == 20);
}
END_TEST

START_TEST(the_digits_of_a_store_are_random_or_those_that_it_had)
{
    static const char had[] = "00112233445566778899aabbccddeeff00112233";
    struct keyring *ring = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1);
    struct key_marks_write first, second, again;
    struct store_call call = {0};
    key_marks_write(ring, NOW, "", &first, &call);
    key_marks_write(ring, NOW, "", &second, &call);
    key_marks_write(ring, NOW, had, &again, &call);
    ck_assert_uint_eq(strspn(first.store, "0123456789abcdef"), KEY_MARKS_STORE);
    ck_assert_str_ne(first.store, second.store);
    ck_assert_str_eq(again.store, had);
    ck_assert_uint_eq(call.argument_count, 7);
    ck_assert(text_equal(call.arguments[2], TEXT("2")));
    ck_assert(text_equal(call.arguments[1], text_of(had)));
    keyring_unref(&ring);
}
END_TEST

/* Seconds before NOW; NONE: Redis has none. */
static const struct {
    int confirmed, format; /* of the names; 0: none behind them */
    int read_1, read_2;    /* times of nodes that read no later format */
    unsigned written;
} formats[] = {
    {0, 2, NONE, NONE, 2},    {NONE, 0, NONE, NONE, 1}, /* no mark: nobody is known */
    {0, 0, NONE, NONE, 1},                              /* the last one was of the first format */
    {5000, 0, NONE, NONE, 1},                           /* however long ago: nobody came after it */
    {0, 2, 900, NONE, 1},     {0, 2, 901, NONE, 2},
    {100, 2, 1000, NONE, 1}, /* by the time of the last confirmation */
    {0, 3, NONE, NONE, 2},   /* a later version reads what this one writes */
    {0, 3, 60, NONE, 1},      {0, 3, NONE, 60, 2},
};

START_TEST(a_format_is_written_once_all_nodes_read_it)
{
    struct key_marks marks = {.format = 1};
    if (formats[_i].confirmed != NONE)
        marks.of[0] = (struct key_mark){.present = true, .last_s = NOW - formats[_i].confirmed};
    if (formats[_i].format)
        marks.format = (unsigned)formats[_i].format;
    if (formats[_i].read_1 != NONE)
        marks.read_s[1] = NOW - formats[_i].read_1;
    if (formats[_i].read_2 != NONE)
        marks.read_s[2] = NOW - formats[_i].read_2;
    ck_assert_uint_eq(key_marks_format(&marks), formats[_i].written);
}
END_TEST

static Suite *key_marks_suite(void)
{
    Suite *suite = suite_create("key_marks");
    TCase *tests = tcase_create("marks");
    tcase_add_loop_test(tests, the_marks_say_what_is_foreign_and_what_is_missing, 0,
                        (int)(sizeof(rows) / sizeof(rows[0])));
    tcase_add_loop_test(tests, a_format_is_written_once_all_nodes_read_it, 0,
                        (int)(sizeof(formats) / sizeof(formats[0])));
    tcase_add_test(tests, every_key_has_a_mark_of_its_own_that_never_changes);
    tcase_add_test(tests, the_digits_of_a_store_are_random_or_those_that_it_had);
    tcase_add_loop_test(tests, a_value_is_a_mark_and_two_times_or_nothing, 0,
                        (int)(sizeof(values) / sizeof(values[0])));
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    return support_run(key_marks_suite());
}
