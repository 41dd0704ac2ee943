/* Compares this node's keys with the marks in Redis: at start, when keys are reloaded, and every
 * minute. A part of the refresher, on its loop; no request waits for it. */
#pragma once

#include "session/engine/service.h"

struct key_watch;

/* Begins at once. The owner may replace the context's keyring, and then calls
 * key_watch_rekeyed(). */
struct key_watch *key_watch_create(const struct session_context *context, uv_loop_t *loop);
void key_watch_rekeyed(struct key_watch *watch);
/* Begins no new comparison. One in flight ends with the worker's link. */
void key_watch_stop(struct key_watch *watch);
/* No comparison may be in flight. */
void key_watch_destroy(struct key_watch **watch);
