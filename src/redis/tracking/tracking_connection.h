/* One watch: a connection to a master, subscribed to what changes there, and the generations of the
 * slots that it speaks for. Private to the watches (watches.h). */
#pragma once

#include "generations.h"
#include "tracker.h"

/* Slots come to a watch with each migration, a generation each: more than this are made one. */
enum { WATCH_GENERATIONS_MAX = 16, WATCH_RUN_ID = 40 };

enum watch_step {
    WATCH_DOWN,
    WATCH_INTRODUCING,
    WATCH_IDENTIFYING,
    WATCH_TRACKING,
    WATCH_SUBSCRIBING,
    WATCH_LIVE
};

struct watch {
    struct connection connection; /* first: a connection of ours is a watch */
    struct watch *next;
    struct watches *watches;
    struct endpoint endpoint;
    struct store_breaker *breaker;
    uint8_t claims[SLOT_BYTES];
    bool wanted; /* in the map */
    bool unfit;  /* does not serve as a master */
    enum watch_step step;
    bool was_away;                /* the server may have lost writes since */
    char run_id[WATCH_RUN_ID];    /* of the server's process, which changes when it starts */
    bool knows_run, is_other_run; /* another process than the one before, or it may be */
    bool refusal_told;            /* once for each time that it is not live */
    bool overdue_told;            /* to the breaker */
    int64_t retry_ms;             /* not before */
    int64_t asked_ms;             /* when the command was sent that is not answered; 0: none */
    int64_t asked_boot_ms;        /* the same by clock_boot_ms() */
    int64_t proof_ms;             /* clock_boot_ms() */
    int64_t ping_ms;              /* when the next one is due */
    uint32_t generations[WATCH_GENERATIONS_MAX];
    size_t generation_count;
};

struct watches {
    struct store *store;
    struct store_link *link;
    struct slot_map *map; /* the one that is followed; NULL: none yet */
    struct watch *first;
    struct endpoint_table index; /* of the watches */
    struct watch *owner[SLOT_COUNT];
};

/* --- the connection: watch.c --- */

/* A watch of the endpoint that is set; it connects when it is ticked. */
void watch_init(struct watch *watch);
/* Ends its generations, too; the owners of slots are the caller's. Tells nobody. */
void watch_fini(struct watch *watch);
/* Does what is due; returns when the next is, in monotonic ms. */
int64_t watch_tick(struct watch *watch, int64_t now_ms);

/* --- what it speaks for: watch_generations.c --- */

void watch_tell_changed(struct store *store, struct text key);
/* `owner_changed`: what was read of these slots may be of another server. */
void watch_tell_doubted(struct store *store, const uint8_t slots[SLOT_BYTES], bool owner_changed);
/* The same of all slots of the watch. */
void watch_doubt_all(struct watch *watch, bool owner_changed);

/* The generations of the slots of all watches. */
struct generations *watches_table(struct watches *watches);
/* A new generation for all its slots: what was read until now may have changed unheard. */
void watch_renew_generation(struct watch *watch);
/* Its slots are not watched from now on. */
void watch_end_generations(struct watch *watch);
/* Nothing has changed unheard until proof_ms. */
void watch_prove_generations(struct watch *watch);
/* Slots that came to a live watch get a generation of their own: what was read of them before, from
 * another server, must not pass for read under this one. */
void watch_begin_moved(struct watch *watch);
