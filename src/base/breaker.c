/* The breaker's states. Threads may race for a transition: a compare-and-swap of the state decides
 * who made it. Data of a state are written before the state, so that no thread sees a partial
 * change. The loser of a race has at most moved the end of a pause or slowed the ramp a little. */
#include "breaker.h"

enum { WINDOW_MS = 1000 };

void breaker_init(struct breaker *breaker, int64_t most_pause_ms)
{
    *breaker = (struct breaker){.most_pause_ms = most_pause_ms};
    atomic_init(&breaker->state, BREAKER_CLOSED);
    /* No second has begun: the first call begins one. */
    atomic_init(&breaker->window_ms, INT64_MIN / 2);
}

enum breaker_state breaker_state(const struct breaker *breaker)
{
    return (enum breaker_state)atomic_load(&breaker->state);
}

/* True for the one thread that made the transition. */
static bool change_state(struct breaker *breaker, enum breaker_state from, enum breaker_state to)
{
    int expected = (int)from;
    return atomic_compare_exchange_strong(&breaker->state, &expected, (int)to);
}

/* --- opening --- */

/* splitmix64 over a count that all breakers share: predictability does no harm here, equal pauses
 * would. */
static uint64_t next_random(void)
{
    static _Atomic uint64_t count;
    uint64_t mixed = atomic_fetch_add(&count, UINT64_C(0x9e3779b97f4a7c15));
    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ (mixed >> 31);
}

/* A random time in the upper half of the pause. */
static int64_t with_jitter(int64_t pause_ms, int64_t now_ms)
{
    uint64_t half = (uint64_t)pause_ms / 2;
    return pause_ms - (int64_t)((next_random() ^ (uint64_t)now_ms) % (half + 1));
}

static int64_t next_pause(const struct breaker *breaker)
{
    int64_t last_ms = atomic_load(&breaker->pause_ms);
    int64_t next_ms = last_ms ? last_ms * 2 : BREAKER_FIRST_PAUSE_MS;
    return next_ms < breaker->most_pause_ms ? next_ms : breaker->most_pause_ms;
}

static bool open_from(struct breaker *breaker, enum breaker_state from, int64_t now_ms)
{
    int64_t pause_ms = next_pause(breaker);
    atomic_store(&breaker->open_until_ms, now_ms + with_jitter(pause_ms, now_ms));
    if (!change_state(breaker, from, BREAKER_OPEN))
        return false;
    atomic_store(&breaker->pause_ms, pause_ms);
    return true;
}

bool breaker_trip(struct breaker *breaker, int64_t now_ms)
{
    enum breaker_state state;
    while ((state = breaker_state(breaker)) != BREAKER_OPEN)
        if (open_from(breaker, state, now_ms))
            return true;
    return false;
}

/* --- half-open --- */

static bool open_half(struct breaker *breaker, int64_t now_ms)
{
    atomic_store(&breaker->allowed, BREAKER_PROBES);
    atomic_store(&breaker->window_ms, now_ms);
    return change_state(breaker, BREAKER_OPEN, BREAKER_HALF_OPEN);
}

bool breaker_probe(struct breaker *breaker, int64_t now_ms)
{
    return breaker_state(breaker) == BREAKER_OPEN && open_half(breaker, now_ms);
}

static bool pass_half_open(struct breaker *breaker, int64_t now_ms)
{
    if (atomic_fetch_add(&breaker->in_flight, 1) < atomic_load(&breaker->allowed))
        return true;
    atomic_fetch_sub(&breaker->in_flight, 1);
    atomic_store(&breaker->window_ms, now_ms);
    return false;
}

/* --- closing --- */

static bool note_half_open_success(struct breaker *breaker, int64_t now_ms)
{
    bool calm = now_ms - atomic_load(&breaker->window_ms) >= BREAKER_CALM_MS;
    if (atomic_fetch_add(&breaker->allowed, 1) + 1 < BREAKER_RAMP && !calm)
        return false;
    atomic_store(&breaker->failures_in_a_row, 0);
    atomic_store(&breaker->window_calls, 0);
    atomic_store(&breaker->window_failures, 0);
    atomic_store(&breaker->window_ms, now_ms);
    if (!change_state(breaker, BREAKER_HALF_OPEN, BREAKER_CLOSED))
        return false;
    atomic_store(&breaker->pause_ms, 0);
    return true;
}

/* --- closed --- */

/* The thread that begins a new second clears the counts; concurrent counts may be lost. */
static void count_result(struct breaker *breaker, int64_t now_ms, bool success)
{
    int64_t began_ms = atomic_load_explicit(&breaker->window_ms, memory_order_relaxed);
    if (now_ms - began_ms >= WINDOW_MS &&
        atomic_compare_exchange_strong(&breaker->window_ms, &began_ms, now_ms)) {
        atomic_store(&breaker->window_calls, 0);
        atomic_store(&breaker->window_failures, 0);
    }
    atomic_fetch_add_explicit(&breaker->window_calls, 1, memory_order_relaxed);
    if (!success)
        atomic_fetch_add_explicit(&breaker->window_failures, 1, memory_order_relaxed);
}

static bool note_closed(struct breaker *breaker, int64_t now_ms, bool success)
{
    count_result(breaker, now_ms, success);
    if (success) {
        /* Read first: without failures the cache line is not written. */
        if (atomic_load_explicit(&breaker->failures_in_a_row, memory_order_relaxed) > 0)
            atomic_store_explicit(&breaker->failures_in_a_row, 0, memory_order_relaxed);
        return false;
    }
    bool in_a_row = atomic_fetch_add(&breaker->failures_in_a_row, 1) + 1 >= BREAKER_FAILURES;
    uint32_t calls = atomic_load(&breaker->window_calls);
    bool half_failed =
        calls >= BREAKER_SAMPLE && atomic_load(&breaker->window_failures) * 2 >= calls;
    return (in_a_row || half_failed) && open_from(breaker, BREAKER_CLOSED, now_ms);
}

/* --- calls --- */

bool breaker_pass(struct breaker *breaker, int64_t now_ms)
{
    if (breaker_state(breaker) == BREAKER_CLOSED) {
        atomic_fetch_add_explicit(&breaker->in_flight, 1, memory_order_relaxed);
        return true;
    }
    if (breaker_state(breaker) == BREAKER_OPEN) {
        if (now_ms < atomic_load(&breaker->open_until_ms))
            return false;
        (void)open_half(breaker, now_ms);
    }
    return pass_half_open(breaker, now_ms);
}

/* While it is open only a success after the pause counts, not the late ends of earlier calls. */
bool breaker_witness(struct breaker *breaker, int64_t now_ms, bool success)
{
    switch (breaker_state(breaker)) {
    case BREAKER_CLOSED:
        return note_closed(breaker, now_ms, success);
    case BREAKER_HALF_OPEN:
        return success ? note_half_open_success(breaker, now_ms)
                       : open_from(breaker, BREAKER_HALF_OPEN, now_ms);
    case BREAKER_OPEN:
        return success && now_ms >= atomic_load(&breaker->open_until_ms) &&
               open_half(breaker, now_ms);
    }
    return false;
}

bool breaker_note(struct breaker *breaker, int64_t now_ms, bool success)
{
    breaker_forgo(breaker);
    return breaker_witness(breaker, now_ms, success);
}

void breaker_forgo(struct breaker *breaker)
{
    atomic_fetch_sub_explicit(&breaker->in_flight, 1, memory_order_relaxed);
}
