/* Private to alerts: how often something happened under a name within a minute, which begins with
 * the first time.
 *
 * A table of cells, bounded: where there is no room the cell whose minute began first is given up,
 * which can only forgive. Not locked. Times are clock_monotonic_ms(). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MINUTE_MS 60000

struct minute {
    uint64_t name; /* hashed */
    int64_t began_ms;
    int64_t count;
    void *kept; /* the owner's */
    bool used;
};

struct minutes;
/* Room for so many names, a power of two, at least 8. */
struct minutes *minutes_create(size_t cells);
/* What cells keep is the owner's: take it out first (minutes_next). */
void minutes_destroy(struct minutes **minutes);

/* The cell of the name while its minute runs; NULL if none does. Gives up no other. */
struct minute *minutes_running(struct minutes *minutes, uint64_t name, int64_t now_ms);
/* The cell of the name, maybe one whose minute is over. If there was none, it is one that is not
 * used, and has the name, the present time, and zeros; whoever fills it sets `used`. *displaced is
 * what was there before, or is not used. */
struct minute *minutes_find(struct minutes *minutes, uint64_t name, int64_t now_ms,
                            struct minute *displaced);
bool minutes_is_over(const struct minute *minute, int64_t now_ms);
/* The next used cell from *at on, NULL behind the last; *at is moved behind it. Begin with 0. */
struct minute *minutes_next(struct minutes *minutes, size_t *at);

/* Counts `more` in the name's minute; returns how many there are in it. */
int64_t minutes_count(struct minutes *minutes, uint64_t name, int64_t more, int64_t now_ms);
