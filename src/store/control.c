/* The control thread's loop. */
#include "control.h"

#include <assert.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "clock.h"
#include "jitter.h"
#include "link.h"
#include "log.h"
#include "metrics.h"
#include "sentinel.h"
#include "watches.h"

enum {
    ASK_TIMEOUT_MS = 300,      /* for one node to answer CLUSTER SLOTS */
    REFRESH_INTERVAL_MS = 100, /* between asked refreshes */
    OFTEN_MS = 1000,           /* until the next look at a map with holes, or for a new master */
    PING_INTERVAL_MS = 1000,
    PING_TIMEOUT_MS = 500,
    KEYS_TRIED = 100 * 1000 /* enough for a single slot */
};

/* A master that is pinged. In a cluster by a read, since a node answers PING also when it is cut
 * off from the others, or has been replaced; and it is asked for the slots that it serves. */
struct pinged {
    struct store_call call, claims_call;
    struct control *control;
    struct endpoint endpoint;
    bool down;
    uint16_t index; /* within the map */
    unsigned tag;   /* of a key that it owns */
    char key[24];   /* that key */
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
    struct watches *watches;

    /* The refresh under way. */
    bool fetching;
    struct store_call fetch_call;
    struct endpoint *candidates;
    size_t candidate_count, asked;
    int64_t fetch_began_ms;
    int64_t failure_pause_ms;
    enum err fetch_err; /* of the node asked last */

    struct sentinel_search search; /* instead, in sentinel mode */

    /* The round of pings under way. */
    struct pinged *pinged;
    size_t pinged_count;
    size_t pings_under_way, pings_answered; /* under way: with the questions for slots */
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
    free(control->candidates);
    control->candidates = NULL;
    fetch_within(control, pause_ms);
    fetch_as_wanted(control);
}

static void fetch_failed(struct control *control)
{
    bool news = !atomic_load(&control->store->unreachable);
    shared_publish_unreachable(control->store);
    if (news) {
        log_error("store_map_unreachable", "asked=%zu reason=%s", control->candidate_count,
                  err_code(control->fetch_err));
    }
    int64_t most_ms = control->link->settings->reconnect_max_ms;
    int64_t pause_ms =
        control->failure_pause_ms ? control->failure_pause_ms * 2 : REFRESH_INTERVAL_MS;
    control->failure_pause_ms = pause_ms < most_ms ? pause_ms : most_ms;
    fetch_end(control, jitter_pause(&control->link->seed, control->failure_pause_ms));
}

static void fetch_succeeded(struct control *control, struct slot_map *map)
{
    size_t masters = map->master_count;
    unsigned covered = map->covered;
    bool news = atomic_load(&control->store->unreachable);
    if (shared_publish_map(control->store, map)) {
        log_info("store_map_changed", "masters=%zu slots=%u", masters, covered);
        watches_follow(control->watches);
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

static void fetch_next(struct control *control);

static void on_slots(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct control *control =
        (struct control *)((char *)call - offsetof(struct control, fetch_call));
    if (atomic_load(&control->stopping))
        return;
    const struct endpoint *asked = &control->candidates[control->asked - 1];
    struct slot_map *map = err == ERR_OK ? slot_map_parse(reply, asked->host) : NULL;
    /* An answer without a map is the other kind of failure. */
    control->fetch_err = err != ERR_OK ? err : ERR_STORE_PROTOCOL;
    if (map)
        fetch_succeeded(control, map);
    else
        fetch_next(control);
}

static void fetch_next(struct control *control)
{
    static const struct text command[] = {{"CLUSTER", 7}, {"SLOTS", 5}};
    if (control->asked == control->candidate_count) {
        fetch_failed(control);
        return;
    }
    control->fetch_call = (struct store_call){
        .arguments = command,
        .argument_count = 2,
        .deadline_ms = clock_monotonic_ms() + ASK_TIMEOUT_MS,
        .done = on_slots,
    };
    link_send_direct(control->link, &control->fetch_call, &control->candidates[control->asked++]);
}

static void add_candidate(struct control *control, const struct endpoint *endpoint)
{
    for (size_t i = 0; i < control->candidate_count; i++)
        if (endpoint_equal(&control->candidates[i], endpoint))
            return;
    control->candidates[control->candidate_count++] = *endpoint;
}

static void shuffle(struct control *control)
{
    for (size_t left = control->candidate_count; left > 1; left--) {
        size_t chosen = jitter_next(&control->link->seed) % left;
        struct endpoint swapped = control->candidates[left - 1];
        control->candidates[left - 1] = control->candidates[chosen];
        control->candidates[chosen] = swapped;
    }
}

/* A server that was our master and is none any more hears of no change. */
static void on_master(struct sentinel_search *search, const struct endpoint *master, enum err err)
{
    struct control *control = (struct control *)((char *)search - offsetof(struct control, search));
    control->fetch_err = err;
    if (master) {
        watches_judge(control->watches, master, true);
        fetch_succeeded(control, slot_map_single(master));
        return;
    }
    if (err == ERR_STORE_REFUSED)
        watches_judge(control->watches, &search->candidate, false);
    fetch_failed(control);
}

/* Known nodes and seeds, in random order so that no node serves all of us. */
static void choose_candidates(struct control *control)
{
    const struct settings *settings = control->link->settings;
    struct slot_map *map = shared_map(control->store);
    size_t most = settings->seed_count + (map ? map->node_count : 0);
    control->candidates = xcalloc(most, sizeof(control->candidates[0]));
    control->candidate_count = 0;
    control->asked = 0;
    for (size_t i = 0; map && i < map->node_count; i++)
        add_candidate(control, &map->nodes[i]);
    for (size_t i = 0; i < settings->seed_count; i++)
        add_candidate(control, &settings->seeds[i]);
    slot_map_unref(&map);
    shuffle(control);
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
        control->candidate_count = settings->seed_count;
        sentinel_search(&control->search);
        break;
    case REDIS_CLUSTER:
        choose_candidates(control);
        fetch_next(control);
        break;
    }
}

/* --- pings --- */

static bool in_cluster(const struct control *control)
{
    return control->link->settings->mode == REDIS_CLUSTER;
}

/* What only a read of a cluster can get: it is no master, or one without a cluster. */
static bool is_unfit(const struct control *control, enum err err)
{
    return in_cluster(control) && err == ERR_STORE_REFUSED;
}

/* One line a change. */
static void note_master(struct pinged *pinged, enum err err)
{
    bool down = !call_got_through(err) || is_unfit(pinged->control, err);
    if (down && !pinged->down) {
        log_error("store_node_down", "host=%s port=%u reason=%s", pinged->endpoint.host,
                  pinged->endpoint.port, err_code(err));
    }
    if (!down && pinged->down)
        log_info("store_node_up", "host=%s port=%u", pinged->endpoint.host, pinged->endpoint.port);
    pinged->down = down;
}

/* Pings speak for the store while no worker does. */
static void end_ping(struct control *control)
{
    struct store *store = control->store;
    control->pings_under_way--;
    if (control->pings_under_way == 0 && !atomic_exchange(&store->calls_finished, false))
        atomic_store(&store->serving, control->pings_answered > 0);
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
        watches_judge(control->watches, &pinged->endpoint, !is_unfit(control, err));
    if (!pinged->down)
        control->pings_answered++;
    else
        shared_want_refresh(control->store);
    end_ping(control);
}

static void on_claims(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct pinged *pinged = (struct pinged *)((char *)call - offsetof(struct pinged, claims_call));
    struct control *control = pinged->control;
    if (atomic_load(&control->stopping))
        return;
    uint8_t claims[SLOT_BYTES];
    if (err == ERR_OK && claims_parse(store_reply_text(reply), claims))
        watches_claim(control->watches, &pinged->endpoint, claims);
    end_ping(control);
}

static const struct pinged *find_pinged(const struct control *control,
                                        const struct endpoint *endpoint)
{
    for (size_t i = 0; i < control->pinged_count; i++)
        if (endpoint_equal(&control->pinged[i].endpoint, endpoint))
            return &control->pinged[i];
    return NULL;
}

/* The masters of the present map; what was known of them stays. */
static void choose_pinged(struct control *control)
{
    const struct slot_map *map = control->link->map;
    size_t count = map ? map->master_count : 0;
    struct pinged *pinged = xcalloc(count, sizeof(*pinged));
    for (size_t i = 0; i < count; i++) {
        pinged[i].control = control;
        pinged[i].endpoint = map->nodes[i];
        pinged[i].index = (uint16_t)i;
        const struct pinged *before = find_pinged(control, &map->nodes[i]);
        if (before) {
            pinged[i].down = before->down;
            pinged[i].tag = before->tag;
        }
    }
    free(control->pinged);
    control->pinged = pinged;
    control->pinged_count = count;
}

/* Looks for a key of the master's from the one that was its the last time. The tags are numbers,
 * the keys nobody's. False if it owns next to nothing. */
static bool choose_key(struct pinged *pinged)
{
    const struct slot_map *map = pinged->control->link->map;
    for (unsigned tried = 0; tried < KEYS_TRIED; tried++) {
        snprintf(pinged->key, sizeof(pinged->key), "sd:e:{%u}", pinged->tag);
        if (map->owner[store_slot(text_of(pinged->key))] == pinged->index)
            return true;
        pinged->tag++;
    }
    return false;
}

static void ask_for_claims(struct pinged *pinged)
{
    static const struct text arguments[] = {{"CLUSTER", 7}, {"NODES", 5}};
    pinged->claims_call = (struct store_call){
        .arguments = arguments,
        .argument_count = 2,
        .deadline_ms = clock_monotonic_ms() + PING_TIMEOUT_MS,
        .done = on_claims,
    };
    link_send_direct(pinged->control->link, &pinged->claims_call, &pinged->endpoint);
}

static void ping(struct pinged *pinged)
{
    struct control *control = pinged->control;
    bool by_read = in_cluster(control) && choose_key(pinged);
    pinged->arguments[0] = by_read ? TEXT("GET") : TEXT("PING");
    pinged->arguments[1] = text_of(pinged->key);
    pinged->call = (struct store_call){
        .arguments = pinged->arguments,
        .argument_count = by_read ? 2 : 1,
        .deadline_ms = clock_monotonic_ms() + PING_TIMEOUT_MS,
        .done = on_pong,
    };
    link_send_direct(control->link, &pinged->call, &pinged->endpoint);
}

static void on_ping_timer(uv_timer_t *timer)
{
    struct control *control = timer->data;
    if (control->pings_under_way > 0)
        return;
    choose_pinged(control);
    control->pings_answered = 0;
    bool cluster = in_cluster(control);
    control->pings_under_way = control->pinged_count * (cluster ? 2 : 1);
    for (size_t i = 0; i < control->pinged_count; i++) {
        ping(&control->pinged[i]);
        if (cluster)
            ask_for_claims(&control->pinged[i]);
    }
}

/* --- thread --- */

static void on_flush(uv_prepare_t *flush)
{
    struct control *control = flush->data;
    if (control->link)
        store_flush(control->link);
}

static void close_handles(struct control *control)
{
    watches_close(&control->watches);
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
    watches_follow(control->watches);
}

static void run(void *user)
{
    struct control *control = user;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    pthread_setname_np(pthread_self(), "control");
    metrics_attach();
    control->link = store_link_open(control->store, &control->loop);
    control->watches = watches_open(control->link);
    control->search = (struct sentinel_search){.link = control->link, .done = on_master};
    uv_prepare_start(&control->flush, on_flush);
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
    control->flush.data = control;
    control->fetch_timer.data = control;
    control->ping_timer.data = control;
    int failure = uv_thread_create(&control->thread, run, control);
    assert(failure == 0);
    (void)failure;
}

void control_wake(struct control *control)
{
    uv_async_send(&control->wake);
}

void control_stop(struct control **control)
{
    struct control *gone = *control;
    atomic_store(&gone->stopping, true);
    uv_async_send(&gone->wake);
    uv_thread_join(&gone->thread);
    /* Not before: the thread itself reads it to ask for refreshes. */
    *control = NULL;
    int busy = uv_loop_close(&gone->loop);
    assert(busy == 0);
    (void)busy;
    free(gone->candidates);
    free(gone->pinged);
    free(gone);
}
