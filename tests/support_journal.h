/* A journal in a directory of its own, with one writer, for tests: one in each process. */
#pragma once

#include "journal.h"

struct journal_rig {
    char directory[64];
    char path[96];
    struct conf conf;
    struct keyring *keyring;
    struct journal *journal;
    struct journal_writer *writer;
    struct arena arena;
    int written, refused; /* decided tickets */
};

extern struct journal_rig rig;

/* Fixtures. tear_down removes the directory with all in it. */
void rig_set_up(void);
void rig_tear_down(void);

void rig_start(void);
/* What journal_open() complains of, NUL-terminated; fails the test if it does not. */
const char *rig_start_refused(void);
void rig_stop(void);

/* Revocations by small numbers; they are forgotten in an hour. */
struct revocation rig_session(unsigned owner, unsigned session);
struct revocation rig_before(unsigned owner, int64_t before_ms);
struct revocation rig_before_but(unsigned owner, int64_t before_ms, unsigned exempt);

/* Adds it, durable: with a ticket. Fails the test if it is refused. */
uint64_t rig_add(struct revocation revocation, bool durable);
/* Adds it and waits until it is on disk. */
uint64_t rig_write(struct revocation revocation);
struct journal_ticket *rig_ticket(void);
/* Hands over, then waits until so many tickets are decided. */
void rig_collect(int tickets);
/* Is the session of this owner revoked? */
bool rig_finds(unsigned owner, unsigned session, int64_t created_ms);
struct journal_usage rig_usage(void);
/* The gauges of the metrics say the same. */
void rig_assert_gauges(void);

void rig_nap(void);
double rig_seconds(void);
/* Waits up to 10 s for the condition. */
#define rig_wait_until(condition)                                                         \
    do {                                                                                  \
        for (double until_ = rig_seconds() + 10; !(condition) && rig_seconds() < until_;) \
            rig_nap();                                                                    \
        ck_assert(condition);                                                             \
    } while (0)

/* The file as bytes. */
struct buffer rig_read(const char *path);
void rig_overwrite(const char *path, const void *data, size_t length);
/* How many files of the directory have this in their names; the last one's path in `found` (may be
 * NULL). */
int rig_files(const char *part, char found[512]);
