/* Wrong codes that a user's challenges got of late. Each challenge allows few attempts, but
 * challenges are many (NIST SP 800-63B-4, section 3.2.2: at most 100 in a row for an account).
 *
 * Stored in the field "#" of the user's hash, if there are any: their number, a blank, and the
 * start, seconds since 1970; decimal. Not sealed: every node must be able to count, whatever its
 * keys, and the number is no secret. A writer to Redis could reset it, but also if it were
 * sealed. */
#pragma once

#include "memory.h"
#include "text.h"

/* Wrong codes of a user within an hour; then codes are refused for the rest of it. */
#define GUESSES_MAX     20
#define GUESSES_SECONDS 3600

/* All zero: no wrong codes. */
struct guesses {
    int64_t count, since_s;
};

/* Reads a count; none for a text that guesses_write() did not write. */
void guesses_read(struct text text, struct guesses *ret);
struct text guesses_write(const struct guesses *guesses, struct arena *arena);

void guesses_note(struct guesses *guesses, int64_t now_s);
/* For how many seconds codes are refused; 0 if they are accepted. */
int64_t guesses_closed_s(const struct guesses *guesses, int64_t now_s);
/* When the count is forgotten, seconds since 1970; 0 if there is none. */
int64_t guesses_until_s(const struct guesses *guesses);
