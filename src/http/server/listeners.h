/* The listening sockets: those of systemd if it passed any, else our own. */
#pragma once

#include <sys/types.h>

#include "conf.h"

/* Which listener a connection came over. Calls of the main one are on record (audit.h). */
enum plane { PLANE_MAIN, PLANE_OPS };

struct listener {
    int fd;
    enum plane plane;
    bool tls;
    char *unix_path; /* of a Unix socket of our own: removed at the end ... */
    dev_t device;    /* ... if its file is still this one */
    ino_t inode;
};

enum { MOST_LISTENERS = 8 };

struct listeners {
    struct listener items[MOST_LISTENERS];
    size_t count;
};

/* Opens all of them, or none with *error. */
bool listeners_open(struct listeners *listeners, const struct conf *conf, struct buffer *error);
/* Closes those of a plane, and removes the file of a Unix socket that we made. */
void listeners_close(struct listeners *listeners, enum plane plane);
