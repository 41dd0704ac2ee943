/* Delivery: posts the first alert of the queue, then the next.
 *
 * While the receiver fails the first alert is retried at growing pauses with jitter; the others
 * wait, so that they arrive in order. An alert that the receiver keeps refusing goes to a queue of
 * its own, from where it is retried now and then: the others go on, and it is not lost. */
#include <assert.h>
#include <errno.h>

#include "alerts_private.h"
#include "clock.h"
#include "jitter.h"
#include "log.h"
#include "metrics.h"

enum {
    PAUSE_MIN_MS = 500,
    PAUSE_MAX_MS = 30000,
    RETRY_AFTER_MAX_S = 15 * 60, /* RFC 9110, 10.2.3: the receiver's wish, within reason */
    REFUSALS_MIN = 5
};

static void pause_sending(struct alerts *alerts, int64_t retry_after_s)
{
    int64_t pause_ms = alerts->pause_ms > 0 ? alerts->pause_ms : PAUSE_MIN_MS;
    int64_t asked_s = retry_after_s < RETRY_AFTER_MAX_S ? retry_after_s : RETRY_AFTER_MAX_S;
    int64_t least_ms = asked_s * 1000, drawn_ms = jitter_pause(&alerts->seed, pause_ms);
    alerts->send_at_ms = clock_monotonic_ms() + (drawn_ms > least_ms ? drawn_ms : least_ms);
    alerts->pause_ms = pause_ms * 2 < PAUSE_MAX_MS ? pause_ms * 2 : PAUSE_MAX_MS;
}

/* The next alert of the queue is tried at once. */
static void resume_sending(struct alerts *alerts)
{
    alerts->send_at_ms = alerts->pause_ms = alerts->refusals = 0;
}

/* --- alerts set aside --- */

static void pause_refused(struct alerts *alerts)
{
    alerts->retry_refused_at_ms = clock_monotonic_ms() + atomic_load(&alerts->refused_after_ms);
}

/* Appends the alert to the refused ones, then removes it from its queue. False if there is no room
 * or the disk fails: it stays. */
static bool set_aside(struct alerts *alerts)
{
    assert(alerts->source == &alerts->file || alerts->refused.queued > 1);
    enum alerts_added added =
        alerts_file_add(&alerts->refused, buffer_text(&alerts->sending.id),
                        buffer_text(&alerts->sending.json), atomic_load(&alerts->max_bytes));
    if (added == ALERTS_FULL)
        return false;
    bool kept = added == ALERTS_ADDED && alerts_file_sync(&alerts->refused);
    if (!kept || !alerts_file_delivered(alerts->source, &alerts->sending))
        alerts_note_disk(alerts, false, errno);
    return kept;
}

/* Not at once: a misconfigured receiver refuses everything until it is repaired. */
static void note_refusal(struct alerts *alerts, const char *why)
{
    int64_t now_ms = clock_monotonic_ms();
    if (alerts->refusals++ == 0)
        alerts->refused_since_ms = now_ms;
    if (alerts->refusals < REFUSALS_MIN ||
        now_ms - alerts->refused_since_ms < atomic_load(&alerts->refused_after_ms) ||
        !set_aside(alerts))
        return;
    metrics_add(METRIC_ALERTS_REFUSED, 1);
    log_warning("alert_set_aside", "id=%.*s reason=\"%s\"", (int)alerts->sending.id.length,
                alerts->sending.id.data, why);
    pause_refused(alerts);
    resume_sending(alerts);
}

/* --- attempts --- */

static void note_delivery(struct alerts *alerts)
{
    metrics_add(METRIC_ALERTS_DELIVERED, 1);
    if (!alerts_file_delivered(alerts->source, &alerts->sending))
        alerts_note_disk(alerts, false, errno);
    if (!atomic_exchange(&alerts->delivered, true))
        log_info("alerts_delivered_again", "queued=%lld", (long long)alerts->file.queued);
    if (alerts->source == &alerts->file)
        resume_sending(alerts);
}

static void note_failure(struct alerts *alerts, enum webhook_state state,
                         const struct webhook_outcome *outcome)
{
    char why[sizeof(outcome->why)];
    log_quote(why, sizeof(why), text_of(outcome->why));
    metrics_add(METRIC_ALERTS_FAILED, 1);
    if (alerts->source == &alerts->refused) {
        pause_refused(alerts);
        if (alerts->refused.queued > 1)
            set_aside(alerts); /* after the others */
        return;
    }
    pause_sending(alerts, outcome->retry_after_s);
    if (atomic_exchange(&alerts->delivered, false))
        log_warning("alerts_not_delivered", "reason=\"%s\"", why);
    if (state == WEBHOOK_REFUSED)
        note_refusal(alerts, why);
}

/* The queue to send from now, NULL if nothing is due. While the receiver fails, refused alerts are
 * not retried. */
static struct alerts_file *choose_source(struct alerts *alerts)
{
    int64_t now_ms = clock_monotonic_ms();
    if (!alerts->target->url[0])
        return NULL;
    if (alerts->pause_ms == 0 && alerts->refused.queued > 0 &&
        now_ms >= alerts->retry_refused_at_ms)
        return &alerts->refused;
    return now_ms >= alerts->send_at_ms ? &alerts->file : NULL;
}

static void send_first(struct alerts *alerts)
{
    const struct webhook_message message = {
        .url = alerts->target->url,
        .secret = {alerts->target->secret, alerts->target->secret_length},
        .id = buffer_text(&alerts->sending.id),
        .body = buffer_text(&alerts->sending.json),
        .now_s = clock_wall_ms() / 1000};
    webhook_send(alerts->webhook, &message);
}

bool alerts_deliver(struct alerts *alerts)
{
    struct webhook_outcome outcome;
    enum webhook_state state = webhook_turn(alerts->webhook, &outcome);
    if (state == WEBHOOK_SENDING)
        return true;
    if (state == WEBHOOK_DELIVERED)
        note_delivery(alerts);
    else if (state != WEBHOOK_IDLE)
        note_failure(alerts, state, &outcome);
    alerts->source = choose_source(alerts);
    if (!alerts->source || !alerts_file_first(alerts->source, &alerts->sending))
        return false;
    send_first(alerts);
    return true;
}

void alerts_take_target(struct alerts *alerts)
{
    pthread_mutex_lock(&alerts->lock);
    struct alerts_target *target = alerts->new_target;
    alerts->new_target = NULL;
    pthread_mutex_unlock(&alerts->lock);
    if (!target)
        return;
    webhook_cancel(alerts->webhook);
    webhook_trust(alerts->webhook, buffer_text(&target->authorities));
    alerts_target_free(&alerts->target);
    alerts->target = target;
    alerts->retry_refused_at_ms = 0;
    resume_sending(alerts);
}
