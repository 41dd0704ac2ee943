/* The listening sockets: systemd's if it passed some, else our own. */
#pragma once

#include <sys/types.h>

#include "conf.h"

/* Which listener a connection came over. Calls of the main one are on record (audit.h). */
enum plane { PLANE_MAIN, PLANE_OPS };

struct listener {
    int fd;
    enum plane plane;
    char *unix_path; /* of a socket of our own, to be removed at the end ... */
    dev_t device;    /* ... if it is still this one */
    ino_t inode;
};

enum { MOST_LISTENERS = 8 };

struct listeners {
    struct listener items[MOST_LISTENERS];
    size_t count;
};

/* Opens all of them, or none with *error. */
bool listeners_open(struct listeners *listeners, const struct conf *conf, struct buffer *error);
/* Closes those of a plane; removes the file of a Unix socket that we made, if it is still that one.
 */
void listeners_close(struct listeners *listeners, enum plane plane);
