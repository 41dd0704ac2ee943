/* Time. Three clocks of the kernel, the common time of all nodes, and a fake clock for tests. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { SECOND_MS = 1000, MINUTE_MS = 60 * 1000, DAY_S = 24 * 3600 };

enum {
    /* Correct clocks of nodes agree within this. Decisions without another node allow for it, and a
     * larger difference is reported. */
    CLOCKS_APART_MS = 1000,
    /* For so long after a change was seen no older state is believed. Then Redis's state holds,
     * since a lost change that no node replays must not lock users out. */
    REMEMBERED_MS = 60 * 1000
};

/* Milliseconds since 1970 (UTC), to be stored and shown. May jump when the host's clock is set. */
int64_t clock_wall_ms(void);

/* The bytes of 2026-11-22T09:35:09.123Z (RFC 3339), no NUL. */
#define CLOCK_TEXT 24
/* Writes a wall time in this form. Years outside 1970 to 9999, which no working clock shows, become
 * the nearer end. */
void clock_text(char out[CLOCK_TEXT], int64_t wall_ms);

/* --- which clock for what ---
 *
 * Deadlines, timers and durations use the monotonic clock: it stands while the host sleeps, so no
 * call times out at once when it wakes. The age of known state uses the boot clock: the other nodes
 * have not slept. */

/* Milliseconds that never go back: deadlines and timers. */
int64_t clock_monotonic_ms(void);

/* Nanoseconds that never go back: durations in metrics and audit lines. */
int64_t clock_monotonic_ns(void);

/* Milliseconds since the host was booted, sleep included: ages of known state. Never goes back. */
int64_t clock_boot_ms(void);
/* How far clock_wall_ms() is ahead of clock_boot_ms(), both read at one moment. */
int64_t clock_host_ahead_ms(void);
/* About how long the host has slept since its boot. */
int64_t clock_slept_ms(void);

/* --- common time ---
 *
 * Sessions are shared, so every node must judge them by one time. Common time is agreed by a
 * majority of the servers' clocks, this host's own and the previous common time
 * (src/redis/topology/server_clocks.h). It is kept as a distance from clock_boot_ms(), which cannot
 * be set, so it holds while no server can be asked, and also when the host's clock is set wrongly.
 */

/* Milliseconds since 1970 by which sessions begin, end and are ordered. It is this host's clock, or
 * common time while the two are more than half of CLOCKS_APART_MS apart, so that all nodes agree
 * within CLOCKS_APART_MS. Any thread, no lock. */
int64_t clock_common_ms(void);

enum clock_trust {
    CLOCK_ALONE,   /* no server's time is known yet: this host's clock holds */
    CLOCK_AGREED,  /* there is a common time */
    CLOCK_DISPUTED /* no majority agrees: this host's clock holds, and may be the wrong one */
};
enum clock_trust clock_trust(void);
/* This host's clock minus common time; 0 unless agreed. */
int64_t clock_skew_ms(void);

/* The servers' result: common time is so far ahead of clock_boot_ms(); or no majority agrees, and
 * the earliest of all clocks is so far ahead of it. Only by the thread that asks them. */
void clock_agree(int64_t ahead_of_boot_ms);
void clock_dispute(int64_t earliest_ahead_ms);

/* --- deletion ---
 *
 * A single reading must not destroy data: this host's clock alone is never reason enough to delete
 * a file, a session or a revocation for its age. */

/* Age decides about deletion, or forgetting for good, by this time:
 *   agreed     common time
 *   disputed   the earliest that any of the clocks shows
 *   alone      this host's clock, but no later than what is borne out (clock_bear_out()) and the
 *              time that has passed since; 0, at which nothing is old, if nothing is
 * For CLOCK_PUT_OFF_MS after a jump it continues from the time before the jump, if that is earlier.
 * Any thread; looks for jumps itself (clock_look()). */
int64_t clock_deletion_ms(void);
enum { CLOCK_PUT_OFF_MS = 24 * 3600 * 1000 };

/* Bears out a time that has certainly passed: that of the newest line of a file, unless it was
 * written while the clock was doubted. Before the threads start. */
void clock_bear_out(int64_t wall_ms);
/* True if this host's clock is more than CLOCK_PUT_OFF_MS ahead of the time of deletion: lines
 * dated by it must not bear it out at the next start. Any thread. */
bool clock_is_doubted(void);
/* Notes that no server permits its TIME command: meanwhile this host's clock is not doubted, since
 * there is no other. */
void clock_untold(void);
/* The time for names of files, and for their age when they are read: common time; unless agreed, no
 * earlier than the time borne out. */
int64_t clock_file_ms(void);

/* Checks whether this host's clock or common time has moved against clock_boot_ms() by more than
 * CLOCKS_APART_MS since the last look. Any thread. */
void clock_look(void);
/* The farthest jump since the last call, and the number of jumps; false if there was none. */
struct clock_jumps {
    int64_t count, ms;
};
bool clock_take_jumps(struct clock_jumps *ret);

/* Tests only: from now on all clocks stand at this wall time, which is the common one; 0 returns to
 * the real ones, as with no server's time. */
void clock_fake(int64_t wall_ms);
/* Tests only: the host seems to have slept so long just now; undone by clock_fake(). */
void clock_fake_sleep(int64_t slept_ms);
/* Tests only: sets this host's fake clock so far ahead of the others. */
void clock_fake_host(int64_t ahead_ms);
/* Tests only: the same as at the start of a process: no server's time is known. */
void clock_fake_boot(int64_t ahead_ms);
/* Tests only: delays the next thread that reads clock_boot_ms(), right after its reading. */
void clock_fake_stall(int64_t ms);
/* Tests only: advances the fake clocks. */
void clock_fake_pass(int64_t ms);
