/* Bindings of sessions: items, breaches, and policies' verdicts on them. */
#include "session/engine/binding.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "support_keys.h"
#include "support_run.h"

static struct conf *conf;
static struct keyring *ring;
static struct arena arena;
static struct user_tag owner;

static void setup(void)
{
    conf = conf_defaults();
    ring = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1);
    token_tag_user(ring, TEXT("default"), TEXT("alice"), &owner);
}

static void teardown(void)
{
    arena_free(&arena);
    keyring_unref(&ring);
    conf_unref(&conf);
}

static struct client_context show(const char *ip, const char *fingerprint)
{
    const struct client_claims claims = {text_of(ip), text_of(fingerprint)};
    struct client_context context;
    binding_read(ring, &owner, &claims, &context);
    return context;
}

static struct record login(const char *ip, const char *fingerprint)
{
    struct record record = {.ip = text_of(ip)};
    struct client_context context = show(NULL, fingerprint);
    binding_begin(&record, &context, &arena);
    return record;
}

static unsigned breaches_of(const struct record *record, struct client_context context)
{
    return binding_breaches(conf, binding_items(record, &arena), &context);
}

/* By verification, or adoption. */
static void widen(struct record *record, const char *ip, const char *fingerprint)
{
    struct client_context context = show(ip, fingerprint);
    struct buffer items = {0};
    unsigned breaches = breaches_of(record, context);
    binding_print(&context, breaches & BREACH_FIRST ? breaches | BREACH_IP : breaches, &items);
    binding_add(conf, record, buffer_text(&items), &arena);
    buffer_free(&items);
}

static const struct comparison {
    const char *ip, *fingerprint; /* of the login */
    const char *shown_ip, *shown_fingerprint;
    unsigned breaches;
} comparisons[] = {
    {"198.51.100.7", NULL, "198.51.100.250", NULL, 0},
    {"198.51.100.7", NULL, "203.0.113.1", NULL, BREACH_IP},
    {"198.51.100.7", NULL, "::ffff:198.51.100.9", NULL, 0},
    {"198.51.100.7", NULL, "2001:db8::1", NULL, BREACH_FAMILY},
    {"2001:db8:1::7", NULL, "2001:db8:1:9::9", NULL, 0},
    {"2001:db8:1::7", NULL, "2001:db8:2::7", NULL, BREACH_IP},
    {"2001:db8:1::7", NULL, "198.51.100.7", NULL, BREACH_FAMILY},
    {NULL, NULL, "198.51.100.7", NULL, BREACH_FIRST},
    {"198.51.100.7", NULL, "unix", NULL, BREACH_NOWHERE},
    {NULL, NULL, "unix", NULL, BREACH_NOWHERE},
    {"198.51.100.7", NULL, NULL, NULL, 0},
    {"198.51.100.7", "f", "198.51.100.7", "f", 0},
    {"198.51.100.7", "f", "198.51.100.7", "g", BREACH_DEVICE},
    {"198.51.100.7", "f", "198.51.100.7", NULL, 0},
    {"198.51.100.7", "f", "198.51.100.7", "", BREACH_DEVICE},
    {"198.51.100.7", NULL, "198.51.100.7", "f", 0},
    {"198.51.100.7", NULL, "198.51.100.7", "", 0},
    {"198.51.100.7", "f", "203.0.113.1", "g", BREACH_IP | BREACH_DEVICE},
};

START_TEST(what_is_shown_is_compared_with_the_login)
{
    const struct comparison *row = &comparisons[_i];
    struct record record = login(row->ip, row->fingerprint);
    ck_assert_uint_eq(breaches_of(&record, show(row->shown_ip, row->shown_fingerprint)),
                      row->breaches);
}
END_TEST

START_TEST(a_session_may_be_used_from_what_was_added_and_from_what_was_there)
{
    struct record record = login("198.51.100.7", "f");
    widen(&record, "203.0.113.1", "g");
    widen(&record, "2001:db8::1", NULL);
    ck_assert_uint_eq(breaches_of(&record, show("203.0.113.9", "g")), 0);
    ck_assert_uint_eq(breaches_of(&record, show("198.51.100.9", "f")), 0);
    ck_assert_uint_eq(breaches_of(&record, show("2001:db8::9", "f")), 0);
    ck_assert_uint_eq(breaches_of(&record, show("192.0.2.1", "h")), BREACH_IP | BREACH_DEVICE);
}
END_TEST

START_TEST(nothing_is_added_twice)
{
    struct record record = login("198.51.100.7", "f");
    size_t length = record.contexts.length;
    widen(&record, "198.51.100.200", "f");
    ck_assert_uint_eq(record.contexts.length, length);
}
END_TEST

START_TEST(a_device_without_a_fingerprint_is_remembered_like_any_other)
{
    struct record record = login("198.51.100.7", "f");
    ck_assert_uint_eq(breaches_of(&record, show("198.51.100.7", "")), BREACH_DEVICE);
    widen(&record, "198.51.100.7", "");
    ck_assert_uint_eq(breaches_of(&record, show("198.51.100.7", "")), 0);
    ck_assert_uint_eq(breaches_of(&record, show("198.51.100.7", "f")), 0);
    ck_assert_uint_eq(breaches_of(&record, show("198.51.100.7", "g")), BREACH_DEVICE);
}
END_TEST

START_TEST(a_session_that_is_bound_to_no_device_stays_so)
{
    struct record record = login("198.51.100.7", NULL);
    widen(&record, "203.0.113.1", "g");
    ck_assert_uint_eq(breaches_of(&record, show("198.51.100.7", "h")), 0);
    ck_assert_uint_eq(breaches_of(&record, show("203.0.113.1", "")), 0);
}
END_TEST

START_TEST(only_what_differs_is_to_be_verified)
{
    struct client_context context = show("203.0.113.1", "g");
    struct buffer items = {0};
    binding_print(&context, BREACH_DEVICE, &items);
    ck_assert_uint_eq(items.length, 1 + CONTEXT_HASH);
    binding_print(&context, BREACH_IP, &items);
    ck_assert_mem_eq(items.data + 1 + CONTEXT_HASH, "4\xCB\x00\x71\x01", 5);
    binding_print(&context, 0, &items);
    ck_assert_uint_eq(items.length, 1 + CONTEXT_HASH + 5);
    buffer_free(&items);
}
END_TEST

START_TEST(many_places_do_not_outgrow_a_record)
{
    struct record record = login("198.51.100.7", "first");
    char ip[40], fingerprint[40];
    for (int i = 0; i < 300; i++) {
        snprintf(ip, sizeof(ip), i % 3 ? "10.%d.%d.1" : "2001:db8:%x%x::1", i / 100, i % 100);
        snprintf(fingerprint, sizeof(fingerprint), "f%d", i);
        widen(&record, ip, fingerprint);
        ck_assert_uint_le(record.contexts.length, 255);
        ck_assert_uint_eq(breaches_of(&record, show(ip, fingerprint)), 0);
        ck_assert_uint_eq(breaches_of(&record, show("198.51.100.7", NULL)), 0);
    }
}
END_TEST

static const struct ruling {
    int64_t ip, device;
    unsigned breaches;
    enum binding verdict;
    enum err err;
    const char *word;
    bool adopts;
} rulings[] = {
    {BINDING_OFF, BINDING_OFF, BREACH_IP | BREACH_DEVICE, BINDING_OFF, ERR_OK, NULL, false},
    {BINDING_LOG, BINDING_OFF, BREACH_IP | BREACH_DEVICE, BINDING_LOG, ERR_OK, "ip", false},
    {BINDING_OFF, BINDING_LOG, BREACH_IP | BREACH_DEVICE, BINDING_LOG, ERR_OK, "device", false},
    {BINDING_LOG, BINDING_VERIFY, BREACH_IP | BREACH_DEVICE, BINDING_VERIFY, ERR_STEP_UP_REQUIRED,
     "ip device", false},
    {BINDING_STRICT, BINDING_VERIFY, BREACH_IP | BREACH_DEVICE, BINDING_STRICT, ERR_TOKEN_INVALID,
     "ip device", false},
    {BINDING_STRICT, BINDING_VERIFY, BREACH_DEVICE, BINDING_VERIFY, ERR_STEP_UP_REQUIRED, "device",
     false},
    {BINDING_STRICT, BINDING_OFF, BREACH_DEVICE, BINDING_OFF, ERR_OK, NULL, false},
    {BINDING_STRICT, BINDING_OFF, BREACH_FAMILY, BINDING_STRICT, ERR_TOKEN_INVALID, "family",
     false},
    {BINDING_STRICT, BINDING_STRICT, BREACH_FAMILY | BREACH_DEVICE, BINDING_STRICT,
     ERR_TOKEN_INVALID, "family device", false},
    {BINDING_STRICT, BINDING_LOG, BREACH_FAMILY | BREACH_DEVICE, BINDING_STRICT, ERR_TOKEN_INVALID,
     "family device", false},
    {BINDING_VERIFY, BINDING_OFF, BREACH_FAMILY, BINDING_VERIFY, ERR_STEP_UP_REQUIRED, "family",
     false},
    {BINDING_LOG, BINDING_OFF, BREACH_FAMILY, BINDING_LOG, ERR_OK, "family", false},
    {BINDING_OFF, BINDING_OFF, BREACH_FAMILY, BINDING_OFF, ERR_OK, NULL, false},
    {BINDING_STRICT, BINDING_OFF, BREACH_FIRST, BINDING_OFF, ERR_OK, NULL, true},
    {BINDING_VERIFY, BINDING_OFF, BREACH_FIRST, BINDING_OFF, ERR_OK, NULL, true},
    {BINDING_LOG, BINDING_OFF, BREACH_FIRST, BINDING_OFF, ERR_OK, NULL, false},
    {BINDING_STRICT, BINDING_OFF, BREACH_NOWHERE, BINDING_STRICT, ERR_TOKEN_INVALID, "ip", false},
    {BINDING_VERIFY, BINDING_OFF, BREACH_NOWHERE, BINDING_OFF, ERR_OK, NULL, false},
    {BINDING_STRICT, BINDING_STRICT, 0, BINDING_OFF, ERR_OK, NULL, false},
};

START_TEST(policies_rule_on_breaches)
{
    const struct ruling *row = &rulings[_i];
    const struct policy policy = {.bind_ip = row->ip, .bind_device = row->device};
    struct operation operation = {0};
    bool refused = row->err != ERR_OK;
    ck_assert_int_eq(binding_verdict(&policy, row->breaches), row->verdict);
    ck_assert_int_eq(binding_adopts(&policy, row->breaches), row->adopts);
    ck_assert_int_eq(binding_refuses(&operation, &policy, row->breaches, ERR_TOKEN_INVALID),
                     refused);
    ck_assert_int_eq(operation.out.err, row->err);
    /* Another family alone is what a refresh mends. */
    bool device = row->breaches & BREACH_DEVICE && row->device == BINDING_STRICT;
    bool family = row->breaches & BREACH_FAMILY && !device;
    if (row->err == ERR_TOKEN_INVALID)
        ck_assert(text_equal(operation.out.reason,
                             family ? TEXT(REASON_BINDING_FAMILY) : TEXT(REASON_BINDING)));
    ck_assert(text_equal(operation.facts.binding, text_of(row->word)));
}
END_TEST

START_TEST(items_that_are_none_end_the_list)
{
    static const char *const broken[] = {"4", "41", "4123", "x1234", "f1234567", "6"};
    struct client_context context = show("198.51.100.7", "f");
    ck_assert_uint_eq(binding_breaches(conf, text_of(broken[_i]), &context), BREACH_FIRST);
}
END_TEST

int main(void)
{
    TCase *all = tcase_create("binding");
    tcase_add_checked_fixture(all, setup, teardown);
    tcase_add_loop_test(all, what_is_shown_is_compared_with_the_login, 0,
                        sizeof(comparisons) / sizeof(comparisons[0]));
    tcase_add_test(all, a_session_may_be_used_from_what_was_added_and_from_what_was_there);
    tcase_add_test(all, nothing_is_added_twice);
    tcase_add_test(all, a_device_without_a_fingerprint_is_remembered_like_any_other);
    tcase_add_test(all, a_session_that_is_bound_to_no_device_stays_so);
    tcase_add_test(all, only_what_differs_is_to_be_verified);
    tcase_add_test(all, many_places_do_not_outgrow_a_record);
    tcase_add_loop_test(all, policies_rule_on_breaches, 0, sizeof(rulings) / sizeof(rulings[0]));
    tcase_add_loop_test(all, items_that_are_none_end_the_list, 0, 6);
    Suite *suite = suite_create("binding");
    suite_add_tcase(suite, all);
    return support_run(suite);
}
