/* The control thread's loop. */
#include "control.h"

#include <assert.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "clock.h"
#include "container_of.h"
#include "inspection.h"
#include "jitter.h"
#include "log.h"
#include "map_search.h"
#include "metrics.h"
#include "redis/calls/link.h"
#include "redis/tracking/tracker.h"
#include "sentinel.h"
#include "server_clocks.h"

enum {
    REFRESH_INTERVAL_MS = 100, /* between asked refreshes */
    OFTEN_MS = 1000, /* until the next refresh of an incomplete map, or for a new master */
    PING_INTERVAL_MS = 1000,
    FIRST_PING_MS = 20, /* after the first map: a wrong clock is found out before it does harm */
    PING_TIMEOUT_MS = 500,
    KEYS_TRIED = 100 * 1000 /* enough for a single slot */
};

/* A master that is pinged. In a cluster by a read, since a node that is cut off or was replaced
 * still answers PING; it is also asked for the slots that it serves. */
struct pinged {
    struct store_call call, claims_call, time_call;
    struct inspection inspection;
    struct control *control;
    struct endpoint endpoint;
    bool down;
    int64_t time_asked_ms;
    uint16_t index; /* within the map */
    unsigned tag;   /* of a key that it owns */
    char key[32];   /* that key */
    struct text arguments[2];
};

struct control {
    struct store *store;
    uv_thread_t thread;
    uv_loop_t loop;
    uv_async_t wake;
    uv_prepare_t flush;
    uv_timer_t fetch_timer, ping_timer;
    _Atomic bool stopping;
    struct store_link *link;
    struct tracker *tracker;

    /* The refresh in flight. */
    bool fetching;
    int64_t fetch_began_ms;
    int64_t failure_pause_ms;
    struct map_search map_search;  /* in cluster mode */
    struct sentinel_search search; /* in sentinel mode */

    /* The round of pings in flight. */
    struct pinged *pinged; /* of the masters of pinged_map */
    struct slot_map *pinged_map;
    uint64_t pinged_settings; /* number of the settings in force for it; 0: none */
    size_t pinged_count;
    size_t pings_in_flight, pings_answered; /* in flight: with those for slots and time */
    struct server_clocks clocks;
};

/* --- refresh --- */

static void fetch_begin(struct control *control);

static void on_fetch_timer(uv_timer_t *timer)
{
    fetch_begin(timer->data);
}

/* The earlier of what was planned and this. */
static void fetch_within(struct control *control, int64_t pause_ms)
{
    uint64_t pause = pause_ms > 0 ? (uint64_t)pause_ms : 0;
    uv_handle_t *handle = (uv_handle_t *)&control->fetch_timer;
    uv_update_time(&control->loop);
    if (!uv_is_active(handle) || uv_timer_get_due_in(&control->fetch_timer) > pause)
        uv_timer_start(&control->fetch_timer, on_fetch_timer, pause, 0);
}

static void fetch_as_wanted(struct control *control)
{
    if (!control->fetching && atomic_load(&control->store->refresh_wanted)) {
        int64_t next_ms = control->fetch_began_ms + REFRESH_INTERVAL_MS;
        fetch_within(control, next_ms - clock_monotonic_ms());
    }
}

static void fetch_end(struct control *control, int64_t pause_ms)
{
    control->fetching = false;
    fetch_within(control, pause_ms);
    fetch_as_wanted(control);
}

/* `err` is why the node asked last gave no map. */
static void fetch_failed(struct control *control, size_t asked, enum err err)
{
    bool news = !atomic_load(&control->store->unreachable);
    store_state_publish_unreachable(control->store, err);
    if (news)
        log_error("store_map_unreachable", "asked=%zu reason=%s", asked, err_code(err));
    int64_t most_ms = control->link->settings->reconnect_max_ms;
    int64_t pause_ms =
        control->failure_pause_ms ? control->failure_pause_ms * 2 : REFRESH_INTERVAL_MS;
    control->failure_pause_ms = pause_ms < most_ms ? pause_ms : most_ms;
    fetch_end(control, jitter_pause(&control->link->seed, control->failure_pause_ms));
}

static void on_ping_timer(uv_timer_t *timer);

static void fetch_succeeded(struct control *control, struct slot_map *map)
{
    size_t masters = map->master_count;
    unsigned covered = map->covered;
    bool news = atomic_load(&control->store->unreachable);
    if (store_state_publish_map(control->store, map)) {
        log_info("store_map_changed", "masters=%zu slots=%u", masters, covered);
        tracker_follow(control->tracker);
        if (!control->clocks.any)
            uv_timer_start(&control->ping_timer, on_ping_timer, FIRST_PING_MS, PING_INTERVAL_MS);
    }
    metrics_add(METRIC_STORE_MAP_REFRESHES, 1);
    if (news)
        log_info("store_map_reachable", "masters=%zu", masters);
    control->failure_pause_ms = 0;
    const struct settings *settings = control->link->settings;
    bool often = covered < SLOT_COUNT || settings->mode == REDIS_SENTINEL;
    bool too_late = often && settings->map_refresh_ms > OFTEN_MS;
    fetch_end(control, too_late ? OFTEN_MS : settings->map_refresh_ms);
}

static void on_map(struct map_search *search, struct slot_map *map, enum err err)
{
    struct control *control = container_of(search, struct control, map_search);
    if (map)
        fetch_succeeded(control, map);
    else
        fetch_failed(control, search->asked, err);
}

/* A server that is no longer our master receives no changes. */
static void on_demoted(struct sentinel_search *search, const struct endpoint *server)
{
    struct control *control = container_of(search, struct control, search);
    tracker_set_fit(control->tracker, server, false);
}

static void on_master(struct sentinel_search *search, const struct endpoint *master, enum err err)
{
    struct control *control = container_of(search, struct control, search);
    if (master) {
        tracker_set_fit(control->tracker, master, true);
        fetch_succeeded(control, slot_map_single(master));
        return;
    }
    fetch_failed(control, control->link->settings->seed_count, err);
}

static void fetch_begin(struct control *control)
{
    if (control->fetching)
        return;
    control->fetching = true;
    control->fetch_began_ms = clock_monotonic_ms();
    atomic_store(&control->store->refresh_wanted, false);
    const struct settings *settings = control->link->settings;
    switch (settings->mode) {
    case REDIS_STANDALONE:
        fetch_succeeded(control, slot_map_single(&settings->seeds[0]));
        break;
    case REDIS_SENTINEL:
        sentinel_search(&control->search);
        break;
    case REDIS_CLUSTER:
        map_search(&control->map_search);
        break;
    }
}

/* --- pings --- */

static bool in_cluster(const struct control *control)
{
    return control->link->settings->mode == REDIS_CLUSTER;
}

/* Only a read shows it: the node is no master, or one without a cluster. */
static bool is_unfit_master(const struct control *control, enum err err)
{
    return in_cluster(control) && err == ERR_STORE_REFUSED;
}

/* One line a change. */
static void note_master(struct pinged *pinged, enum err err)
{
    bool down = !call_got_through(err) || is_unfit_master(pinged->control, err);
    if (down && !pinged->down) {
        log_error("store_node_down", "host=%s port=%u reason=%s", pinged->endpoint.host,
                  pinged->endpoint.port, err_code(err));
    }
    if (!down && pinged->down) {
        pinged->inspection.due_ms = 0;
        log_info("store_node_up", "host=%s port=%u", pinged->endpoint.host, pinged->endpoint.port);
    }
    pinged->down = down;
    pinged->inspection.reachable = !down;
}

/* Pings decide store->serving while no worker has calls. */
static void end_ping(struct control *control)
{
    struct store *store = control->store;
    if (--control->pings_in_flight > 0)
        return;
    server_clocks_conclude(&control->clocks);
    atomic_store(&store->time_asked, server_clocks_asked(&control->clocks));
    if (!atomic_exchange(&store->calls_finished, false))
        atomic_store(&store->serving, control->pings_answered > 0);
}

static void on_time(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct pinged *pinged = container_of(call, struct pinged, time_call);
    struct control *control = pinged->control;
    if (atomic_load(&control->stopping))
        return;
    if (err == ERR_OK)
        server_clocks_note(&control->clocks, reply, pinged->time_asked_ms);
    else if (err == ERR_STORE_DENIED || call_got_through(err))
        server_clocks_note_denied(&control->clocks, pinged->endpoint.host, pinged->endpoint.port);
    end_ping(control);
}

/* Only if the server answers: a hanging one costs each round one timeout. */
static void ask_for_time(struct pinged *pinged)
{
    static const struct text arguments[] = {{"TIME", 4}};
    pinged->time_asked_ms = clock_boot_ms();
    pinged->time_call = link_question(arguments, 1, PING_TIMEOUT_MS, on_time);
    pinged->time_call.flags = STORE_DISPENSABLE;
    pinged->control->pings_in_flight++;
    link_send_direct(pinged->control->link, &pinged->time_call, &pinged->endpoint);
}

static void on_pong(struct store_call *call, enum err err, const struct store_reply *reply)
{
    (void)reply;
    struct pinged *pinged = (struct pinged *)call;
    struct control *control = pinged->control;
    if (atomic_load(&control->stopping))
        return;
    note_master(pinged, err);
    if (in_cluster(control))
        tracker_set_fit(control->tracker, &pinged->endpoint, !is_unfit_master(control, err));
    if (!pinged->down) {
        control->pings_answered++;
        ask_for_time(pinged);
    } else {
        store_state_want_refresh(control->store);
    }
    end_ping(control);
}

static void on_claims(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct pinged *pinged = container_of(call, struct pinged, claims_call);
    struct control *control = pinged->control;
    if (atomic_load(&control->stopping))
        return;
    uint8_t claims[SLOT_BYTES];
    if (err == ERR_OK && slot_claims_parse(store_reply_text(reply), claims))
        tracker_claim(control->tracker, &pinged->endpoint, claims);
    end_ping(control);
}

static void on_inspected(struct inspection *inspection)
{
    struct pinged *pinged = container_of(inspection, struct pinged, inspection);
    struct control *control = pinged->control;
    bool unfit = false;
    if (atomic_load(&control->stopping))
        return;
    for (size_t i = 0; i < control->pinged_count; i++)
        unfit = unfit || control->pinged[i].inspection.unfit;
    atomic_store(&control->store->unfit, unfit);
    end_ping(control);
}

static bool inspect(struct pinged *pinged)
{
    struct control *control = pinged->control;
    pinged->inspection.servers = control->pinged_count;
    pinged->inspection.done = on_inspected;
    return inspection_begin(&pinged->inspection, control->link, &pinged->endpoint);
}

/* Faults of servers that are no longer masters are forgotten. */
static void forget_faults(struct control *control, const struct slot_map *map)
{
    struct settings *settings = control->link->settings;
    for (size_t i = 0; i < control->pinged_count; i++) {
        size_t now = slot_map_find(map, &control->pinged[i].endpoint);
        if (now >= map->master_count)
            server_problems_over(&settings->faults, &control->pinged[i].endpoint);
    }
}

/* The masters of the present map; what was known of them stays. */
static void choose_pinged(struct control *control)
{
    struct slot_map *map = control->link->map;
    if (!map || map == control->pinged_map)
        return;
    size_t count = map->master_count;
    struct pinged *pinged = xcalloc(count, sizeof(*pinged));
    for (size_t i = 0; i < count; i++) {
        pinged[i].control = control;
        pinged[i].endpoint = map->nodes[i];
        pinged[i].index = (uint16_t)i;
        size_t before =
            control->pinged_map ? slot_map_find(control->pinged_map, &map->nodes[i]) : SIZE_MAX;
        if (before < control->pinged_count) {
            pinged[i].down = control->pinged[before].down;
            pinged[i].tag = control->pinged[before].tag;
            pinged[i].inspection.unfit = control->pinged[before].inspection.unfit;
            pinged[i].inspection.due_ms = control->pinged[before].inspection.due_ms;
        }
    }
    forget_faults(control, map);
    free(control->pinged);
    slot_map_unref(&control->pinged_map);
    control->pinged_map = slot_map_ref(map);
    control->pinged = pinged;
    control->pinged_count = count;
}

/* Looks for a key in the master's slots, from the last one on. The tags are numbers, so no such key
 * exists. False if it owns next to nothing. */
static bool choose_key(struct pinged *pinged)
{
    const struct slot_map *map = pinged->control->link->map;
    const char *prefix = pinged->control->store->keys->probe;
    for (unsigned tried = 0; tried < KEYS_TRIED; tried++) {
        snprintf(pinged->key, sizeof(pinged->key), "%s{%u}", prefix, pinged->tag);
        if (map->owner[store_slot(text_of(pinged->key))] == pinged->index)
            return true;
        pinged->tag++;
    }
    return false;
}

static void ask_for_claims(struct pinged *pinged)
{
    static const struct text arguments[] = {{"CLUSTER", 7}, {"NODES", 5}};
    pinged->claims_call = link_question(arguments, 2, PING_TIMEOUT_MS, on_claims);
    link_send_direct(pinged->control->link, &pinged->claims_call, &pinged->endpoint);
}

static void ping_master(struct pinged *pinged)
{
    struct control *control = pinged->control;
    bool by_read = in_cluster(control) && choose_key(pinged);
    pinged->arguments[0] = by_read ? TEXT("GET") : TEXT("PING");
    pinged->arguments[1] = text_of(pinged->key);
    pinged->call = link_question(pinged->arguments, by_read ? 2 : 1, PING_TIMEOUT_MS, on_pong);
    link_send_direct(control->link, &pinged->call, &pinged->endpoint);
}

/* Faults depend on the settings, and new settings know none yet. */
static void ask_anew_under_new_settings(struct control *control)
{
    if (control->pinged_settings == control->link->settings->number)
        return;
    control->pinged_settings = control->link->settings->number;
    for (size_t i = 0; i < control->pinged_count; i++)
        control->pinged[i].inspection.due_ms = 0;
}

static void on_ping_timer(uv_timer_t *timer)
{
    struct control *control = timer->data;
    if (control->pings_in_flight > 0)
        return;
    choose_pinged(control);
    ask_anew_under_new_settings(control);
    control->pings_answered = 0;
    bool cluster = in_cluster(control);
    control->pings_in_flight = control->pinged_count * (cluster ? 2 : 1);
    server_clocks_begin(&control->clocks, control->pinged_count);
    for (size_t i = 0; i < control->pinged_count; i++) {
        ping_master(&control->pinged[i]);
        if (cluster)
            ask_for_claims(&control->pinged[i]);
        control->pings_in_flight += inspect(&control->pinged[i]);
    }
}

/* --- thread --- */

static void on_control_flush(uv_prepare_t *flush)
{
    struct control *control = flush->data;
    if (control->link)
        store_flush(control->link);
}

static void close_handles(struct control *control)
{
    tracker_close(&control->tracker);
    store_link_close(&control->link);
    uv_close((uv_handle_t *)&control->wake, NULL);
    uv_close((uv_handle_t *)&control->flush, NULL);
    uv_close((uv_handle_t *)&control->fetch_timer, NULL);
    uv_close((uv_handle_t *)&control->ping_timer, NULL);
}

static void on_control_wake(uv_async_t *wake)
{
    struct control *control = wake->data;
    if (atomic_load(&control->stopping)) {
        close_handles(control);
        return;
    }
    fetch_as_wanted(control);
    tracker_follow(control->tracker);
}

static void run_control(void *user)
{
    struct control *control = user;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    pthread_setname_np(pthread_self(), "control");
    metrics_attach();
    control->link = store_link_open(control->store, &control->loop);
    control->tracker = tracker_open(control->link);
    control->map_search = (struct map_search){.link = control->link, .done = on_map};
    control->search = (struct sentinel_search){
        .link = control->link,
        .done = on_master,
        .demoted = on_demoted,
    };
    uv_prepare_start(&control->flush, on_control_flush);
    uv_timer_start(&control->ping_timer, on_ping_timer, PING_INTERVAL_MS, PING_INTERVAL_MS);
    fetch_within(control, 0);
    uv_run(&control->loop, UV_RUN_DEFAULT);
}

void control_start(struct store *store)
{
    struct control *control = xcalloc(1, sizeof(*control));
    control->store = store;
    store->control = control;
    uv_loop_init(&control->loop);
    uv_async_init(&control->loop, &control->wake, on_control_wake);
    uv_prepare_init(&control->loop, &control->flush);
    uv_timer_init(&control->loop, &control->fetch_timer);
    uv_timer_init(&control->loop, &control->ping_timer);
    control->wake.data = control;
    store->control_wake = &control->wake;
    control->flush.data = control;
    control->fetch_timer.data = control;
    control->ping_timer.data = control;
    int failure = uv_thread_create(&control->thread, run_control, control);
    assert(failure == 0);
    (void)failure;
}

void control_stop(struct control **control)
{
    struct control *gone = *control;
    atomic_store(&gone->stopping, true);
    uv_async_send(&gone->wake);
    uv_thread_join(&gone->thread);
    /* Not before: the thread itself reads it to ask for refreshes. */
    *control = NULL;
    gone->store->control_wake = NULL;
    int busy = uv_loop_close(&gone->loop);
    assert(busy == 0);
    (void)busy;
    map_search_free(&gone->map_search);
    slot_map_unref(&gone->pinged_map);
    free(gone->pinged);
    free(gone);
}
