/* Common time: what the masters' clocks, this host's and the common time before agree on.
 *
 * The control thread asks every master for its TIME with each round of pings, and allows half of
 * the round trip for the way back. All readings are distances from clock_boot_ms(), so they can be
 * compared though they are not of one moment. Common time is their median, if a majority lies
 * within CLOCKS_APART_MS of it. This host's own clock is one reading. The previous common time is
 * another: so a clock that is set during the day is noticed also with a single Redis server, and
 * two servers that disagree do not take it away.
 *
 * Without a majority this host's clock holds (clock_common_ms()) and the service says so: then
 * nothing is removed for its age (rules.h), and no lifetime exceeds the policy's from the clock's
 * time. The first common time needs an answer of every server, or a majority: else a wrong clock of
 * this host could hold where only a single right server answered in time. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CLOCKS_MOST = 64 /* servers whose clocks are asked for; more decide nothing */ };

struct server_clocks {
    int64_t readings[CLOCKS_MOST + 2]; /* milliseconds ahead of clock_boot_ms() */
    size_t count;
    size_t asked, answered;       /* servers of this round; answered: with their time or a denial */
    bool any;                     /* a round has concluded */
    bool known;                   /* there is a common time before ... */
    int64_t kept_ahead_ms;        /* ... which was so far ahead of clock_boot_ms() */
    bool logged, apart, disputed; /* as the log has them */
    bool denied_logged;
};

struct store_reply;

/* The middle of the readings, which are sorted, in *ret; false if no majority lies within
 * CLOCKS_APART_MS of it. */
bool server_clocks_median(int64_t *readings, size_t count, int64_t *ret);

/* A new round of questions, to so many servers. */
void server_clocks_begin(struct server_clocks *clocks, size_t asked);
/* Reads the answer to TIME, which was asked for at this clock_boot_ms() and came now; any other
 * reply is no reading. */
void server_clocks_note(struct server_clocks *clocks, const struct store_reply *reply,
                        int64_t asked_ms);
/* A server does not let this user ask; logged once. */
void server_clocks_note_denied(struct server_clocks *clocks, const char *host, unsigned port);
/* True once a round has concluded, or a server has denied TIME. */
bool server_clocks_asked(const struct server_clocks *clocks);
/* Ends the round: publishes common time for clock_common_ms() and the metric, and logs changes. The
 * previous time holds without an answer, and in a dispute of a first round in which a server did
 * not answer. */
void server_clocks_conclude(struct server_clocks *clocks);
