/* A journal in a directory of its own, with one lane, for tests: one in each process. */
#pragma once

#include "journal.h"

struct journal_trial {
    char directory[64];
    char path[96];
    struct conf conf;
    struct keyring *keyring;
    struct journal *journal;
    struct journal_lane *lane;
    struct arena arena;
    int written, refused; /* decided tickets */
};

extern struct journal_trial trial;

/* Fixtures. tear_down removes the directory with all in it. */
void trial_set_up(void);
void trial_tear_down(void);

void trial_start(void);
/* The complaint of journal_open(), NUL-terminated; fails the test if it does not. */
const char *trial_start_refused(void);
void trial_stop(void);

/* Revocations by small numbers; they are forgotten in an hour. */
struct revocation trial_session(unsigned owner, unsigned session);
struct revocation trial_before(unsigned owner, int64_t before_ms);
struct revocation trial_before_but(unsigned owner, int64_t before_ms, unsigned exempt);

/* Adds it, durable: with a ticket. Fails the test if it is refused. */
uint64_t trial_add(struct revocation revocation, bool durable);
/* Adds it and waits until it is on disk. */
uint64_t trial_write(struct revocation revocation);
struct commit_ticket *trial_ticket(void);
/* Hands over, then waits until so many tickets are decided. */
void trial_collect(int tickets);
/* Is the session of this owner revoked? */
bool trial_finds(unsigned owner, unsigned session, int64_t created_ms);
struct journal_usage trial_usage(void);
/* The gauges of the metrics say the same, at once or a moment later. */
void trial_assert_gauges(void);

void trial_nap(void);
double trial_seconds(void);
/* Waits up to 10 s for the condition. */
#define trial_wait_until(condition)                                                           \
    do {                                                                                      \
        for (double until_ = trial_seconds() + 10; !(condition) && trial_seconds() < until_;) \
            trial_nap();                                                                      \
        ck_assert(condition);                                                                 \
    } while (0)

/* The file as bytes. */
struct buffer trial_read(const char *path);
void trial_overwrite(const char *path, const void *data, size_t length);
/* How many files of the directory have this in their names; the last one's path in `found` (may be
 * NULL). */
int trial_files(const char *part, char found[512]);
