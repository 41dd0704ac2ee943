/* The form of an audit line: members, order, cuts, and hostile texts. */
#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "services/audit/audit_format.h"

#include "support_run.h"

static const int64_t morning_ms = 1795340109123; /* 2026-11-22T09:35:09.123Z */

static struct audit_record a_login(void)
{
    return (struct audit_record){.event = AUDIT_LOGIN,
                                 .wall_ms = morning_ms,
                                 .duration_ns = 1234567,
                                 .status = 201,
                                 .request_id = TEXT("7c1f0a"),
                                 .method = TEXT("POST"),
                                 .path = TEXT("/v1/login"),
                                 .tenant = TEXT("acme"),
                                 .user_id = TEXT("alice"),
                                 .source_ip = TEXT("203.0.113.7"),
                                 .peer_ip = TEXT("10.0.0.5")};
}

/* The finished line, as the thread makes it: one object and a newline, every byte printable. */
static json_t *finish_and_parse(struct buffer *line)
{
    struct buffer prefix = {0};
    audit_format_tail_prefix(&prefix, TEXT("node-1"));
    audit_format_tail(line, &prefix, 42);
    buffer_free(&prefix);
    ck_assert_int_eq(line->data[line->length - 1], '\n');
    ck_assert_ptr_null(memchr(line->data, '\n', line->length - 1));
    json_error_t error;
    json_t *json = json_loadb(line->data, line->length - 1, JSON_REJECT_DUPLICATES, &error);
    ck_assert_msg(json != NULL, "%s in %.*s", error.text, (int)line->length, line->data);
    return json;
}

static json_t *line_of(const struct audit_record *record)
{
    struct buffer line = {0};
    audit_format(&line, record);
    json_t *json = finish_and_parse(&line);
    buffer_free(&line);
    return json;
}

static void assert_text(const json_t *json, const char *name, const char *expected)
{
    const char *found = json_string_value(json_object_get(json, name));
    if (!expected) {
        ck_assert_msg(json_object_get(json, name) == NULL, "%s is there", name);
        return;
    }
    ck_assert_msg(found && strcmp(found, expected) == 0, "%s is %s, not %s", name,
                  found ? found : "absent", expected);
}

static void assert_number(const json_t *json, const char *name, json_int_t expected)
{
    ck_assert_msg(json_is_integer(json_object_get(json, name)), "%s is no number", name);
    ck_assert_int_eq(json_integer_value(json_object_get(json, name)), expected);
}

START_TEST(a_line_starts_with_the_members_that_ecs_logging_wants_first)
{
    struct audit_record record = a_login();
    struct buffer line = {0};
    const char *start = "{\"@timestamp\":\"2026-11-22T09:35:09.123Z\",\"log.level\":\"info\","
                        "\"message\":\"login succeeded\",\"ecs.version\":\"8.11.0\",";
    audit_format(&line, &record);
    ck_assert_mem_eq(line.data, start, strlen(start));
    buffer_free(&line);
}
END_TEST

START_TEST(a_full_record_is_told_in_ecs_names)
{
    struct audit_record record = a_login();
    const struct text ended[] = {TEXT("00112233aabbccdd"), TEXT("ffeeddccbbaa9988")};
    record.event = AUDIT_KICK;
    record.trace_id = TEXT("0af7651916cd43dd8448eb211c80319c");
    record.span_id = TEXT("b7ad6b7169203331");
    record.service_key = TEXT("gateway");
    record.operator_name = TEXT("bob@example.com");
    record.unreadable_ip = TEXT("unknown");
    record.actor = TEXT("bob@example.com");
    record.session_id = TEXT("00112233aabbccdd");
    record.device_id = TEXT("phone-1");
    record.device_type = TEXT("mobile");
    record.user_agent = TEXT("curl/8");
    record.durability = TEXT("replicated");
    record.ended = ended;
    record.ended_count = 2;
    json_t *json = line_of(&record);

    static const char *const texts[][2] = {
        {"message", "session kicked"},
        {"ecs.version", "8.11.0"},
        {"event.kind", "event"},
        {"event.action", "kick"},
        {"event.outcome", "success"},
        {"http.request.id", "7c1f0a"},
        {"http.request.method", "POST"},
        {"url.path", "/v1/login"},
        {"trace.id", "0af7651916cd43dd8448eb211c80319c"},
        {"span.id", "b7ad6b7169203331"},
        {"organization.id", "acme"},
        {"user.id", "alice"},
        {"source.ip", "203.0.113.7"},
        {"client.address", "10.0.0.5"},
        {"user_agent.original", "curl/8"},
        {"device.id", "phone-1"},
        {"service.name", "sessiond"},
        {"service.node.name", "node-1"},
        {"sessiond.session_id", "00112233aabbccdd"},
        {"sessiond.service_key", "gateway"},
        {"sessiond.operator", "bob@example.com"},
        {"sessiond.actor", "bob@example.com"},
        {"sessiond.device_type", "mobile"},
        {"sessiond.durability", "replicated"},
        {"sessiond.unreadable_ip", "unknown"},
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        assert_text(json, texts[i][0], texts[i][1]);
    assert_number(json, "event.duration", 1234567);
    assert_number(json, "http.response.status_code", 201);
    assert_number(json, "event.sequence", 42);
    const json_t *list = json_object_get(json, "sessiond.ended");
    ck_assert_uint_eq(json_array_size(list), 2);
    ck_assert_str_eq(json_string_value(json_array_get(list, 1)), "ffeeddccbbaa9988");
    ck_assert_str_eq(json_string_value(json_array_get(json_object_get(json, "event.type"), 0)),
                     "end");
    json_decref(json);
}
END_TEST

START_TEST(category_and_type_are_arrays_for_every_event)
{
    struct audit_record record = a_login();
    record.event = (enum audit_event)_i;
    json_t *json = line_of(&record);
    ck_assert(json_array_size(json_object_get(json, "event.category")) > 0);
    ck_assert(json_array_size(json_object_get(json, "event.type")) > 0);
    json_decref(json);
}
END_TEST

START_TEST(a_repetition_is_marked_and_nothing_else_is)
{
    struct audit_record record = {.event = AUDIT_REFRESH, .wall_ms = morning_ms, .status = 200};
    json_t *json = line_of(&record);
    ck_assert_ptr_null(json_object_get(json, "sessiond.repeated"));
    json_decref(json);
    record.repeated = true;
    json = line_of(&record);
    ck_assert(json_is_true(json_object_get(json, "sessiond.repeated")));
    json_decref(json);
}
END_TEST

START_TEST(absent_texts_are_left_out)
{
    struct audit_record record = {.event = AUDIT_VALIDATE, .wall_ms = morning_ms, .status = 200};
    json_t *json = line_of(&record);
    static const char *const absent[] = {
        "event.reason",   "http.request.id",     "trace.id",       "organization.id",
        "user.id",        "source.ip",           "source.address", "client.address",
        "sessiond.ended", "user_agent.original", "device.id",      "sessiond.operator",
        "sessiond.actor"};
    for (size_t i = 0; i < sizeof(absent) / sizeof(*absent); i++)
        assert_text(json, absent[i], NULL);
    json_decref(json);
}
END_TEST

static const struct failure_case {
    bool failed;
    unsigned status;
    const char *level, *outcome, *message;
} failure_cases[] = {
    {false, 201, "info", "success", "login succeeded"},
    {true, 423, "warn", "failure", "login failed"},
    {true, 503, "error", "failure", "login failed"},
};

START_TEST(outcome_level_and_message_follow_the_result)
{
    const struct failure_case *expected = &failure_cases[_i];
    struct audit_record record = a_login();
    record.failed = expected->failed;
    record.status = expected->status;
    record.reason = expected->failed ? TEXT("some_reason") : (struct text){0};
    json_t *json = line_of(&record);
    assert_text(json, "log.level", expected->level);
    assert_text(json, "event.outcome", expected->outcome);
    assert_text(json, "message", expected->message);
    assert_text(json, "event.reason", expected->failed ? "some_reason" : NULL);
    json_decref(json);
}
END_TEST

static const struct address_case {
    const char *source, *peer, *ip, *address, *client;
} address_cases[] = {
    {"203.0.113.7", "203.0.113.7", "203.0.113.7", NULL, NULL},
    {"2001:db8::1", "10.0.0.5", "2001:db8::1", NULL, "10.0.0.5"},
    {"::ffff:192.0.2.1", "unix", "::ffff:192.0.2.1", NULL, "unix"},
    {"1.2.3", NULL, NULL, "1.2.3", NULL},
    {"unix", "unix", NULL, "unix", NULL},
    {"1:2", NULL, NULL, "1:2", NULL},
    {"203.0.113.7, 10.0.0.5", NULL, NULL, "203.0.113.7, 10.0.0.5", NULL},
    {NULL, "10.0.0.5", NULL, NULL, "10.0.0.5"},
};

START_TEST(only_an_address_stands_in_source_ip)
{
    const struct address_case *expected = &address_cases[_i];
    struct audit_record record = a_login();
    record.source_ip = text_of(expected->source);
    record.peer_ip = text_of(expected->peer);
    json_t *json = line_of(&record);
    assert_text(json, "source.ip", expected->ip);
    assert_text(json, "source.address", expected->address);
    assert_text(json, "client.address", expected->client);
    json_decref(json);
}
END_TEST

static const struct time_case {
    int64_t wall_ms;
    const char *expected;
} time_cases[] = {
    {0, "1970-01-01T00:00:00.000Z"},
    {-5, "1970-01-01T00:00:00.000Z"},
    {951782399999, "2000-02-28T23:59:59.999Z"},
    {951782400000, "2000-02-29T00:00:00.000Z"},
    {253402300799999, "9999-12-31T23:59:59.999Z"},
    {INT64_MAX, "9999-12-31T23:59:59.999Z"},
};

START_TEST(times_are_rfc_3339_in_utc_with_milliseconds)
{
    struct audit_record record = a_login();
    record.wall_ms = time_cases[_i].wall_ms;
    json_t *json = line_of(&record);
    assert_text(json, "@timestamp", time_cases[_i].expected);
    json_decref(json);
}
END_TEST

START_TEST(the_cached_second_is_left_when_the_second_changes)
{
    struct audit_record record = a_login();
    for (int i = 0; i < 3; i++) {
        static const char *const expected[] = {
            "2026-11-22T09:35:09.999Z", "2026-11-22T09:35:10.000Z", "2026-11-22T09:35:09.998Z"};
        static const int64_t offsets[] = {876, 877, 875};
        record.wall_ms = morning_ms + offsets[i];
        json_t *json = line_of(&record);
        assert_text(json, "@timestamp", expected[i]);
        json_decref(json);
    }
}
END_TEST

static const struct hostile_case {
    struct text input;
    const char *expected; /* what a parser reads */
} hostile_cases[] = {
    {{"a\r\nb", 4}, "a\r\nb"},
    {{"\x1b[31mred", 8}, "\x1b[31mred"},
    {{"\"},{\"x\":\"", 9}, "\"},{\"x\":\""},
    {{"\\u0000\\", 7}, "\\u0000\\"},
    {{"\xff\xfe", 2}, "\xef\xbf\xbd\xef\xbf\xbd"},
    {{"\xc3", 1}, "\xef\xbf\xbd"},
    {{"\xed\xa0\x80", 3}, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
    {{"\xc2\x9b", 2}, "\xc2\x9b"},
    {{"\x7f", 1}, "\x7f"},
    {{"caf\xc3\xa9", 5}, "caf\xc3\xa9"},
    {{"\xe2\x80\xa8", 3}, "\xe2\x80\xa8"},
    {{"\",\"event.sequence\":99", 21}, "\",\"event.sequence\":99"},
};

/* Every text of a record, so that a member that forgets to escape is found. */
static void fill(struct audit_record *record, struct text value, struct text *ended)
{
    struct text *texts[] = {
        &record->reason,
        &record->request_id,
        &record->trace_id,
        &record->span_id,
        &record->method,
        &record->path,
        &record->tenant,
        &record->user_id,
        &record->service_key,
        &record->actor,
        &record->operator_name,
        &record->session_id,
        &record->device_id,
        &record->source_ip,
        &record->device_type,
        &record->user_agent,
        &record->durability,
        &record->unreadable_ip,
        ended,
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        *texts[i] = value;
    record->peer_ip = TEXT("10.0.0.5");
    record->ended = ended;
    record->ended_count = 1;
}

static bool is_raw_control(const struct buffer *line, size_t at)
{
    unsigned char byte = (unsigned char)line->data[at];
    unsigned char next = at + 1 < line->length ? (unsigned char)line->data[at + 1] : 0xff;
    return byte < 0x20 || byte == 0x7f || (byte == 0xc2 && next < 0xa0);
}

static void assert_no_raw_control(const struct buffer *line)
{
    size_t at = 0;
    while (at < line->length && !is_raw_control(line, at))
        at++;
    ck_assert_uint_eq(at, line->length);
}

START_TEST(hostile_texts_stay_inside_one_valid_line)
{
    const struct hostile_case *hostile = &hostile_cases[_i];
    struct audit_record record = a_login();
    struct text ended;
    struct buffer line = {0};
    fill(&record, hostile->input, &ended);
    audit_format(&line, &record);
    assert_no_raw_control(&line);
    json_t *json = finish_and_parse(&line);
    assert_text(json, "user.id", hostile->expected);
    assert_text(json, "user_agent.original", hostile->expected);
    assert_number(json, "event.sequence", 42);
    ck_assert_str_eq(json_string_value(json_array_get(json_object_get(json, "sessiond.ended"), 0)),
                     hostile->expected);
    json_decref(json);
    buffer_free(&line);
}
END_TEST

START_TEST(a_nul_byte_is_escaped)
{
    struct audit_record record = a_login();
    struct buffer line = {0};
    record.user_id = (struct text){"a\0b", 3};
    audit_format(&line, &record);
    assert_no_raw_control(&line);
    ck_assert_ptr_nonnull(memmem(line.data, line.length, "\"user.id\":\"a\\u0000b\"",
                                 strlen("\"user.id\":\"a\\u0000b\"")));
    buffer_free(&line);
}
END_TEST

static const struct cut_case {
    const char *unit;
    size_t offset; /* of the first unit, filled with 'x' */
    size_t expected;
} cut_cases[] = {
    {"a", 0, 512},
    {"\xc3\xa9", 0, 512},
    {"\xc3\xa9", 1, 511},
    {"\xe4\xb8\xad", 0, 510},
    {"\xf0\x9f\x98\x80", 0, 512},
    {"\xf0\x9f\x98\x80", 3, 511},
};

START_TEST(long_texts_are_cut_between_characters)
{
    const struct cut_case *cut = &cut_cases[_i];
    struct audit_record record = a_login();
    struct buffer text = {0};
    for (size_t i = 0; i < cut->offset; i++)
        buffer_add_char(&text, 'x');
    while (text.length < 4000)
        buffer_add_text(&text, text_of(cut->unit));
    record.user_agent = buffer_text(&text);
    json_t *json = line_of(&record);
    ck_assert_uint_eq(json_string_length(json_object_get(json, "user_agent.original")),
                      cut->expected);
    ck_assert_mem_eq(json_string_value(json_object_get(json, "user_agent.original")), text.data,
                     cut->expected);
    json_decref(json);
    buffer_free(&text);
}
END_TEST

START_TEST(a_long_text_of_continuation_bytes_is_cut_too)
{
    struct audit_record record = a_login();
    char bytes[5000];
    memset(bytes, 0x80, sizeof(bytes));
    record.user_agent = (struct text){bytes, sizeof(bytes)};
    json_t *json = line_of(&record);
    ck_assert_uint_le(json_string_length(json_object_get(json, "user_agent.original")), 3 * 512);
    json_decref(json);
}
END_TEST

START_TEST(random_bytes_always_give_one_valid_line)
{
    srandom(7);
    for (int round = 0; round < 500; round++) {
        struct audit_record record = a_login();
        char bytes[700];
        struct text ended;
        struct buffer line = {0};
        size_t length = (size_t)random() % sizeof(bytes);
        for (size_t i = 0; i < length; i++)
            bytes[i] = (char)random();
        fill(&record, (struct text){bytes, length}, &ended);
        audit_format(&line, &record);
        assert_no_raw_control(&line);
        /* NUL is escaped, and jansson must be told to take it. */
        struct buffer prefix = {0};
        audit_format_tail_prefix(&prefix, TEXT("node-1"));
        audit_format_tail(&line, &prefix, round);
        json_t *json = json_loadb(line.data, line.length, JSON_ALLOW_NUL, NULL);
        ck_assert_ptr_nonnull(json);
        assert_number(json, "event.sequence", round);
        json_decref(json);
        buffer_free(&prefix);
        buffer_free(&line);
    }
}
END_TEST

START_TEST(a_notice_carries_file_and_numbers)
{
    const struct audit_number numbers[] = {{"sessiond.lines_lost", 17}, {"sessiond.errno", -1}};
    struct buffer line = {0};
    audit_format_notice(&line, &(struct audit_notice){.event = AUDIT_FILE_DELETED,
                                                      .wall_ms = morning_ms,
                                                      .failed = true,
                                                      .file = TEXT("/var/log/a\nb"),
                                                      .numbers = numbers,
                                                      .number_count = 2});
    json_t *json = finish_and_parse(&line);
    assert_text(json, "event.action", "delete-audit-file");
    assert_text(json, "event.outcome", "failure");
    assert_text(json, "file.path", "/var/log/a\nb");
    assert_number(json, "sessiond.lines_lost", 17);
    assert_number(json, "sessiond.errno", -1);
    json_decref(json);
    buffer_free(&line);
}
END_TEST

START_TEST(what_changes_something_is_durable_and_what_reads_is_not)
{
    ck_assert(audit_event_durable(AUDIT_LOGIN));
    ck_assert(audit_event_durable(AUDIT_REFRESH));
    ck_assert(audit_event_durable(AUDIT_KICK));
    ck_assert(audit_event_durable(AUDIT_LOGOUT));
    ck_assert(audit_event_durable(AUDIT_LOGOUT_ALL));
    ck_assert(!audit_event_durable(AUDIT_VALIDATE));
    ck_assert(!audit_event_durable(AUDIT_DEVICES));
    ck_assert(!audit_event_durable(AUDIT_REFUSED));
}
END_TEST

#define ROWS(table) (int)(sizeof(table) / sizeof(*(table)))

int main(void)
{
    Suite *suite = suite_create("audit_format");
    TCase *lines = tcase_create("lines");
    tcase_add_test(lines, a_line_starts_with_the_members_that_ecs_logging_wants_first);
    tcase_add_test(lines, a_full_record_is_told_in_ecs_names);
    tcase_add_loop_test(lines, category_and_type_are_arrays_for_every_event, 0, AUDIT_EVENT_COUNT);
    tcase_add_test(lines, a_repetition_is_marked_and_nothing_else_is);
    tcase_add_test(lines, absent_texts_are_left_out);
    tcase_add_loop_test(lines, outcome_level_and_message_follow_the_result, 0, ROWS(failure_cases));
    tcase_add_loop_test(lines, only_an_address_stands_in_source_ip, 0, ROWS(address_cases));
    tcase_add_loop_test(lines, times_are_rfc_3339_in_utc_with_milliseconds, 0, ROWS(time_cases));
    tcase_add_test(lines, the_cached_second_is_left_when_the_second_changes);
    tcase_add_test(lines, a_notice_carries_file_and_numbers);
    tcase_add_test(lines, what_changes_something_is_durable_and_what_reads_is_not);
    suite_add_tcase(suite, lines);
    TCase *texts = tcase_create("texts");
    tcase_add_loop_test(texts, hostile_texts_stay_inside_one_valid_line, 0, ROWS(hostile_cases));
    tcase_add_test(texts, a_nul_byte_is_escaped);
    tcase_add_loop_test(texts, long_texts_are_cut_between_characters, 0, ROWS(cut_cases));
    tcase_add_test(texts, a_long_text_of_continuation_bytes_is_cut_too);
    tcase_add_test(texts, random_bytes_always_give_one_valid_line);
    suite_add_tcase(suite, texts);
    return support_run(suite);
}
