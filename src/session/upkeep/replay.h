/* Replay: holding the journal against Redis, newest first.
 *
 * A revocation is unconfirmed until Redis had it on a replica: it is written again, at first soon,
 * then with growing pauses. A confirmed one is read and compared when the server of its slot may
 * have lost writes: all of them if another server answers now, the recent ones if the same server
 * was away. Replays are changes like any other (user_update.h), which apply the journal to what
 * they read.
 */
#pragma once

#include "session/engine/service.h"

struct replay;

/* The context's keyring may be replaced by its owner while the replay lives. */
struct replay *replay_create(const struct session_context *context, uv_loop_t *loop);
/* Begins at once with what is doubted, beside what is unconfirmed. */
void replay_doubt(struct replay *replay, const uint8_t slots[SLOTS / 8], bool owner_changed);
/* Stops beginning new ones; those under way end with the worker's link. */
void replay_stop(struct replay *replay);
/* None may be under way. */
void replay_destroy(struct replay **replay);
