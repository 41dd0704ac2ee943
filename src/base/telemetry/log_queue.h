/* Lines waiting for stderr. Its reader may be slow, stopped or gone, and a file may lie on a disk
 * that hangs, so only a thread of its own waits for it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Takes a whole line, or drops and counts it if there is no room; false if no thread was started:
 * the caller writes it. Any thread; never waits. */
bool log_queue_put(const char *line, size_t length);
/* Writes everything to stderr; bytes that it refuses (closed, no space) are lost. */
void log_queue_write(const char *data, size_t length);
