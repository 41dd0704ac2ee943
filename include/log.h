/* The operator's log: one line an event on stderr.
 *
 * To the journal a line is `<priority>event key=value key=value` (sd-daemon(3) priorities; systemd
 * says in JOURNAL_STREAM which device and inode the journal's end is, systemd.exec(5)). To anything
 * else, a terminal or a file, it is `2026-11-22T09:35:09.123Z level event key=value`. Low layers
 * return errors; the layer that knows what they mean logs once. No token, key or password is ever
 * logged: pass values that came from a caller through log_quote() only. */
#pragma once

#include <stdint.h>

#include "text.h"

/* A problem that lasts is logged once in so many milliseconds. */
enum { LOG_INTERVAL_MS = 10000 };

/* A reason that any client may give again and again is logged once a minute. */
struct log_pause {
    _Atomic int64_t logged_ms;
};
/* True if nothing was logged for this reason in the last minute: the caller logs now. Any thread.
 */
bool log_pause_over(struct log_pause *pause);

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };

/* Starts the thread that writes. Logging then waits for nothing: a line without room, because
 * stderr is not read, is dropped and counted (METRIC_LOG_LINES_DROPPED). Before, and in commands,
 * each line is written at once. 0, or an error number of pthread_create(3). */
int log_start(void);
/* Waits until all lines are written, at most so long. For the end of the process. */
void log_flush(int64_t most_ms);

/* Lines below the level are dropped. Callable from every thread at any time. */
void log_set_level(enum log_level level);

/* Writes one line: the event's name, then formatted key=value pairs. */
void log_write(enum log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define log_debug(event, ...)   log_write(LOG_LEVEL_DEBUG, event, __VA_ARGS__)
#define log_info(event, ...)    log_write(LOG_LEVEL_INFO, event, __VA_ARGS__)
#define log_warning(event, ...) log_write(LOG_LEVEL_WARNING, event, __VA_ARGS__)
#define log_error(event, ...)   log_write(LOG_LEVEL_ERROR, event, __VA_ARGS__)

/* Copies at most size - 1 bytes of the text into `out`, with '?' for everything but printable
 * ASCII, for quotes and backslashes, and for a credential (credential.h) after its prefix. Returns
 * out. */
const char *log_quote(char *out, size_t size, struct text text);
