/* The steps of a tracking connection: INFO, CLIENT ID, CLIENT TRACKING, SUBSCRIBE; then pings and
 * messages. It redirects the invalidations of its own tracking to itself, as a subscriber in RESP2
 * may. */
#include "tracking_connection.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "log.h"
#include "metrics.h"

static const struct text channel = {"__redis__:invalidate", 20};

static struct tracking_connection *tracking_of(struct connection *connection)
{
    return (struct tracking_connection *)connection;
}

/* --- up and down --- */

static void note_live(struct tracking_connection *tracking, bool live)
{
    atomic_store(&tracking->breaker->tracked, live);
    metrics_gauge_add(METRIC_WATCHES, live ? 1 : -1);
}

/* The last command is answered. */
static void take_proof(struct tracking_connection *tracking)
{
    tracking->proof_ms = tracking->asked_boot_ms;
    tracking->ping_ms = tracking->asked_ms + TRACKING_PING_MS;
    tracking->asked_ms = 0;
}

/* The server answers: its breaker need not wait for the end of a pause. */
static void go_live(struct tracking_connection *tracking)
{
    const struct endpoint *endpoint = &tracking->endpoint;
    tracking->step = TRACKING_LIVE;
    tracking->refusal_logged = false;
    take_proof(tracking);
    if (tracking->was_away)
        tracking_epochs_doubt_all(tracking, tracking->is_other_run);
    tracking->was_away = false;
    tracking_epochs_renew_generation(tracking);
    note_live(tracking, true);
    breakers_probe(tracking->breaker, clock_monotonic_ms());
    timing_schedule(&tracking->tracker->link->timing, tracking->ping_ms);
    log_info("store_watch_up", "host=%s port=%u", endpoint->host, endpoint->port);
}

static void end_live(struct tracking_connection *tracking)
{
    tracking->step = TRACKING_DOWN;
    tracking_epochs_end_generations(tracking);
    note_live(tracking, false);
}

static void on_tracking_down(struct connection *connection, const char *why)
{
    struct tracking_connection *tracking = tracking_of(connection);
    const struct endpoint *endpoint = &tracking->endpoint;
    tracking->asked_ms = 0;
    tracking->was_away = true;
    tracking->overdue_noted = false;
    if (tracking->step == TRACKING_LIVE) {
        log_warning("store_watch_lost", "host=%s port=%u why=\"%s\"", endpoint->host,
                    endpoint->port, why);
        metrics_add(METRIC_WATCHES_LOST, 1);
        end_live(tracking);
    }
    tracking->step = TRACKING_DOWN;
}

/* --- out --- */

static void send_step(struct tracking_connection *tracking, enum tracking_step step,
                      const struct text *arguments, size_t count)
{
    tracking->step = step;
    tracking->asked_ms = clock_monotonic_ms();
    tracking->asked_boot_ms = clock_boot_ms();
    timing_schedule(&tracking->tracker->link->timing, tracking->asked_ms + TRACKING_OVERDUE_MS);
    connection_send(&tracking->connection, arguments, count);
}

static void ask_info(struct connection *connection)
{
    static const struct text arguments[] = {{"INFO", 4}, {"server", 6}};
    send_step(tracking_of(connection), TRACKING_INTRODUCING, arguments, 2);
}

/* A restarted process may have loaded an old dump, or a restored backup. One without a run id may
 * be another process, too. */
static void note_run(struct tracking_connection *tracking, const struct store_reply *reply)
{
    static const struct text mark = {"run_id:", 7};
    struct text told = store_reply_text(reply);
    const char *found = told.data ? memmem(told.data, told.length, mark.data, mark.length) : NULL;
    const char *run_id = found ? found + mark.length : NULL;
    bool knows = run_id && (size_t)(told.data + told.length - run_id) >= TRACKING_RUN_ID;
    tracking->is_other_run =
        !knows || !tracking->knows_run || memcmp(tracking->run_id, run_id, TRACKING_RUN_ID) != 0;
    tracking->knows_run = knows;
    if (knows)
        memcpy(tracking->run_id, run_id, TRACKING_RUN_ID);
}

static void ask_client_id(struct tracking_connection *tracking)
{
    static const struct text arguments[] = {{"CLIENT", 6}, {"ID", 2}};
    send_step(tracking, TRACKING_IDENTIFYING, arguments, 2);
}

static void track(struct tracking_connection *tracking, int64_t id)
{
    const struct store_keys *keys = tracking->tracker->store->keys;
    char digits[24];
    int length = snprintf(digits, sizeof(digits), "%" PRId64, id);
    struct text arguments[6 + 2 * STORE_TRACKED_MAX] = {
        TEXT("CLIENT"),   TEXT("TRACKING"),         TEXT("ON"),
        TEXT("REDIRECT"), {digits, (size_t)length}, TEXT("BCAST"),
    };
    size_t count = 6;
    for (size_t i = 0; i < keys->tracked_count; i++) {
        arguments[count++] = TEXT("PREFIX");
        arguments[count++] = keys->tracked[i];
    }
    send_step(tracking, TRACKING_TRACKING, arguments, count);
}

static void subscribe(struct tracking_connection *tracking)
{
    const struct text arguments[] = {TEXT("SUBSCRIBE"), channel};
    send_step(tracking, TRACKING_SUBSCRIBING, arguments, 2);
}

static void ping_tracked(struct tracking_connection *tracking)
{
    static const struct text arguments[] = {{"PING", 4}};
    send_step(tracking, TRACKING_LIVE, arguments, 1);
}

/* --- in --- */

/* An old server, or a denial by ACL: everything works without tracking, only slower. */
static void note_tracking_refusal(struct tracking_connection *tracking,
                                  const struct store_reply *reply)
{
    const struct endpoint *endpoint = &tracking->endpoint;
    if (!tracking->refusal_logged) {
        bool denied = reply_outcome(reply) == OUTCOME_DENIED;
        log_warning("store_watch_refused", "host=%s port=%u reason=%s", endpoint->host,
                    endpoint->port, denied ? "denied" : "not-understood");
    }
    tracking->refusal_logged = true;
    tracking->step = TRACKING_DOWN;
    tracking->asked_ms = 0;
    tracking->was_away = true;
    tracking->retry_ms = clock_monotonic_ms() + TRACKING_REFUSED_MS;
    connection_shut(&tracking->connection);
    timing_schedule(&tracking->tracker->link->timing, tracking->retry_ms);
}

static bool reply_has_word(const struct store_reply *reply, size_t index, struct text word)
{
    const struct store_reply *element = store_reply_element(reply, index);
    return element && text_equal(store_reply_text(element), word);
}

static void take_pong(struct tracking_connection *tracking)
{
    take_proof(tracking);
    tracking_epochs_prove_generations(tracking);
    int64_t now_ms = clock_monotonic_ms();
    if (tracking->overdue_noted)
        breakers_probe(tracking->breaker, now_ms);
    tracking->overdue_noted = false;
    breakers_witness(tracking->breaker, now_ms, true);
    timing_schedule(&tracking->tracker->link->timing, tracking->ping_ms);
}

/* The keys that changed, or none if the server was emptied. */
static void take_message(struct tracking_connection *tracking, const struct store_reply *keys)
{
    if (keys->type != STORE_ARRAY) {
        tracking_epochs_doubt_all(tracking, true);
        tracking_epochs_renew_generation(tracking);
        return;
    }
    for (size_t i = 0; i < store_reply_count(keys); i++)
        tracking_epochs_report_changed(tracking->tracker->store,
                                       store_reply_text(store_reply_element(keys, i)));
    metrics_add(METRIC_CACHE_INVALIDATIONS, store_reply_count(keys));
}

static void take_live(struct tracking_connection *tracking, const struct store_reply *reply)
{
    const struct store_reply *keys = store_reply_element(reply, 2);
    if (reply_has_word(reply, 0, TEXT("pong")) && tracking->asked_ms)
        take_pong(tracking);
    else if (reply_has_word(reply, 0, TEXT("message")) && reply_has_word(reply, 1, channel) && keys)
        take_message(tracking, keys);
    else
        connection_break(&tracking->connection, ERR_STORE_UNAVAILABLE, "not-a-message");
}

static void on_tracking_reply(struct connection *connection, const struct store_reply *reply)
{
    struct tracking_connection *tracking = tracking_of(connection);
    int64_t id;
    if (tracking->step == TRACKING_LIVE)
        take_live(tracking, reply);
    else if (tracking->step == TRACKING_INTRODUCING) {
        note_run(tracking, reply);
        ask_client_id(tracking);
    } else if (tracking->step == TRACKING_IDENTIFYING && store_reply_int(reply, 0, INT64_MAX, &id))
        track(tracking, id);
    else if (tracking->step == TRACKING_TRACKING && !reply->is_error)
        subscribe(tracking);
    else if (tracking->step == TRACKING_SUBSCRIBING && reply_has_word(reply, 0, TEXT("subscribe")))
        go_live(tracking);
    else
        note_tracking_refusal(tracking, reply);
}

static const struct connection_owner tracking_owner = {
    .up = ask_info, .reply = on_tracking_reply, .down = on_tracking_down};

/* --- time --- */

/* The answer may have arrived unread, if this process stood still. */
static int64_t tick_overdue(struct tracking_connection *tracking, int64_t now_ms)
{
    connection_read(&tracking->connection);
    if (tracking->connection.state != CONNECTION_UP || !tracking->asked_ms)
        return now_ms;
    if (now_ms - tracking->asked_ms >= TRACKING_LOST_MS) {
        connection_break(&tracking->connection, ERR_STORE_UNAVAILABLE, "silent");
        return tracking->connection.due_ms;
    }
    /* Before it is live, calls know better: a tracking connection that never gets there must not
     * keep them from a server that answers. */
    if (!tracking->overdue_noted && tracking->step == TRACKING_LIVE)
        breakers_trip(tracking->breaker, now_ms);
    tracking->overdue_noted = true;
    return tracking->asked_ms + TRACKING_LOST_MS;
}

static int64_t tick_up(struct tracking_connection *tracking, int64_t now_ms)
{
    connection_check_server(&tracking->connection);
    if (tracking->connection.foreign) {
        connection_break(&tracking->connection, ERR_STORE_UNAVAILABLE, "another-node");
        return tracking->connection.due_ms;
    }
    if (tracking->asked_ms) {
        bool overdue = now_ms - tracking->asked_ms >= TRACKING_OVERDUE_MS;
        return overdue ? tick_overdue(tracking, now_ms) : tracking->asked_ms + TRACKING_OVERDUE_MS;
    }
    if (now_ms < tracking->ping_ms)
        return tracking->ping_ms;
    ping_tracked(tracking);
    return now_ms + TRACKING_PING_MS;
}

int64_t tracking_connection_tick(struct tracking_connection *tracking, int64_t now_ms)
{
    int64_t due_ms = connection_tick(&tracking->connection, now_ms);
    if (tracking->connection.state == CONNECTION_UP)
        return tick_up(tracking, now_ms);
    if (tracking->connection.state != CONNECTION_IDLE)
        return due_ms;
    if (now_ms < tracking->retry_ms)
        return tracking->retry_ms;
    connection_open(&tracking->connection);
    return tracking->connection.due_ms;
}

/* --- beginning and end --- */

void tracking_connection_init(struct tracking_connection *tracking)
{
    struct tracker *tracker = tracking->tracker;
    memset(tracking->claims, 0xff, SLOT_BYTES);
    tracking->breaker = breakers_take(tracker->store, &tracking->endpoint,
                                      tracker->link->settings->reconnect_max_ms);
    connection_init(&tracking->connection, tracker->link, &tracking->endpoint, tracking->breaker,
                    &tracking_owner, false);
}

void tracking_connection_fini(struct tracking_connection *tracking)
{
    if (tracking->step == TRACKING_LIVE)
        end_live(tracking);
    connection_shut(&tracking->connection);
    connection_free(&tracking->connection);
    breakers_give(tracking->tracker->store, &tracking->breaker);
}
