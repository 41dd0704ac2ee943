/* Reads a master's INFO: at first, when it comes back, once a minute, and every few seconds while
 * it has a fault. On the control thread, with its round of pings. */
#pragma once

#include "redis/calls/link.h"

struct inspection {
    struct store_call call;
    struct store_link *link;
    const struct endpoint *endpoint;
    bool unfit;     /* version or kind cannot work */
    bool reachable; /* set by the owner: other calls are answered, so a denial is about INFO */
    int64_t due_ms; /* when it is asked next; 0: at once */
    size_t servers; /* set by the owner: how many are inspected; the more, the longer the pauses */
    void (*done)(struct inspection *inspection); /* set by the owner */
};

/* Asks if it is time to; `done` is then called once, unless the link closes before. Faults go to
 * log and settings.faults. False if it is not time. */
bool inspection_begin(struct inspection *inspection, struct store_link *link,
                      const struct endpoint *endpoint);
