/* A caller's wait until its line or record is on disk (group commit of audit and journal). */
#pragma once

#include <stdbool.h>

/* Lives in the caller's memory until `done` was called: once, on the worker's thread
 * (audit_collect(), journal_collect()). `written` is false if the line or record is not on disk. */
struct commit_ticket {
    void (*done)(struct commit_ticket *ticket, bool written);
    struct commit_ticket *next;
    bool written;
};
