/* Locks of the files that one process has to itself: audit, journal, alerts, snapshot.
 *
 * A lock is a POSIX record lock, which tells who holds it, on the empty file .NAME.lock beside the
 * file: unlike the file it is never renamed or replaced, and nothing else opens it, so that no
 * close() gives the lock back. It stays when the process ends; removing it would let a third
 * process lock another file of that name. */
#pragma once

#include "conf.h"
#include "text.h"

struct file_locks;

/* Locks all of them before anything of them is read or written; NULL with *error if another process
 * has one, or if two options name the same one. What is there and no regular file is not locked. A
 * lock that cannot be made is warned of: where the directory is missing, whoever opens the file
 * refuses. */
struct file_locks *file_locks_take(const struct conf *conf, struct buffer *error);
/* Gives them back. */
void file_locks_release(struct file_locks **locks);
