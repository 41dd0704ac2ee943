/* The thread of alerts writes them to the audit and to disk, and has them posted one after the
 * other. While the disk fails they wait in memory, bounded. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "alerts_private.h"
#include "clock.h"
#include "log.h"
#include "metrics.h"

enum {
    DISK_PAUSE_MS = 1000,
    /* The longest sleep: the end of a minute of repetitions is noticed within it, and so is a clock
     * that is wrong for half a second. */
    LOOK_MS = 200,
    LAST_MS = 1000 /* for the rest at the stop */
};

/* --- to the audit and to disk --- */

static void write_audit(struct alerts *alerts, const struct raised_alert *raised, struct text id)
{
    alerts->scratch.length = 0;
    alert_record(&alerts->scratch, raised, id);
    if (!audit_write(alerts->lane, AUDIT_CLASS_CHANGES, buffer_text(&alerts->scratch), NULL))
        audit_count_lost(alerts->lane);
}

static void leave_waiting(struct alerts *alerts, size_t bytes)
{
    size_t before = atomic_fetch_sub(&alerts->waiting, bytes);
    assert(before >= bytes);
    (void)before;
}

/* Audits the alerts handed over and, if there is a receiver, appends them to the backlog. */
static void take_handed(struct alerts *alerts)
{
    pthread_mutex_lock(&alerts->lock);
    struct buffer taken = alerts->handed;
    alerts->handed = alerts->taken;
    pthread_mutex_unlock(&alerts->lock);
    for (size_t at = 0; at < taken.length;) {
        struct raised_alert raised;
        char id[ALERT_ID];
        size_t length = alert_unpack(taken.data + at, &raised);
        alert_make_id(id);
        write_audit(alerts, &raised, (struct text){id, sizeof(id)});
        if (alerts->target->url[0]) {
            buffer_add(&alerts->backlog, id, sizeof(id));
            buffer_add(&alerts->backlog, taken.data + at, length);
        } else {
            leave_waiting(alerts, length);
        }
        at += length;
    }
    taken.length = 0;
    alerts->taken = taken;
    audit_flush(alerts->lane);
}

void alerts_note_disk(struct alerts *alerts, bool good, int error)
{
    bool before = atomic_exchange(&alerts->written, good);
    if (!good) {
        metrics_add(METRIC_ALERTS_ERRORS, 1);
        alerts->write_at_ms = clock_monotonic_ms() + DISK_PAUSE_MS;
    }
    if (before && !good)
        log_error("alerts_failed", "file=%s error=%s", alerts->file.records.path,
                  strerrorname_np(error));
    else if (!before && good)
        log_info("alerts_recovered", "file=%s", alerts->file.records.path);
}

/* Writes the first alert of the backlog to the file; returns its length, 0 if the disk failed. */
static size_t write_first(struct alerts *alerts, const char *data)
{
    struct text id = {data, ALERT_ID};
    struct raised_alert raised;
    size_t length = alert_unpack(data + ALERT_ID, &raised);
    int64_t lost = atomic_exchange(&alerts->lost, 0);
    alerts->scratch.length = 0;
    alert_print(&alerts->scratch, &raised, id, text_of(alerts->node), lost);
    enum alerts_added added = alerts_file_add(&alerts->file, id, buffer_text(&alerts->scratch),
                                              atomic_load(&alerts->max_bytes));
    if (added == ALERTS_ADDED) {
        alerts->told += lost;
        return ALERT_ID + length;
    }
    int error = errno;
    atomic_fetch_add(&alerts->lost, lost + (added == ALERTS_FULL));
    if (added == ALERTS_FULL)
        metrics_add(METRIC_ALERTS_DROPPED, 1);
    errno = error;
    return added == ALERTS_FULL ? ALERT_ID + length : 0;
}

/* Unsynced alerts stay in the backlog, as unwritten ones do. */
static void write_backlog(struct alerts *alerts)
{
    struct buffer *backlog = &alerts->backlog;
    size_t at = 0, done = 1, count = 0;
    if (backlog->length == 0 || clock_monotonic_ms() < alerts->write_at_ms)
        return;
    for (; at < backlog->length; at += done, count++) {
        done = write_first(alerts, backlog->data + at);
        if (done == 0)
            break;
    }
    int error = errno;
    if (at > 0 && !alerts_file_sync(&alerts->file)) {
        error = errno;
        at = done = count = 0;
        atomic_fetch_add(&alerts->lost, alerts->told);
    }
    alerts->told = 0;
    alerts_note_disk(alerts, done > 0, error);
    assert(at <= backlog->length);
    memmove(backlog->data, backlog->data + at, backlog->length - at);
    backlog->length -= at;
    leave_waiting(alerts, at - count * ALERT_ID);
}

/* --- turns --- */

static void tell_usage(struct alerts *alerts)
{
    atomic_store(&alerts->queued, alerts->file.queued);
    atomic_store(&alerts->bytes, alerts->file.records.size);
    metrics_gauge_set(METRIC_ALERTS_QUEUED, alerts->file.queued);
    metrics_gauge_set(METRIC_ALERTS_SET_ASIDE, alerts->refused.queued);
}

/* The audit knows nothing of alerts, so the thread polls it. */
static void look_at_audit(struct alerts *alerts)
{
    struct audit_pressure pressure;
    char detail[160];
    if (!audit_take_pressure(alerts->audit, &pressure))
        return;
    if (pressure.space_low) {
        int length = snprintf(detail, sizeof(detail),
                              "The disk of the audit file has %lld bytes left; audit.reserve is "
                              "near or reached",
                              (long long)pressure.free_bytes);
        alerts_raise(
            alerts, &(struct alert){.kind = ALERT_AUDIT_SPACE, .detail = {detail, (size_t)length}});
    }
    if (pressure.unauthenticated > 0)
        alerts_raise(alerts, &(struct alert){.kind = ALERT_AUDIT_UNAUTHENTICATED,
                                             .count = pressure.unauthenticated});
}

/* No other thread takes the jumps of the clocks. */
static void look_at_clocks(struct alerts *alerts)
{
    struct clock_jumps jumps;
    char detail[200];
    clock_look();
    if (!clock_take_jumps(&jumps))
        return;
    log_error("clock_jumped",
              "jump_ms=%lld jumps=%lld for a day nothing is deleted that was not too old before",
              (long long)jumps.ms, (long long)jumps.count);
    metrics_add(METRIC_CLOCK_JUMPS, (uint64_t)jumps.count);
    int length = snprintf(detail, sizeof(detail),
                          "A clock jumped by %lld ms against the time since the host was booted; "
                          "for a day nothing is deleted that was not too old before",
                          (long long)jumps.ms);
    alerts_raise(alerts, &(struct alert){.kind = ALERT_CLOCK_JUMP,
                                         .detail = {detail, (size_t)length},
                                         .count = jumps.count});
}

/* True while an attempt is in flight. */
static bool turn(struct alerts *alerts, bool last)
{
    look_at_audit(alerts);
    look_at_clocks(alerts);
    alerts_take_target(alerts);
    alerts_tell_repeats(alerts, last);
    take_handed(alerts);
    write_backlog(alerts);
    bool sending = alerts_deliver(alerts);
    tell_usage(alerts);
    return sending;
}

static int64_t pause_of(const struct alerts *alerts, bool sending)
{
    int64_t until_ms = clock_monotonic_ms() + LOOK_MS;
    if (!sending && alerts->file.queued > 0 && alerts->target->url[0] &&
        alerts->send_at_ms < until_ms)
        until_ms = alerts->send_at_ms;
    if (alerts->backlog.length > 0 && alerts->write_at_ms < until_ms)
        until_ms = alerts->write_at_ms;
    int64_t pause_ms = until_ms - clock_monotonic_ms();
    return pause_ms > 1 ? pause_ms : 1;
}

/* Makes one attempt for each alert, until one fails or the time is over. */
static void deliver_last(struct alerts *alerts)
{
    int64_t until_ms = clock_monotonic_ms() + LAST_MS;
    alerts->write_at_ms = 0;
    bool sending = turn(alerts, true);
    while (sending && clock_monotonic_ms() < until_ms) {
        webhook_wait(alerts->webhook, until_ms - clock_monotonic_ms());
        sending = alerts_deliver(alerts) && alerts->send_at_ms == 0;
    }
    webhook_cancel(alerts->webhook);
    tell_usage(alerts);
    if (alerts->backlog.length > 0)
        log_error("alerts_lost", "file=%s bytes=%zu", alerts->file.records.path,
                  alerts->backlog.length);
}

void *alerts_thread_run(void *user)
{
    struct alerts *alerts = user;
    pthread_setname_np(pthread_self(), "alerts");
    metrics_attach();
    while (!atomic_load(&alerts->stopping))
        webhook_wait(alerts->webhook, pause_of(alerts, turn(alerts, false)));
    deliver_last(alerts);
    return NULL;
}
