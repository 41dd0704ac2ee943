/* The exposition: Prometheus' text format 0.0.4, one family after the other. */
#include "metrics_cells.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* --- pieces --- */

static void add_family(struct buffer *out, const char *name, const char *type, const char *help)
{
    buffer_addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* name="value", with the value escaped. */
static void add_label(struct buffer *out, const char *name, const char *value)
{
    buffer_addf(out, "%s=\"", name);
    for (; *value; value++) {
        if (*value == '"' || *value == '\\')
            buffer_add_char(out, '\\');
        buffer_add_char(out, *value);
    }
    buffer_add_char(out, '"');
}

static void add_value(struct buffer *out, int64_t value)
{
    buffer_add_char(out, ' ');
    buffer_add_int(out, value);
    buffer_add_char(out, '\n');
}

static void add_seconds(struct buffer *out, int64_t nanoseconds)
{
    int64_t size = nanoseconds < 0 ? -nanoseconds : nanoseconds;
    buffer_addf(out, " %s%" PRId64 ".%09" PRId64 "\n", nanoseconds < 0 ? "-" : "",
                size / 1000000000, size % 1000000000);
}

/* `labels` is empty or stands for the labels of all lines. */
static void add_histogram(struct buffer *out, const char *name, struct text labels,
                          const int64_t *cells)
{
    const char *separator = labels.length > 0 ? "," : "";
    int64_t count = 0;
    for (size_t i = 0; i <= BUCKET_COUNT; i++) {
        count += cells[i];
        buffer_addf(out, "%s_bucket{%.*s%sle=\"%s\"}", name, (int)labels.length, labels.data,
                    separator, i < BUCKET_COUNT ? metric_buckets[i].label : "+Inf");
        add_value(out, count);
    }
    const char *open = labels.length > 0 ? "{" : "";
    const char *close = labels.length > 0 ? "}" : "";
    buffer_addf(out, "%s_sum%s%.*s%s", name, open, (int)labels.length, labels.data, close);
    add_seconds(out, cells[HISTOGRAM_SUM]);
    buffer_addf(out, "%s_count%s%.*s%s", name, open, (int)labels.length, labels.data, close);
    add_value(out, count);
}

/* --- rows of tbl/metrics.h --- */

static bool is_of_time(const struct metric_row *row)
{
    static const char suffix[] = "_seconds";
    size_t length = strlen(row->name), behind = sizeof(suffix) - 1;
    return row->kind == METRIC_IS_GAUGE && length > behind &&
           strcmp(row->name + length - behind, suffix) == 0;
}

static void print_rows(struct buffer *out, const int64_t *sums)
{
    static const char *const types[] = {
        [METRIC_IS_COUNTER] = "counter",
        [METRIC_IS_GAUGE] = "gauge",
        [METRIC_IS_HISTOGRAM] = "histogram",
    };
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        const struct metric_row *row = &metric_rows[i];
        add_family(out, row->name, types[row->kind], row->help);
        if (row->kind == METRIC_IS_HISTOGRAM) {
            add_histogram(out, row->name, TEXT(""), sums + row->cell);
        } else {
            buffer_addf(out, "%s", row->name);
            if (is_of_time(row))
                add_seconds(out, sums[row->cell]);
            else
                add_value(out, sums[row->cell]);
        }
    }
}

/* --- routes --- */

static void add_route_labels(struct buffer *out, size_t route)
{
    add_label(out, "method", metrics_routes()->methods[route]);
    buffer_add_char(out, ',');
    add_label(out, "route", metrics_routes()->templates[route]);
}

/* A series that begins with its first increment hides that from rate(), so the series that
 * operators watch begin at 0. All statuses of all routes would be a thousand. */
static bool begins_at_0(unsigned status)
{
    return (status >= 200 && status < 400) || status == 401 || status == 429 || status == 503;
}

static void print_route_statuses(struct buffer *out, size_t route, const int64_t *cells)
{
    for (size_t slot = 0; slot < metrics_routes()->status_count; slot++) {
        if (cells[slot] == 0 && !begins_at_0(metrics_routes()->statuses[slot]))
            continue;
        buffer_add_literal(out, "sessiond_http_requests_total{");
        add_route_labels(out, route);
        if (slot == 0)
            buffer_add_literal(out, ",status=\"other\"}");
        else
            buffer_addf(out, ",status=\"%u\"}", metrics_routes()->statuses[slot]);
        add_value(out, cells[slot]);
    }
}

static bool was_called(const int64_t *cells)
{
    int64_t calls = 0;
    for (size_t slot = 0; slot < STATUS_SLOTS; slot++)
        calls += cells[slot];
    return calls > 0;
}

static void print_routes(struct buffer *out, const int64_t *sums)
{
    static const char duration[] = "sessiond_http_request_duration_seconds";
    add_family(out, "sessiond_http_requests_total", "counter", "Calls answered.");
    for (size_t route = 0; route < metrics_routes()->count; route++)
        print_route_statuses(out, route, sums + route_cell(route));
    add_family(out, duration, "histogram",
               "From the start of a request until its answer was made.");
    for (size_t route = 0; route < metrics_routes()->count; route++) {
        const int64_t *cells = sums + route_cell(route);
        if (was_called(cells)) {
            struct buffer labels = {0};
            add_route_labels(&labels, route);
            add_histogram(out, duration, buffer_text(&labels), cells + STATUS_SLOTS);
            buffer_free(&labels);
        }
    }
}

/* --- build and process --- */

static void print_build(struct buffer *out)
{
    add_family(out, "sessiond_build_info", "gauge", "What runs here; always 1.");
    buffer_add_literal(out, "sessiond_build_info{");
    add_label(out, "version", SESSIOND_VERSION);
    buffer_add_char(out, ',');
    add_label(out, "revision", SESSIOND_REVISION);
    buffer_add_literal(out, "} 1\n");
}

static void print_gauge(struct buffer *out, const char *name, const char *help, int64_t value)
{
    add_family(out, name, "gauge", help);
    buffer_addf(out, "%s", name);
    add_value(out, value);
}

/* The file's first line, NUL-terminated; false if it cannot be read. */
static bool read_first_line(const char *path, char *line, int size)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    bool read = fgets(line, size, file) != NULL;
    fclose(file);
    return read;
}

static void print_memory(struct buffer *out)
{
    char line[256];
    int64_t pages;
    if (read_first_line("/proc/self/statm", line, sizeof(line)) &&
        sscanf(line, "%*s %" SCNd64, &pages) == 1) {
        print_gauge(out, "process_resident_memory_bytes", "Memory in use.",
                    pages * sysconf(_SC_PAGESIZE));
    }
}

static int64_t clock_ns(clockid_t id)
{
    struct timespec now = {0};
    clock_gettime(id, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void print_cpu(struct buffer *out)
{
    add_family(out, "process_cpu_seconds_total", "counter", "User and system time spent.");
    buffer_add_literal(out, "process_cpu_seconds_total");
    add_seconds(out, clock_ns(CLOCK_PROCESS_CPUTIME_ID));
}

static void print_open_files(struct buffer *out)
{
    DIR *directory = fdopendir(open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory)
        return;
    int64_t count = -1; /* the directory itself */
    for (const struct dirent *entry; (entry = readdir(directory));)
        count += entry->d_name[0] != '.';
    closedir(directory);
    print_gauge(out, "process_open_fds", "File descriptors open.", count);
}

static int64_t start_time_s;

/* Read once: computed from clocks, it would waver from scrape to scrape. Field 22 of stat is in
 * ticks since boot; the name before it, in parentheses, may hold blanks. */
static void read_start_time(void)
{
    char line[1024];
    int64_t ticks;
    if (!read_first_line("/proc/self/stat", line, sizeof(line)))
        return;
    const char *rest = strrchr(line, ')');
    if (rest && sscanf(rest,
                       ") %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
                       "%*s %" SCNd64,
                       &ticks) == 1) {
        int64_t boot_s = (clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_BOOTTIME)) / 1000000000;
        start_time_s = boot_s + ticks / sysconf(_SC_CLK_TCK);
    }
}

static void print_start_time(struct buffer *out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, read_start_time);
    if (start_time_s > 0) {
        print_gauge(out, "process_start_time_seconds", "Start of the process, in Unix time.",
                    start_time_s);
    }
}

void metrics_print(struct buffer *out)
{
    int64_t *sums = metrics_sum();
    print_build(out);
    print_routes(out, sums);
    print_rows(out, sums);
    print_memory(out);
    print_cpu(out);
    print_open_files(out);
    print_start_time(out);
    free(sums);
}
