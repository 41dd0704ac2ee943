/* State that control thread and workers share. One mutex, held only to swap or copy a pointer and
 * to walk the list of workers; all else is atomic or immutable. */
#pragma once

#include <pthread.h>

#include "breakers.h"
#include "generations.h"
#include "settings.h"
#include "slot_map.h"

struct control;

/* A worker's end as the control thread sees it: woken when map or settings are new. */
struct store_worker {
    struct store_worker *next; /* under store->lock */
    uv_async_t wake;
};

struct store {
    const struct store_keys *keys; /* the opener's */
    pthread_mutex_t lock;          /* of the next five */
    struct slot_map *map;          /* NULL until the first is known */
    struct store_mark mark;        /* without digits: none is known */
    struct settings *settings;
    struct store_worker *workers;
    struct endpoint_table breakers; /* of struct store_breaker */

    _Atomic(const struct slot_map *) published; /* the same as `map`, to be compared with */
    _Atomic bool refresh_wanted;                /* a refresh was asked for and has not begun */
    _Atomic bool calls_finished;                /* by workers, since the control thread looked */
    _Atomic bool serving;                       /* how the latest went; true before the first */
    _Atomic bool unreachable;                   /* the last refresh got no map */
    _Atomic enum err map_err;                   /* why not */
    _Atomic bool unfit;                         /* a master is of a version or kind of no use */
    _Atomic bool time_asked;                    /* server_clocks_asked() */
    _Atomic bool reached;                       /* a server (no sentinel) has answered us once */
    _Atomic bool was_whole;                     /* a map with all slots was published once */
    _Atomic int64_t map_fetched_ms;             /* clock_boot_ms() */
    _Atomic int64_t redirect_logged_ms;
    _Atomic bool id_denied_logged;
    struct control *control;
    uv_async_t *control_wake; /* of the control thread's loop */

    /* Held during the listener's callbacks, so none runs after it was removed. */
    pthread_mutex_t listener_lock;
    struct store_listener listener;
    _Atomic bool has_listener;
    struct generations generations;
};

/* A reference for the caller; the map may be NULL. */
struct slot_map *store_state_ref_map(struct store *store);
struct settings *store_state_settings(struct store *store);
/* A copy of the mark; false if there is none. */
bool store_state_read_mark(struct store *store, struct store_mark *ret);
/* Publishes the map (the reference is given away) and wakes every worker. False if it equals the
 * present map, and is dropped. Both: the store is reachable. */
bool store_state_publish_map(struct store *store, struct slot_map *map);
/* The refresh failed: calls stop waiting for a map. */
void store_state_publish_unreachable(struct store *store, enum err err);
/* The outcome of a call whose slot has no owner. */
enum err store_state_no_owner_err(struct store *store);
/* True if a slot that has no owner in `map` (NULL: none has) will not get one by waiting: the map
 * is the latest, and fresh, or no fresher one can be had. */
bool store_state_lacks_owner(struct store *store, const struct slot_map *map);
/* Makes every worker look at map and settings. Under store->lock. */
void store_state_wake_workers(struct store *store);
/* Makes the control thread look at wishes and map. Any thread. */
void store_state_wake_control(struct store *store);
/* From now on the worker is woken for new maps and settings. */
void store_state_add_worker(struct store *store, struct store_worker *worker);
void store_state_remove_worker(struct store *store, struct store_worker *worker);
/* Asks the control thread for a fresh map; coalesced and rate limited there. Any thread. */
void store_state_want_refresh(struct store *store);
/* Notes that a server which is no sentinel has answered. Any thread. */
void store_state_note_reached(struct store *store);
/* Logs now and then that a server sends calls to an endpoint that is no member of its cluster. Any
 * thread. */
void store_state_note_refused_redirect(struct store *store, const struct endpoint *from,
                                       const struct endpoint *target);
/* Notes whether the latest call of a worker got through. Any thread. */
void store_state_note_call(struct store *store, bool answered);
