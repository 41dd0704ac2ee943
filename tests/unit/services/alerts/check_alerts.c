/* Alerts: which are raised when, by their audit lines; minutes; the form of an alert. */
#include "alerts.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "services/alerts/alert.h"
#include "services/alerts/minutes.h"

#include "clock.h"
#include "crypto.h"
#include "metrics.h"
#include "support_run.h"

/* --- minutes --- */

static struct minutes *minutes;

static void minutes_setup(void)
{
    minutes = minutes_create(8);
}

static void minutes_teardown(void)
{
    minutes_destroy(&minutes);
}

START_TEST(a_minute_begins_with_the_first)
{
    ck_assert_int_eq(minutes_count(minutes, 7, 1, 1000), 1);
    ck_assert_int_eq(minutes_count(minutes, 7, 2, 1000 + MINUTE_MS - 1), 3);
    ck_assert_int_eq(minutes_count(minutes, 8, 1, 1000 + MINUTE_MS - 1), 1);
    ck_assert_int_eq(minutes_count(minutes, 7, 1, 1000 + MINUTE_MS), 1);
}
END_TEST

START_TEST(where_there_is_no_room_the_oldest_goes)
{
    for (unsigned name = 1; name <= 8; name++)
        minutes_count(minutes, name, 5, 100 + name);
    struct minute displaced;
    struct minute *minute = minutes_find(minutes, 9, 200, &displaced);
    ck_assert(displaced.used && displaced.name == 1 && displaced.count == 5);
    ck_assert(!minute->used && minute->name == 9 && minute->count == 0);
    ck_assert_int_eq(minutes_count(minutes, 2, 1, 200), 6);
}
END_TEST

START_TEST(a_look_gives_up_none)
{
    for (unsigned name = 1; name <= 8; name++)
        minutes_count(minutes, name, 5, 100);
    ck_assert_ptr_null(minutes_running(minutes, 9, 100));
    ck_assert_int_eq(minutes_running(minutes, 1, 99 + MINUTE_MS)->count, 5);
    ck_assert_ptr_null(minutes_running(minutes, 1, 100 + MINUTE_MS));
}
END_TEST

START_TEST(all_that_are_used_can_be_walked)
{
    for (unsigned name = 1; name <= 3; name++)
        minutes_count(minutes, name, 1, 100);
    unsigned names = 0;
    size_t at = 0;
    for (struct minute *minute; (minute = minutes_next(minutes, &at));)
        names += (unsigned)minute->name;
    ck_assert_uint_eq(names, 6);
}
END_TEST

/* --- how it looks --- */

static struct raised_alert a_reuse(void)
{
    return (struct raised_alert){.wall_ms = 1795340109123,
                                 .alert = {.kind = ALERT_REFRESH_REUSE,
                                           .tenant = TEXT("acme"),
                                           .user_id = TEXT("al\"ice\n"),
                                           .session_id = TEXT("0123456789abcdef"),
                                           .address = TEXT("203.0.113.7"),
                                           .detail = TEXT("It came back."),
                                           .count = 3}};
}

START_TEST(the_body_of_a_post)
{
    struct raised_alert reuse = a_reuse();
    struct buffer body = {0};
    const char *expected =
        "{\"type\":\"sessiond.alert.refresh_reuse\",\"timestamp\":\"2026-11-22T09:35:09.123Z\","
        "\"data\":{\"id\":\"alert_1\",\"kind\":\"refresh_reuse\",\"node\":\"node-1\","
        "\"tenant\":\"acme\",\"user_id\":\"al\\\"ice\\u000a\",\"session_id\":\"0123456789abcdef\","
        "\"address\":\"203.0.113.7\",\"detail\":\"It came back.\",\"count\":3,\"lost_before\":2}}";
    alert_print(&body, &reuse, TEXT("alert_1"), TEXT("node-1"), 2);
    buffer_add_char(&body, '\0');
    json_t *json = json_loads(body.data, JSON_REJECT_DUPLICATES, NULL);
    json_t *wanted = json_loads(expected, 0, NULL);
    ck_assert_ptr_nonnull(json);
    ck_assert_msg(json_equal(json, wanted), "%s", body.data);
    ck_assert_ptr_null(strchr(body.data, '\n'));
    json_decref(json);
    json_decref(wanted);
    buffer_free(&body);
}
END_TEST

START_TEST(each_kind_has_a_name_and_a_sentence)
{
    struct raised_alert raised = {.alert = {.kind = (enum alert_kind)_i, .count = 1}};
    struct buffer body = {0}, line = {0};
    alert_print(&body, &raised, TEXT("alert_1"), TEXT("n"), 0);
    alert_record(&line, &raised, TEXT("alert_1"));
    buffer_add_char(&body, '\0');
    buffer_add_char(&line, '\0');
    ck_assert_ptr_nonnull(strstr(body.data, "\"detail\":\""));
    ck_assert_ptr_null(strstr(body.data, "lost_before"));
    ck_assert_ptr_null(strstr(body.data, "null"));
    ck_assert_ptr_nonnull(strstr(line.data, "\"event.kind\":\"alert\""));
    ck_assert_ptr_nonnull(strstr(line.data, "\"rule.name\":\""));
    ck_assert_ptr_nonnull(strstr(line.data, "\"event.id\":\"alert_1\""));
    ck_assert_ptr_null(strstr(line.data, "event.outcome"));
    buffer_free(&body);
    buffer_free(&line);
}
END_TEST

START_TEST(a_piece_comes_back_cut_at_512_bytes)
{
    char longest[600];
    struct raised_alert reuse = a_reuse(), back;
    struct buffer pieces = {0};
    memset(longest, 'x', sizeof(longest));
    reuse.alert.actor = (struct text){longest, sizeof(longest)};
    size_t first = alert_pack(&pieces, &reuse);
    reuse.alert.count = 9;
    alert_pack(&pieces, &reuse);
    ck_assert_uint_eq(alert_unpack(pieces.data, &back), first);
    ck_assert_uint_eq(back.alert.actor.length, 512);
    ck_assert(text_equal(back.alert.tenant, TEXT("acme")));
    ck_assert(text_equal(back.alert.detail, TEXT("It came back.")));
    ck_assert_int_eq(back.wall_ms, reuse.wall_ms);
    ck_assert_uint_eq(alert_unpack(pieces.data + first, &back), pieces.length - first);
    ck_assert_int_eq(back.alert.count, 9);
    buffer_free(&pieces);
}
END_TEST

/* --- the service, without a webhook, as its audit lines tell --- */

static char directory[64], audit_path[80], alerts_path[80], refused_path[96];
static struct conf conf;
static struct audit *audit;
static struct alerts *alerts;

static void start_alerts(void)
{
    struct buffer error = {0};
    alerts = alerts_start(&conf, audit, "node-1", &error);
    ck_assert_msg(alerts != NULL, "%.*s", (int)error.length, error.data);
}

static const int64_t begin_ms = 1795340109123;

static void setup(void)
{
    struct buffer error = {0};
    crypto_init();
    snprintf(directory, sizeof(directory), "/tmp/check_alerts.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(audit_path, sizeof(audit_path), "%s/audit", directory);
    snprintf(alerts_path, sizeof(alerts_path), "%s/alerts", directory);
    snprintf(refused_path, sizeof(refused_path), "%s.refused", alerts_path);
    conf = (struct conf){.audit_file = audit_path,
                         .audit_max_bytes = 1 << 30,
                         .audit_retention = 86400,
                         .audit_queue_bytes = 1 << 20,
                         .alerts_file = alerts_path,
                         .alerts_max_bytes = 1 << 20,
                         .alerts_webhook_url = "",
                         .alerts_webhook_secret_file = "",
                         .alerts_tls_ca_file = "",
                         .alerts_forced_logouts_per_minute = 3,
                         .alerts_guesses_per_minute = 3};
    clock_fake(begin_ms);
    audit = audit_start(&conf, "node-1", &error);
    ck_assert_msg(audit != NULL, "%.*s", (int)error.length, error.data);
    start_alerts();
}

/* All alerts so far: one text "kind:subject:count " each. */
static void read_told(char *out, size_t size)
{
    char line[8192];
    FILE *stream = fopen(audit_path, "r");
    ck_assert_ptr_nonnull(stream);
    size_t length = 0;
    out[0] = '\0';
    while (fgets(line, sizeof(line), stream)) {
        json_t *json = json_loads(line, 0, NULL);
        ck_assert_msg(json != NULL, "%s", line);
        const char *kind = json_string_value(json_object_get(json, "rule.name"));
        const char *user = json_string_value(json_object_get(json, "user.id"));
        const char *actor = json_string_value(json_object_get(json, "sessiond.actor"));
        const char *address = json_string_value(json_object_get(json, "source.ip"));
        const char *subject = user ? user : actor ? actor : address;
        long long count = json_integer_value(json_object_get(json, "sessiond.count"));
        if (kind)
            length += (size_t)snprintf(out + length, size - length, "%s:%s:%lld ", kind,
                                       subject ? subject : "-", count);
        json_decref(json);
    }
    fclose(stream);
}

/* Ends the service, which reports the rest. */
static void assert_told(const char *expected)
{
    char told[4096];
    alerts_stop(&alerts);
    audit_stop(&audit);
    read_told(told, sizeof(told));
    ck_assert_str_eq(told, expected);
}

static void wait_for_told(const char *expected)
{
    char told[4096] = "";
    for (int i = 0; i < 10000 && strcmp(told, expected) != 0; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        read_told(told, sizeof(told));
    }
    ck_assert_str_eq(told, expected);
}

static void teardown(void)
{
    alerts_stop(&alerts);
    if (audit)
        audit_stop(&audit);
    clock_fake(0);
    unlink(audit_path);
    unlink(alerts_path);
    unlink(refused_path);
    ck_assert_int_eq(rmdir(directory), 0);
}

static void reuse_of(const char *user, int64_t count)
{
    const struct alert alert = {.kind = ALERT_REFRESH_REUSE,
                                .tenant = TEXT("acme"),
                                .user_id = text_of(user),
                                .count = count};
    alerts_raise(alerts, &alert);
}

START_TEST(the_same_is_told_once_a_minute_and_the_rest_counted)
{
    reuse_of("alice", 0);
    for (int i = 0; i < 4; i++)
        reuse_of("alice", i);
    reuse_of("bob", 2);
    wait_for_told("refresh_reuse:alice:1 refresh_reuse:bob:2 ");
    clock_fake(begin_ms + MINUTE_MS);
    wait_for_told("refresh_reuse:alice:1 refresh_reuse:bob:2 refresh_reuse:alice:7 ");
    /* It goes on: another minute before it is raised again. */
    reuse_of("alice", 1);
    clock_fake(begin_ms + 2 * MINUTE_MS - 1);
    reuse_of("alice", 1);
    clock_fake(begin_ms + 2 * MINUTE_MS);
    wait_for_told("refresh_reuse:alice:1 refresh_reuse:bob:2 refresh_reuse:alice:7 "
                  "refresh_reuse:alice:2 ");
    clock_fake(begin_ms + 10 * MINUTE_MS);
    reuse_of("bob", 0);
    assert_told("refresh_reuse:alice:1 refresh_reuse:bob:2 refresh_reuse:alice:7 "
                "refresh_reuse:alice:2 refresh_reuse:bob:1 ");
}
END_TEST

START_TEST(a_stop_tells_what_was_only_counted)
{
    for (int i = 0; i < 5; i++)
        reuse_of("alice", 0);
    assert_told("refresh_reuse:alice:1 refresh_reuse:alice:4 ");
}
END_TEST

START_TEST(the_same_user_of_another_tenant_is_another)
{
    struct alert alert = {
        .kind = ALERT_NEW_LOCATION, .tenant = TEXT("a"), .user_id = TEXT("bc"), .count = 1};
    alerts_raise(alerts, &alert);
    alert.tenant = TEXT("ab");
    alert.user_id = TEXT("c");
    alerts_raise(alerts, &alert);
    alert.kind = ALERT_REFRESH_REUSE;
    alerts_raise(alerts, &alert);
    alert.session_id = TEXT("0123456789abcdef"); /* no part of the subject */
    alerts_raise(alerts, &alert);
    assert_told("new_location:bc:1 new_location:c:1 refresh_reuse:c:1 refresh_reuse:c:1 ");
}
END_TEST

static void force_out(const char *actor, const char *user)
{
    const struct forced_logout logout = {.key = TEXT("admin"),
                                         .actor = text_of(actor),
                                         .tenant = TEXT("acme"),
                                         .user_id = text_of(user)};
    alerts_count_forced_logout(alerts, &logout);
}

START_TEST(forced_logouts_are_counted_by_operator_and_different_user)
{
    static const char *const users[] = {"a", "b", "b", "c", "a", "c"};
    for (size_t i = 0; i < sizeof(users) / sizeof(users[0]); i++) {
        force_out("eve", users[i]);
        force_out("bob", "b");
    }
    force_out("eve", "d");
    force_out("eve", "e");
    clock_fake(begin_ms + MINUTE_MS); /* they start from nothing */
    for (int i = 0; i < 3; i++)
        force_out("bob", users[2 * i]);
    assert_told("forced_logouts:eve:4 forced_logouts:eve:1 ");
}
END_TEST

START_TEST(another_operator_for_each_user_does_not_hide_the_key)
{
    char actor[] = "mask-a", user[] = "a";
    for (int i = 0; i < 11; i++, actor[5]++, user[0]++) {
        force_out(actor, user);
        force_out("bob", "b"); /* one user, whoever ends him */
    }
    assert_told("forced_logouts:admin:10 forced_logouts:admin:1 ");
}
END_TEST

START_TEST(guesses_are_counted_by_address)
{
    for (int i = 0; i < 6; i++) {
        alerts_count_guess(alerts, TEXT("203.0.113.7"));
        if (i < 3)
            alerts_count_guess(alerts, TEXT("203.0.113.8"));
    }
    assert_told("key_guessing:203.0.113.7:4 key_guessing:203.0.113.7:2 ");
}
END_TEST

START_TEST(ipv6_addresses_guess_by_network)
{
    static const char *const guessers[] = {
        "2001:db8:1:2::1",      "2001:db8:1:2:ffff::", "2001:db8:1:3::1",
        "2001:DB8:1:2:0:0:0:9", "2001:db8:1:2::1",     "unix"};
    for (size_t i = 0; i < sizeof(guessers) / sizeof(guessers[0]); i++)
        alerts_count_guess(alerts, text_of(guessers[i]));
    alerts_stop(&alerts);
    audit_stop(&audit);
    FILE *stream = fopen(audit_path, "r");
    ck_assert_ptr_nonnull(stream);
    char line[8192];
    ck_assert_ptr_nonnull(fgets(line, sizeof(line), stream));
    ck_assert_msg(strstr(line, "\"source.address\":\"2001:db8:1:2::/64\"") &&
                      strstr(line, "\"sessiond.count\":4"),
                  "%s", line);
    ck_assert_ptr_null(fgets(line, sizeof(line), stream));
    fclose(stream);
}
END_TEST

START_TEST(the_end_of_all_of_a_tenants_sessions_is_told_at_once)
{
    force_out("eve", "");
    force_out("eve", "");
    assert_told("forced_logouts:eve:1 forced_logouts:eve:1 ");
}
END_TEST

START_TEST(zero_turns_counting_off)
{
    conf.alerts_guesses_per_minute = conf.alerts_forced_logouts_per_minute = 0;
    alerts_reload(alerts, &conf);
    for (int i = 0; i < 9; i++) {
        char user[2] = {(char)('a' + i), '\0'};
        alerts_count_guess(alerts, TEXT("203.0.113.7"));
        force_out("eve", user);
    }
    alerts_raise(NULL, &(struct alert){.kind = ALERT_TENANT_RATE});
    assert_told("");
}
END_TEST

static void new_place_of(const char *tenant, int user)
{
    char name[16];
    snprintf(name, sizeof(name), "u%d", user);
    const struct alert alert = {
        .kind = ALERT_NEW_LOCATION, .tenant = text_of(tenant), .user_id = text_of(name)};
    alerts_raise(alerts, &alert);
}

static void tell_one_by_one(int64_t most)
{
    conf.alerts_one_by_one_per_minute = most;
    alerts_reload(alerts, &conf);
}

START_TEST(what_a_tenant_has_too_much_of_is_told_as_a_number)
{
    int64_t before = metrics_read(METRIC_ALERTS_SUPPRESSED);
    tell_one_by_one(2);
    for (int i = 0; i < 2000; i++)
        new_place_of("acme", i);
    reuse_of("alice", 0); /* another kind */
    new_place_of("other", 7);
    ck_assert_int_eq(metrics_read(METRIC_ALERTS_SUPPRESSED) - before, 1998);
    assert_told("new_location:u0:1 new_location:u1:1 new_location:-:1 refresh_reuse:alice:1 "
                "new_location:u7:1 new_location:-:1997 ");
}
END_TEST

START_TEST(a_crowd_begins_anew_with_the_next_minute)
{
    tell_one_by_one(1);
    for (int i = 0; i < 3; i++)
        new_place_of("acme", i);
    wait_for_told("new_location:u0:1 new_location:-:1 ");
    clock_fake(begin_ms + MINUTE_MS);
    wait_for_told("new_location:u0:1 new_location:-:1 new_location:-:1 ");
    new_place_of("acme", 3);
    assert_told("new_location:u0:1 new_location:-:1 new_location:-:1 new_location:u3:1 ");
}
END_TEST

START_TEST(what_repeats_takes_no_place_twice_and_waits_for_one)
{
    tell_one_by_one(2);
    for (int i = 0; i < 5; i++)
        reuse_of("alice", 0);
    clock_fake(begin_ms + MINUTE_MS - 1);
    reuse_of("bob", 0);
    wait_for_told("refresh_reuse:alice:1 refresh_reuse:bob:1 ");
    clock_fake(begin_ms + MINUTE_MS);
    wait_for_told("refresh_reuse:alice:1 refresh_reuse:bob:1 refresh_reuse:alice:4 ");
    reuse_of("carol", 0);
    for (int i = 0; i < 3; i++)
        reuse_of("bob", 0);
    clock_fake(begin_ms + 2 * MINUTE_MS - 1); /* bob's minute is over, but the limit is reached */
    new_place_of("other", 7);                 /* once this is raised, bob was looked at */
    wait_for_told("refresh_reuse:alice:1 refresh_reuse:bob:1 refresh_reuse:alice:4 "
                  "refresh_reuse:carol:1 new_location:u7:1 ");
    reuse_of("bob", 0);
    clock_fake(begin_ms + 3 * MINUTE_MS);
    wait_for_told("refresh_reuse:alice:1 refresh_reuse:bob:1 refresh_reuse:alice:4 "
                  "refresh_reuse:carol:1 new_location:u7:1 refresh_reuse:bob:4 ");
}
END_TEST

START_TEST(a_flood_is_bounded_and_counted)
{
    enum { FLOOD = 30000 };
    int64_t before = metrics_read(METRIC_ALERTS_RAISED);
    for (int i = 0; i < FLOOD; i++) {
        char user[16];
        snprintf(user, sizeof(user), "u%d", i);
        reuse_of(user, 1);
    }
    ck_assert_int_eq(metrics_read(METRIC_ALERTS_RAISED) - before, FLOOD);
    alerts_stop(&alerts);
    int64_t lost = metrics_read(METRIC_ALERTS_DROPPED) + metrics_read(METRIC_AUDIT_LOST);
    audit_stop(&audit);
    FILE *stream = fopen(audit_path, "r");
    ck_assert_ptr_nonnull(stream);
    int told = 0;
    for (char line[8192]; fgets(line, sizeof(line), stream);)
        told += strstr(line, "refresh_reuse") != NULL;
    fclose(stream);
    ck_assert_int_eq(told + lost, FLOOD);
}
END_TEST

/* --- the secret --- */

static void assert_secret(const char *content, unsigned mode, const char *refusal)
{
    char path[96];
    struct buffer error = {0};
    snprintf(path, sizeof(path), "%s/secret", directory);
    FILE *stream = fopen(path, "w");
    ck_assert_ptr_nonnull(stream);
    fputs(content, stream);
    fclose(stream);
    ck_assert_int_eq(chmod(path, mode), 0);
    conf.alerts_webhook_url = "http://127.0.0.1:1/";
    conf.alerts_webhook_secret_file = path;
    bool good = alerts_check(&conf, &error);
    buffer_add_char(&error, '\0');
    ck_assert_msg(good == (refusal == NULL), "%s: %s", content, error.data);
    ck_assert_msg(
        good || (strstr(error.data, refusal) && strstr(error.data, "alerts.webhook_secret_file")),
        "%s", error.data);
    buffer_free(&error);
    unlink(path);
}

START_TEST(secrets_that_are_taken_and_refused)
{
    assert_secret("012345678901234567890123\n", 0600, NULL);
    assert_secret("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz", 0600, NULL);
    assert_secret("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzKys=\n", 0600, NULL);
    assert_secret("01234567890123456789012\n", 0600, "shorter than 24 bytes");
    assert_secret("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkw", 0600, "shorter than 24 bytes");
    assert_secret("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI!", 0600, "not base64");
    assert_secret("012345678901234567890123\n", 0604, "mode 0604");
    assert_secret("\n", 0600, "empty");
    conf.alerts_webhook_secret_file = "/nonexistent";
    struct buffer error = {0};
    ck_assert(!alerts_check(&conf, &error));
    buffer_free(&error);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("alerts");
    TCase *cells = tcase_create("minutes");
    tcase_add_checked_fixture(cells, minutes_setup, minutes_teardown);
    tcase_add_test(cells, a_minute_begins_with_the_first);
    tcase_add_test(cells, where_there_is_no_room_the_oldest_goes);
    tcase_add_test(cells, a_look_gives_up_none);
    tcase_add_test(cells, all_that_are_used_can_be_walked);
    suite_add_tcase(suite, cells);

    TCase *looks = tcase_create("looks");
    tcase_add_test(looks, the_body_of_a_post);
    tcase_add_loop_test(looks, each_kind_has_a_name_and_a_sentence, 0, ALERT_KINDS);
    tcase_add_test(looks, a_piece_comes_back_cut_at_512_bytes);
    suite_add_tcase(suite, looks);

    TCase *service = tcase_create("service");
    tcase_add_checked_fixture(service, setup, teardown);
    tcase_set_timeout(service, 60);
    tcase_add_test(service, the_same_is_told_once_a_minute_and_the_rest_counted);
    tcase_add_test(service, a_stop_tells_what_was_only_counted);
    tcase_add_test(service, the_same_user_of_another_tenant_is_another);
    tcase_add_test(service, forced_logouts_are_counted_by_operator_and_different_user);
    tcase_add_test(service, another_operator_for_each_user_does_not_hide_the_key);
    tcase_add_test(service, guesses_are_counted_by_address);
    tcase_add_test(service, ipv6_addresses_guess_by_network);
    tcase_add_test(service, the_end_of_all_of_a_tenants_sessions_is_told_at_once);
    tcase_add_test(service, zero_turns_counting_off);
    tcase_add_test(service, what_a_tenant_has_too_much_of_is_told_as_a_number);
    tcase_add_test(service, a_crowd_begins_anew_with_the_next_minute);
    tcase_add_test(service, what_repeats_takes_no_place_twice_and_waits_for_one);
    tcase_add_test(service, a_flood_is_bounded_and_counted);
    tcase_add_test(service, secrets_that_are_taken_and_refused);
    suite_add_tcase(suite, service);
    return suite;
}

int main(void)
{
    return support_run(suite());
}
