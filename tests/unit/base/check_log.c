/* The operator's log: what reaches stderr, byte by byte; and the table of errors. */
#include "log.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "err.h"
#include "metrics.h"

#include "support_run.h"

static int reading_end;

/* The word of systemd about a journal whose end has this inode beside the pipe's own. */
static void announce_journal(int end, unsigned beside)
{
    struct stat status;
    char stream[64];
    ck_assert_int_eq(fstat(end, &status), 0);
    snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)status.st_dev,
             (uintmax_t)status.st_ino + beside);
    setenv("JOURNAL_STREAM", stream, 1);
}

/* stderr becomes a pipe to the journal; the test's process ends with the test. */
static void catch_stderr(void)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_ge(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    ck_assert_int_ge(dup2(ends[1], STDERR_FILENO), 0);
    reading_end = ends[0];
    announce_journal(STDERR_FILENO, 0);
    log_set_level(LOG_LEVEL_DEBUG);
}

static char caught[65536];

static const char *written(void)
{
    ssize_t length = read(reading_end, caught, sizeof(caught) - 1);
    caught[length > 0 ? length : 0] = '\0';
    return caught;
}

START_TEST(a_line_has_priority_event_and_values)
{
    log_debug("one", "a=%d", 1);
    log_info("two", "b=%s", "x");
    log_warning("three", "c=%d d=%d", 3, 4);
    log_error("four", "e=%c", '5');
    ck_assert_str_eq(written(), "<7>one a=1\n<6>two b=x\n<4>three c=3 d=4\n<3>four e=5\n");
}
END_TEST

/* 0: systemd is not there. 1: the journal is, but stderr goes elsewhere. */
START_TEST(what_is_not_the_journal_gets_time_and_level)
{
    if (_i == 0)
        unsetenv("JOURNAL_STREAM");
    else
        announce_journal(STDERR_FILENO, 1);
    clock_fake(1795340109123);
    log_debug("one", "a=%d", 1);
    log_info("two", "b=%s", "x");
    clock_fake(1795340110004);
    log_warning("three", "c=%d d=%d", 3, 4);
    log_error("four", "e=%c", '5');
    ck_assert_str_eq(written(), "2026-11-22T09:35:09.123Z debug one a=1\n"
                                "2026-11-22T09:35:09.123Z info two b=x\n"
                                "2026-11-22T09:35:10.004Z warning three c=3 d=4\n"
                                "2026-11-22T09:35:10.004Z error four e=5\n");
}
END_TEST

START_TEST(lines_below_the_level_are_dropped)
{
    log_set_level(LOG_LEVEL_WARNING);
    log_debug("no", "a=%d", 1);
    log_info("no", "a=%d", 1);
    log_warning("yes", "a=%d", 1);
    log_error("yes", "a=%d", 2);
    ck_assert_str_eq(written(), "<4>yes a=1\n<3>yes a=2\n");
}
END_TEST

START_TEST(an_event_may_come_without_values)
{
    log_info("alone", "%s", "");
    ck_assert_str_eq(written(), "<6>alone\n");
}
END_TEST

START_TEST(a_value_cannot_begin_another_line)
{
    log_info("event", "value=%s", "a\n<3>forged\r\x1b[2J\x7f");
    ck_assert_str_eq(written(), "<6>event value=a?<3>forged??[2J?\n");
}
END_TEST

START_TEST(a_long_line_is_cut_and_still_one_line)
{
    char large[5000];
    memset(large, 'x', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    log_info("long", "value=%s", large);
    ck_assert_uint_eq(strlen(written()), 2048);
    ck_assert_int_eq(caught[2047], '\n');
    ck_assert_ptr_eq(strchr(caught, '\n'), caught + 2047);
    log_info(large, "value=%d", 1);
    ck_assert_uint_eq(strlen(written()), 2048);
    ck_assert_ptr_eq(strchr(caught, '\n'), caught + 2047);
}
END_TEST

START_TEST(errno_survives_logging)
{
    close(STDERR_FILENO);
    errno = ENOENT;
    log_error("lost", "a=%d", 1);
    ck_assert_int_eq(errno, ENOENT);
}
END_TEST

static void *log_many(void *letter)
{
    char text[60];
    memset(text, *(const char *)letter, sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    for (int i = 0; i < 100; i++)
        log_info("thread", "value=%s", text);
    return NULL;
}

START_TEST(lines_of_threads_do_not_mix)
{
    pthread_t threads[4];
    char letters[] = "abcd";
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, log_many, &letters[i]), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    int lines = 0;
    char *rest = NULL;
    written();
    for (char *line = strtok_r(caught, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        ck_assert_int_eq(strncmp(line, "<6>thread value=", 16), 0);
        ck_assert_uint_eq(strspn(line + 16, (char[]){line[16], '\0'}), 59);
        ck_assert_uint_eq(strlen(line), 16 + 59);
        lines++;
    }
    ck_assert_int_eq(lines, 400);
}
END_TEST

enum { FLOOD = 5000 };

/* More than the pipe and the queue take. Comes back, although there is no reader. */
static void flood_a_pipe_that_nobody_reads(void)
{
    ck_assert_int_eq(log_start(), 0);
    for (int i = 0; i < FLOOD; i++)
        log_info("flood", "number=%04d filling=%0200d", i, 0);
}

/* Reads to the end of the line with the number of dropped ones; counts the others. */
static int read_to_the_number(int *told)
{
    FILE *in = fdopen(dup(reading_end), "r");
    char line[4096];
    int lines = 0;
    fcntl(reading_end, F_SETFL, 0);
    while (fgets(line, sizeof(line), in) &&
           sscanf(line, "<4>log_lines_dropped lines=%d", told) != 1) {
        ck_assert_int_eq(strncmp(line, "<6>flood number=", 16), 0);
        ck_assert_uint_eq(strlen(line), 16 + 4 + 9 + 200 + 1);
        lines++;
    }
    fclose(in);
    return lines;
}

START_TEST(a_line_that_nobody_reads_is_dropped_and_counted)
{
    metrics_attach();
    flood_a_pipe_that_nobody_reads();
    int64_t dropped = metrics_read(METRIC_LOG_LINES_DROPPED);
    ck_assert_int_gt(dropped, 0);
    ck_assert_int_lt(dropped, FLOOD);
    log_flush(10); /* bounded, or it would wait for ever */
    int told = 0, lines = read_to_the_number(&told);
    ck_assert_int_eq(told, dropped);
    ck_assert_int_eq(lines + told, FLOOD);
    log_info("again", "a=1");
    log_flush(60000);
    ck_assert_str_eq(written(), "<6>again a=1\n");
}
END_TEST

START_TEST(a_nonblocking_stderr_loses_nothing_that_is_read_in_time)
{
    ck_assert_int_ge(fcntl(STDERR_FILENO, F_SETFL, O_NONBLOCK), 0);
    flood_a_pipe_that_nobody_reads();
    int told = 0, lines = read_to_the_number(&told);
    ck_assert_int_eq(lines + told, FLOOD);
}
END_TEST

START_TEST(quoting_leaves_printable_ascii_only)
{
    char out[16];
    ck_assert_str_eq(log_quote(out, sizeof(out), TEXT("a b~")), "a b~");
    ck_assert_str_eq(log_quote(out, sizeof(out), TEXT("\"'\\\n\x7f\xc3\xa9")), "???????");
    ck_assert_str_eq(log_quote(out, 4, TEXT("abcdef")), "abc");
    ck_assert_str_eq(log_quote(out, 1, TEXT("abcdef")), "");
    ck_assert_str_eq(log_quote(out, sizeof(out), (struct text){0}), "");
    ck_assert_ptr_eq(log_quote(out, sizeof(out), TEXT("x")), out);
}
END_TEST

START_TEST(quoting_leaves_nothing_of_a_credential)
{
    static const char digits[] = "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_AbCdE";
    char text[200], out[200];
    snprintf(text, sizeof(text), "a sa_%s sr_%s", digits, digits);
    log_quote(out, sizeof(out), text_of(text));
    ck_assert_str_eq(out, "a sa_??????????????????????????????????????????? "
                          "sr_???????????????????????????????????????????");
    log_quote(out, 20, text_of(text)); /* cut, it is one still */
    ck_assert_str_eq(out, "a sa_??????????????");
    ck_assert_str_eq(log_quote(out, sizeof(out), TEXT("sa_short_word")), "sa_short_word");
}
END_TEST

START_TEST(every_error_has_a_status_a_code_and_a_title)
{
    for (int i = ERR_OK + 1; i < ERR_COUNT; i++) {
        enum err err = (enum err)i;
        ck_assert_uint_ge(err_status(err), 400);
        ck_assert_uint_lt(err_status(err), 600);
        ck_assert_uint_gt(strlen(err_code(err)), 0);
        ck_assert_uint_gt(strlen(err_title(err)), 0);
        ck_assert_uint_eq(strspn(err_code(err), "abcdefghijklmnopqrstuvwxyz_"),
                          strlen(err_code(err)));
        if (err_status(err) == 503 || err_status(err) == 429)
            ck_assert_uint_gt(err_retry_after(err), 0);
        /* A session that needs step-up authentication is 401, a login that needs a verification
         * 403. */
        for (int other = ERR_OK; other < i; other++)
            ck_assert(strcmp(err_code(err), err_code((enum err)other)) != 0 ||
                      (strcmp(err_code(err), "verification_required") == 0 &&
                       err_status(err) != err_status((enum err)other)));
    }
    ck_assert_uint_eq(err_status(ERR_OK), 200);
    ck_assert_uint_eq(err_status(ERR_TOKEN_INVALID), 401);
    ck_assert_str_eq(err_code(ERR_TOKEN_INVALID), "token_invalid");
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("log");
    TCase *lines = tcase_create("lines");
    tcase_add_checked_fixture(lines, catch_stderr, NULL);
    tcase_add_test(lines, a_line_has_priority_event_and_values);
    tcase_add_loop_test(lines, what_is_not_the_journal_gets_time_and_level, 0, 2);
    tcase_add_test(lines, lines_below_the_level_are_dropped);
    tcase_add_test(lines, an_event_may_come_without_values);
    tcase_add_test(lines, a_value_cannot_begin_another_line);
    tcase_add_test(lines, a_long_line_is_cut_and_still_one_line);
    tcase_add_test(lines, errno_survives_logging);
    tcase_add_test(lines, lines_of_threads_do_not_mix);
    tcase_add_test(lines, a_line_that_nobody_reads_is_dropped_and_counted);
    tcase_add_test(lines, a_nonblocking_stderr_loses_nothing_that_is_read_in_time);
    suite_add_tcase(suite, lines);
    TCase *tables = tcase_create("tables");
    tcase_add_test(tables, quoting_leaves_printable_ascii_only);
    tcase_add_test(tables, quoting_leaves_nothing_of_a_credential);
    tcase_add_test(tables, every_error_has_a_status_a_code_and_a_title);
    suite_add_tcase(suite, tables);
    return suite;
}

int main(void)
{
    return support_run(suite());
}
