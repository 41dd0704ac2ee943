/* Metrics: counting from threads, and an exposition that a strict reader accepts. */
#include "metrics.h"

#include <check.h>
#include <ctype.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "support_run.h"

/* --- a strict reader of the text format 0.0.4 --- */

struct sample {
    char name[128];   /* with the suffix of a histogram's series */
    char labels[512]; /* between the braces, "" without */
    double value;
};

struct family {
    char name[128];
    char type[16];
};

static struct family families[200];
static size_t family_count;
static struct sample samples[4000];
static size_t sample_count;

static size_t name_length(const char *text, const char *first_extra, const char *extra)
{
    size_t length = 0;
    while (isalnum((unsigned char)text[length]) || (text[length] && strchr(extra, text[length])))
        length++;
    ck_assert_msg(length > 0 && !isdigit((unsigned char)*text), "no name at: %.40s", text);
    ck_assert(isalpha((unsigned char)*text) || strchr(first_extra, *text));
    return length;
}

/* A family opens with HELP, and TYPE of the same name must follow at once. */
static const char *parse_family(const char *line)
{
    struct family *family = &families[family_count++];
    ck_assert_uint_le(family_count, sizeof(families) / sizeof(families[0]));
    ck_assert_int_eq(strncmp(line, "# HELP ", 7), 0);
    size_t length = name_length(line + 7, "_:", "_:");
    snprintf(family->name, sizeof(family->name), "%.*s", (int)length, line + 7);
    ck_assert_int_eq(line[7 + length], ' ');
    for (size_t i = 0; i + 1 < family_count; i++)
        ck_assert_str_ne(families[i].name, family->name);
    const char *help_end = strchr(line, '\n');
    ck_assert_ptr_nonnull(help_end);
    ck_assert(help_end > line + 7 + length + 1);
    char expected[160];
    snprintf(expected, sizeof(expected), "# TYPE %s ", family->name);
    ck_assert_int_eq(strncmp(help_end + 1, expected, strlen(expected)), 0);
    const char *type = help_end + 1 + strlen(expected);
    const char *type_end = strchr(type, '\n');
    ck_assert_ptr_nonnull(type_end);
    snprintf(family->type, sizeof(family->type), "%.*s", (int)(type_end - type), type);
    ck_assert(strcmp(family->type, "counter") == 0 || strcmp(family->type, "gauge") == 0 ||
              strcmp(family->type, "histogram") == 0);
    return type_end + 1;
}

/* {name="value",…}: quotes and backslashes escaped, no line feed. Returns the position after it. */
static const char *parse_labels(const char *at)
{
    ck_assert_int_eq(*at, '{');
    do {
        at++;
        at += name_length(at, "_", "_");
        ck_assert_int_eq(at[0], '=');
        ck_assert_int_eq(at[1], '"');
        for (at += 2; *at != '"'; at++) {
            ck_assert(*at != '\0' && *at != '\n');
            if (*at == '\\') {
                at++;
                ck_assert(*at == '"' || *at == '\\' || *at == 'n');
            }
        }
        at++;
    } while (*at == ',');
    ck_assert_int_eq(*at, '}');
    return at + 1;
}

/* The name must be that of the family just opened, with a suffix if it is a histogram. */
static void assert_belongs(const char *name)
{
    ck_assert_uint_gt(family_count, 0);
    const struct family *family = &families[family_count - 1];
    size_t length = strlen(family->name);
    ck_assert_msg(strncmp(name, family->name, length) == 0, "%s in %s", name, family->name);
    const char *suffix = name + length;
    if (strcmp(family->type, "histogram") == 0) {
        ck_assert(strcmp(suffix, "_bucket") == 0 || strcmp(suffix, "_sum") == 0 ||
                  strcmp(suffix, "_count") == 0);
    } else {
        ck_assert_str_eq(suffix, "");
    }
}

static void assert_new_series(const struct sample *sample)
{
    for (const struct sample *other = samples; other < sample; other++) {
        ck_assert_msg(strcmp(other->name, sample->name) != 0 ||
                          strcmp(other->labels, sample->labels) != 0,
                      "%s{%s} is there twice", sample->name, sample->labels);
    }
}

static const char *parse_sample(const char *line)
{
    struct sample *sample = &samples[sample_count++];
    ck_assert_uint_le(sample_count, sizeof(samples) / sizeof(samples[0]));
    size_t length = name_length(line, "_:", "_:");
    snprintf(sample->name, sizeof(sample->name), "%.*s", (int)length, line);
    assert_belongs(sample->name);
    const char *at = line + length;
    sample->labels[0] = '\0';
    if (*at == '{') {
        const char *end = parse_labels(at);
        snprintf(sample->labels, sizeof(sample->labels), "%.*s", (int)(end - at - 2), at + 1);
        at = end;
    }
    assert_new_series(sample);
    ck_assert_int_eq(*at, ' ');
    ck_assert(isdigit((unsigned char)at[1]) || at[1] == '-');
    char *end = NULL;
    sample->value = strtod(at + 1, &end);
    ck_assert_int_eq(*end, '\n');
    return end + 1;
}

static void scrape(void)
{
    struct buffer out = {0};
    metrics_print(&out);
    buffer_add_char(&out, '\0');
    ck_assert_uint_eq(strlen(out.data), out.length - 1);
    family_count = 0;
    sample_count = 0;
    for (const char *line = out.data; *line;)
        line = *line == '#' ? parse_family(line) : parse_sample(line);
    buffer_free(&out);
}

/* The value of a series; -1 if it is not there. */
static double series(const char *name, const char *labels)
{
    for (size_t i = 0; i < sample_count; i++)
        if (strcmp(samples[i].name, name) == 0 && strcmp(samples[i].labels, labels) == 0)
            return samples[i].value;
    return -1;
}

static bool close_to(double a, double b)
{
    return a - b < 1e-9 && b - a < 1e-9;
}

/* --- tests --- */

static const char *const methods[] = {"GET", "POST", "GET"};
static const char *const templates[] = {"/v1/validate", "/v1/login", "/odd\"path\\"};

static void define_routes(void)
{
    metrics_define_routes(methods, templates, 3);
}

START_TEST(the_exposition_is_well_formed_from_the_start)
{
    scrape();
    ck_assert_uint_gt(family_count, METRIC_COUNT);
    ck_assert(close_to(series("sessiond_logins_total", ""), 0));
    ck_assert(close_to(series("sessiond_store_duration_seconds_count", ""), 0));
}
END_TEST

START_TEST(build_and_process_are_shown)
{
    scrape();
    /* First of all; the revision is that of the object file, not of this one. */
    static const char version[] = "version=\"" SESSIOND_VERSION "\",revision=\"";
    ck_assert_str_eq(samples[0].name, "sessiond_build_info");
    ck_assert_int_eq(strncmp(samples[0].labels, version, strlen(version)), 0);
    ck_assert(close_to(samples[0].value, 1));
    ck_assert_double_gt(series("process_resident_memory_bytes", ""), 100000);
    ck_assert_double_ge(series("process_cpu_seconds_total", ""), 0);
    ck_assert_double_gt(series("process_start_time_seconds", ""), 1600000000);
    double before = series("process_open_fds", "");
    int open_files = 0;
    for (int fd = 0; fd < 1024; fd++)
        open_files += fcntl(fd, F_GETFD) >= 0;
    ck_assert(close_to(before, open_files));
    int another = dup(STDOUT_FILENO);
    scrape();
    ck_assert(close_to(series("process_open_fds", ""), before + 1));
    close(another);
}
END_TEST

START_TEST(the_start_of_the_process_is_now)
{
    scrape();
    double started = series("process_start_time_seconds", "");
    double now = (double)time(NULL);
    ck_assert_double_le(started, now + 2);
    ck_assert_double_ge(started, now - 60);
}
END_TEST

START_TEST(counters_and_gauges_add_up)
{
    metrics_add(METRIC_LOGINS, 2);
    metrics_add(METRIC_LOGINS, 3);
    metrics_gauge_add(METRIC_CONNECTIONS, 5);
    metrics_gauge_add(METRIC_CONNECTIONS, -7);
    metrics_gauge_set(METRIC_STORE_LINKS, 9);
    metrics_gauge_set(METRIC_STORE_LINKS, 4);
    ck_assert_int_eq(metrics_read(METRIC_LOGINS), 5);
    ck_assert_int_eq(metrics_read(METRIC_CONNECTIONS), -2);
    scrape();
    ck_assert(close_to(series("sessiond_logins_total", ""), 5));
    ck_assert(close_to(series("sessiond_connections", ""), -2));
    ck_assert(close_to(series("sessiond_store_connections", ""), 4));
}
END_TEST

START_TEST(a_histogram_counts_each_bound_inclusively)
{
    metrics_observe(METRIC_STORE_DURATION, 10000);       /* 0.00001 exactly */
    metrics_observe(METRIC_STORE_DURATION, 100000);      /* 0.0001 exactly */
    metrics_observe(METRIC_STORE_DURATION, 100001);      /* just above */
    metrics_observe(METRIC_STORE_DURATION, 4000000000);  /* 4 s */
    metrics_observe(METRIC_STORE_DURATION, 60000000000); /* above all bounds */
    metrics_observe(METRIC_STORE_DURATION, -1);          /* a clock that went wrong */
    scrape();
    ck_assert(close_to(series("sessiond_store_duration_seconds_bucket", "le=\"0.00001\""), 2));
    ck_assert(close_to(series("sessiond_store_duration_seconds_bucket", "le=\"0.0001\""), 3));
    ck_assert(close_to(series("sessiond_store_duration_seconds_bucket", "le=\"0.00025\""), 4));
    ck_assert(close_to(series("sessiond_store_duration_seconds_bucket", "le=\"2.5\""), 4));
    ck_assert(close_to(series("sessiond_store_duration_seconds_bucket", "le=\"5\""), 5));
    ck_assert(close_to(series("sessiond_store_duration_seconds_bucket", "le=\"+Inf\""), 6));
    ck_assert(close_to(series("sessiond_store_duration_seconds_count", ""), 6));
    ck_assert(close_to(series("sessiond_store_duration_seconds_sum", ""), 64.000210001));
}
END_TEST

/* A bucket holds what its label says: labels ascend, and so do counts. */
START_TEST(buckets_ascend)
{
    for (int64_t ns = 1000; ns < INT64_C(20000000000); ns *= 2)
        metrics_observe(METRIC_STORE_DURATION, ns);
    scrape();
    double bound = 0;
    double count = 0;
    int buckets = 0;
    for (size_t i = 0; i < sample_count; i++) {
        if (strcmp(samples[i].name, "sessiond_store_duration_seconds_bucket") == 0) {
            double label = strtod(samples[i].labels + 4, NULL);
            ck_assert_double_gt(label, bound);
            ck_assert_double_ge(samples[i].value, count);
            double expected = 0;
            for (int64_t ns = 1000; ns < INT64_C(20000000000); ns *= 2)
                expected += (double)ns / 1e9 <= label;
            ck_assert(close_to(samples[i].value, expected));
            bound = label;
            count = samples[i].value;
            buckets++;
        }
    }
    ck_assert_int_eq(buckets, 19);
}
END_TEST

START_TEST(requests_count_by_route_and_status)
{
    define_routes();
    metrics_attach();
    metrics_request(0, 200, 50000);
    metrics_request(0, 200, 50000);
    metrics_request(0, 401, 50000);
    metrics_request(1, 201, 1000000);
    metrics_request(1, 418, 1000000);
    metrics_request(1, 99999, 1000000);
    scrape();
    static const char total[] = "sessiond_http_requests_total";
    static const char sum[] = "sessiond_http_request_duration_seconds_sum";
    static const char count[] = "sessiond_http_request_duration_seconds_count";
    ck_assert(close_to(series(total, "method=\"GET\",route=\"/v1/validate\",status=\"200\""), 2));
    ck_assert(close_to(series(total, "method=\"GET\",route=\"/v1/validate\",status=\"401\""), 1));
    ck_assert(close_to(series(total, "method=\"POST\",route=\"/v1/login\",status=\"201\""), 1));
    ck_assert(close_to(series(total, "method=\"POST\",route=\"/v1/login\",status=\"other\""), 2));
    ck_assert(close_to(series(count, "method=\"GET\",route=\"/v1/validate\""), 3));
    ck_assert(close_to(series(sum, "method=\"GET\",route=\"/v1/validate\""), 0.00015));
    ck_assert(close_to(series(sum, "method=\"POST\",route=\"/v1/login\""), 0.003));
}
END_TEST

START_TEST(what_is_watched_of_a_route_begins_at_0_and_the_rest_with_its_first)
{
    static const unsigned watched[] = {200, 201, 202, 204, 304, 401, 429, 503};
    char labels[128];
    size_t found = 0;
    define_routes();
    metrics_request(1, 200, 1);
    scrape();
    for (size_t i = 0; i < sizeof(watched) / sizeof(watched[0]); i++) {
        snprintf(labels, sizeof(labels), "method=\"GET\",route=\"/v1/validate\",status=\"%u\"",
                 watched[i]);
        ck_assert(close_to(series("sessiond_http_requests_total", labels), 0));
    }
    for (size_t i = 0; i < sample_count; i++)
        found += strstr(samples[i].labels, "/v1/validate") != NULL;
    ck_assert_uint_eq(found, sizeof(watched) / sizeof(watched[0]));
}
END_TEST

START_TEST(label_values_are_escaped)
{
    define_routes();
    metrics_request(2, 204, 1);
    scrape();
    ck_assert(close_to(series("sessiond_http_requests_total",
                              "method=\"GET\",route=\"/odd\\\"path\\\\\",status=\"204\""),
                       1));
}
END_TEST

START_TEST(what_was_counted_before_the_routes_is_kept)
{
    metrics_add(METRIC_LOGINS, 7);
    metrics_gauge_set(METRIC_STORE_LINKS, 3);
    define_routes();
    metrics_request(0, 200, 1);
    metrics_gauge_set(METRIC_STORE_LINKS, 2);
    ck_assert_int_eq(metrics_read(METRIC_LOGINS), 7);
    ck_assert_int_eq(metrics_read(METRIC_STORE_LINKS), 2);
}
END_TEST

enum { THREADS = 4, ROUNDS = 20000 };

static void *count_much(void *attach)
{
    if (*(const bool *)attach) {
        metrics_attach();
        metrics_attach();
    }
    for (int i = 0; i < ROUNDS; i++) {
        metrics_add(METRIC_TOUCHES, 1);
        metrics_gauge_add(METRIC_STORE_PENDING, i % 2 ? -1 : 1);
        metrics_request(0, 200, 1000);
    }
    return NULL;
}

/* With shards and without: nothing is lost, and shards outlive their threads. */
START_TEST(threads_lose_no_count)
{
    define_routes();
    bool attach = _i == 1;
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, count_much, &attach), 0);
    scrape();
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    scrape();
    ck_assert_int_eq(metrics_read(METRIC_TOUCHES), THREADS * ROUNDS);
    ck_assert_int_eq(metrics_read(METRIC_STORE_PENDING), 0);
    ck_assert(close_to(series("sessiond_http_requests_total",
                              "method=\"GET\",route=\"/v1/validate\",status=\"200\""),
                       THREADS * ROUNDS));
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("metrics");
    TCase *numbers = tcase_create("numbers");
    tcase_add_test(numbers, the_exposition_is_well_formed_from_the_start);
    tcase_add_test(numbers, build_and_process_are_shown);
    tcase_add_test(numbers, the_start_of_the_process_is_now);
    tcase_add_test(numbers, counters_and_gauges_add_up);
    tcase_add_test(numbers, a_histogram_counts_each_bound_inclusively);
    tcase_add_test(numbers, buckets_ascend);
    suite_add_tcase(suite, numbers);
    TCase *requests = tcase_create("requests");
    tcase_add_test(requests, requests_count_by_route_and_status);
    tcase_add_test(requests, what_is_watched_of_a_route_begins_at_0_and_the_rest_with_its_first);
    tcase_add_test(requests, label_values_are_escaped);
    tcase_add_test(requests, what_was_counted_before_the_routes_is_kept);
    tcase_add_loop_test(requests, threads_lose_no_count, 0, 2);
    suite_add_tcase(suite, requests);
    return suite;
}

int main(void)
{
    return support_run(suite());
}
