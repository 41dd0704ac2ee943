/* The operator's log: one line an event on stderr, which systemd hands to the journal.
 *
 * A line is `<priority>event key=value key=value` (sd-daemon(3) priorities). Low layers return
 * errors; the layer that knows what they mean logs once. No token, key or password is ever logged:
 * pass values that came from a caller through log_quote() only. */
#pragma once

#include "text.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };

/* Lines below the level are dropped. Callable from every thread at any time. */
void log_set_level(enum log_level level);

/* Writes one line: the event's name, then formatted key=value pairs. */
void log_write(enum log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define log_debug(event, ...)   log_write(LOG_LEVEL_DEBUG, event, __VA_ARGS__)
#define log_info(event, ...)    log_write(LOG_LEVEL_INFO, event, __VA_ARGS__)
#define log_warning(event, ...) log_write(LOG_LEVEL_WARNING, event, __VA_ARGS__)
#define log_error(event, ...)   log_write(LOG_LEVEL_ERROR, event, __VA_ARGS__)

/* Copies at most size - 1 bytes of the text into `out`, everything but printable ASCII replaced
 * by '?', quotes and backslashes too. Returns out. */
const char *log_quote(char *out, size_t size, struct text text);
