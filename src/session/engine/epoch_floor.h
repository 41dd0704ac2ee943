/* The highest epoch that this node has seen of each user, as far as it remembers: what keeps it
 * from believing a server that has lost changes (a replica that was promoted too early, an old
 * master that still answers).
 *
 * A state whose epoch is lower than one seen within the last minute is *behind*: it may show a
 * session alive that was revoked. Nothing is concluded from it; the node that revoked the session
 * replays its journal meanwhile. The memory is a table without locks in which users share places:
 * the later epoch stays. After a minute the epoch floor is gone: what Redis says then holds, since
 * a lost change that nobody replays (a refresh) must not lock a user out. */
#pragma once

#include "token.h"

struct epoch_floor;

struct epoch_floor *epoch_floor_create(void);
void epoch_floor_destroy(struct epoch_floor **epoch_floor);
/* A state with this epoch was seen. Any thread. */
void epoch_floor_raise(struct epoch_floor *epoch_floor, const struct user_tag *owner,
                       int64_t epoch_ms, int64_t now_ms);
/* True if a version or epoch, which are times, is of the last minute. */
bool epoch_floor_remembers(int64_t version_ms, int64_t now_ms);
/* The epoch below which a state of the user is behind, 0 if none is. Any thread. */
int64_t epoch_floor_of(const struct epoch_floor *epoch_floor, const struct user_tag *owner,
                       int64_t now_ms);
