/* One tracking connection: subscribed to the changes on a master, with the generations of its
 * slots. Private to the tracker (tracker.h). */
#pragma once

#include "redis/calls/connection.h"
#include "redis/state/generations.h"
#include "tracker.h"

/* Each migration brings slots, with a generation each: more than this are merged into one. */
enum { TRACKING_GENERATIONS_MAX = 16, TRACKING_RUN_ID = 40 };

enum tracking_step {
    TRACKING_DOWN,
    TRACKING_INTRODUCING,
    TRACKING_IDENTIFYING,
    TRACKING_TRACKING,
    TRACKING_SUBSCRIBING,
    TRACKING_LIVE
};

struct tracking_connection {
    struct connection connection; /* first: tracking_of() relies on it */
    struct tracking_connection *next;
    struct tracker *tracker;
    struct endpoint endpoint;
    struct store_breaker *breaker;
    uint8_t claims[SLOT_BYTES];
    bool wanted; /* in the map */
    bool unfit;  /* does not serve as a master */
    enum tracking_step step;
    bool was_away;                /* the server may have lost writes since */
    char run_id[TRACKING_RUN_ID]; /* of the server's process, which changes when it starts */
    bool knows_run, is_other_run; /* another process than the one before, or it may be */
    bool refusal_logged;          /* once for each time that it is not live */
    bool overdue_noted;           /* to the breaker */
    int64_t retry_ms;             /* not before */
    int64_t asked_ms;             /* when the command was sent that is not answered; 0: none */
    int64_t asked_boot_ms;        /* the same by clock_boot_ms() */
    int64_t proof_ms;             /* clock_boot_ms() */
    int64_t ping_ms;              /* when the next one is due */
    uint32_t generations[TRACKING_GENERATIONS_MAX];
    size_t generation_count;
};

struct tracker {
    struct store *store;
    struct store_link *link;
    struct slot_map *map; /* the one that is followed; NULL: none yet */
    struct tracking_connection *first;
    struct endpoint_table index; /* of the connections */
    struct tracking_connection *owner[SLOT_COUNT];
};

/* --- the connection: tracking_connection.c --- */

/* Prepares the connection to the endpoint that is set; it connects at a tick. */
void tracking_connection_init(struct tracking_connection *tracking);
/* Ends its generations, too; the owners of slots are the caller's. Calls no listener. */
void tracking_connection_fini(struct tracking_connection *tracking);
/* Does what is due; returns when the next is, in monotonic ms. */
int64_t tracking_connection_tick(struct tracking_connection *tracking, int64_t now_ms);

/* --- what it speaks for: tracking_epochs.c --- */

void tracking_epochs_report_changed(struct store *store, struct text key);
/* `owner_changed`: earlier reads of these slots may be another server's. */
void tracking_epochs_report_doubted(struct store *store, const uint8_t slots[SLOT_BYTES],
                                    bool owner_changed);
/* The same for all slots of the connection. */
void tracking_epochs_doubt_all(struct tracking_connection *tracking, bool owner_changed);

/* The generations of all slots. */
struct generations *tracking_epochs_table(struct tracker *tracker);
/* Begins a new generation for all its slots: changes since earlier reads may have been missed. */
void tracking_epochs_renew_generation(struct tracking_connection *tracking);
/* Its slots are not tracked from now on. */
void tracking_epochs_end_generations(struct tracking_connection *tracking);
/* No change was missed until proof_ms. */
void tracking_epochs_prove_generations(struct tracking_connection *tracking);
/* Begins a generation for slots that came to a live connection: earlier reads, from another server,
 * must not count as made under the present one. */
void tracking_epochs_begin_moved(struct tracking_connection *tracking);
