/* The refresher: a thread with its own link to the store, for work that no request waits for.
 *
 * It re-reads users changed by other nodes (or this one). So before the next outage this node knows
 * their ended sessions as ended and their active ones again. It also replays the journal
 * (replay.h). */
#pragma once

#include "session/engine/service.h"

struct refresher;

/* Sets service->refresher, which exists until its thread has ended. */
void refresher_start(struct session_service *service, struct keyring *keyring);
void refresher_rekey(struct refresher *refresher, struct keyring *keyring);
void refresher_stop(struct session_service *service);

/* A change that can end tokens of the user: drops the user's cache entries and queues them to be
 * re-read. Any thread; does not wait. */
void refresher_forget(struct refresher *refresher, const struct user_tag *owner);
/* The server of these slots may have lost writes (store_listener.doubted). Any thread; does not
 * wait. */
void refresher_doubt(struct refresher *refresher, const uint8_t slots[SLOT_COUNT / 8],
                     bool owner_changed);
