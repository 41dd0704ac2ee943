/* The refresher: a thread with a link of its own that does what no request waits for.
 *
 * It reads anew what other nodes (or this one) have changed, so that this node knows dead sessions
 * as dead, and living ones again, before the next outage; and it holds the journal against Redis
 * (replay.h). */
#pragma once

#include "session/engine/service.h"

struct refresher;

/* Sets service->refresher, which is there until its thread has ended. */
void refresher_start(struct session_service *service, struct keyring *keyring);
void refresher_rekey(struct refresher *refresher, struct keyring *keyring);
void refresher_stop(struct session_service *service);

/* Something that can end tokens of the user has changed: forgets what the cache has and asks for it
 * to be read anew. Any thread; does not wait. */
void refresher_forget(struct refresher *refresher, const struct user_tag *owner);
/* These slots' server may have lost writes (store_listener.doubted). Any thread; does not wait. */
void refresher_doubt(struct refresher *refresher, const uint8_t slots[SLOTS / 8],
                     bool owner_changed);
