/* An audit service under test: what is written through it, and what its files then hold. */
#pragma once

#include <jansson.h>

#include "audit.h"

extern struct trail {
    char directory[32], path[64]; /* of the audit file */
    struct conf conf;
    struct audit *audit;
    struct audit_lane *lane;
    int written, refused; /* decided tickets */
} trail;

/* A checked fixture. The configuration has no reserve and no budgets. */
void trail_set_up(void);
void trail_tear_down(void);
void trail_start(void);
void trail_stop(void);
/* Visits the audit file and its rotated predecessors by name. */
void trail_for_each_file(void (*visit)(const char *name, const char *file, void *user), void *user);

/* A ticket that counts its decision and frees itself. */
struct commit_ticket *trail_new_ticket(void);
void trail_note_decision(struct commit_ticket *ticket, bool is_written);
/* Writes one line whose user.id is `id`, that of a change if it has a ticket, else of a read; false
 * if there is no room for it. */
bool trail_put_by(struct audit_lane *by, const char *id, struct commit_ticket *ticket);
bool trail_put(const char *id, bool durable);
bool trail_put_number(const char *prefix, int number, bool durable);
/* A durable line that must have been written: what was handed over before is in the file too. */
void trail_put_barrier(void);

void trail_nap(void);
double trail_seconds(void);
void trail_wait_for_tickets(int count);
void trail_wait_until_healthy(bool healthy);
void trail_wait_for_lines(int64_t count);

/* Every line of a file as an object; a line that is none counts in *torn, and fails the test
 * without it. */
json_t *trail_read(const char *file, int *torn);
const char *trail_text_at(const json_t *lines, size_t index, const char *name);
int64_t trail_number_at(const json_t *lines, size_t index, const char *name);
int trail_count_of(const json_t *lines, const char *name, const char *value);
/* The first line with this member; the test fails if there is none. */
size_t trail_index_of(const json_t *lines, const char *name, const char *value);
/* Lines are numbered without a gap. */
void trail_assert_sequence(const json_t *lines, int64_t first);
/* True if the `count` ids follow each other in the file, from line `at` on. */
bool trail_has_ids(const json_t *lines, size_t at, const char *prefix, int count);

struct collected {
    json_t *lines;
    int files;
};
/* All lines of all files, by number. */
struct collected trail_collect(void);
