/* The keeper: a thread with a link of its own that does what no request waits for.
 *
 * It reads anew what other nodes (or this one) have changed, so that this node knows dead sessions
 * as dead, and living ones again, before the next outage; and it holds the journal against Redis
 * (replay.h). */
#pragma once

#include "session/engine/service.h"

struct keeper;

/* Sets service->keeper, which is there until its thread has ended. */
void keeper_start(struct session_service *service, struct keyring *keyring);
void keeper_rekey(struct keeper *keeper, struct keyring *keyring);
void keeper_stop(struct session_service *service);

/* Something that can end tokens of the user has changed: forgets what the cache has and asks for it
 * to be read anew. Any thread; does not wait. */
void keeper_forget(struct keeper *keeper, const struct user_tag *owner);
/* These slots' server may have lost writes (store_watcher.doubted). Any thread; does not wait. */
void keeper_doubt(struct keeper *keeper, const uint8_t slots[SLOTS / 8], bool owner_changed);
