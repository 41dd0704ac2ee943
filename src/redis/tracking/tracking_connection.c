/* The life of a watch: introduce, identify, track, subscribe; then pings and messages. In the words
 * of Redis: the connection redirects the invalidations of its own tracking to itself, as a
 * subscriber in RESP2 may. */
#include "tracking_connection.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "log.h"
#include "metrics.h"
#include "redis/calls/pipeline.h"

static const struct text channel = {"__redis__:invalidate", 20};

static struct watch *watch_of(struct connection *connection)
{
    return (struct watch *)connection;
}

/* --- up and down --- */

static void note_live(struct watch *watch, bool live)
{
    atomic_store(&watch->breaker->watched, live);
    metrics_gauge_add(METRIC_WATCHES, live ? 1 : -1);
}

/* What was asked is answered. */
static void take_proof(struct watch *watch)
{
    watch->proof_ms = watch->asked_boot_ms;
    watch->ping_ms = watch->asked_ms + WATCH_PING_MS;
    watch->asked_ms = 0;
}

/* The server answers: no need to wait for the end of a pause. */
static void go_live(struct watch *watch)
{
    const struct endpoint *endpoint = &watch->endpoint;
    watch->step = WATCH_LIVE;
    watch->refusal_told = false;
    take_proof(watch);
    if (watch->was_away)
        watch_doubt_all(watch, watch->is_other_run);
    watch->was_away = false;
    watch_renew_generation(watch);
    note_live(watch, true);
    breakers_probe(watch->breaker, clock_monotonic_ms());
    link_schedule(watch->watches->link, watch->ping_ms);
    log_info("store_watch_up", "host=%s port=%u", endpoint->host, endpoint->port);
}

static void end_live(struct watch *watch)
{
    watch->step = WATCH_DOWN;
    watch_end_generations(watch);
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
    watch->asked_boot_ms = clock_boot_ms();
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
    bool knows = run_id && (size_t)(told.data + told.length - run_id) >= WATCH_RUN_ID;
    watch->is_other_run =
        !knows || !watch->knows_run || memcmp(watch->run_id, run_id, WATCH_RUN_ID) != 0;
    watch->knows_run = knows;
    if (knows)
        memcpy(watch->run_id, run_id, WATCH_RUN_ID);
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
    take_proof(watch);
    watch_prove_generations(watch);
    int64_t now_ms = clock_monotonic_ms();
    if (watch->overdue_told)
        breakers_probe(watch->breaker, now_ms);
    watch->overdue_told = false;
    breakers_witness(watch->breaker, now_ms, true);
    link_schedule(watch->watches->link, watch->ping_ms);
}

/* The keys that changed, or none if the server was emptied. */
static void take_message(struct watch *watch, const struct store_reply *keys)
{
    if (keys->type != STORE_ARRAY) {
        watch_doubt_all(watch, true);
        watch_renew_generation(watch);
        return;
    }
    for (size_t i = 0; i < store_reply_count(keys); i++)
        watch_tell_changed(watch->watches->store, store_reply_text(store_reply_element(keys, i)));
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
    } else if (watch->step == WATCH_IDENTIFYING && store_reply_int(reply, 0, INT64_MAX, &id))
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
    connection_judge(&watch->connection);
    if (watch->connection.strange) {
        connection_break(&watch->connection, ERR_STORE_UNAVAILABLE, "another-node");
        return watch->connection.due_ms;
    }
    if (watch->asked_ms) {
        bool overdue = now_ms - watch->asked_ms >= WATCH_OVERDUE_MS;
        return overdue ? tick_overdue(watch, now_ms) : watch->asked_ms + WATCH_OVERDUE_MS;
    }
    if (now_ms < watch->ping_ms)
        return watch->ping_ms;
    ping(watch);
    return now_ms + WATCH_PING_MS;
}

int64_t watch_tick(struct watch *watch, int64_t now_ms)
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

/* --- beginning and end --- */

void watch_init(struct watch *watch)
{
    struct watches *watches = watch->watches;
    memset(watch->claims, 0xff, SLOT_BYTES);
    watch->breaker =
        breakers_take(watches->store, &watch->endpoint, watches->link->settings->reconnect_max_ms);
    connection_init(&watch->connection, watches->link, &watch->endpoint, false);
    watch->connection.breaker = watch->breaker;
    watch->connection.subscriber = &subscriber;
}

void watch_fini(struct watch *watch)
{
    if (watch->step == WATCH_LIVE)
        end_live(watch);
    connection_shut(&watch->connection);
    connection_free(&watch->connection);
    breakers_give(watch->watches->store, &watch->breaker);
}
