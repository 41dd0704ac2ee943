/* A connection's life: what must come by when, what is said of what libmicrohttpd cannot take, and
 * the end of the worker. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "metrics.h"
#include "support_http.h"
#include "support_run.h"

static struct rig_session session;
static int client;

static void set_up(void)
{
    http_set_up();
    served.server.drain_timeout_ms = 2000;
    session = rig_login(served.peer, "alice");
    client = http_connect();
}

static void tear_down(void)
{
    close(client);
    http_tear_down();
}

static bool is_closed(int end)
{
    char byte;
    return recv(end, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static void assert_status(const char *answer, const char *status)
{
    ck_assert_msg(strncmp(answer, "HTTP/1.1 ", 9) == 0 && strncmp(answer + 9, status, 3) == 0,
                  "not %s: %.200s", status, answer);
}

static void validate(void)
{
    http_call(client, "GET /v1/validate", rig_access(&session));
}

/* --- deadlines --- */

#define POST "POST /v1/refresh HTTP/1.1\r\nHost: localhost\r\n"

static const struct {
    const char *sent;
    int64_t seconds;
    const char *line; /* of the audit file; NULL: none */
} slow[] = {
    {"", 1, NULL},
    {"GET /v1/vali", 1, NULL},
    {POST, 1, "\"http.response.status_code\":408"},
    {POST "Content-Length: 9\r\n\r\n{", 2, "\"http.response.status_code\":408"},
};

START_TEST(who_is_slow_is_cut_off)
{
    rig.conf->server_header_timeout = 1;
    rig.conf->server_body_timeout = 2;
    int64_t cut = metrics_read(METRIC_CONNECTIONS_CUT);
    int late = http_connect();
    http_send(late, slow[_i].sent);
    http_pass(slow[_i].seconds * 1000 - 500);
    ck_assert(!is_closed(late));
    http_pass(1000);
    ck_assert(is_closed(late));
    ck_assert_int_ge(metrics_read(METRIC_CONNECTIONS_CUT), cut + 1);
    close(late);
    http_stop();
    ck_assert_uint_eq(slow[_i].line ? http_lines(slow[_i].line) : 0, slow[_i].line ? 1 : 0);
}
END_TEST

START_TEST(between_requests_a_client_may_take_its_time)
{
    rig.conf->server_header_timeout = 1;
    rig.conf->server_keepalive_timeout = 4;
    validate();
    assert_status(http_received(client), "200");
    http_pass(3 * 1000);
    validate();
    assert_status(http_received(client), "200");
    http_pass(4500);
    ck_assert(is_closed(client));
}
END_TEST

/* --- what the library refuses --- */

static void send_long(const char *before, size_t length, const char *after)
{
    char *request = malloc(length + 256);
    size_t at = (size_t)snprintf(request, 200, "%s", before);
    memset(request + at, 'x', length);
    snprintf(request + at + length, 256 - at, "%s", after);
    http_send(client, request);
    free(request);
}

static const struct {
    const char *before;
    size_t length;
    const char *after, *status, *line;
} refused[] = {
    {"GET /v1/validate HTTP/1.1\r\nHost: localhost\r\nX-Long: ", 60000, "\r\n\r\n", "431",
     "headers_too_large"},
    {"GET /", 60000, " HTTP/1.1\r\nHost: localhost\r\n\r\n", "414", NULL},
    {POST "Content-Length: 1", 1, "\r\n\r\n", "400", "bad_request"},
    {POST "Content-Length: 99999999999999999999999", 0, "\r\n\r\n", "413", "too_large"},
    {POST "Content-Length: 9999999", 0, "\r\n\r\n", "413", "too_large"},
    {POST "Content-Length: 1\r\nContent-Length: 2", 0, "\r\n\r\n", "400", "bad_request"},
    {"GET /v1/validate HTTP/1.1\r\nX-No-Host: ", 1, "\r\n\r\n", "400", "bad_request"},
    {"GET /v1/validate HTTP/1.1\r\nHost: localhost\r\n : ", 1, "\r\n\r\n", "400", "bad_request"},
};

START_TEST(what_cannot_be_taken_is_refused_and_on_record)
{
    send_long(refused[_i].before, refused[_i].length, refused[_i].after);
    assert_status(http_wait(client), refused[_i].status);
    http_run();
    for (enum request_state state = REQUEST_HEADERS; state < REQUEST_STATES; state++)
        ck_assert_uint_eq(http_count(state), 0);
    http_stop();
    if (refused[_i].line)
        ck_assert_uint_eq(http_lines(refused[_i].line), 1);
}
END_TEST

/* --- chunks --- */

#define CHUNKED POST "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"

static const struct {
    const char *body, *status;
} chunks[] = {
    {"5\r\n{\"ref\r\nf\r\nresh_token\":1}\r\n\r\n0\r\n\r\n", "400"},
    {"2\r\n{}\r\n0\r\n\r\n", "400"},
    {"0\r\n\r\n", "400"},
    {"zz\r\n{}\r\n0\r\n\r\n", "400"},
};

START_TEST(a_body_may_come_in_chunks)
{
    char request[512];
    snprintf(request, sizeof(request), CHUNKED "%s", chunks[_i].body);
    http_send(client, request);
    assert_status(http_wait(client), chunks[_i].status);
}
END_TEST

START_TEST(chunks_beyond_the_limit_are_not_read_on)
{
    rig.conf->server_body_limit = 64;
    http_send(client, CHUNKED);
    send_long("100\r\n", 0x100, "\r\n0\r\n\r\n");
    http_run();
    assert_status(http_wait(client), "413");
}
END_TEST

START_TEST(chunks_of_a_call_without_body_are_refused)
{
    char request[512];
    snprintf(request, sizeof(request),
             "GET /v1/validate HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %.*s\r\n"
             "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
             TOKEN_LENGTH, session.access);
    http_send(client, request);
    assert_status(http_wait(client), "400");
}
END_TEST

/* --- the end of the worker --- */

START_TEST(a_drain_hangs_up_on_who_waits_and_serves_who_asked)
{
    int idle = http_connect(), newcomer;
    http_send(idle, "GET /problems/none HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_status(http_received(idle), "404");
    http_pass(2000);
    newcomer = http_connect();
    rig_plan("HMGET", FATE_HOLD);
    validate();
    worker_drain(&served.worker);
    http_run();
    ck_assert(is_closed(idle));
    ck_assert(!is_closed(newcomer));
    rig_release();
    http_run();
    assert_status(http_received(client), "200");
    http_pass(1100);
    ck_assert(is_closed(newcomer));
    http_pass(100);
    ck_assert_ptr_null(served.worker.clients);
    close(idle);
    close(newcomer);
}
END_TEST

START_TEST(who_takes_longer_than_the_drain_is_cut_off)
{
    http_send(client, POST "Content-Length: 9\r\n\r\n{");
    worker_drain(&served.worker);
    http_pass(1900);
    ck_assert(!is_closed(client));
    http_pass(300);
    ck_assert(is_closed(client));
    http_pass(100);
    ck_assert(!served.worker.abandoned);
}
END_TEST

START_TEST(what_does_not_even_end_then_is_abandoned)
{
    rig_plan("HMGET", FATE_FORGET);
    validate();
    worker_drain(&served.worker);
    http_pass(6000);
    ck_assert(served.worker.abandoned);
    served.worker.abandoned = false;
}
END_TEST

START_TEST(new_keys_and_options_hold_from_the_next_request_on)
{
    struct keyring *keyring = served.worker.config->context.keyring;
    for (int i = 0; i < 2; i++) /* the first of them may not have been read */
        worker_rekey(&served.worker, rig.keyring);
    worker_reload(&served.worker);
    http_run();
    ck_assert_ptr_eq(served.worker.config->context.keyring, keyring);
    validate();
    assert_status(http_received(client), "200");
}
END_TEST

int main(void)
{
    crypto_init();
    Suite *suite = suite_create("http_connection");
    TCase *cases = tcase_create("connections");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_set_timeout(cases, 40);
    tcase_add_loop_test(cases, who_is_slow_is_cut_off, 0, 4);
    tcase_add_test(cases, between_requests_a_client_may_take_its_time);
    tcase_add_loop_test(cases, what_cannot_be_taken_is_refused_and_on_record, 0,
                        sizeof(refused) / sizeof(refused[0]));
    tcase_add_loop_test(cases, a_body_may_come_in_chunks, 0, sizeof(chunks) / sizeof(chunks[0]));
    tcase_add_test(cases, chunks_beyond_the_limit_are_not_read_on);
    tcase_add_test(cases, chunks_of_a_call_without_body_are_refused);
    tcase_add_test(cases, a_drain_hangs_up_on_who_waits_and_serves_who_asked);
    tcase_add_test(cases, who_takes_longer_than_the_drain_is_cut_off);
    tcase_add_test(cases, what_does_not_even_end_then_is_abandoned);
    tcase_add_test(cases, new_keys_and_options_hold_from_the_next_request_on);
    suite_add_tcase(suite, cases);
    return support_run(suite);
}
