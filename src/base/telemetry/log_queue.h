/* The lines on their way to stderr. Its reader may be slow, stopped or gone, and a file may lie on
 * a disk that hangs: a thread of its own waits for it, and nobody else does. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Takes a whole line, or drops and counts it if there is no room; false: no thread was started, the
 * caller writes it itself. Any thread; waits for nothing. */
bool log_queue_put(const char *line, size_t length);
/* Writes everything to stderr; what it does not take (closed, no space) is lost. */
void log_queue_write(const char *data, size_t length);
