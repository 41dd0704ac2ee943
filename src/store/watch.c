/* The life of a watch: introduce, identify, track, subscribe; then pings and messages. In the words
 * of Redis: the connection redirects the invalidations of its own tracking to itself, as a
 * subscriber in RESP2 may. */
#include "watch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "log.h"
#include "metrics.h"
#include "stream.h"

/* Slots come to a watch with each migration, a generation each: more than this are made one. */
enum { GENERATIONS_MAX = 16 };

enum watch_step {
    WATCH_DOWN,
    WATCH_INTRODUCING,
    WATCH_IDENTIFYING,
    WATCH_TRACKING,
    WATCH_SUBSCRIBING,
    WATCH_LIVE
};

enum { RUN_ID = 40 };

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
    char run_id[RUN_ID];          /* of the server's process, which changes when it starts */
    bool knows_run, is_other_run; /* another process than the one before, or it may be */
    bool refusal_told;            /* once for each time that it is not live */
    bool overdue_told;            /* to the breaker */
    int64_t retry_ms;             /* not before */
    int64_t asked_ms;             /* when the command was sent that is not answered; 0: none */
    int64_t proof_ms;
    uint32_t generations[GENERATIONS_MAX];
    size_t generation_count;
};

struct watches {
    struct store *store;
    struct store_link *link;
    struct slot_map *map; /* the one that is followed; NULL: none yet */
    struct watch *first;
    struct watch *owner[SLOT_COUNT];
};

static const struct text channel = {"__redis__:invalidate", 20};

static struct watch *watch_of(struct connection *connection)
{
    return (struct watch *)connection;
}

static struct generations *table(struct watches *watches)
{
    return &watches->store->generations;
}

/* --- telling --- */

static void tell_changed(struct store *store, struct text key)
{
    pthread_mutex_lock(&store->watcher_lock);
    if (store->watcher.changed)
        store->watcher.changed(store->watcher.user, key);
    pthread_mutex_unlock(&store->watcher_lock);
}

static void tell_doubted(struct store *store, const uint8_t slots[SLOT_BYTES], bool owner_changed)
{
    pthread_mutex_lock(&store->watcher_lock);
    if (store->watcher.doubted)
        store->watcher.doubted(store->watcher.user, slots, owner_changed);
    pthread_mutex_unlock(&store->watcher_lock);
}

/* --- generations --- */

static bool serves(const struct watch *watch, unsigned slot)
{
    return watch->watches->owner[slot] == watch && claims_has(watch->claims, slot);
}

static void assign_all(struct watch *watch, uint32_t number)
{
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++)
        if (serves(watch, slot))
            generations_assign(table(watch->watches), slot, number);
}

static void end_generations(struct watch *watch)
{
    for (size_t i = 0; i < watch->generation_count; i++)
        generations_end(table(watch->watches), watch->generations[i]);
    watch->generation_count = 0;
}

/* 0, slots that are not watched, for an unfit node, or in the unlikely case that there are too
 * many.
 */
static uint32_t begin_generation(struct watch *watch)
{
    if (watch->unfit)
        return 0;
    uint32_t number = generations_begin(table(watch->watches), watch->proof_ms);
    if (number)
        watch->generations[watch->generation_count++] = number;
    return number;
}

/* What was read until now may have changed unheard. */
static void renew_generation(struct watch *watch)
{
    end_generations(watch);
    assign_all(watch, begin_generation(watch));
}

static void doubt_all(struct watch *watch, bool all_of_it)
{
    uint8_t slots[SLOT_BYTES] = {0};
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++)
        if (watch->watches->owner[slot] == watch)
            claims_set(slots, slot, true);
    tell_doubted(watch->watches->store, slots, all_of_it);
}

/* --- up and down --- */

static void note_live(struct watch *watch, bool live)
{
    atomic_store(&watch->breaker->watched, live);
    metrics_gauge_add(METRIC_WATCHES, live ? 1 : -1);
}

/* The server answers: no need to wait for the end of a pause. */
static void go_live(struct watch *watch)
{
    const struct endpoint *endpoint = &watch->endpoint;
    watch->step = WATCH_LIVE;
    watch->refusal_told = false;
    watch->proof_ms = watch->asked_ms;
    watch->asked_ms = 0;
    if (watch->was_away)
        doubt_all(watch, watch->is_other_run);
    watch->was_away = false;
    renew_generation(watch);
    note_live(watch, true);
    breakers_probe(watch->breaker, clock_monotonic_ms());
    link_schedule(watch->watches->link, watch->proof_ms + WATCH_PING_MS);
    log_info("store_watch_up", "host=%s port=%u", endpoint->host, endpoint->port);
}

static void end_live(struct watch *watch)
{
    watch->step = WATCH_DOWN;
    assign_all(watch, 0);
    end_generations(watch);
    note_live(watch, false);
}

static void on_down(struct connection *connection, const char *why)
{
    struct watch *watch = watch_of(connection);
    const struct endpoint *endpoint = &watch->endpoint;
    watch->asked_ms = 0;
    watch->was_away = true;
    watch->overdue_told = false;
    if (watch->step == WATCH_LIVE) {
        log_warning("store_watch_lost", "host=%s port=%u why=\"%s\"", endpoint->host,
                    endpoint->port, why);
        metrics_add(METRIC_WATCHES_LOST, 1);
        end_live(watch);
    }
    watch->step = WATCH_DOWN;
}

/* --- out --- */

static void ask(struct watch *watch, enum watch_step step, const struct text *arguments,
                size_t count)
{
    watch->step = step;
    watch->asked_ms = clock_monotonic_ms();
    link_schedule(watch->watches->link, watch->asked_ms + WATCH_OVERDUE_MS);
    stream_send(&watch->connection, arguments, count);
}

static void introduce(struct connection *connection)
{
    static const struct text arguments[] = {{"INFO", 4}, {"server", 6}};
    ask(watch_of(connection), WATCH_INTRODUCING, arguments, 2);
}

/* A process that started may have read an old dump, of yesterday if somebody restored a backup. One
 * that does not tell its run may be another, too. */
static void note_run(struct watch *watch, const struct store_reply *reply)
{
    static const struct text mark = {"run_id:", 7};
    struct text told = store_reply_text(reply);
    const char *found = told.data ? memmem(told.data, told.length, mark.data, mark.length) : NULL;
    const char *run_id = found ? found + mark.length : NULL;
    bool knows = run_id && (size_t)(told.data + told.length - run_id) >= RUN_ID;
    watch->is_other_run = !knows || !watch->knows_run || memcmp(watch->run_id, run_id, RUN_ID) != 0;
    watch->knows_run = knows;
    if (knows)
        memcpy(watch->run_id, run_id, RUN_ID);
}

static void identify(struct watch *watch)
{
    static const struct text arguments[] = {{"CLIENT", 6}, {"ID", 2}};
    ask(watch, WATCH_IDENTIFYING, arguments, 2);
}

static void track(struct watch *watch, int64_t id)
{
    char digits[24];
    int length = snprintf(digits, sizeof(digits), "%" PRId64, id);
    const struct text arguments[] = {
        TEXT("CLIENT"), TEXT("TRACKING"), TEXT("ON"),    TEXT("REDIRECT"), {digits, (size_t)length},
        TEXT("BCAST"),  TEXT("PREFIX"),   TEXT("sd:e:"), TEXT("PREFIX"),   TEXT("sd:p:"),
    };
    ask(watch, WATCH_TRACKING, arguments, sizeof(arguments) / sizeof(arguments[0]));
}

static void subscribe(struct watch *watch)
{
    const struct text arguments[] = {TEXT("SUBSCRIBE"), channel};
    ask(watch, WATCH_SUBSCRIBING, arguments, 2);
}

static void ping(struct watch *watch)
{
    static const struct text arguments[] = {{"PING", 4}};
    ask(watch, WATCH_LIVE, arguments, 1);
}

/* --- in --- */

/* It may be an old server, or our user may not: everything works without, only slower. */
static void be_refused(struct watch *watch, const struct store_reply *reply)
{
    const struct endpoint *endpoint = &watch->endpoint;
    if (!watch->refusal_told) {
        bool denied = reply_outcome(reply) == OUTCOME_DENIED;
        log_warning("store_watch_refused", "host=%s port=%u reason=%s", endpoint->host,
                    endpoint->port, denied ? "denied" : "not-understood");
    }
    watch->refusal_told = true;
    watch->step = WATCH_DOWN;
    watch->asked_ms = 0;
    watch->was_away = true;
    watch->retry_ms = clock_monotonic_ms() + WATCH_REFUSED_MS;
    connection_shut(&watch->connection);
    link_schedule(watch->watches->link, watch->retry_ms);
}

static bool is_word(const struct store_reply *reply, size_t index, struct text word)
{
    const struct store_reply *element = store_reply_element(reply, index);
    return element && text_equal(store_reply_text(element), word);
}

static void take_pong(struct watch *watch)
{
    watch->proof_ms = watch->asked_ms;
    watch->asked_ms = 0;
    for (size_t i = 0; i < watch->generation_count; i++)
        generations_prove(table(watch->watches), watch->generations[i], watch->proof_ms);
    int64_t now_ms = clock_monotonic_ms();
    if (watch->overdue_told)
        breakers_probe(watch->breaker, now_ms);
    watch->overdue_told = false;
    breakers_witness(watch->breaker, now_ms, true);
    link_schedule(watch->watches->link, watch->proof_ms + WATCH_PING_MS);
}

/* The keys that changed, or none if the server was emptied. */
static void take_message(struct watch *watch, const struct store_reply *keys)
{
    if (keys->type != STORE_ARRAY) {
        doubt_all(watch, true);
        renew_generation(watch);
        return;
    }
    for (size_t i = 0; i < store_reply_count(keys); i++)
        tell_changed(watch->watches->store, store_reply_text(store_reply_element(keys, i)));
    metrics_add(METRIC_CACHE_INVALIDATIONS, store_reply_count(keys));
}

static void take_live(struct watch *watch, const struct store_reply *reply)
{
    const struct store_reply *keys = store_reply_element(reply, 2);
    if (is_word(reply, 0, TEXT("pong")) && watch->asked_ms)
        take_pong(watch);
    else if (is_word(reply, 0, TEXT("message")) && is_word(reply, 1, channel) && keys)
        take_message(watch, keys);
    else
        connection_break(&watch->connection, ERR_STORE_UNAVAILABLE, "not-a-message");
}

static void on_reply(struct connection *connection, const struct store_reply *reply)
{
    struct watch *watch = watch_of(connection);
    int64_t id;
    if (watch->step == WATCH_LIVE)
        take_live(watch, reply);
    else if (watch->step == WATCH_INTRODUCING) {
        note_run(watch, reply);
        identify(watch);
    } else if (watch->step == WATCH_IDENTIFYING && store_reply_int(reply, &id))
        track(watch, id);
    else if (watch->step == WATCH_TRACKING && !reply->is_error)
        subscribe(watch);
    else if (watch->step == WATCH_SUBSCRIBING && is_word(reply, 0, TEXT("subscribe")))
        go_live(watch);
    else
        be_refused(watch, reply);
}

static const struct connection_subscriber subscriber = {introduce, on_reply, on_down};

/* --- time --- */

/* The answer may be there, unread, if it was this process that stood still. */
static int64_t tick_overdue(struct watch *watch, int64_t now_ms)
{
    stream_read(&watch->connection);
    if (watch->connection.state != CONNECTION_UP || !watch->asked_ms)
        return now_ms;
    if (now_ms - watch->asked_ms >= WATCH_LOST_MS) {
        connection_break(&watch->connection, ERR_STORE_UNAVAILABLE, "silent");
        return watch->connection.due_ms;
    }
    /* Silence before it was up says nothing that calls do not know better: a watch that never comes
     * up must not keep those from a server that answers them. */
    if (!watch->overdue_told && watch->step == WATCH_LIVE)
        breakers_trip(watch->breaker, now_ms);
    watch->overdue_told = true;
    return watch->asked_ms + WATCH_LOST_MS;
}

static int64_t tick_up(struct watch *watch, int64_t now_ms)
{
    if (watch->asked_ms) {
        bool overdue = now_ms - watch->asked_ms >= WATCH_OVERDUE_MS;
        return overdue ? tick_overdue(watch, now_ms) : watch->asked_ms + WATCH_OVERDUE_MS;
    }
    if (now_ms < watch->proof_ms + WATCH_PING_MS)
        return watch->proof_ms + WATCH_PING_MS;
    ping(watch);
    return now_ms + WATCH_PING_MS;
}

static int64_t tick_watch(struct watch *watch, int64_t now_ms)
{
    int64_t due_ms = connection_tick(&watch->connection, now_ms);
    if (watch->connection.state == CONNECTION_UP)
        return tick_up(watch, now_ms);
    if (watch->connection.state != CONNECTION_IDLE)
        return due_ms;
    if (now_ms < watch->retry_ms)
        return watch->retry_ms;
    connection_open(&watch->connection);
    return watch->connection.due_ms;
}

static int64_t tick(void *user, int64_t now_ms)
{
    struct watches *watches = user;
    int64_t next_ms = INT64_MAX;
    for (struct watch *watch = watches->first; watch; watch = watch->next) {
        int64_t due_ms = tick_watch(watch, now_ms);
        next_ms = due_ms < next_ms ? due_ms : next_ms;
    }
    return next_ms;
}

/* --- map --- */

static struct watch *open_watch(struct watches *watches, const struct endpoint *endpoint)
{
    for (struct watch *watch = watches->first; watch; watch = watch->next)
        if (endpoint_equal(&watch->endpoint, endpoint))
            return watch;
    struct watch *watch = xcalloc(1, sizeof(*watch));
    watch->watches = watches;
    watch->endpoint = *endpoint;
    memset(watch->claims, 0xff, SLOT_BYTES);
    watch->breaker =
        breakers_take(watches->store, endpoint, watches->link->settings->reconnect_max_ms);
    connection_init(&watch->connection, watches->link, &watch->endpoint, false);
    watch->connection.breaker = watch->breaker;
    watch->connection.subscriber = &subscriber;
    watch->next = watches->first;
    watches->first = watch;
    return watch;
}

static void close_watch(struct watch *watch)
{
    struct watches *watches = watch->watches;
    if (watch->step == WATCH_LIVE)
        end_live(watch);
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++)
        if (watches->owner[slot] == watch)
            watches->owner[slot] = NULL;
    connection_shut(&watch->connection);
    connection_free(&watch->connection);
    breakers_give(watches->store, &watch->breaker);
    free(watch);
}

static void close_unwanted(struct watches *watches)
{
    struct watch **at = &watches->first;
    while (*at) {
        struct watch *watch = *at;
        if (watch->wanted) {
            at = &watch->next;
            continue;
        }
        *at = watch->next;
        close_watch(watch);
    }
}

/* Takes slots from their old owners and gives them to the new ones, without generation. True if
 * some moved. */
static bool move_slots(struct watches *watches, struct watch *const *of_node,
                       uint8_t moved[SLOT_BYTES])
{
    bool some = false;
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
        unsigned node = watches->map->owner[slot];
        struct watch *owner = node == SLOT_NONE ? NULL : of_node[node];
        if (owner == watches->owner[slot])
            continue;
        watches->owner[slot] = owner;
        generations_assign(table(watches), slot, 0);
        if (!owner)
            continue;
        claims_set(moved, slot, true);
        claims_set(owner->claims, slot, true);
        some = true;
    }
    return some;
}

/* Ends the generations that no slot has any more. */
static void end_empty(struct watch *watch)
{
    size_t kept = 0;
    for (size_t i = 0; i < watch->generation_count; i++) {
        uint32_t number = watch->generations[i];
        bool used = false;
        for (unsigned slot = 0; slot < SLOT_COUNT && !used; slot++)
            used = generations_of(table(watch->watches), slot) == number;
        if (used)
            watch->generations[kept++] = number;
        else
            generations_end(table(watch->watches), number);
    }
    watch->generation_count = kept;
}

/* Slots that came to a live watch get a generation of their own: what was read of them before, from
 * another server, must not pass for read under this one. */
static void begin_moved(struct watch *watch)
{
    struct watches *watches = watch->watches;
    end_empty(watch);
    if (watch->generation_count == GENERATIONS_MAX) {
        renew_generation(watch);
        return;
    }
    uint32_t number = 0;
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
        if (!serves(watch, slot) || generations_of(table(watches), slot) != 0)
            continue;
        if (number == 0 && (number = begin_generation(watch)) == 0)
            return;
        generations_assign(table(watches), slot, number);
    }
}

static void follow(struct watches *watches)
{
    const struct slot_map *map = watches->map;
    struct watch **of_node = xcalloc(map->master_count, sizeof(struct watch *));
    uint8_t moved[SLOT_BYTES] = {0};
    for (struct watch *watch = watches->first; watch; watch = watch->next)
        watch->wanted = false;
    for (size_t i = 0; i < map->master_count; i++) {
        of_node[i] = open_watch(watches, &map->nodes[i]);
        of_node[i]->wanted = true;
    }
    bool some = move_slots(watches, of_node, moved);
    free(of_node);
    close_unwanted(watches);
    if (some)
        tell_doubted(watches->store, moved, true);
    for (struct watch *watch = watches->first; watch; watch = watch->next)
        if (watch->step == WATCH_LIVE)
            begin_moved(watch);
    link_schedule(watches->link, clock_monotonic_ms());
}

/* Nobody is told any more: nothing may pass for watched. */
static void close_all(struct watches *watches)
{
    for (struct watch *watch = watches->first; watch; watch = watch->next)
        watch->wanted = false;
    close_unwanted(watches);
    slot_map_unref(&watches->map);
}

void watches_follow(struct watches *watches)
{
    if (!atomic_load(&watches->store->has_watcher)) {
        close_all(watches);
        return;
    }
    struct slot_map *map = shared_map(watches->store);
    if (!map || map == watches->map) {
        slot_map_unref(&map);
        return;
    }
    slot_map_unref(&watches->map);
    watches->map = map;
    follow(watches);
}

void watches_judge(struct watches *watches, const struct endpoint *endpoint, bool fit)
{
    for (struct watch *watch = watches->first; watch; watch = watch->next) {
        if (!endpoint_equal(&watch->endpoint, endpoint) || watch->unfit == !fit)
            continue;
        watch->unfit = !fit;
        log_info(fit ? "store_node_fit" : "store_node_unfit", "host=%s port=%u", endpoint->host,
                 endpoint->port);
        if (watch->step != WATCH_LIVE)
            continue;
        if (fit)
            doubt_all(watch, true);
        renew_generation(watch);
    }
}

/* Begins or ends the generation of one slot. True if it is the node's again, after it was not. */
static bool follow_claim(struct watch *watch, unsigned slot, bool claimed)
{
    bool before = claims_has(watch->claims, slot);
    claims_set(watch->claims, slot, claimed);
    if (before == claimed || watch->watches->owner[slot] != watch)
        return false;
    if (!claimed) {
        generations_assign(table(watch->watches), slot, 0);
        shared_want_refresh(watch->watches->store);
    }
    return claimed;
}

static void follow_claims(struct watch *watch, const uint8_t claims[SLOT_BYTES])
{
    uint8_t regained[SLOT_BYTES] = {0};
    bool some = false;
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
        if (follow_claim(watch, slot, claims_has(claims, slot))) {
            claims_set(regained, slot, true);
            some = true;
        }
    }
    if (some)
        tell_doubted(watch->watches->store, regained, false);
    if (watch->step == WATCH_LIVE)
        begin_moved(watch);
}

void watches_claim(struct watches *watches, const struct endpoint *endpoint,
                   const uint8_t claims[SLOT_BYTES])
{
    for (struct watch *watch = watches->first; watch; watch = watch->next)
        if (endpoint_equal(&watch->endpoint, endpoint) &&
            memcmp(watch->claims, claims, SLOT_BYTES) != 0)
            follow_claims(watch, claims);
}

/* --- life --- */

struct watches *watches_open(struct store_link *link)
{
    struct watches *watches = xcalloc(1, sizeof(*watches));
    watches->store = link->store;
    watches->link = link;
    link->tick = tick;
    link->tick_user = watches;
    return watches;
}

void watches_close(struct watches **watches)
{
    struct watches *gone = *watches;
    *watches = NULL;
    gone->link->tick = NULL;
    close_all(gone);
    free(gone);
}
