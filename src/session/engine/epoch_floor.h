/* The highest epoch that this node has seen of each user. It keeps the node from believing a server
 * that has lost changes: a replica promoted too early, or an old master that still answers.
 *
 * A state is *behind* if its epoch is lower than one seen within the last minute. It may show a
 * revoked session as active, so it decides nothing; the node that revoked the session replays its
 * journal meanwhile. The memory is a lock-free table in which users share entries: the later epoch
 * stays. After a minute the floor is gone and Redis is believed again. A lost change that nobody
 * replays (a refresh) must not lock a user out. */
#pragma once

#include "token.h"

struct epoch_floor;

struct epoch_floor *epoch_floor_create(void);
void epoch_floor_destroy(struct epoch_floor **epoch_floor);
/* Notes that a state with this epoch was seen. Any thread. */
void epoch_floor_raise(struct epoch_floor *epoch_floor, const struct user_tag *owner,
                       int64_t epoch_ms, int64_t now_ms);
/* True if a version or epoch, which are times, is less than a minute old. */
bool epoch_floor_remembers(int64_t version_ms, int64_t now_ms);
/* The user's epoch floor: a state with a lower epoch is behind. 0 if there is none. Any thread. */
int64_t epoch_floor_of(const struct epoch_floor *epoch_floor, const struct user_tag *owner,
                       int64_t now_ms);
