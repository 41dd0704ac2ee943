/* The directory that a file lies in. */
#pragma once

#include <stdbool.h>

/* Brings the name of a file to disk: a name that was made, renamed or removed is durable only when
 * its directory is. Blocks. False with errno. */
bool directory_sync_of(const char *path);
