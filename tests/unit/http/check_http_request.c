/* The states of a request, and what becomes of one whose operation, audit line or client lets it
 * wait. */
#include <check.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "metrics.h"
#include "support_http.h"
#include "support_run.h"

static struct rig_session session, second;
static int client;

static void set_up(void)
{
    http_set_up();
    session = rig_login(served.peer, "alice");
    second = rig_login(served.peer, "alice");
    client = http_connect();
}

static void tear_down(void)
{
    close(client);
    http_tear_down();
}

static void validate(void)
{
    http_call(client, "GET /v1/validate", rig_access(&session));
}

static void kick(void)
{
    char line[96];
    snprintf(line, sizeof(line), "DELETE /v1/devices/%.16s", second.id);
    http_call(client, line, rig_access(&session));
}

static void assert_status(const char *answer, const char *status)
{
    ck_assert_msg(strncmp(answer, "HTTP/1.1 ", 9) == 0 && strncmp(answer + 9, status, 3) == 0,
                  "%.200s", answer);
}

/* Nobody waits any more, and nothing is awaited. */
static void assert_all_over(void)
{
    for (enum request_state state = REQUEST_HEADERS; state < REQUEST_STATES; state++)
        ck_assert_msg(http_count(state) == 0, "%u in state %d", http_count(state), (int)state);
}

/* --- the table --- */

static const char *const names[REQUEST_STATES] = {
    [REQUEST_POOLED] = "pooled",       [REQUEST_HEADERS] = "headers", [REQUEST_BODY] = "body",
    [REQUEST_CALLED] = "called",       [REQUEST_POLLED] = "polled",   [REQUEST_ALONE] = "alone",
    [REQUEST_SUSPENDED] = "suspended", [REQUEST_READY] = "ready",     [REQUEST_QUEUED] = "queued",
};

static const char steps[] =
    "pooled>headers headers>body headers>called headers>pooled body>called body>pooled "
    "called>polled called>suspended called>ready polled>suspended "
    "polled>alone polled>ready suspended>ready alone>pooled ready>queued "
    "ready>alone ready>pooled queued>alone queued>pooled ";

START_TEST(each_state_has_the_successors_that_are_written_here)
{
    enum request_state from = (enum request_state)_i;
    for (enum request_state to = 0; to < REQUEST_STATES; to++) {
        char step[32];
        snprintf(step, sizeof(step), "%s>%s ", names[from], names[to]);
        ck_assert_msg(request_may_become(from, to) == (strstr(steps, step) != NULL), "%s", step);
    }
}
END_TEST

START_TEST(a_step_that_may_not_be_ends_the_process)
{
    request_set_state(request_take(&served.worker), REQUEST_QUEUED);
}
END_TEST

START_TEST(what_is_awaited_keeps_a_request_from_the_pool)
{
    struct request *request = request_take(&served.worker);
    request_set_state(request, REQUEST_HEADERS);
    request_await(request);
    request_set_state(request, REQUEST_POOLED);
}
END_TEST

START_TEST(nobody_calls_back_for_what_nothing_awaits)
{
    struct request *request = request_take(&served.worker);
    request_set_state(request, REQUEST_HEADERS);
    request_awaited(request);
}
END_TEST

/* --- the way of an answer --- */

START_TEST(what_memory_knows_is_answered_in_one_call)
{
    rig_watch(served.node, true);
    validate();
    assert_status(http_received(client), "200");
    rig_recount();
    validate();
    ck_assert_ptr_nonnull(strstr(http_received(client), "\"source\":\"cache\""));
    ck_assert_uint_eq(rig_served("HMGET"), 0);
    assert_all_over();
    close(client);
    http_stop();
    ck_assert_uint_eq(http_lines("\"validate\""), 2);
}
END_TEST

START_TEST(a_request_is_polled_and_then_suspended)
{
    rig_plan("HMGET", FATE_HOLD);
    validate();
    ck_assert_uint_eq(http_count(REQUEST_POLLED), 1);
    http_pass(30);
    ck_assert_uint_eq(http_count(REQUEST_POLLED), 0);
    ck_assert_uint_eq(http_count(REQUEST_SUSPENDED), 1);
    ck_assert_str_eq(http_received(client), "");
    rig_release();
    http_run();
    assert_status(http_received(client), "200");
    assert_all_over();
}
END_TEST

START_TEST(a_polled_request_is_answered_at_once)
{
    rig_plan("HMGET", FATE_HOLD);
    validate();
    ck_assert_uint_eq(http_count(REQUEST_POLLED), 1);
    rig_release();
    http_run();
    assert_status(http_received(client), "200");
    assert_all_over();
}
END_TEST

START_TEST(what_a_client_began_is_put_on_record_without_it)
{
    rig_plan("HMGET", FATE_HOLD);
    validate();
    close(client);
    http_run();
    ck_assert_uint_eq(http_count(REQUEST_ALONE), 1);
    rig_release();
    http_run();
    assert_all_over();
    http_stop();
    ck_assert_uint_eq(http_lines("\"validate\""), 1);
    ck_assert_uint_eq(http_lines("\"http.response.status_code\":200"), 1);
}
END_TEST

START_TEST(a_head_and_a_body_are_waited_for_in_states_of_their_own)
{
    http_send(client, "POST /v1/refresh HTTP/1.1\r\nHost: localhost\r\n");
    ck_assert_uint_eq(http_count(REQUEST_HEADERS), 1);
    http_send(client, "Content-Type: application/json\r\nContent-Length: 19\r\n\r\n{\"refresh");
    ck_assert_uint_eq(http_count(REQUEST_HEADERS), 0);
    ck_assert_uint_eq(http_count(REQUEST_BODY), 1);
    http_send(client, "_token\":1}");
    assert_status(http_received(client), "400");
    assert_all_over();
}
END_TEST

START_TEST(a_client_that_leaves_before_its_request_is_whole_leaves_a_line)
{
    http_send(client,
              "POST /v1/refresh HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\n{");
    ck_assert_uint_eq(http_count(REQUEST_BODY), 1);
    close(client);
    http_run();
    assert_all_over();
    http_stop();
    ck_assert_uint_eq(http_lines("\"http.response.status_code\":499"), 1);
}
END_TEST

START_TEST(a_body_that_is_too_large_is_refused_before_it_comes)
{
    http_send(client,
              "POST /v1/refresh HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n");
    assert_status(http_received(client), "413");
    http_run();
    assert_all_over();
}
END_TEST

START_TEST(no_more_requests_are_polled_than_libmicrohttpd_is_to_ask_for)
{
    enum { CALLS = 300, MOST = 256 };
    int clients[CALLS];
    rig_plan("HMGET", FATE_HOLD); /* the others join it */
    for (size_t i = 0; i < CALLS; i++) {
        clients[i] = http_connect();
        http_call(clients[i], "GET /v1/validate", rig_access(&session));
    }
    ck_assert_uint_eq(http_count(REQUEST_POLLED), MOST);
    ck_assert_uint_eq(http_count(REQUEST_SUSPENDED), CALLS - MOST);
    rig_release();
    http_run();
    for (size_t i = 0; i < CALLS; i++) {
        assert_status(http_received(clients[i]), "200");
        close(clients[i]);
    }
    assert_all_over();
}
END_TEST

START_TEST(a_change_is_answered_when_its_line_is_on_disk)
{
    kick();
    assert_status(http_wait(client), "200");
    assert_all_over();
    http_stop();
    ck_assert_uint_eq(http_lines("\"kick\""), 1);
}
END_TEST

/* --- what takes too long --- */

static void let_validation_hang(void)
{
    rig_plan("HMGET", FATE_FORGET);
    validate();
    http_pass(2000 + 250);
    ck_assert_uint_eq(http_count(REQUEST_POLLED) + http_count(REQUEST_SUSPENDED), 0);
}

START_TEST(an_operation_that_does_not_end_is_given_up)
{
    int64_t before = metrics_read(METRIC_REQUESTS_OVERDUE);
    rig_plan("HMGET", FATE_FORGET);
    validate();
    http_pass(1900);
    ck_assert_str_eq(http_received(client), "");
    http_pass(350);
    const char *answer = http_received(client);
    assert_status(answer, "500");
    ck_assert_ptr_nonnull(strstr(answer, "\"code\":\"internal\""));
    ck_assert_int_eq(metrics_read(METRIC_REQUESTS_OVERDUE), before + 1);
    http_stop();
    ck_assert_uint_eq(http_lines("\"validate\""), 1);
    ck_assert_uint_eq(http_lines("\"http.response.status_code\":500"), 1);
}
END_TEST

START_TEST(what_comes_late_is_no_second_answer_and_no_second_line)
{
    let_validation_hang();
    assert_status(http_received(client), "500");
    ck_assert_uint_eq(http_count(REQUEST_ALONE), 1);
    rig_release();
    http_run();
    ck_assert_str_eq(http_received(client), "");
    assert_all_over();
    http_stop();
    ck_assert_uint_eq(http_lines("\"validate\""), 1);
}
END_TEST

START_TEST(the_connection_goes_on_while_its_first_request_is_still_under_way)
{
    let_validation_hang();
    assert_status(http_received(client), "500");
    http_call(client, "GET /v1/devices", rig_access(&session));
    assert_status(http_received(client), "200");
    ck_assert_uint_eq(http_count(REQUEST_ALONE), 1);
    rig_release();
    http_run();
    assert_all_over();
    validate();
    assert_status(http_received(client), "200");
}
END_TEST

START_TEST(a_change_that_does_not_end_is_given_up_and_still_takes_effect)
{
    rig_plan("HGETALL", FATE_FORGET);
    http_call(client, "POST /v1/logout", rig_access(&session));
    http_pass(2000 + 250);
    assert_status(http_wait(client), "500");
    ck_assert_int_eq(rig_validate(served.node, &session), ERR_OK);
    rig_release();
    http_wait_for_none(REQUEST_ALONE); /* it is too late for Redis, but not for the journal */
    assert_all_over();
    ck_assert_int_eq(rig_validate(served.node, &session), ERR_TOKEN_INVALID);
    http_stop();
    ck_assert_uint_eq(http_lines("\"logout\""), 1);
    ck_assert_uint_eq(http_lines("\"http.response.status_code\":500"), 1);
}
END_TEST

START_TEST(a_client_may_leave_after_its_request_was_given_up)
{
    let_validation_hang();
    close(client);
    http_run();
    ck_assert_uint_eq(http_count(REQUEST_ALONE), 1);
    rig_release();
    http_run();
    assert_all_over();
    http_stop();
    ck_assert_uint_eq(http_lines("\"validate\""), 1);
}
END_TEST

START_TEST(a_stop_ends_what_was_given_up)
{
    let_validation_hang();
    assert_status(http_received(client), "500");
    ck_assert_uint_eq(http_count(REQUEST_ALONE), 1);
    http_stop();
    assert_all_over();
}
END_TEST

/* It was the worker that did not run: the answers of Redis lie in its sockets. */
START_TEST(a_worker_that_was_held_up_reads_on_before_it_gives_up)
{
    rig_plan("HMGET", FATE_FORGET);
    validate();
    clock_fake_pass(5000);
    http_run();
    ck_assert_str_eq(http_received(client), "");
    rig_release();
    http_run();
    assert_status(http_received(client), "200");
    assert_all_over();
}
END_TEST

START_TEST(what_ends_in_time_is_not_given_up)
{
    rig.fate = FATE_LATE_BEFORE;
    validate();
    rig.fate = FATE_ANSWER;
    http_run();
    assert_status(http_received(client), "503");
    http_pass(3000);
    ck_assert_str_eq(http_received(client), "");
    assert_all_over();
}
END_TEST

int main(void)
{
    crypto_init();
    Suite *suite = suite_create("http_request");
    TCase *cases = tcase_create("states");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_set_timeout(cases, 40);
    tcase_add_loop_test(cases, each_state_has_the_successors_that_are_written_here, 0,
                        REQUEST_STATES);
    tcase_add_test_raise_signal(cases, a_step_that_may_not_be_ends_the_process, SIGABRT);
    tcase_add_test_raise_signal(cases, what_is_awaited_keeps_a_request_from_the_pool, SIGABRT);
    tcase_add_test_raise_signal(cases, nobody_calls_back_for_what_nothing_awaits, SIGABRT);
    tcase_add_test(cases, what_memory_knows_is_answered_in_one_call);
    tcase_add_test(cases, a_request_is_polled_and_then_suspended);
    tcase_add_test(cases, a_polled_request_is_answered_at_once);
    tcase_add_test(cases, what_a_client_began_is_put_on_record_without_it);
    tcase_add_test(cases, a_head_and_a_body_are_waited_for_in_states_of_their_own);
    tcase_add_test(cases, a_client_that_leaves_before_its_request_is_whole_leaves_a_line);
    tcase_add_test(cases, a_body_that_is_too_large_is_refused_before_it_comes);
    tcase_add_test(cases, no_more_requests_are_polled_than_libmicrohttpd_is_to_ask_for);
    tcase_add_test(cases, a_change_is_answered_when_its_line_is_on_disk);
    tcase_add_test(cases, an_operation_that_does_not_end_is_given_up);
    tcase_add_test(cases, what_comes_late_is_no_second_answer_and_no_second_line);
    tcase_add_test(cases, the_connection_goes_on_while_its_first_request_is_still_under_way);
    tcase_add_test(cases, a_change_that_does_not_end_is_given_up_and_still_takes_effect);
    tcase_add_test(cases, a_client_may_leave_after_its_request_was_given_up);
    tcase_add_test(cases, a_stop_ends_what_was_given_up);
    tcase_add_test(cases, a_worker_that_was_held_up_reads_on_before_it_gives_up);
    tcase_add_test(cases, what_ends_in_time_is_not_given_up);
    suite_add_tcase(suite, cases);
    return support_run(suite);
}
