/* One audit service over a directory of its own. */
#include "support_trail.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "memory.h"
#include "metrics.h"

struct trail trail = {.directory = "/tmp/check_audit.XXXXXX"};

void trail_start(void)
{
    struct buffer error = {0};
    trail.audit = audit_start(&trail.conf, "node-1", &error);
    ck_assert_msg(trail.audit != NULL, "%.*s", (int)error.length, error.data);
    trail.lane = audit_lane_create(trail.audit, NULL, NULL);
}

void trail_stop(void)
{
    audit_lane_destroy(&trail.lane);
    audit_stop(&trail.audit);
    ck_assert_ptr_null(trail.audit);
    ck_assert_ptr_null(trail.lane);
}

void trail_set_up(void)
{
    ck_assert_ptr_nonnull(mkdtemp(trail.directory));
    snprintf(trail.path, sizeof(trail.path), "%s/audit.log", trail.directory);
    trail.conf.audit_file = trail.path;
    trail.conf.audit_max_bytes = 1 << 28;
    trail.conf.audit_retention = 180 * 86400;
    trail.conf.audit_queue_bytes = 1 << 24;
}

void trail_for_each_file(void (*visit)(const char *name, const char *file, void *user), void *user)
{
    struct dirent **names;
    int count = scandir(trail.directory, &names, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        char file[512];
        snprintf(file, sizeof(file), "%s/%s", trail.directory, names[i]->d_name);
        if (names[i]->d_name[0] != '.')
            visit(names[i]->d_name, file, user);
        free(names[i]);
    }
    free(names);
}

static void remove_file(const char *name, const char *file, void *user)
{
    (void)name;
    (void)user;
    unlink(file);
}

void trail_tear_down(void)
{
    trail_for_each_file(remove_file, NULL);
    rmdir(trail.directory);
}

void trail_note_decision(struct commit_ticket *ticket, bool is_written)
{
    *(is_written ? &trail.written : &trail.refused) += 1;
    free(ticket);
}

struct commit_ticket *trail_new_ticket(void)
{
    struct commit_ticket *ticket = xcalloc(1, sizeof(*ticket));
    ticket->done = trail_note_decision;
    return ticket;
}

/* Writes one line whose user.id is `id`. */
bool trail_put_by(struct audit_lane *by, const char *id, struct commit_ticket *ticket)
{
    const struct audit_record record = {.event = ticket ? AUDIT_LOGIN : AUDIT_VALIDATE,
                                        .wall_ms = clock_wall_ms(),
                                        .status = 200,
                                        .user_id = text_of(id),
                                        .tenant = TEXT("acme")};
    struct buffer line = {0};
    audit_format(&line, &record);
    enum audit_class class = ticket ? AUDIT_CLASS_CHANGES : AUDIT_CLASS_READS;
    bool taken = audit_write(by, class, buffer_text(&line), ticket);
    buffer_free(&line);
    return taken;
}

bool trail_put(const char *id, bool durable)
{
    return trail_put_by(trail.lane, id, durable ? trail_new_ticket() : NULL);
}

bool trail_put_number(const char *prefix, int number, bool durable)
{
    char id[64];
    snprintf(id, sizeof(id), "%s%d", prefix, number);
    return trail_put(id, durable);
}

/* --- waiting --- */

void trail_nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
}

double trail_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void trail_wait_for_tickets(int count)
{
    double until = trail_seconds() + 10;
    while (trail.written + trail.refused < count && trail_seconds() < until) {
        audit_collect(trail.lane);
        trail_nap();
    }
    ck_assert_int_eq(trail.written + trail.refused, count);
}

void trail_wait_until_healthy(bool healthy)
{
    double until = trail_seconds() + 10;
    while (audit_healthy(trail.audit) != healthy && trail_seconds() < until)
        trail_nap();
    ck_assert_int_eq(audit_healthy(trail.audit), healthy);
}

void trail_wait_for_lines(int64_t count)
{
    double until = trail_seconds() + 10;
    while (metrics_read(METRIC_AUDIT_LINES) < count && trail_seconds() < until)
        trail_nap();
    ck_assert_int_ge(metrics_read(METRIC_AUDIT_LINES), count);
}

/* A durable line that must have been written: what was handed over before is in the file too. */
void trail_put_barrier(void)
{
    int before = trail.written;
    trail_put("barrier", true);
    audit_flush(trail.lane);
    trail_wait_for_tickets(trail.written + trail.refused + 1);
    ck_assert_int_eq(trail.written, before + 1);
}

/* --- reading the file --- */

/* Every line as an object; a line that is none counts in *torn, and fails the test without it. */
json_t *trail_read(const char *file, int *torn)
{
    json_t *lines = json_array();
    FILE *stream = fopen(file, "r");
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    ck_assert_msg(stream != NULL, "%s: %s", file, strerror(errno));
    while ((length = getline(&line, &capacity, stream)) > 0) {
        json_t *json = json_loadb(line, (size_t)length, JSON_REJECT_DUPLICATES, NULL);
        if (json && line[length - 1] == '\n') {
            json_array_append_new(lines, json);
        } else if (torn) {
            json_decref(json);
            *torn += 1;
        } else {
            ck_abort_msg("not a line: %s", line);
        }
    }
    free(line);
    fclose(stream);
    return lines;
}

const char *trail_text_at(const json_t *lines, size_t index, const char *name)
{
    const char *text = json_string_value(json_object_get(json_array_get(lines, index), name));
    return text ? text : "";
}

int64_t trail_number_at(const json_t *lines, size_t index, const char *name)
{
    return json_integer_value(json_object_get(json_array_get(lines, index), name));
}

int trail_count_of(const json_t *lines, const char *name, const char *value)
{
    int count = 0;
    for (size_t i = 0; i < json_array_size(lines); i++)
        count += strcmp(trail_text_at(lines, i, name), value) == 0;
    return count;
}

size_t trail_index_of(const json_t *lines, const char *name, const char *value)
{
    size_t i = 0;
    while (i < json_array_size(lines) && strcmp(trail_text_at(lines, i, name), value) != 0)
        i++;
    ck_assert_msg(i < json_array_size(lines), "no line with %s %s", name, value);
    return i;
}

/* First line that is out of sequence; the count of lines if none is. */
static size_t first_gap(const json_t *lines, int64_t first)
{
    size_t i = 0;
    while (i < json_array_size(lines) &&
           trail_number_at(lines, i, "event.sequence") == first + (int64_t)i)
        i++;
    return i;
}

void trail_assert_sequence(const json_t *lines, int64_t first)
{
    ck_assert_uint_eq(first_gap(lines, first), json_array_size(lines));
}

/* True if the `count` ids follow each other in the file, from line `at` on. */
bool trail_has_ids(const json_t *lines, size_t at, const char *prefix, int count)
{
    for (int i = 0; i < count; i++) {
        char id[64];
        snprintf(id, sizeof(id), "%s%d", prefix, i);
        if (strcmp(trail_text_at(lines, at + (size_t)i, "user.id"), id) != 0)
            return false;
    }
    return true;
}

/* --- all files --- */

static int by_sequence(const void *a, const void *b)
{
    const json_t *const *left = a, *const *right = b;
    int64_t x = json_integer_value(json_object_get(*left, "event.sequence"));
    int64_t y = json_integer_value(json_object_get(*right, "event.sequence"));
    return x < y ? -1 : x > y;
}

static void collect_lines(const char *name, const char *file, void *user)
{
    struct collected *all = user;
    json_t *lines = trail_read(file, NULL);
    (void)name;
    json_array_extend(all->lines, lines);
    all->files++;
    json_decref(lines);
}

/* All lines of all files, by number. */
struct collected trail_collect(void)
{
    struct collected all = {json_array(), 0};
    trail_for_each_file(collect_lines, &all);
    size_t count = json_array_size(all.lines);
    json_t **items = xcalloc(count + 1, sizeof(*items));
    json_t *sorted = json_array();
    for (size_t i = 0; i < count; i++)
        items[i] = json_array_get(all.lines, i);
    qsort(items, count, sizeof(*items), by_sequence);
    for (size_t i = 0; i < count; i++)
        json_array_append(sorted, items[i]);
    free(items);
    json_decref(all.lines);
    all.lines = sorted;
    return all;
}
