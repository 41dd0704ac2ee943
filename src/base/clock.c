/* The clocks of the kernel, common time, and the fake clock of the tests. */
#include "clock.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* 0: the real clocks. Read by every thread, set by tests only. */
static _Atomic int64_t fake_wall_ms;
static _Atomic int64_t fake_slept_ms;
static _Atomic int64_t fake_ahead_ms; /* this host's clock ahead of the fake time */
static _Atomic int64_t fake_stall_ms;

#define UNKNOWN INT64_MIN

/* Common time minus clock_boot_ms(), or UNKNOWN. */
static _Atomic int64_t common_ahead_ms = UNKNOWN;
static _Atomic int64_t earliest_ahead_ms =
    UNKNOWN; /* while disputed: the same of the earliest clock */
static _Atomic int trust = CLOCK_ALONE;
static _Atomic bool untold;

static int64_t read_clock_ns(clockid_t id)
{
    struct timespec now;
    int failed = clock_gettime(id, &now);
    assert(!failed);
    (void)failed;
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static int64_t fake_ms(void)
{
    return atomic_load_explicit(&fake_wall_ms, memory_order_relaxed);
}

int64_t clock_wall_ms(void)
{
    int64_t fake = fake_ms();
    return fake ? fake + atomic_load_explicit(&fake_ahead_ms, memory_order_relaxed)
                : read_clock_ns(CLOCK_REALTIME) / 1000000;
}

static void put_digits(char *out, int count, int64_t value)
{
    for (int i = count - 1; i >= 0; i--) {
        out[i] = (char)('0' + value % 10);
        value /= 10;
    }
}

static void print_second(char out[CLOCK_TEXT], int64_t second)
{
    struct tm tm = {0};
    time_t time = (time_t)second;
    gmtime_r(&time, &tm);
    memcpy(out, "0000-00-00T00:00:00.000Z", CLOCK_TEXT);
    put_digits(out, 4, tm.tm_year + 1900);
    put_digits(out + 5, 2, tm.tm_mon + 1);
    put_digits(out + 8, 2, tm.tm_mday);
    put_digits(out + 11, 2, tm.tm_hour);
    put_digits(out + 14, 2, tm.tm_min);
    put_digits(out + 17, 2, tm.tm_sec);
}

void clock_text(char out[CLOCK_TEXT], int64_t wall_ms)
{
    static const int64_t last_ms = 253402300799999;
    static _Thread_local int64_t known_second = -1;
    static _Thread_local char known[CLOCK_TEXT];

    wall_ms = wall_ms < 0 ? 0 : wall_ms > last_ms ? last_ms : wall_ms;
    if (wall_ms / 1000 != known_second) {
        known_second = wall_ms / 1000;
        print_second(known, known_second);
    }
    memcpy(out, known, CLOCK_TEXT);
    put_digits(out + 20, 3, wall_ms % 1000);
}

int64_t clock_monotonic_ns(void)
{
    int64_t fake = fake_ms();
    return fake ? fake * 1000000 : read_clock_ns(CLOCK_MONOTONIC);
}

int64_t clock_monotonic_ms(void)
{
    return clock_monotonic_ns() / 1000000;
}

int64_t clock_boot_ms(void)
{
    int64_t fake = fake_ms();
    int64_t slept_ms = atomic_load_explicit(&fake_slept_ms, memory_order_relaxed);
    if (!fake)
        return read_clock_ns(CLOCK_BOOTTIME) / 1000000 + slept_ms;
    clock_fake_pass(atomic_exchange_explicit(&fake_stall_ms, 0, memory_order_relaxed));
    return fake + slept_ms;
}

/* How far one clock is ahead of another. Takes the narrowest of several tries: a delay between the
 * two readings would look like a jump. */
static int64_t distance_ms(int64_t (*clock)(void), int64_t (*other)(void))
{
    enum { TRIES = 8, TOGETHER_MS = 1 };
    int64_t ahead_ms = 0, narrowest_ms = INT64_MAX;
    for (int i = 0; i < TRIES && narrowest_ms > TOGETHER_MS; i++) {
        int64_t before_ms = other(), its_ms = clock();
        int64_t width_ms = other() - before_ms;
        if (width_ms < narrowest_ms) {
            narrowest_ms = width_ms;
            ahead_ms = its_ms - before_ms;
        }
    }
    return ahead_ms;
}

int64_t clock_slept_ms(void)
{
    return distance_ms(clock_boot_ms, clock_monotonic_ms);
}

int64_t clock_host_ahead_ms(void)
{
    return distance_ms(clock_wall_ms, clock_boot_ms);
}

static bool is_close(int64_t skew_ms)
{
    return llabs(skew_ms) <= CLOCKS_APART_MS / 2;
}

/* How far this host's clock is ahead of common time. */
static int64_t skew_of(int64_t wall_ms)
{
    int64_t ahead_ms = atomic_load_explicit(&common_ahead_ms, memory_order_relaxed);
    return ahead_ms == UNKNOWN ? 0 : wall_ms - (clock_boot_ms() + ahead_ms);
}

int64_t clock_common_ms(void)
{
    int64_t wall_ms = clock_wall_ms();
    int64_t skew_ms = skew_of(wall_ms);
    return is_close(skew_ms) ? wall_ms : wall_ms - skew_ms;
}

enum clock_trust clock_trust(void)
{
    return (enum clock_trust)atomic_load_explicit(&trust, memory_order_relaxed);
}

int64_t clock_skew_ms(void)
{
    int64_t ahead_ms = atomic_load_explicit(&common_ahead_ms, memory_order_relaxed);
    return ahead_ms == UNKNOWN ? 0 : clock_host_ahead_ms() - ahead_ms;
}

/* --- deletion --- */

/* All distances from clock_boot_ms(), or UNKNOWN. */
static struct {
    pthread_mutex_t lock;
    int64_t borne_ms;
    int64_t wall_ms, common_ms, deletion_ms; /* as of the last look */
    int64_t held_ms;                         /* deletion goes by no later time ... */
    int64_t held_until_ms;                   /* ... before this clock_boot_ms() */
    struct clock_jumps jumps;                /* not yet taken */
} seen = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .borne_ms = UNKNOWN,
          .wall_ms = UNKNOWN,
          .common_ms = UNKNOWN,
          .deletion_ms = UNKNOWN};

/* Under the lock, so that deletion sees all three or none. */
static void publish_common_time(int64_t common_ms, int64_t earliest_ms, enum clock_trust state)
{
    pthread_mutex_lock(&seen.lock);
    atomic_store_explicit(&common_ahead_ms, common_ms, memory_order_relaxed);
    atomic_store_explicit(&earliest_ahead_ms, earliest_ms, memory_order_relaxed);
    atomic_store_explicit(&trust, state, memory_order_relaxed);
    pthread_mutex_unlock(&seen.lock);
}

void clock_agree(int64_t ahead_of_boot_ms)
{
    publish_common_time(ahead_of_boot_ms, UNKNOWN, CLOCK_AGREED);
}

void clock_dispute(int64_t ahead_of_boot_ms)
{
    publish_common_time(UNKNOWN, ahead_of_boot_ms, CLOCK_DISPUTED);
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b; /* UNKNOWN is the earliest: nothing is old */
}

/* The time of deletion by the clocks, without regard to jumps; clock_common_ms() if there is a
 * common time. */
static int64_t deletion_ahead_ms(int64_t wall_ms, int64_t common_ms)
{
    switch (clock_trust()) {
    case CLOCK_AGREED:
        return common_ms == UNKNOWN || is_close(wall_ms - common_ms) ? wall_ms : common_ms;
    case CLOCK_DISPUTED:
        return earlier(atomic_load_explicit(&earliest_ahead_ms, memory_order_relaxed), wall_ms);
    case CLOCK_ALONE:
        break;
    }
    return earlier(seen.borne_ms, wall_ms);
}

static void note_jump(int64_t before_ms, int64_t now_ms)
{
    int64_t moved_ms = now_ms - before_ms;
    if (before_ms == UNKNOWN || now_ms == UNKNOWN || llabs(moved_ms) <= CLOCKS_APART_MS)
        return;
    seen.jumps.count++;
    if (llabs(moved_ms) > llabs(seen.jumps.ms))
        seen.jumps.ms = moved_ms;
}

/* Under the lock. */
static void observe_clocks(int64_t boot_ms)
{
    int64_t wall_ms = clock_host_ahead_ms(), before = seen.jumps.count;
    int64_t common_ms = atomic_load_explicit(&common_ahead_ms, memory_order_relaxed);
    note_jump(seen.wall_ms, wall_ms);
    note_jump(seen.common_ms, common_ms);
    if (seen.jumps.count > before) {
        bool held = boot_ms < seen.held_until_ms;
        seen.held_ms = held ? earlier(seen.held_ms, seen.deletion_ms) : seen.deletion_ms;
        seen.held_until_ms = boot_ms + CLOCK_PUT_OFF_MS;
    }
    seen.wall_ms = wall_ms;
    if (common_ms != UNKNOWN)
        seen.common_ms = common_ms;
    seen.deletion_ms = deletion_ahead_ms(wall_ms, common_ms);
}

void clock_look(void)
{
    pthread_mutex_lock(&seen.lock);
    observe_clocks(clock_boot_ms());
    pthread_mutex_unlock(&seen.lock);
}

int64_t clock_deletion_ms(void)
{
    pthread_mutex_lock(&seen.lock);
    int64_t boot_ms = clock_boot_ms();
    observe_clocks(boot_ms);
    int64_t ahead_ms =
        boot_ms < seen.held_until_ms ? earlier(seen.held_ms, seen.deletion_ms) : seen.deletion_ms;
    pthread_mutex_unlock(&seen.lock);
    return ahead_ms == UNKNOWN ? 0 : boot_ms + ahead_ms;
}

bool clock_take_jumps(struct clock_jumps *ret)
{
    pthread_mutex_lock(&seen.lock);
    *ret = seen.jumps;
    seen.jumps = (struct clock_jumps){0};
    pthread_mutex_unlock(&seen.lock);
    return ret->count > 0;
}

void clock_bear_out(int64_t wall_ms)
{
    pthread_mutex_lock(&seen.lock);
    if (wall_ms - clock_boot_ms() > seen.borne_ms)
        seen.borne_ms = wall_ms - clock_boot_ms();
    pthread_mutex_unlock(&seen.lock);
}

void clock_untold(void)
{
    atomic_store_explicit(&untold, true, memory_order_relaxed);
}

bool clock_is_doubted(void)
{
    bool is_only_one =
        clock_trust() == CLOCK_ALONE && atomic_load_explicit(&untold, memory_order_relaxed);
    return !is_only_one && clock_wall_ms() - clock_deletion_ms() > CLOCK_PUT_OFF_MS;
}

int64_t clock_file_ms(void)
{
    int64_t now_ms = clock_common_ms();
    pthread_mutex_lock(&seen.lock);
    int64_t borne_ms = seen.borne_ms == UNKNOWN ? 0 : clock_boot_ms() + seen.borne_ms;
    pthread_mutex_unlock(&seen.lock);
    return clock_trust() == CLOCK_AGREED || borne_ms < now_ms ? now_ms : borne_ms;
}

/* --- tests --- */

static void forget_seen(void)
{
    pthread_mutex_lock(&seen.lock);
    seen.borne_ms = seen.wall_ms = seen.common_ms = seen.deletion_ms = UNKNOWN;
    seen.held_until_ms = 0;
    seen.jumps = (struct clock_jumps){0};
    pthread_mutex_unlock(&seen.lock);
    atomic_store_explicit(&untold, false, memory_order_relaxed);
}

void clock_fake(int64_t wall_ms)
{
    bool was_real = fake_ms() == 0;
    publish_common_time(UNKNOWN, UNKNOWN, wall_ms != 0 ? CLOCK_AGREED : CLOCK_ALONE);
    atomic_store_explicit(&fake_ahead_ms, 0, memory_order_relaxed);
    atomic_store_explicit(&fake_wall_ms, wall_ms, memory_order_relaxed);
    atomic_store_explicit(&fake_slept_ms, 0, memory_order_relaxed);
    if (was_real || wall_ms == 0)
        forget_seen();
}

void clock_fake_sleep(int64_t slept_ms)
{
    atomic_fetch_add_explicit(&fake_slept_ms, slept_ms, memory_order_relaxed);
}

void clock_fake_host(int64_t ahead_ms)
{
    atomic_store_explicit(&fake_ahead_ms, ahead_ms, memory_order_relaxed);
}

void clock_fake_boot(int64_t ahead_ms)
{
    publish_common_time(UNKNOWN, UNKNOWN, CLOCK_ALONE);
    clock_fake_host(ahead_ms);
    forget_seen();
}

void clock_fake_stall(int64_t ms)
{
    atomic_store_explicit(&fake_stall_ms, ms, memory_order_relaxed);
}

void clock_fake_pass(int64_t ms)
{
    atomic_fetch_add_explicit(&fake_wall_ms, ms, memory_order_relaxed);
}
