/* Time. Three clocks of the kernel, the common time of all nodes, and a fake clock for tests. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { SECOND_MS = 1000, MINUTE_MS = 60 * 1000, DAY_S = 24 * 3600 };

enum {
    /* Nodes whose clocks are right agree within so much: what is said without asking another node
     * allows for it, and a difference above it is reported. */
    CLOCKS_APART_MS = 1000,
    /* So long after a change was seen no older state is believed. Then what Redis says holds, since
     * a lost change that nobody replays must not lock anybody out. */
    REMEMBERED_MS = 60 * 1000
};

/* Milliseconds since 1970 (UTC): what is stored and shown. May jump when the host's clock is set.
 */
int64_t clock_wall_ms(void);

/* The bytes of 2026-11-22T09:35:09.123Z (RFC 3339), no NUL. */
#define CLOCK_TEXT 24
/* Writes a wall time so. Years 1970 to 9999: no working clock tells others, which are moved to the
 * nearer end. */
void clock_text(char out[CLOCK_TEXT], int64_t wall_ms);

/* --- which clock for what ---
 *
 * Deadlines, timers and durations go by the monotonic clock: it stands while the host sleeps, so
 * nobody is cut off at once when it wakes. The age of what is known goes by the boot clock: the
 * others have not slept. */

/* Milliseconds that never go back: deadlines and timers. */
int64_t clock_monotonic_ms(void);

/* Nanoseconds that never go back: durations in metrics and audit lines. */
int64_t clock_monotonic_ns(void);

/* Milliseconds since the host was booted, sleep included: ages of what is known. Never goes back.
 */
int64_t clock_boot_ms(void);
/* How far clock_wall_ms() is ahead of it, both read at one moment. */
int64_t clock_host_ahead_ms(void);
/* How much of that the host has slept, about. */
int64_t clock_slept_ms(void);

/* --- common time ---
 *
 * Sessions are shared, so every node must judge them by one time. Common time is what most of the
 * servers' clocks, this host's own and the common time before agree on
 * (src/redis/topology/server_clocks.h), kept as a distance from clock_boot_ms(), which nobody sets:
 * it holds while no server can be asked, and from the very moment at which the host's clock is set
 * wrongly. */

/* Milliseconds since 1970 by which sessions begin, end and are ordered: this host's clock; but
 * common time while the two are more than half of CLOCKS_APART_MS apart, so that all nodes agree
 * within CLOCKS_APART_MS. Any thread, no lock. */
int64_t clock_common_ms(void);

enum clock_trust {
    CLOCK_ALONE,   /* no server has told its time yet: this host's clock holds */
    CLOCK_AGREED,  /* there is a common time */
    CLOCK_DISPUTED /* no majority agrees: this host's clock holds, and may be the wrong one */
};
enum clock_trust clock_trust(void);
/* This host's clock minus common time; 0 unless agreed. */
int64_t clock_skew_ms(void);

/* What the servers say: common time is so far ahead of clock_boot_ms(); or that no majority agrees,
 * and how far ahead of it the earliest of all clocks is. By the thread that asks them alone. */
void clock_agree(int64_t ahead_of_boot_ms);
void clock_dispute(int64_t earliest_ahead_ms);

/* --- deletion ---
 *
 * What a clock says once must not destroy: this host's clock alone is never reason enough to delete
 * a file, a session or a revocation for its age. */

/* What is deleted, or forgotten for good, for its age is so by this time:
 *   agreed     common time
 *   disputed   the earliest that any of the clocks shows
 *   alone      this host's clock, but no later than what is borne out (clock_bear_out()) and the
 *              time that has passed since; 0, at which nothing is old, if nothing is
 * For CLOCK_PUT_OFF_MS after a jump it goes on as before that, if that is earlier. Any thread;
 * looks for jumps itself (clock_look()). */
int64_t clock_deletion_ms(void);
enum { CLOCK_PUT_OFF_MS = 24 * 3600 * 1000 };

/* It was so late at least: the newest line of a file in order says so, unless it was written while
 * the clock was doubted. Before the threads start. */
void clock_bear_out(int64_t wall_ms);
/* True if this host's clock is more than CLOCK_PUT_OFF_MS ahead of the time of deletion: what it
 * dates must not bear it out at the next start. Any thread. */
bool clock_is_doubted(void);
/* No server lets us ask for its time: while that is so, this host's clock is not doubted, since
 * there is no other. */
void clock_untold(void);
/* By which files are named, and aged when they are read: common time; unless agreed, no earlier
 * than what is borne out. */
int64_t clock_file_ms(void);

/* Has this host's clock, or common time, moved against clock_boot_ms() by more than CLOCKS_APART_MS
 * since the last look? Any thread. */
void clock_look(void);
/* The farthest jump that was seen since the last call, and how many there were; false if none was.
 */
struct clock_jumps {
    int64_t count, ms;
};
bool clock_take_jumps(struct clock_jumps *ret);

/* Tests only: from now on all clocks stand at this wall time, which is the common one; 0 returns to
 * the real ones, of which nothing is known. */
void clock_fake(int64_t wall_ms);
/* Tests only: as if the host had just slept so long; forgotten by clock_fake(). */
void clock_fake_sleep(int64_t slept_ms);
/* Tests only: of fake clocks, this host's is set so far ahead of the others. */
void clock_fake_host(int64_t ahead_ms);
/* Tests only: the same as it is when a process starts: no server has told its time. */
void clock_fake_boot(int64_t ahead_ms);
/* Tests only: the thread that reads clock_boot_ms() next is held up for so long after it. */
void clock_fake_stall(int64_t ms);
/* Tests only: fake clocks go on. */
void clock_fake_pass(int64_t ms);
