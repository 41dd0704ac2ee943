/* Private to alerts: counts events under a name within a minute, which begins with the first one.
 *
 * A bounded table of cells. A full set evicts the cell whose minute began first, which can only
 * forgive. Not locked. Times are clock_monotonic_ms(). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct minute {
    uint64_t name; /* hashed */
    int64_t began_ms;
    int64_t count;
    void *kept; /* the owner's */
    bool used;
};

struct minutes;
/* Room for `cells` names, a power of two, at least 8. */
struct minutes *minutes_create(size_t cells);
/* `kept` is the owner's: take it out first (minutes_next). */
void minutes_destroy(struct minutes **minutes);

/* The cell of the name while its minute runs, else NULL. Evicts no other. */
struct minute *minutes_running(struct minutes *minutes, uint64_t name, int64_t now_ms);
/* The cell of the name, whose minute may be over. If there was none, it is a fresh, unused cell
 * with the name and the present time; a caller that fills it sets `used`. *displaced is the cell
 * that was evicted for it, or an unused one. */
struct minute *minutes_find(struct minutes *minutes, uint64_t name, int64_t now_ms,
                            struct minute *displaced);
bool minutes_is_over(const struct minute *minute, int64_t now_ms);
/* The next used cell from *at on, NULL after the last; moves *at past it. Begin with 0. */
struct minute *minutes_next(struct minutes *minutes, size_t *at);

/* Adds `more` to the name's minute; returns its sum. */
int64_t minutes_count(struct minutes *minutes, uint64_t name, int64_t more, int64_t now_ms);
