/* How often codes of second verifications were guessed wrongly for a user of late: tries of one
 * challenge are few, but challenges are many (NIST SP 800-63B-4, section 3.2.2: at most 100 in a
 * row for an account).
 *
 * Stored in the field "#" of the user's hash, if there were any: their number, a blank, and since
 * when, seconds since 1970; decimal. Not sealed: every node must be able to count, whatever keys it
 * has, and a number tells nobody anything. Who may write to Redis could set it back, but a sealed
 * one as well. */
#pragma once

#include "memory.h"
#include "text.h"

/* Wrong codes of a user within an hour; then no code is taken for the rest of it. */
#define GUESSES_MAX     20
#define GUESSES_SECONDS 3600

/* All zero: there were none. */
struct guesses {
    int64_t count, since_s;
};

/* None for a text that guesses_write() did not write. */
void guesses_read(struct text text, struct guesses *ret);
struct text guesses_write(const struct guesses *guesses, struct arena *arena);

void guesses_note(struct guesses *guesses, int64_t now_s);
/* For how many seconds no code is taken; 0 if one is. */
int64_t guesses_closed_s(const struct guesses *guesses, int64_t now_s);
/* When they are forgotten, seconds since 1970; 0 if there are none. */
int64_t guesses_until_s(const struct guesses *guesses);
