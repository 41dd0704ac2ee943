/* Replay: writes the journal's revocations to Redis again, newest first.
 *
 * A revocation is unconfirmed until a replica has it. Until then it is written again, soon at
 * first, then with growing pauses. A confirmed one is read and compared when the server of its slot
 * may have lost writes: all of them if another server answers now, the recent ones if the same
 * server was away. A replay is a user update (user_update.h), which applies the journal to the
 * state it reads. */
#pragma once

#include "session/engine/service.h"

struct replay;

/* The context's keyring may be replaced by its owner while the replay exists. */
struct replay *replay_create(const struct session_context *context, uv_loop_t *loop);
/* Starts at once with the slots in doubt, beside the unconfirmed revocations. */
void replay_doubt(struct replay *replay, const uint8_t slots[SLOT_COUNT / 8], bool owner_changed);
/* Begins no new replays. Those in flight end with the worker's link. */
void replay_stop(struct replay *replay);
/* No replay may be in flight. */
void replay_destroy(struct replay **replay);
