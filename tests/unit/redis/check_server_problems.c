/* Why servers cannot be used: how often that is logged. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "redis/state/server_problems.h"
#include "support_run.h"

enum { SERVERS = 200, BEGIN_MS = 1000000, INTERVAL_MS = 10000 };

static struct server_problems problems;
static int reading_end;

/* The test's process ends with the test. */
static void prepare(void)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_ge(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    ck_assert_int_ge(dup2(ends[1], STDERR_FILENO), 0);
    reading_end = ends[0];
    clock_fake(BEGIN_MS);
    server_problems_init(&problems, PROBLEM_FOREIGN);
}

static unsigned lines(void)
{
    char caught[65536];
    unsigned count = 0;
    ssize_t length = read(reading_end, caught, sizeof(caught));
    for (ssize_t i = 0; i < length; i++)
        count += caught[i] == '\n';
    return count;
}

static void tell(unsigned server, const char *why)
{
    struct endpoint endpoint;
    ck_assert(endpoint_set(&endpoint, TEXT("redis.example"), 1 + server));
    server_problems_log(&problems, &endpoint, why);
}

START_TEST(a_reason_is_told_once_and_another_one_later)
{
    prepare();
    tell(0, "one");
    tell(0, "one");
    tell(0, "two");
    ck_assert_uint_eq(lines(), 1);
    clock_fake(BEGIN_MS + INTERVAL_MS);
    tell(0, "two");
    tell(0, "two");
    ck_assert_uint_eq(lines(), 1);
}
END_TEST

START_TEST(a_server_that_was_up_is_told_of_again_later)
{
    struct endpoint endpoint;
    prepare();
    ck_assert(endpoint_set(&endpoint, TEXT("redis.example"), 1));
    tell(0, "one");
    server_problems_over(&problems, &endpoint);
    tell(0, "one");
    ck_assert_uint_eq(lines(), 1);
    clock_fake(BEGIN_MS + INTERVAL_MS);
    tell(0, "one");
    tell(0, "one");
    ck_assert_uint_eq(lines(), 1);
}
END_TEST

/* A cluster of which every node is another one. */
START_TEST(more_servers_than_there_is_room_for_flood_no_log)
{
    prepare();
    for (unsigned round = 0; round < 2; round++)
        for (unsigned server = 0; server < SERVERS; server++)
            tell(server, "another one");
    ck_assert_uint_le(lines(), PROBLEM_SERVERS);
    char described[256];
    ck_assert(server_problems_describe(&problems, INT64_MAX, described, sizeof(described)));
    ck_assert_msg(strstr(described, "(and 15 more servers)"), "%s", described);
    clock_fake(BEGIN_MS + INTERVAL_MS);
    for (unsigned server = 0; server < SERVERS; server++)
        tell(server, "another one");
    unsigned later = lines();
    ck_assert_uint_ge(later, 1);
    ck_assert_uint_le(later, PROBLEM_SERVERS);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("trouble");
    TCase *tests = tcase_create("trouble");
    tcase_add_test(tests, a_reason_is_told_once_and_another_one_later);
    tcase_add_test(tests, a_server_that_was_up_is_told_of_again_later);
    tcase_add_test(tests, more_servers_than_there_is_room_for_flood_no_log);
    suite_add_tcase(suite, tests);
    return support_run(suite);
}
