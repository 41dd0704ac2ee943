/* A circuit breaker keeps calls away from a failing server, so that no caller waits in vain, and
 * raises its load slowly when it is back. Atomics only; one breaker is shared by all threads.
 *
 * CLOSED     calls pass; opens after BREAKER_FAILURES failures in a row, or when at least half of
 *            BREAKER_SAMPLE calls or more in a second failed. A slow answer is a failure.
 * OPEN       no call passes until a pause with jitter is over; the pause doubles up to its most.
 * HALF_OPEN  a few calls pass at once (BREAKER_PROBES); each success lets one more pass at once, so
 *            that the load returns step by step. It closes when BREAKER_RAMP may pass, or by a
 *            success when for BREAKER_CALM_MS no call was refused. A failure opens it again. */
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
    _Atomic uint32_t in_flight; /* calls that passed and have not ended, in any state */
    _Atomic uint32_t allowed;   /* half-open: calls at once */
    _Atomic int64_t window_ms;  /* start of the second; half-open: no call was refused since */
    _Atomic uint32_t window_calls, window_failures;
    int64_t most_pause_ms;
};

void breaker_init(struct breaker *breaker, int64_t most_pause_ms);
/* True if a call may pass; breaker_note() or breaker_forgo() must follow at its end. `now_ms`:
 * clock_monotonic_ms(). */
bool breaker_pass(struct breaker *breaker, int64_t now_ms);
/* Notes the result of a call that passed. True if that changed the state. */
bool breaker_note(struct breaker *breaker, int64_t now_ms, bool success);
/* The same for other evidence than a call that passed: a failed connection, a ping. */
bool breaker_witness(struct breaker *breaker, int64_t now_ms, bool success);
/* Notes the end of a call that passed without evidence about the server. */
void breaker_forgo(struct breaker *breaker);
/* Opens it at once, on evidence from elsewhere (an overdue ping). True if it was not open. */
bool breaker_trip(struct breaker *breaker, int64_t now_ms);
/* Makes an open one half-open at once, on evidence from elsewhere that the server is back. True if
 * it was open. */
bool breaker_probe(struct breaker *breaker, int64_t now_ms);
enum breaker_state breaker_state(const struct breaker *breaker);
