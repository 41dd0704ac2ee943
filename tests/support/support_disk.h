/* A cache and its file, for the tests of what is on disk. */
#pragma once

#include "cache.h"

enum {
    DISK_HEAD = 32, /* bytes before the first chunk */
    DISK_HOUR_MS = 3600000,
    DISK_USERS = 1500, /* that support_disk_fill() makes, with a session each */
    DISK_LENGTH = 200  /* of the longest value among them */
};

extern struct support_disk {
    char directory[64], path[80], new_path[96]; /* new_path: while it is written */
    struct cache *cache;                        /* what is saved */
    struct cache *restarted;                    /* what is loaded */
    size_t loaded;                              /* by the last load */
    struct keyring *keyring;                    /* with key 1 */
    struct buffer error;
} disk;

/* A checked fixture; the second fails if anything but the file is left in the directory. */
void support_disk_set_up(void);
void support_disk_tear_down(void);

void support_disk_use_keys(const char *content);
void support_disk_fill(void);
void support_disk_save(void);
/* An empty cache to load into. */
void support_disk_restart(void);
/* Loads so many entries from a whole file. */
void support_disk_load(size_t expected);
/* Refused in a message that names the file and has this in it. */
void support_disk_assert_refuses(const char *why);
