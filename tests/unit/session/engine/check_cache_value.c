/* Cache values of sessions, and the stamp of a user's state. */
#include "session/engine/cache_value.h"

#include <stdlib.h>
#include <string.h>

#include "support_run.h"

static const uint8_t id[SESSION_ID] = {1, 2, 3, 4, 5, 6, 7, 8};

static const char usual[] =
    "\"tenant\":\"acme\",\"user_id\":\"bob\",\"roles\":[\"admin\"],"
    "\"device\":{\"id\":\"d-1\",\"type\":\"ios\",\"name\":\"Bob's \\\"phone\\\"\"},"
    "\"attributes\":{\"type\":\"x\",\"id\":\"y\"}";

static struct arena arena;
static struct buffer value;

static void teardown(void)
{
    arena_free(&arena);
    buffer_free(&value);
}

static struct session example(void)
{
    struct session session = {.last_seen_s = 1800000123};
    memcpy(session.id, id, SESSION_ID);
    session.record.remember = true;
    session.record.issued_ms = 1800000000456;
    session.record.absolute_s = 1802592000;
    memset(session.record.access_hash, 'a', SECRET_HASH);
    return session;
}

static struct operation note(const char *session_json)
{
    struct session session = example();
    struct cache_value cache_value;
    struct operation operation = {.arena = &arena};
    cache_value_write_active(&value, &session, 1, 2, text_of(session_json), NULL);
    ck_assert(cache_value_read_active(buffer_text(&value), id, &cache_value));
    cache_value_note(&operation, &cache_value);
    return operation;
}

static void assert_text(struct text text, const char *expected)
{
    if (!expected) {
        ck_assert_ptr_null(text.data);
        return;
    }
    ck_assert_uint_eq(text.length, strlen(expected));
    ck_assert_mem_eq(text.data, expected, text.length);
}

START_TEST(a_living_session_comes_back_as_it_was)
{
    struct session session = example();
    struct cache_value cache_value;
    session.record.has_previous = true;
    session.record.previous_access_over = true;
    session.record.began_s = 1799999999;
    memset(session.record.previous_access_hash, 'p', SECRET_HASH);
    cache_value_write_active(&value, &session, 16383, 42, text_of(usual), NULL);
    ck_assert_int_eq(cache_value_kind(buffer_text(&value)), CACHE_VALUE_ACTIVE);
    ck_assert(cache_value_read_active(buffer_text(&value), id, &cache_value));
    const struct record *record = &cache_value.session.record;
    ck_assert_mem_eq(cache_value.session.id, id, SESSION_ID);
    ck_assert_int_eq(cache_value.session.last_seen_s, 1800000123);
    ck_assert_int_eq(record->issued_ms, 1800000000456);
    ck_assert_int_eq(record->absolute_s, 1802592000);
    ck_assert_int_eq(record->began_s, 1799999999);
    ck_assert(record->remember && record->has_previous && record->previous_access_over);
    ck_assert_mem_eq(record->access_hash, session.record.access_hash, SECRET_HASH);
    ck_assert_mem_eq(record->previous_access_hash, session.record.previous_access_hash,
                     SECRET_HASH);
    ck_assert_uint_eq(cache_value.head.slot, 16383);
    ck_assert_int_eq(cache_value.head.version, 42);
    assert_text(cache_value.session_json, usual);
}
END_TEST

START_TEST(without_a_previous_pair_nothing_lies_between_head_and_text)
{
    struct session session = example();
    struct cache_value cache_value;
    cache_value_write_active(&value, &session, 1, 2, text_of(usual), NULL);
    ck_assert(cache_value_read_active(buffer_text(&value), id, &cache_value));
    ck_assert(!cache_value.session.record.has_previous);
    ck_assert_int_eq(cache_value.session.record.began_s, 0);
    assert_text(cache_value.session_json, usual);
}
END_TEST

START_TEST(what_the_session_is_bound_to_lies_between_them_if_it_is_asked_for)
{
    struct session session = example();
    struct cache_value cache_value;
    const struct text items = TEXT("4abcd"), none = {0};
    session.record.has_previous = true;
    cache_value_write_active(&value, &session, 1, 2, text_of(usual), &items);
    ck_assert(cache_value_read_active(buffer_text(&value), id, &cache_value));
    ck_assert(cache_value.has_items);
    assert_text(cache_value.items, "4abcd");
    assert_text(cache_value.session_json, usual);
    for (size_t length = 0; length < value.length - strlen(usual); length++)
        ck_assert(!cache_value_read_active((struct text){value.data, length}, id, &cache_value));
    value.length = 0;
    cache_value_write_active(&value, &session, 1, 2, text_of(usual), &none);
    ck_assert(cache_value_read_active(buffer_text(&value), id, &cache_value));
    ck_assert(cache_value.has_items && cache_value.items.length == 0);
    value.length = 0;
    cache_value_write_active(&value, &session, 1, 2, text_of(usual), NULL);
    ck_assert(cache_value_read_active(buffer_text(&value), id, &cache_value));
    ck_assert(!cache_value.has_items);
}
END_TEST

START_TEST(the_audit_line_gets_tenant_user_and_device)
{
    struct operation operation = note(usual);
    assert_text(operation.facts.tenant, "acme");
    assert_text(operation.facts.user_id, "bob");
    assert_text(operation.facts.device_id, "d-1");
    assert_text(operation.facts.device_type, "ios");
    assert_text(operation.facts.session_id, "0102030405060708");
}
END_TEST

START_TEST(escaped_names_reach_the_audit_line_unescaped)
{
    struct operation operation = note(
        "\"tenant\":\"acme\",\"user_id\":\"b\\\"ob\",\"roles\":[],\"device\":{\"id\":\"d\\\\1\"}");
    assert_text(operation.facts.tenant, "acme");
    assert_text(operation.facts.user_id, "b\"ob");
    assert_text(operation.facts.device_id, "d\\1");
    assert_text(operation.facts.device_type, NULL);
}
END_TEST

START_TEST(attributes_are_not_taken_for_the_device)
{
    struct operation operation = note("\"tenant\":\"acme\",\"user_id\":\"bob\",\"roles\":[],"
                                      "\"device\":{},\"attributes\":{\"id\":\"y\",\"type\":\"x\"}");
    assert_text(operation.facts.device_id, NULL);
    assert_text(operation.facts.device_type, NULL);
}
END_TEST

START_TEST(a_dead_session_comes_back_with_reason_actor_and_time)
{
    struct tombstone tombstone = {TEXT("kicked"), TEXT("alice@example.com"), 1800000001, 0}, read;
    cache_value_write_ended(&value, &tombstone);
    ck_assert_int_eq(cache_value_kind(buffer_text(&value)), CACHE_VALUE_ENDED);
    cache_value_read_ended(buffer_text(&value), &read);
    assert_text(read.reason, "kicked");
    assert_text(read.actor, "alice@example.com");
    ck_assert_int_eq(read.ended_s, 1800000001);
}
END_TEST

START_TEST(a_dead_session_needs_no_actor)
{
    struct tombstone tombstone = {.reason = TEXT("revoked")}, read;
    cache_value_write_ended(&value, &tombstone);
    cache_value_read_ended(buffer_text(&value), &read);
    assert_text(read.reason, "revoked");
    assert_text(read.actor, NULL);
}
END_TEST

START_TEST(names_come_back_or_that_nobody_knows_them)
{
    const struct names names = {TEXT("acme"), TEXT("bob")}, nobody = {0};
    struct names read;
    cache_value_write_names(&value, &names);
    ck_assert(cache_value_read_names(buffer_text(&value), &read));
    assert_text(read.tenant, "acme");
    assert_text(read.user_id, "bob");
    for (size_t length = 0; length < value.length; length++)
        ck_assert(!cache_value_read_names((struct text){value.data, length}, &read));
    value.length = 0;
    cache_value_write_names(&value, &nobody);
    ck_assert(cache_value_read_names(buffer_text(&value), &read));
    assert_text(read.tenant, NULL);
    assert_text(read.user_id, NULL);
}
END_TEST

START_TEST(names_and_sessions_are_not_taken_for_each_other)
{
    const struct names names = {TEXT("acme"),
                                TEXT("a user id that is as long as a head is, and more")};
    const struct tombstone tombstone = {.reason = TEXT("kicked")};
    struct session session = example();
    struct cache_value cache_value;
    struct names read;
    cache_value_write_names(&value, &names);
    ck_assert_int_eq(cache_value_kind(buffer_text(&value)), CACHE_VALUE_NAMES);
    ck_assert(!cache_value_read_active(buffer_text(&value), id, &cache_value));
    value.length = 0;
    cache_value_write_ended(&value, &tombstone);
    ck_assert(!cache_value_read_names(buffer_text(&value), &read));
    value.length = 0;
    cache_value_write_active(&value, &session, 1, 2, text_of(usual), NULL);
    ck_assert(!cache_value_read_names(buffer_text(&value), &read));
}
END_TEST

START_TEST(values_cut_at_any_length_are_refused_or_shorter)
{
    struct session session = example();
    struct cache_value cache_value;
    session.record.has_previous = true;
    cache_value_write_active(&value, &session, 1, 2, text_of(usual), NULL);
    size_t head = sizeof(struct cache_value_active) + SECRET_HASH;
    for (size_t length = 0; length < value.length; length++) {
        char *cut = malloc(length + 1); /* of its own, so that reading past it is seen */
        memcpy(cut, value.data, length);
        struct text text = {cut, length};
        struct operation operation = {.arena = &arena};
        bool read = cache_value_read_active(text, id, &cache_value);
        ck_assert(read == (length >= head));
        if (read)
            cache_value_note(&operation, &cache_value);
        free(cut);
    }
}
END_TEST

struct stamp_case {
    const char *stamp;
    int64_t version, epoch;
};

static const struct stamp_case stamps[] = {
    {"", 0, 0},
    {"0", 0, 0},
    {"17", 17, 0},
    {"17 5", 17, 5},
    {"17 ", 17, 0},
    {" 5", 0, 0},
    {"x 5", 0, 0},
    {"17 x", 17, 0},
    {"-1 5", 0, 0},
    {"17 5 6", 17, 0},
    {"99999999999999999999 5", 0, 0},
    {"9223372036854775807 5", 0, 0},
    {"281474976710656 5", 0, 0},
    {"281474976710655 281474976710655", 281474976710655, 281474976710655},
    {"17 9223372036854775807", 17, 0},
};

START_TEST(the_stamp_tells_version_and_epoch)
{
    int64_t version, epoch;
    state_read_stamp(text_of(stamps[_i].stamp), &version, &epoch);
    ck_assert_int_eq(version, stamps[_i].version);
    ck_assert_int_eq(epoch, stamps[_i].epoch);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cached");
    TCase *all = tcase_create("values");
    tcase_add_checked_fixture(all, NULL, teardown);
    tcase_add_test(all, a_living_session_comes_back_as_it_was);
    tcase_add_test(all, without_a_previous_pair_nothing_lies_between_head_and_text);
    tcase_add_test(all, what_the_session_is_bound_to_lies_between_them_if_it_is_asked_for);
    tcase_add_test(all, the_audit_line_gets_tenant_user_and_device);
    tcase_add_test(all, escaped_names_reach_the_audit_line_unescaped);
    tcase_add_test(all, attributes_are_not_taken_for_the_device);
    tcase_add_test(all, a_dead_session_comes_back_with_reason_actor_and_time);
    tcase_add_test(all, a_dead_session_needs_no_actor);
    tcase_add_test(all, names_come_back_or_that_nobody_knows_them);
    tcase_add_test(all, names_and_sessions_are_not_taken_for_each_other);
    tcase_add_test(all, values_cut_at_any_length_are_refused_or_shorter);
    tcase_add_loop_test(all, the_stamp_tells_version_and_epoch, 0,
                        sizeof(stamps) / sizeof(stamps[0]));
    suite_add_tcase(suite, all);
    return support_run(suite);
}
