/* Locks on files that belong to one process: audit, journal, alerts, snapshot.
 *
 * A lock is a POSIX record lock, which names its holder, on the empty file .NAME.lock beside the
 * file. Unlike the file, the lock file is never renamed or replaced, and nothing else opens it, so
 * no other close() releases the lock. It stays when the process ends: removing it would let a third
 * process lock another file of that name. */
#pragma once

#include "conf.h"
#include "text.h"

struct file_locks;

/* Locks all of them; to be called before any is read or written. NULL with *error if another
 * process has one, or if two options name the same file. Files that are not regular are not locked.
 * A lock that cannot be made is only logged as a warning: if the directory is missing, opening the
 * file fails later. */
struct file_locks *file_locks_take(const struct conf *conf, struct buffer *error);
/* Releases them. */
void file_locks_release(struct file_locks **locks);
