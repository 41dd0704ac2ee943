/* A circuit breaker: keeps calls away from a server that fails, so that nobody waits for what will
 * not come, and lets it come back slowly. Atomics only; one breaker is shared by all threads.
 *
 * CLOSED     calls pass; opens after BREAKER_FAILURES failures in a row, or when at least half of
 *            BREAKER_SAMPLE calls or more in a second failed. A slow answer is a failure.
 * OPEN       nobody passes until a pause with jitter is over; the pause doubles up to its most.
 * HALF_OPEN  few calls at once pass (BREAKER_PROBES); each success lets one more pass at once, so
 *            that the load comes back step by step. It is closed when BREAKER_RAMP may pass, or by
 *            a success when for BREAKER_CALM_MS nobody had to be turned away. A failure opens it
 *            again. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    BREAKER_FAILURES = 5,
    BREAKER_SAMPLE = 20,
    BREAKER_PROBES = 3,
    BREAKER_RAMP = 256,
    BREAKER_CALM_MS = 1000,
    BREAKER_FIRST_PAUSE_MS = 100
};

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };

struct breaker {
    _Atomic int state; /* enum breaker_state */
    _Atomic int64_t open_until_ms;
    _Atomic int64_t pause_ms;
    _Atomic uint32_t failures_in_a_row;
    _Atomic uint32_t under_way; /* passed and not over, in any state */
    _Atomic uint32_t allowed;   /* half-open: at once */
    _Atomic int64_t window_ms;  /* when the present second began; half-open: since when nobody was
                                   turned away */
    _Atomic uint32_t window_calls, window_failures;
    int64_t most_pause_ms;
};

void breaker_init(struct breaker *breaker, int64_t most_pause_ms);
/* May a call pass? One that passed must be told to breaker_note() when it is over. `now_ms`:
 * clock_monotonic_ms(). */
bool breaker_pass(struct breaker *breaker, int64_t now_ms);
/* How a call ended. True if the state changed by it. */
bool breaker_note(struct breaker *breaker, int64_t now_ms, bool success);
/* The same without a call that passed: a connection that could not be made, a ping. */
bool breaker_witness(struct breaker *breaker, int64_t now_ms, bool success);
/* A call that passed was given up without a word about the server. */
void breaker_forgo(struct breaker *breaker);
/* Evidence from elsewhere (an overdue ping): opens it at once. True if it was not open. */
bool breaker_trip(struct breaker *breaker, int64_t now_ms);
/* Evidence from elsewhere that the server is back: an open one becomes half-open at once. True if
 * it was open. */
bool breaker_probe(struct breaker *breaker, int64_t now_ms);
enum breaker_state breaker_state(const struct breaker *breaker);
